"""The ranges of names that are listed side by side: which page to ask for next, and which range to split, and where.

Pure: asks storage for nothing. It cannot know how many names lie between two names, so a split may turn out to hold
none. Storage was then asked once in vain, and the range that was split is known to end earlier.
"""

import math
import sys
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from service.storage.addresses import MAX_NAME_BYTES, NameRange

_FEWEST_PAGES = 4
"""A range that seems to have fewer pages left is not split."""
_EARLY_PAGES, _PAGES_PER_EARLY_SPLIT, _PAGES_PER_SPLIT = 96, 6, 40
"""So many pages have to be listed for each request in vain: 2.5 % more requests, and 16 beside."""
_LAST_PAGE = 0.5
"""What is in vain of the last page of a range, on average."""
_ENOUGH_CHARACTERS = 512
_ASCII = "\x7f"
_LAST_BEFORE_SURROGATES, _FIRST_AFTER_SURROGATES = "\ud7ff", "\ue000"
"""UTF-8 has no character between them."""


@dataclass(slots=True, eq=False)
class ListedRange:
    """A range of names, of which some pages were listed."""

    asked: NameRange
    """Storage is asked for this range, page after page."""
    end: str | None
    """If it was split since, names from here on are in another range."""
    token: str = ""
    """Of the next page; empty for the first."""
    page_start: str = ""
    """The first name of the last page."""
    last: str = ""
    """The last name that was listed."""
    step: int = 0
    """At how many characters after the common prefix of the names that are left to split. Grows with splits in vain."""
    split_from: "ListedRange | None" = None
    """The range that it was part of, until its own first page is listed."""
    is_probed: bool = False
    """True until the range that was split from it has a page."""


class RangeSplitter:
    """Divides a listing into ranges, as it learns which names there are."""

    def __init__(self, prefix: str, names: NameRange) -> None:
        """Begin with one range. All names begin with the prefix."""
        self._prefix = prefix
        self._waiting = [ListedRange(names, names.end)]
        """Ranges whose next page can be asked for."""
        self._in_flight: list[ListedRange] = []
        self._pages = 0
        self._names = 0
        """On these pages, without those that another range has, too."""
        self._page_size = 1
        self._characters: list[str] = []
        """Characters that names have, in order."""

    def next_range(self) -> ListedRange | None:
        """Return a range whose next page is to be listed; None if there is none before another page is added."""
        if not self._waiting and not self._split_largest():
            return None
        chosen = self._waiting.pop()
        self._in_flight.append(chosen)
        return chosen

    def add_page(self, listed: ListedRange, names: Sequence[str], token: str) -> None:
        """Take all names of a page, in order, and the token of the next; empty if it was the last one."""
        self._in_flight.remove(listed)
        self._pages += 1
        self._names += len(names) if listed.end is None else bisect_left(names, listed.end)
        self._page_size = max(self._page_size, len(names))
        if names:
            listed.page_start, listed.last = names[0], names[-1]
            self._learn({*names[0], *names[len(names) // 2], *names[-1]})
        if names or not token:
            self._settle_probe(listed, found=bool(names))
        if token and (listed.end is None or listed.last < listed.end):
            listed.token = token
            self._waiting.append(listed)

    def _settle_probe(self, listed: ListedRange, *, found: bool) -> None:
        whole, listed.split_from = listed.split_from, None
        if not whole:
            return
        whole.is_probed = False
        if found:
            whole.step = listed.step = whole.step // 2
        else:
            whole.step = whole.step * 2 or 1

    def _learn(self, characters: set[str]) -> None:
        new = characters.difference(self._characters)
        if new and len(self._characters) < _ENOUGH_CHARACTERS:
            near = {other for each in new if each > _ASCII for other in _beyond(each)}
            self._characters = sorted({*self._characters, *new, *near})

    def _split_largest(self) -> bool:
        if not self._may_split():
            return False
        candidates = [(self._pages_left(each), each) for each in self._in_flight if each.last and not each.is_probed]
        for pages_left, largest in sorted(candidates, key=lambda candidate: -candidate[0]):
            if pages_left < _FEWEST_PAGES:
                return False
            if middle := self._middle(largest):
                self._waiting.append(ListedRange(NameRange(middle, largest.end), largest.end, split_from=largest))
                largest.end, largest.is_probed = middle, True
                return True
        return False

    def _may_split(self) -> bool:
        """Return True if few requests are in vain: the full pages that all names would be on need none of them."""
        in_vain = self._pages - self._names / self._page_size
        expected = sum(1 if each.split_from else _LAST_PAGE for each in self._in_flight)
        allowed = min(self._pages, _EARLY_PAGES) // _PAGES_PER_EARLY_SPLIT + self._pages // _PAGES_PER_SPLIT
        return in_vain + expected < allowed

    def _pages_left(self, listed: ListedRange) -> float:
        """Estimate the pages that are left, as if names were spread as evenly as on the last page."""
        if listed.end is None:
            return math.inf
        skip = _shared(listed.last, listed.end)
        length = _shared(listed.page_start, listed.last) + 3
        start, last, end = (
            self._number(name[skip:length], length - skip) for name in (listed.page_start, listed.last, listed.end)
        )
        return (end - last) // (last - start) if last > start else math.inf

    def _number(self, text: str, length: int) -> int:
        """Return a number whose digits are the places of characters among those that are known, or between two."""
        known, number = self._characters, 0
        for character in text.ljust(length, "\0"):
            number = number * (2 * len(known) + 1) + bisect_left(known, character) + bisect_right(known, character)
        return number

    def _middle(self, listed: ListedRange) -> str | None:
        """Return a name between the last one that was listed and the end, at which to split; None if none is found.

        It differs from the last name in the first character that can be greater. If that was in vain, the names that
        are left may have a longer prefix in common, such as that of a folder; it is looked for in steps that double.
        """
        last, end = listed.last, listed.end
        shared = len(self._prefix) if end is None else _shared(last, end)
        deepest = max(shared, _shared(listed.page_start, last))
        for place in range(min(shared + listed.step, deepest), min(deepest + 1, len(last))):
            if listed.step and shared < place < deepest:
                character = next(_beyond(last[place]), "")
            else:
                character = self._between(last[place], end[place] if end and place == shared else None)
            middle = last[:place] + character
            if last < middle and (end is None or middle < end) and len(middle.encode()) <= MAX_NAME_BYTES:
                return middle
        return None

    def _between(self, low: str, high: str | None) -> str:
        """Return the middle one of the known characters after `low`, up to `high`; empty if there is none."""
        known = self._characters
        first, end = bisect_right(known, low), len(known) if high is None else bisect_right(known, high)
        return known[(first + end) // 2] if first < end else ""


def _shared(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    differ = (place for place, (mine, theirs) in enumerate(zip(one, other, strict=False)) if mine != theirs)
    return next(differ, min(len(one), len(other)))


def _beyond(character: str) -> Iterator[str]:
    """Yield characters after one: the next, and, as alphabets outside of ASCII are large, others ever further off."""
    if character == _LAST_BEFORE_SURROGATES:
        yield _FIRST_AFTER_SURROGATES
        return
    for power in range(1 if character <= _ASCII else 16):
        code = ord(character) + (1 << power)
        if code <= sys.maxunicode and not _LAST_BEFORE_SURROGATES < chr(code) < _FIRST_AFTER_SURROGATES:
            yield chr(code)
