"""Globs match as Cloud Storage says; the tables are what its live API answers, and what its clients' tests expect."""

import re

import pytest
from hypothesis import given
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
        ("[α-ω]*", "λ.jpg", True),
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
        ("[ω-α]", "ω-α"),
        ("[\\", "["),
        ("{a,b", "'{' without a '}'"),
        ("{a,{b}", "'{' without a '}'"),
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


def plainly(glob: str, name: str, before: str = "/") -> bool:
    """Match as the rules are written: try all that a wildcard could stand for. Knows no sets and no escapes."""
    if not glob:
        return not name
    if glob[0] == "{":
        options, _, rest = glob[1:].partition("}")
        return any(plainly(option + rest, name, before) for option in options.split(","))
    if glob.startswith("**/") and before == "/":
        starts = [0, *(index + 1 for index, character in enumerate(name) if character == "/")]
        return any(plainly(glob[3:], name[start:]) for start in starts)
    if glob.startswith("**"):
        return any(plainly(glob[2:], name[start:], "*") for start in range(len(name) + 1))
    if glob[0] == "*":
        until = len(name.partition("/")[0])
        return any(plainly(glob[1:], name[start:], "*") for start in range(until + 1))
    if not name or (name[0] == "/" if glob[0] == "?" else name[0] != glob[0]):
        return False
    return plainly(glob[1:], name[1:], glob[0])


@given(
    st.lists(
        st.sampled_from(["a", "b", "/", "?", "*", "**", "**/", "/**/", "{a,ab}", "{b/,*}", "{**/a,b}"]), max_size=7
    ),
    st.text("ab/", max_size=9),
)
def test_globs_match_as_if_all_was_tried(pieces: list[str], name: str) -> None:
    glob = "".join(pieces).replace("***", "**")
    if glob and "***" not in glob:
        assert matches(glob, name) == plainly(glob, name)


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
