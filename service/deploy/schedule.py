"""Schedules of five fields, as cron has them."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a schedule."""

    what: str
    first: int
    last: int
    names: tuple[str, ...] = ()
    """Of the values from the first one on."""

    def check(self, text: str) -> None:
        """Raise ValueError, with what is wrong, if a value is out of range."""
        for item in text.split(","):
            values, slash, step = item.partition("/")
            if slash and not (step.isdecimal() and int(step) > 0):
                raise ValueError(f"{step!r} is not a step, which is a number from 1")
            if values != "*":
                for value in values.split("-", 1):
                    self._check_value(value)

    def _check_value(self, value: str) -> None:
        if value.lower() in self.names or (value.isdecimal() and self.first <= int(value) <= self.last):
            return
        raise ValueError(f"{value!r} is not {self.what} from {self.first} to {self.last}")


_FIELDS = (
    _Field("a minute", 0, 59),
    _Field("an hour", 0, 23),
    _Field("a day of the month", 1, 31),
    _Field("a month", 1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    _Field("a day of the week", 0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
)


def check_schedule(text: str) -> None:
    """Raise ValueError, with what is wrong, if this is not a schedule."""
    values = text.split()
    if len(values) != len(_FIELDS) or not re.fullmatch(r"[\w*/,\- ]+", text):
        raise ValueError(f"{text!r} is not a schedule of five fields, such as '0 3 * * *'")
    for field, value in zip(_FIELDS, values, strict=True):
        try:
            field.check(value)
        except ValueError as error:
            raise ValueError(f"in {text!r}, {error}") from None
