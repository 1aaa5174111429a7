"""Globs over object names, with the rules that Cloud Storage has for listings.

The rules: cloud.google.com/storage/docs/json_api/v1/objects/list#list-object-glob. What that page leaves open is as the
live API answers it (github.com/fsouza/fake-gcs-server, pull requests 2328 and 2344). Libraries for paths of files have
other rules: they read `a**b` as `a*b` and `a//b` as `a/b`, match no folder named `..`, and take a wrong glob for text.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from service.errors import InvalidValue

_MOST_ALTERNATIVES = 1000
"""Of one glob, with its braces written out."""

_TOKEN = re.compile(
    r"""  (?P<folders> (?:^|(?<=/)) \*\*+/ )
        | (?P<anything> \*\*+ )
        | (?P<star> \* )
        | (?P<question_mark> \? )
        | \[ (?P<negation> [!^]?+ ) (?P<set> (?: \\. | [^][{}\\] )+ ) \]
        | (?P<stray_bracket> [][] )
        | \\? (?P<character> . )
    """,
    re.DOTALL | re.VERBOSE,
)
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
                expressions += map(_translate, _without_braces(_tokens(glob), inside=False))
            except ValueError as error:
                raise InvalidValue(field, text, f"has the glob {glob!r}, which {error}") from None
        return cls(text, re.compile("|".join(expressions), re.DOTALL))

    def matches(self, name: str) -> bool:
        """Return True if a glob matches the whole of a name."""
        return self.pattern.match(name) is not None


def _tokens(glob: str) -> Iterator[str]:
    return (token[0] for token in _TOKEN.finditer(glob))


def _split(text: str) -> list[str]:
    globs, depth = [""], 0
    for token in _tokens(text):
        depth += (token == "{") - (token == "}")
        if token == "," and not depth:
            globs.append("")
        else:
            globs[-1] += token
    return [glob.strip() for glob in globs]


def _without_braces(tokens: Iterator[str], *, inside: bool) -> list[str]:
    """Write all alternatives out, up to the closing brace if inside of braces."""
    ended: list[str] = []
    alternatives = [""]
    for token in tokens:
        if token == "}" and inside:
            return ended + alternatives
        if token == "}":
            raise ValueError("has a '}' without a '{'")
        if token == "," and inside:
            ended += alternatives
            alternatives = [""]
        else:
            endings = _without_braces(tokens, inside=True) if token == "{" else [token]
            alternatives = [beginning + ending for beginning in alternatives for ending in endings]
        if len(ended) + len(alternatives) > _MOST_ALTERNATIVES:
            raise ValueError(f"has more than {_MOST_ALTERNATIVES} alternatives")
    if inside:
        raise ValueError("has a '{' without a '}'")
    return alternatives


def _translate(glob: str) -> str:
    """Return the regular expression of a glob without braces.

    An atomic group keeps the first place where the text up to the next wildcard matches: no later one is better. So the
    time is at most quadratic in the length of a name, which strangers may choose, and not exponential in the wildcards.
    """
    expression, in_star = "(?>", False
    for token in _TOKEN.finditer(glob):
        if token["stray_bracket"]:
            raise ValueError("has a '[' or ']' that is no part of a set such as [a-z]; '\\[' and '\\]' are themselves")
        if token["folders"] or token["anything"]:
            expression += ("))" if in_star else ")") + ("(?>(?:.*?/)??" if token["folders"] else "(?>.*?")
            in_star = False
        elif token["star"]:
            expression += ")(?>[^/]*?" if in_star else "(?>[^/]*?"
            in_star = True
        elif token["question_mark"]:
            expression += "[^/]"
        elif token["set"]:
            expression += _set(token["set"], negated=bool(token["negation"]))
        else:
            expression += re.escape(token["character"])
    return expression + (r"\Z))" if in_star else r"\Z)")


def _set(members: str, *, negated: bool) -> str:
    expression = "[^/" if negated else "["
    for first, last in _MEMBER.findall(members):
        if last and last < first:
            raise ValueError(f"has the range {first}-{last}, which is upside down")
        expression += re.escape(first) + (f"-{re.escape(last)}" if last else "")
    return f"{expression}]"
