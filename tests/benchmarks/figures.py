"""The figures to reach, beside what was measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.contenders import LIMIT, MINIMAL, NAIVE, NAIVE_8, RUN
from tests.benchmarks.sections import NEAR
from tests.benchmarks.tables import figure, table
from tests.benchmarks.throughput import Results


@dataclass(frozen=True, slots=True)
class Goal:
    """A figure to reach."""

    what: str
    must: float
    aim: float
    at_least: bool = False
    """Whether more is better."""

    def met(self, measured: float) -> str:
        """Which of them a measured value reaches."""
        for bound, word in ((self.aim, "aim"), (self.must, "must")):
            if measured >= bound if self.at_least else measured <= bound:
                return word
        return "neither"


GOALS = {
    "minimal web": Goal("images/s ÷ minimal at 40 ms: web", 0.93, 0.98, at_least=True),
    "minimal phone": Goal("images/s ÷ minimal at 40 ms: phone", 0.96, 0.99, at_least=True),
    "minimal mixed": Goal("images/s ÷ minimal at 40 ms: mixed", 0.95, 0.98, at_least=True),
    "rate web": Goal("images/s ÷ limit at 40 ms: web", 0.55, 0.65, at_least=True),
    "rate phone": Goal("images/s ÷ limit at 40 ms: phone", 0.76, 0.80, at_least=True),
    "rate mixed": Goal("images/s ÷ limit at 40 ms: mixed", 0.57, 0.62, at_least=True),
    "cpu web": Goal("CPU ms an image ÷ limit: web", 1.40, 1.25),
    "cpu phone": Goal("CPU ms an image ÷ limit: phone", 1.12, 1.08),
    "naive 8 web": Goal("images/s ÷ naive with 8 threads at 40 ms: web", 2.2, 3.0, at_least=True),
    "naive 8 phone": Goal("images/s ÷ naive with 8 threads at 40 ms: phone", 1.08, 1.2, at_least=True),
    "naive web": Goal("images/s ÷ naive (serial) at 40 ms: web", 16, 22, at_least=True),
    "naive phone": Goal("images/s ÷ naive (serial) at 40 ms: phone", 5.2, 5.8, at_least=True),
    "requests": Goal("requests an image, all kinds: web", 2.05, 2.01),
    "peak": Goal("peak MB, 32 in flight, web", 200, 160),
    "growth": Goal("memory growth from 500 to 5,000 images, %", 15, 5),
    "start": Goal("process start to first 200 on /health ÷ bare FastAPI", 0.65, 0.60),
    "event": Goal("one event, warm ÷ decode + two storage calls", 1.25, 1.12),
    "short 20": Goal("run of 20 web images at 40 ms, round trips less the images' own two", 9, 7),
    "short 1": Goal("run of 1 web image at 40 ms, round trips less the image's own two", 7, 5),
    "progressive": Goal("progressive JPEG of 12 megapixels, CPU ÷ reading all of it", 0.45, 0.30),
    "plan": Goal("seconds to plan ten million names for 50 tasks, storage at 40 ms", 90, 45),
    "in flight": Goal("events in flight held under 512 MiB without a failure", 80, 250, at_least=True),
}


def of_throughput(results: Results) -> dict[str, float]:
    """The figures that the main table holds, so far as it was measured."""
    found: dict[str, float] = {}
    for corpus in ("web", "phone", "mixed"):
        rows = {
            contender: median for (name, delay, contender), median in results.items() if (name, delay) == (corpus, NEAR)
        }
        ours = rows.get(RUN)
        if ours is None:
            continue
        if best := rows.get(LIMIT):
            found[f"rate {corpus}"] = ours.rate / best.rate
            found[f"cpu {corpus}"] = ours.cpu_milliseconds / best.cpu_milliseconds
        for key, contender in (("minimal", MINIMAL), ("naive 8", NAIVE_8), ("naive", NAIVE)):
            if other := rows.get(contender):
                found[f"{key} {corpus}"] = ours.rate / other.rate
        if corpus == "web":
            found["requests"] = ours.requests
    return found


def goals_table(measured: Mapping[str, float]) -> str:
    """All goals, with what was measured of them."""
    rows: Sequence[Sequence[str]] = [
        (
            goal.what,
            figure(goal.must),
            figure(goal.aim),
            figure(measured.get(key)),
            goal.met(measured[key]) if key in measured else "not measured",
        )
        for key, goal in GOALS.items()
    ]
    return table(("figure", "must", "aim", "measured", "reached"), rows)
