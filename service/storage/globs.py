"""Globs over object names, with the rules that Cloud Storage has for listings.

The rules: cloud.google.com/storage/docs/json_api/v1/objects/list#list-object-glob. What that page leaves open is as the
live API answers it (github.com/fsouza/fake-gcs-server, pull requests 2328 and 2344). Libraries for paths of files have
other rules: they read `a**b` as `a*b` and `a//b` as `a/b`, match no folder named `..`, and take a wrong glob for text.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from service.errors import InvalidValue

_MOST_ALTERNATIVES = 1000
"""Of one glob, with its braces written out."""

_PART = re.compile(r"\\.|\[[!^]?+(?:\\.|[^][{}\\])+\]|\*\*+/?|.", re.DOTALL)
"""One token of a glob: an escaped character, a set, `**` with its slash, or any other character."""
_MEMBER = re.compile(r"\\?(.)(?:-\\?(.))?", re.DOTALL)
"""A character of a set, or the two ends of a range."""


@dataclass(frozen=True, slots=True)
class Globs:
    """Globs that match a name if one of them does."""

    text: str
    """As it was given."""
    pattern: re.Pattern[str]

    @classmethod
    def parse(cls, text: str, field: str) -> Self:
        """Parse globs with commas between them; a comma inside braces does not separate.

        Raises:
            InvalidValue: a glob is empty or wrong.
        """
        expressions: list[str] = []
        for glob in _split(text):
            try:
                if not glob:
                    raise ValueError("is empty")
                expressions += map(_translate, _alternatives(_PART.findall(glob)))
            except ValueError as error:
                raise InvalidValue(field, text, f"has the glob {glob!r}, which {error}") from None
        return cls(text, re.compile("|".join(expressions), re.DOTALL))

    def matches(self, name: str) -> bool:
        """Return True if a glob matches the whole of a name."""
        return self.pattern.match(name) is not None


def _split(text: str) -> list[str]:
    globs, depth = [""], 0
    for part in _PART.findall(text):
        depth += (part == "{") - (part == "}")
        if part == "," and not depth:
            globs.append("")
        else:
            globs[-1] += part
    return [glob.strip() for glob in globs]


def _alternatives(parts: list[str]) -> list[list[str]]:
    """Write the braces out."""
    around: list[tuple[list[list[str]], list[list[str]]]] = []
    ended, current = list[list[str]](), [list[str]()]
    for part in parts:
        if part == "{":
            around.append((ended, current))
            ended, current = [], [[]]
        elif part == "}":
            if not around:
                raise ValueError("has a '}' without a '{'")
            inside = ended + current
            ended, before = around.pop()
            current = [[*beginning, *ending] for beginning in before for ending in inside]
        elif part == "," and around:
            ended, current = ended + current, [[]]
        else:
            current = [[*beginning, part] for beginning in current]
        if len(ended) + len(current) > _MOST_ALTERNATIVES:
            raise ValueError(f"has more than {_MOST_ALTERNATIVES} alternatives")
    if around:
        raise ValueError("has a '{' without a '}'")
    return current


def _translate(parts: list[str]) -> str:
    """Return the regular expression of a glob without braces.

    An atomic group keeps the first place where the text up to the next wildcard matches: no later one is better. So the
    time is at most quadratic in the length of a name, which strangers may choose, and not exponential in the wildcards.
    """
    expression, in_star = "(?>", False
    for previous, part in pairwise(["/", *parts]):
        if part.startswith("**"):
            expression += "))" if in_star else ")"
            in_star = False
            if not part.endswith("/"):
                expression += "(?>.*?"
            elif previous.endswith("/"):
                expression += "(?>(?:.*?/)??"
            else:
                expression += "(?>.*?/"
        elif part == "*":
            expression += ")(?>[^/]*?" if in_star else "(?>[^/]*?"
            in_star = True
        elif part == "?":
            expression += "[^/]"
        elif part in {"[", "]"}:
            raise ValueError(f"has a {part!r} that is no part of a set such as [a-z]; '\\{part}' stands for itself")
        elif part[0] == "[":
            expression += _set(part[1:-1])
        else:
            expression += re.escape(part[-1])
    return expression + (r"\Z))" if in_star else r"\Z)")


def _set(members: str) -> str:
    negated = members[0] in "!^"
    expression = "[^/" if negated else "["
    for first, last in _MEMBER.findall(members[negated:]):
        if last and last < first:
            raise ValueError(f"has the range {first}-{last}, which is upside down")
        expression += re.escape(first) + (f"-{re.escape(last)}" if last else "")
    return f"{expression}]"
