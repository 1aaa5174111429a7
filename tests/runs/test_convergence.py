"""Three doors, one result: whatever has happened, a run with `created` puts it right, and a second does nothing.

Events are lost, doubled, late and out of order; runs of every kind are stopped, broken and tried again.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule, run_state_machine_as_test

from service.naming import GENERATION_KEY, SOURCE_KEY, Hour
from service.runs.report import RunReport
from service.storage.base import StoredObject
from tests.runs.test_once import RUNS, Inline, Machine, colour_of, make_run
from tests.support.assembly import Task, finished


class Convergence(Machine):
    """What happens to a bucket; `settle` is one run with `created`."""

    def __init__(self) -> None:
        super().__init__()
        self.repairs = 0

    def _repair(self, index: int = 0, count: int = 1, *, overwrite: bool = False) -> Task:
        return make_run(
            self.thumbnailer,
            Inline(),
            run_id=f"repair-{self.repairs}",
            timestamp="created",
            task_index=index,
            task_count=count,
            overwrite=overwrite,
        )

    @precondition(lambda self: self.due)
    @rule(number=st.integers(0, 10))
    def lose_an_event(self, number: int) -> None:
        self.past.append(self.due.pop(number % len(self.due))[0])

    @rule(count=st.integers(1, 3), index=st.integers(0, 2), overwrite=st.booleans())
    def repair_with_a_task(self, count: int, index: int, *, overwrite: bool) -> None:
        self.repairs += 1
        finished(self._repair(index % count, count, overwrite=overwrite))

    @rule(images=st.integers(0, 4))
    def stop_a_repair(self, images: int) -> None:
        self.repairs += 1
        enough = self.store.calls["read"] + images
        task = self._repair()
        task.open()
        task.work(lambda: self.store.calls["read"] >= enough)

    @rule(run=st.sampled_from(range(len(RUNS))))
    def settle(self, run: int = 0) -> None:
        del run
        self.trouble = self.lost = None
        self.due.clear()
        self.repairs += 1
        first = finished(self._repair())
        assert first.whole
        assert {problem.code for problem in first.rejections} <= {"corrupt_image"}
        for source in self.store.live():
            self._check(source)
        self._check_that_nothing_is_left(first)

    def _check(self, source: StoredObject) -> None:
        """A live image has one thumbnail of its live generation, in its own hour, and it is the right one."""
        thumbnails = [
            held
            for name in self.store.names("photos", f"{Hour.of(source.created)}/")
            if (held := self.store.held(f"gs://photos/{name}")).described.metadata[SOURCE_KEY] == str(source.location)
        ]
        colour = self.store.colours[source.generation]
        if colour is None:
            assert all(held.described.metadata[GENERATION_KEY] != str(source.generation) for held in thumbnails)
            return
        (held,) = thumbnails
        assert held.described.metadata[GENERATION_KEY] == str(source.generation)
        assert colour_of(held.data) == colour

    def _check_that_nothing_is_left(self, first: RunReport) -> None:
        self.repairs += 1
        before = {name: self.store.held(f"gs://photos/{name}") for name in self.store.names("photos", "2025")}
        self.store.calls.clear()
        second = finished(self._repair())
        assert (second.created, second.skipped, second.rejected) == (
            0,
            first.created + first.skipped,
            first.rejected,
        )
        # What was rejected is looked at again: another version of the decoder may read it.
        assert self.store.calls["read"] == first.rejected
        assert self.store.calls["write"] == 0
        assert {name: self.store.held(f"gs://photos/{name}") for name in self.store.names("photos", "2025")} == before


@pytest.mark.slow
def test_after_any_history_one_run_with_created_puts_everything_right(monkeypatch: pytest.MonkeyPatch) -> None:
    # Of a planner that was stopped, nobody waits to hear: there is one thread only.
    monkeypatch.setattr("service.runs.lease.LEASE_SECONDS", 0)
    monkeypatch.setattr("service.runs.reporter.SPACING_SECONDS", 0)
    run_state_machine_as_test(
        Convergence,
        settings=settings(
            max_examples=100, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
