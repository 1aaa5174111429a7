from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidValue
from service.runs.partition import Chunk


@given(st.integers(0, 20_000), st.integers(1, 300))
def test_chunks_cover_every_position_once_with_sizes_within_one(total: int, count: int) -> None:
    spans = [Chunk(index, count).of(total) for index in range(count)]
    assert list(chain.from_iterable(spans)) == list(range(total))
    assert all(before.stop == after.start for before, after in pairwise(spans))
    assert max(map(len, spans)) - min(map(len, spans)) <= 1


@pytest.mark.parametrize(
    ("index", "count", "field"),
    [(-1, 1, "task_index"), (4, 4, "task_index"), (0, 0, "task_count"), (0, 10_001, "task_count")],
)
def test_an_index_outside_the_count_is_refused(index: int, count: int, field: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        Chunk(index, count)
    assert caught.value.field == field
