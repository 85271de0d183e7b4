"""How far the estimates of a histogram are from the truth, on histograms that ClickHouse makes."""

import json
import math
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from helicone_sessions import Histogram, HistogramRow

chdb = pytest.importorskip("chdb", reason="the extra `local` is not installed")

SHAPES: dict[str, Callable[[random.Random], float]] = {
    "even": lambda chance: chance.random(),
    "long tail": lambda chance: chance.lognormvariate(0, 1.5),
    "falling": lambda chance: chance.expovariate(1),
    "whole numbers": lambda chance: float(1 + int(chance.expovariate(0.3))),
    "two peaks": lambda chance: chance.gauss(chance.choice((0, 100)), 1),
    "many alike": lambda chance: float(chance.choice((1, 1, 1, 2, 50))),
}


def exact(values: list[float], share: float) -> float:
    """The quantile of sorted values, between two of them by the straight line."""
    place = share * (len(values) - 1)
    low, high = values[math.floor(place)], values[math.ceil(place)]
    return low + (place - math.floor(place)) * (high - low)


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    """A connection of the tests' own."""
    connection = chdb.connect(":memory:")
    yield connection
    connection.close()


def drawn(connection: Any, values: list[float]) -> Histogram:
    """The histogram that ClickHouse makes of *values*."""
    answer = connection.query(f"SELECT arrayReduce('histogram(10)', {values!r})", "JSONCompact").bytes()
    bars = json.loads(answer)["data"][0][0]
    return Histogram(tuple(HistogramRow(*map(float, bar)) for bar in bars), unit="dollars")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 12, 50, 1000, 5000])
def test_estimates_are_as_near_as_they_are_said_to_be(connection: Any, shape: str, size: int) -> None:
    """A quantile within its bar and the two beside it, the mean within half the widest bar."""
    chance = random.Random(f"{shape} {size}")  # noqa: S311 - it has to come out the same each time
    values = sorted(SHAPES[shape](chance) for _ in range(size))
    cut = exact(values, 0.95)
    values = [value for value in values if value <= cut] or values
    histogram = drawn(connection, values)
    rows = histogram.rows
    rounding = 1e-9 * max(map(abs, values))

    for share in (0, 0.05, 0.25, 0.5, 0.75, 0.9, 0.99, 1):
        estimate = histogram.quantile(share)
        assert estimate is not None
        place = next(number for number, row in enumerate(rows) if estimate <= row.range_end + rounding)
        beside = rows[max(0, place - 1) : place + 2]
        width = max(row.range_end for row in beside) - min(row.range_start for row in beside)
        assert abs(estimate - exact(values, share)) <= width + rounding
    widest = max(row.range_end - row.range_start for row in rows)
    assert histogram.mean is not None
    assert abs(histogram.mean - math.fsum(values) / len(values)) <= widest / 2 + rounding
    assert pytest.approx(len(values)) == histogram.total
    assert pytest.approx((values[0], values[-1])) == (histogram.quantile(0), histogram.quantile(1))
