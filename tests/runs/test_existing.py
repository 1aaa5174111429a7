import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import ShuttingDown
from service.images.spec import ThumbnailSpec
from service.lookup import Output
from service.naming import Hour, Layout, OutputFolder
from service.outcome import Outcome
from service.process import Stop
from service.runs.existing import BATCH, ExistingThumbnails, in_batches, missing
from service.storage.addresses import ALL_NAMES, FolderLocation, NameRange, ObjectLocation
from service.storage.base import StoredObject
from tests.support.assembly import finished, make_task
from tests.support.memory_store import EPOCH, MemoryStore
from tests.support.pictures import jpeg

FENCE = FolderLocation("photos", "in/")
HOUR = Hour("20251203T15Z")
SPEC = ThumbnailSpec()


class Paged(MemoryStore):
    """Counts pages of the hour folder's listing, of `BATCH` objects each."""

    pages = 0

    def list_objects(
        self, folder: FolderLocation, names: NameRange = ALL_NAMES, *, glob: str | None = None
    ) -> Iterator[StoredObject]:
        for number, found in zip(count(), super().list_objects(folder, names, glob=glob), strict=False):
            self.pages += number % BATCH == 0
            yield found


def source(name: str, generation: int = 7) -> StoredObject:
    return StoredObject(ObjectLocation("photos", f"in/{name}"), generation, 1, EPOCH, "image/jpeg")


def outputs(layout: Layout = Layout.FLAT) -> list[Output]:
    return [Output(SPEC, OutputFolder("photos", FENCE, layout))]


def make(store: MemoryStore, found: StoredObject, added: str = "", *, distinct: bool = False, spec: str = str(SPEC),
         layout: Layout = Layout.FLAT) -> None:  # fmt: skip
    """Put the thumbnail of a source where the service would."""
    location = outputs(layout)[0].folder.thumbnail(found.location, HOUR, added, distinct=distinct)
    store.put(
        str(location),
        b"",
        metadata={
            "thumbnail-source": str(found.location),
            "thumbnail-source-generation": str(found.generation),
            "thumbnail-spec": spec,
        },
    )


def names_up_to_date(store: MemoryStore, sources: list[StoredObject], layout: Layout = Layout.FLAT) -> set[str]:
    existing = ExistingThumbnails(store, outputs(layout), HOUR, Stop())
    return {location.name.removeprefix("in/") for location in existing.up_to_date(sources, HOUR)}


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("added", ["", ".jpg", ".png"])
@pytest.mark.parametrize("name", ["a.jpg", "scan.tiff", "none", ".hidden", "a.b.c.png", "ü/猫.jpg"])
@pytest.mark.parametrize("layout", list(Layout))
def test_a_thumbnail_is_found_under_every_name_it_may_have(
    name: str, added: str, layout: Layout, *, distinct: bool
) -> None:
    store = MemoryStore("photos")
    make(store, source(name), added, distinct=distinct, layout=layout)
    assert names_up_to_date(store, [source("A.jpg"), source(name), source("zz.jpg")], layout) == {name}


def test_what_is_of_another_generation_source_or_setting_is_not_up_to_date() -> None:
    store = MemoryStore("photos")
    make(store, source("old.jpg", generation=6))
    make(store, source("other.jpg"), spec="10x10 original q80")
    make(store, source("deep/same.jpg"))
    store.put("gs://photos/20251203T15Z/foreign.jpg", b"")
    asked = [source(name) for name in ("old.jpg", "other.jpg", "same.jpg", "foreign.jpg")]
    assert names_up_to_date(store, asked) == set()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\n\r"), min_size=1, max_size=4),
        st.tuples(st.booleans(), st.booleans(), st.sampled_from(["", ".jpg", ".png"])),
        max_size=40,
    )
)
def test_what_is_there_is_found_whatever_the_names(made: dict[str, tuple[bool, bool, str]]) -> None:
    store = MemoryStore("photos")
    expected = set()
    held = set()
    for name, (there, distinct, added) in made.items():
        if there:
            location = outputs()[0].folder.thumbnail(source(name).location, HOUR, added, distinct=distinct)
            if location not in held:
                held.add(location)
                make(store, source(name), added, distinct=distinct)
                expected.add(name)
    assert names_up_to_date(store, [source(name) for name in made]) == expected


def test_one_folder_of_many_costs_a_listing_or_two_for_a_thousand_sources() -> None:
    store = Paged("photos")
    for number in range(3 * BATCH):
        make(store, source(f"{number:05}.jpg"))
    middle = [source(f"{number:05}.jpg") for number in range(BATCH, 2 * BATCH)]
    assert len(names_up_to_date(store, middle)) == BATCH
    assert store.pages <= 2


def test_the_same_names_in_very_many_folders_cost_no_more_than_so_many_listings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("service.runs.existing._MOST_REQUESTS", 3)
    monkeypatch.setattr("service.runs.existing.BATCH", 10)
    store = MemoryStore("photos")
    for number in range(50):
        for folder in range(5):
            make(store, source(f"{folder}/{number:03}.jpg"), distinct=folder > 0)
    found = names_up_to_date(store, [source(f"0/{number:03}.jpg") for number in range(50)])
    assert store.calls["list"] == 3
    assert 3 < len(found) < 50


def test_nothing_is_looked_up_once_it_is_to_stop() -> None:
    stop = Stop()
    stop.set()
    existing = ExistingThumbnails(MemoryStore("photos"), outputs(), HOUR, stop)
    with pytest.raises(ShuttingDown):
        existing.up_to_date([source("a.jpg")], HOUR)


@pytest.mark.parametrize("sizes", ["100x100", "100x100,20x20"])
def test_a_copy_of_a_thumbnail_has_no_image_read_again(executor: ThreadPoolExecutor, sizes: str) -> None:
    store = MemoryStore("photos")
    for name in "amz":
        store.put(f"gs://photos/in/{name}.jpg", jpeg(16, 12))
    assert finished(make_task(store, executor, thumbnail_sizes=sizes)).created == 3
    for name in store.names("photos", f"{HOUR}/"):
        if name.endswith("m.jpg"):
            thumbnail = store.held(f"gs://photos/{name}")
            # One copy is listed before the thumbnail, and one after it.
            for copy in ("b.jpg", "n.jpg"):
                uri = f"gs://photos/{name.removesuffix('m.jpg')}{copy}"
                store.put(uri, thumbnail.data, metadata=thumbnail.described.metadata)
    store.calls.clear()
    assert finished(make_task(store, executor, thumbnail_sizes=sizes)).skipped == 3
    assert store.calls["read"] == store.calls["write"] == 0


def test_batches_are_looked_up_at_once_and_settled_in_their_order(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.runs.existing.BATCH", 10)
    store = MemoryStore("photos")
    sources = [source(f"{number:03}.jpg") for number in range(40)]
    for each in sources:
        make(store, each)
    two_at_once, first, settled = threading.Event(), threading.Event(), list[Outcome]()

    def wait_for_another(*_: object) -> None:
        if first.is_set():
            two_at_once.set()
        else:
            first.set()
            two_at_once.wait(20)

    store.fault = wait_for_another
    existing = ExistingThumbnails(store, outputs(), HOUR, Stop())
    assert list(missing(in_batches(sources), existing, settled.append, executor)) == []
    assert two_at_once.is_set()
    assert [outcome.source for outcome in settled] == [each.location for each in sources]
