import random
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.storage.addresses import ALL_NAMES
from service.storage.ranges import ListedRange, RangeSplitter

AT_ONCE = 24


class Listed:
    """A folder, listed with a splitter as storage would list it: so many pages at once, which end in any order."""

    def __init__(self, names: Sequence[str], prefix: str = "", page_size: int = 200, seed: int = 0) -> None:
        self.listings = 0
        self.rounds = 0
        """Times that storage was waited for, if all listings at once take the same time."""
        self.by_range = defaultdict[str, list[str]](list)
        chance, splitter = random.Random(seed), RangeSplitter(prefix, ALL_NAMES)  # noqa: S311 - no secret
        while True:
            at_once: list[tuple[ListedRange, tuple[Sequence[str], str]]] = []
            while len(at_once) < AT_ONCE and (chosen := splitter.next_range()):
                at_once.append(
                    (chosen, self._page(names, chosen.asked.start, chosen.asked.end, chosen.token, page_size))
                )
            if not at_once:
                return
            self.rounds += 1
            self.listings += len(at_once)
            chance.shuffle(at_once)
            for chosen, (page, token) in at_once:
                self.by_range[chosen.asked.start] += page[: bisect_left(page, chosen.end) if chosen.end else None]
                splitter.add_page(chosen, page, token)

    @staticmethod
    def _page(names: Sequence[str], start: str, end: str | None, token: str, size: int) -> tuple[Sequence[str], str]:
        start.encode()  # It goes into the address of a request.
        first = bisect_left(names, max(start, token))
        last = len(names) if end is None else bisect_left(names, end)
        return names[first : min(last, first + size)], names[first + size] if first + size < last else ""

    @property
    def in_order(self) -> list[str]:
        return list(chain.from_iterable(names for _, names in sorted(self.by_range.items())))


def hexadecimal(number: int, chance: random.Random) -> str:  # noqa: ARG001 - like the others
    return f"in/{uuid.UUID(int=chance.getrandbits(128))}.jpg"


FOLDERS: dict[str, Callable[[int, random.Random], str]] = {
    "numbers with zeros before": lambda number, _: f"in/{number:07}.jpg",
    "numbers without": lambda number, _: f"in/{number}.jpg",
    "random": hexadecimal,
    "folders of 5,000": lambda number, _: f"in/2025/{number // 5000:04}/IMG_{number % 5000:05}.jpg",
    "a deep folder": lambda number, _: f"in/customers/archive of photos/2019/batch-000001/IMG_{number:07}.jpg",
    "days": lambda number, chance: (
        f"in/{2010 + int(15 * chance.random() ** 0.5)}/{chance.randrange(12):02}/{chance.randrange(28):02}/{number}.jpg"
    ),
    "most in one folder of many": lambda number, chance: (
        f"in/zeta/only/{number:08}.jpg" if chance.random() < 0.9 else f"in/a{number}/x.jpg"
    ),
    "users of whom few have most": lambda number, chance: f"in/user-{int(chance.paretovariate(0.5)):09}/{number}.jpg",
    "words": lambda number, chance: f"in/{chance.choice(['beach', 'Ärzte', 'a b', 'zoo', 'übung'])} {number}.JPG",
    "Chinese": lambda number, chance: (
        "in/" + "".join(chr(0x4E00 + chance.randrange(3000)) for _ in range(4)) + f"{number}"
    ),
    "beyond the first plane": lambda number, chance: f"in/\U0001f600{chr(0x1F300 + chance.randrange(300))}{number}",
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_large_folder_is_listed_side_by_side_with_five_percent_more_listings_at_most(kind: str) -> None:
    chance = random.Random(kind)  # noqa: S311 - no secret
    names = sorted({FOLDERS[kind](number, chance) for number in range(200_000)})
    listed = Listed(names, "in/")
    assert listed.in_order == names
    alone = -(-len(names) // 200)
    assert listed.listings <= alone * 1.05
    assert listed.rounds < alone / 2.5


@given(
    st.sets(
        st.one_of(
            st.text(max_size=6, min_size=1),
            st.integers(0, 3000).map(lambda number: f"{number:06}.jpg"),
            st.tuples(st.sampled_from("ab🙂"), st.integers(0, 200)).map(lambda pair: f"{pair[0]}/{pair[1]}"),
            st.uuids().map(str),
        ),
        max_size=400,
    ),
    st.integers(1, 20),
    st.integers(0, 9),
    st.sampled_from(["", "folder/", "\U0010ffff/"]),
)
def test_every_name_is_listed_once_whatever_the_names(names: set[str], size: int, seed: int, prefix: str) -> None:
    ordered = sorted(prefix + name for name in names)
    listed = Listed(ordered, prefix, size, seed)
    assert listed.in_order == ordered
    assert listed.listings <= max(1, -(-len(ordered) // size)) * 1.05 + 20


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 4, 5])
def test_few_pages_take_no_listing_more(pages: int) -> None:
    assert Listed([f"{number:04}" for number in range(pages * 10)], page_size=10).listings == max(1, pages)


def test_names_with_nearly_all_that_a_name_may_have_in_common_are_listed() -> None:
    names = [f"in/{letter}{'x' * 900}/{number:06}.jpg" for letter in "aceg" for number in range(2_000)]
    listed = Listed(names, "in/", 8)
    assert listed.in_order == names
    assert listed.listings <= 1050


def test_an_empty_page_is_no_end_if_another_follows() -> None:
    splitter = RangeSplitter("", ALL_NAMES)
    whole = splitter.next_range()
    assert whole
    splitter.add_page(whole, [], "second")
    assert splitter.next_range() is whole
    assert whole.token.startswith("second")
    splitter.add_page(whole, ["a"], "")
    assert splitter.next_range() is None
