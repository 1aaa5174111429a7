"""Globs match as Cloud Storage says; the tables are what its live API answers, and what its clients' tests expect."""

import re
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from service.errors import InvalidValue
from service.storage.globs import Globs


def matches(glob: str, name: str) -> bool:
    return Globs.parse(glob, "INCLUDE").matches(name)


@pytest.mark.parametrize(
    ("glob", "expected"),
    [
        ("foo*bar", {"foobar"}),
        ("foo**bar", {"foo/bar", "foo/foobar", "foobar"}),
        ("**/foobar", {"foo/foobar", "foobar"}),
        ("*/ba[rz]", {"foo/bar", "foo/baz"}),
        ("*/ba[!a-y]", {"foo/baz"}),
        ("*/ba[^a-y]", {"foo/baz"}),
        ("**/{foobar,baz}", {"foo/baz", "foo/foobar", "foobar"}),
        ("foo/{foo*,*baz}", {"foo/baz", "foo/foobar"}),
        ("foo/**", {"foo/bar", "foo/baz", "foo/foobar"}),
        ("foo?ba?", set()),
        ("foo?????", set()),
        ("fooba?", {"foobar"}),
        ("{foo/{bar,baz},foobar}", {"foo/bar", "foo/baz", "foobar"}),
        ("*", {"foobar"}),
        ("**", {"foo/bar", "foo/baz", "foo/foobar", "foobar"}),
    ],
)
def test_a_glob_matches_what_cloud_storage_says(glob: str, expected: set[str]) -> None:
    names = {"foo/bar", "foo/baz", "foo/foobar", "foobar"}
    assert {name for name in names if matches(glob, name)} == expected


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("**/@eaDir/**", "@eaDir/x.jpg", True),
        ("**/@eaDir/**", "a/b/@eaDir/c/x.jpg", True),
        ("**/@eaDir/**", "a/b@eaDir/x.jpg", False),
        ("**/*_200x200.*", "x_200x200.jpg", True),
        ("**/*_200x200.*", "a/b/x_200x200.tar.gz", True),
        ("**/*_200x200.*", "a_200x200.b/x", False),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a/**/b", "ab", False),
        ("a/**/b", "a/xb", False),
        ("a**/b", "ab", False),
        ("a**/b", "ax/y/b", True),
        ("img/**.jpg", "img/hi-res/party-01.jpg", True),
        ("a***b", "a/b", True),
        ("a/b", "a//b", False),
        ("a/*/b", "a//b", True),
        ("a/*/b", "a/../b", True),
        ("**/b", "./b", True),
        ("/a", "a", False),
        ("*.jpg", ".jpg", True),
        ("a", "A", False),
        ("a?c", "a/c", False),
        ("a[!b]c", "a/c", False),
        ("[a-c]", "b", True),
        ("[a-]", "-", True),
        ("[-a]", "-", True),
        ("[!a-]", "-", False),
        (r"[\]\[]", "]", True),
        ("[a,b]", ",", True),
        ("[.]", "x", False),
        ("[&&~~||]", "&", True),
        (r"\*", "*", True),
        (r"\*", "x", False),
        (r"\{a\,b\}", "{a,b}", True),
        (r"a\b", "ab", True),
        (r"a\\b", r"a\b", True),
        ("a\\", "a\\", True),
        ("{a,b}{1,2}", "b1", True),
        ("{a,}b", "b", True),
        ("*{*,b}", "a/b", False),
        ("{a/,}**/b", "a/b", True),
        ("{1..3}", "2", False),
        ("a.b", "axb", False),
        ("a+(b|c)$", "a+(b|c)$", True),
        ("*", "two\nlines", True),
        ("a", "a\n", False),
        ("!a", "!a", True),
        ("~a", "~a", True),
        ("photo album/*", "photo album/x y.jpg", True),
        ("100%/*", "100%/x.jpg", True),
        ("a%2Fb", "a/b", False),
        ("a%2Fb", "a%2Fb", True),
        ("été/*", "été/x.jpg", True),
        ("\u00e9*", "e\u0301x", False),
        ("?", "\U0001f4f7", True),
        ("[à-ý]*", "é.jpg", True),
    ],
)  # fmt: skip
def test_the_odd_cases(glob: str, name: str, *, expected: bool) -> None:
    assert matches(glob, name) == expected


@pytest.mark.parametrize(
    ("glob", "problem"),
    [
        ("", "is empty"),
        ("[abc", "["),
        ("a]", "]"),
        ("[]", "["),
        ("[!]", "["),
        ("[]a]", "["),
        ("[[]", "["),
        ("[z-a]", "z-a"),
        ("[ý-à]", "ý-à"),
        ("[\\", "["),
        ("{a,b", "'{' without a '}'"),
        ("{a,{b}", "'{' without a '}'"),
        ("[{a}]", "["),
        ("a}", "'}' without a '{'"),
        ("{a,b}" * 20, "more than 1000"),
    ],
)
def test_a_wrong_glob_is_refused_and_named(glob: str, problem: str) -> None:
    with pytest.raises(InvalidValue, match=re.escape(repr(glob))) as caught:
        Globs.parse(f"**/*.jpg, {glob}", "EXCLUDE")
    assert caught.value.field == "EXCLUDE"
    assert problem in caught.value.problem


@pytest.mark.parametrize("text", [" , a", "a,", ",a", "a,,b"])
def test_an_empty_glob_among_others_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is empty"):
        Globs.parse(text, "INCLUDE")


@pytest.mark.parametrize("text", ["a/*,{b,c{d,e}}/*, f g/* ", "a/* , {b,c{d,e}}/*,f g/*"])
def test_commas_separate_globs_but_not_inside_braces(text: str) -> None:
    globs = Globs.parse(text, "INCLUDE")
    names = ["a/x", "b/x", "cd/x", "ce/x", "f g/x"]
    assert [globs.matches(name) for name in names] == [True] * 5
    assert not any(globs.matches(name) for name in ["c/x", "{b/x", "d/x", " f g/x", ""])


def test_a_comma_after_a_backslash_or_in_a_set_belongs_to_the_glob() -> None:
    globs = Globs.parse(r"a\,b,c[,]d", "INCLUDE")
    assert globs.matches("a,b")
    assert globs.matches("c,d")
    assert not globs.matches("b")


BRACES = {"{a,ab}": [["a"], ["a", "b"]], "{b/,*}": [["b", "/"], ["*"]], "{**/a,}": [["**/", "a"], []]}


def plainly(parts: list[str], name: str, before: str = "/") -> bool:
    """Match as the rules are written: try all that a wildcard could stand for."""
    if not parts:
        return not name
    part, *rest = parts
    if part in BRACES:
        return any(plainly(option + rest, name, before) for option in BRACES[part])
    if part == "*":
        ends = range(len(name.partition("/")[0]) + 1)
    elif part == "**":
        ends = range(len(name) + 1)
    elif part == "**/":
        # Whole folders, none included, if it begins a folder's name.
        return any(plainly(rest, name[end:]) for end in range(len(name) + 1) if f"{before}{name}"[end] == "/")
    else:
        return bool(name) and (name[0] == part or (part == "?" and name[0] != "/")) and plainly(rest, name[1:], name[0])
    return any(plainly(rest, name[end:], "*") for end in ends)


@given(
    st.lists(st.sampled_from(["a", "b", "/", "?", "*", "**", "**/", *BRACES]), min_size=1, max_size=7),
    st.text("ab/", max_size=9),
)
def test_globs_match_as_if_all_was_tried(parts: list[str], name: str) -> None:
    # Side by side, these would be another wildcard.
    assume(not any(one[-1] == after[0] == "*" or (one, after) == ("**", "/") for one, after in pairwise(parts)))
    assert matches("".join(parts), name) == plainly(parts, name)


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("**/*a*a*a*a*a*a*b", "a" * 1024),
        ("**a**a**a**a**a**a**b", "a" * 1024),
        ("**/a/**/a/**/a/**/a/**/b", "a/" * 512),
        ("{a,aa,aaa}*{a,aa,aaa}*{a,aa,aaa}*{a,aa}b", "a" * 1024),
    ],
)
def test_no_name_takes_long(glob: str, name: str) -> None:
    globs = Globs.parse(glob, "INCLUDE")
    assert not any(globs.matches(name) for _ in range(50))


def test_braces_within_braces_have_no_limit() -> None:
    depth = 5000
    assert matches(f"{'{' * depth}a,b{'}' * depth}", "b")
