"""Ratios of times, taken inside one run: what a busy machine does to both sides cancels out."""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Self

import attrs

Work = Callable[[], object]


@attrs.frozen
class Bar:
    """A figure, usually a ratio, and its limit.

    Args:
        name: Its label.
        ratio: The figure; the median of several rounds.
        low: The smallest of them.
        high: The largest.
        most: The limit of the median, or None.
    """

    name: str
    ratio: float
    low: float
    high: float
    most: float | None = None

    @classmethod
    def of(cls, name: str, *figures: float, most: float | None = None) -> Self:
        """The median of the figures of all rounds, which may be one."""
        return cls(name, statistics.median(figures), min(figures), max(figures), most)

    @property
    def holds(self) -> bool:
        return self.most is None or self.ratio <= self.most

    def __str__(self) -> str:
        verdict = "" if self.most is None else f"at most {self.most:g}   {'ok' if self.holds else 'TOO MUCH'}"
        spread = f"({self.low:.2f} to {self.high:.2f})" if self.low < self.high else ""
        return f"{self.name:<52} {self.ratio:7.2f}  {spread:<16}  {verdict}".rstrip()


def seconds(work: Work, times: int, now: Callable[[], float] = time.process_time) -> float:
    gc.collect()
    gc.disable()
    try:
        begun = now()
        for _ in range(times):
            work()
        return (now() - begun) / times
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
    return Bar.of(name, *ratios, most=most)


def report(title: str, bars: Sequence[Bar]) -> int:
    """Print the table; the exit code is 1 where a bar does not hold."""
    print(title)
    print(*bars, sep="\n")
    return 0 if all(bar.holds for bar in bars) else 1


def is_quick(about: str | None) -> bool:
    """Whether the command line asks for a short run; *about* is what its help says."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--quick", action="store_true", help="fewer queries and rounds, so rougher figures")
    return bool(parser.parse_args(sys.argv[1:]).quick)
