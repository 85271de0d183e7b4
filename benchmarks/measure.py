"""Ratios of times, taken inside one run: what a busy machine does to both sides cancels out."""

import gc
import statistics
import time
from collections.abc import Callable, Sequence

import attrs

Work = Callable[[], object]


@attrs.frozen
class Bar:
    """A ratio, and what it may be at most.

    Args:
        name: What is measured.
        ratio: The median of the ratios of all rounds.
        low: The smallest of them.
        high: The largest.
        most: What the median may be, or None where it is only told.
    """

    name: str
    ratio: float
    low: float
    high: float
    most: float | None = None

    @property
    def holds(self) -> bool:
        return self.most is None or self.ratio <= self.most

    def __str__(self) -> str:
        verdict = "" if self.most is None else f"at most {self.most:g}   {'ok' if self.holds else 'TOO MUCH'}"
        return f"{self.name:<52} {self.ratio:7.2f}  ({self.low:.2f} to {self.high:.2f})  {verdict}"


def seconds(work: Work, times: int) -> float:
    gc.collect()
    gc.disable()
    try:
        begun = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - begun) / times
    finally:
        gc.enable()


def compare(
    name: str,
    work: Work,
    floor: Work,
    *,
    most: float | None = None,
    times: Sequence[int] = (1, 1),
    rounds: int = 15,
) -> Bar:
    """*work* against *floor*, by turns; *times* says how often each is done in a round."""
    ratios = [seconds(work, times[0]) / seconds(floor, times[1]) for _ in range(rounds)]
    return Bar(name, statistics.median(ratios), min(ratios), max(ratios), most)


def report(title: str, bars: Sequence[Bar]) -> int:
    """Print the table; the exit code is 1 where a bar does not hold."""
    print(title)
    print(*bars, sep="\n")
    return 0 if all(bar.holds for bar in bars) else 1
