"""One hour of real requests, answered by the engine as a plain computation in Python answers it."""

import csv
import gzip
import math
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from helicone_sessions import HeliconeClient, SessionMetrics, SessionMetricsQuery, TimeFilter

pytest.importorskip("chdb", reason="the extra `local` is not installed")

TRACE = Path(__file__).parents[2].parent / "shared" / "data" / "mooncake_conversation.csv.gz"
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not TRACE.exists(), reason="the trace is not beside the repository"),
]

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
# The trace names no price and no name; these are the tests' own: $2.50 and $10 a million tokens.
NANODOLLARS_A_PROMPT_TOKEN = 2_500
NANODOLLARS_A_COMPLETION_TOKEN = 10_000
LEVELS = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
HISTOGRAMS = ("session_count", "session_duration", "session_cost")


def _name(request: dict[str, str]) -> str:
    return f"Shift {int(request['session'][1:]) % 7}"


def _nanodollars(request: dict[str, str]) -> int:
    return (
        int(request["prompt_tokens"]) * NANODOLLARS_A_PROMPT_TOKEN
        + int(request["completion_tokens"]) * NANODOLLARS_A_COMPLETION_TOKEN
    )


@pytest.fixture(scope="module")
def trace() -> list[dict[str, str]]:
    """The lines of the trace."""
    with gzip.open(TRACE, "rt", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(serve: Any, trace: list[dict[str, str]]) -> AsyncIterator[HeliconeClient]:
    """A client of a server that holds the trace."""
    rows = (
        {
            "request_created_at": START + timedelta(milliseconds=int(request["offset_ms"])),
            "prompt_tokens": int(request["prompt_tokens"]),
            "completion_tokens": int(request["completion_tokens"]),
            "cost": Decimal(_nanodollars(request)).scaleb(-9),
            "properties": {
                "Helicone-Session-Id": request["session"],
                "Helicone-Session-Name": _name(request),
            },
        }
        for request in trace
    )
    async with serve(rows) as client:
        yield client


def _sessions(requests: list[dict[str, str]]) -> dict[str, list[float]]:
    """Requests, seconds and dollars of each session, in order."""
    milliseconds: dict[str, list[int]] = defaultdict(list)
    nanodollars: Counter[str] = Counter()
    for request in requests:
        milliseconds[request["session"]].append(int(request["offset_ms"]))
        nanodollars[request["session"]] += _nanodollars(request)
    return {
        "session_count": sorted(len(times) for times in milliseconds.values()),
        "session_duration": sorted(
            max(times) // 1000 - min(times) // 1000 for times in milliseconds.values()
        ),
        "session_cost": sorted(total / 10**9 for total in nanodollars.values()),
    }


def _quantile(ordered: list[float], level: float) -> float:
    place = (len(ordered) - 1) * level
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _drawn(
    requests: list[dict[str, str]], level: float = 0.75, *, inside: bool = False
) -> dict[str, tuple[Any, ...]]:
    """How many sessions each histogram holds, and the least and the greatest of them."""
    drawn: dict[str, tuple[Any, ...]] = {}
    for name, ordered in _sessions(requests).items():
        low = _quantile(ordered, 1 - level) if inside and ordered else -math.inf
        high = _quantile(ordered, level) if ordered else math.inf
        kept = [value for value in ordered if low <= value <= high]
        drawn[name] = (pytest.approx(len(kept), rel=1e-9), *((kept[0], kept[-1]) if kept else ()))
    return drawn


def _ends(metrics: SessionMetrics) -> dict[str, tuple[float, ...]]:
    bars = {name: getattr(metrics, name) for name in HISTOGRAMS}
    return {
        name: (rows.total, *((rows[0].range_start, rows[-1].range_end) if rows else ()))
        for name, rows in bars.items()
    }


def _averages(requests: list[dict[str, str]]) -> dict[str, Any]:
    return {
        name: pytest.approx(math.fsum(ordered) / len(ordered), rel=1e-12, abs=0) if ordered else None
        for name, ordered in _sessions(requests).items()
    }


def _found_averages(metrics: SessionMetrics) -> dict[str, float | None]:
    return {name: getattr(metrics.average, name) for name in HISTOGRAMS}


async def test_requests_per_session(client: HeliconeClient) -> None:
    """The trace is 12,031 requests in 7,381 sessions, and so is the average."""
    average = (await client.get_metrics()).average.session_count
    assert pytest.approx(12031 / 7381, rel=1e-12) == average


async def test_averages(client: HeliconeClient, trace: list[dict[str, str]]) -> None:
    """The averages of all sessions are exact, dollars and seconds too."""
    metrics = await client.get_metrics()
    assert _averages(trace) == _found_averages(metrics)
    assert metrics.average.session_duration > 0
    assert metrics.average.session_cost > 0


@pytest.mark.parametrize("use_interquartile", [None, False, True])
@pytest.mark.parametrize("p_size", [None, *LEVELS])
async def test_histograms_are_cut(
    client: HeliconeClient, trace: list[dict[str, str]], p_size: Any, use_interquartile: bool | None
) -> None:
    """A histogram draws the sessions up to its quantile, with the interquartile cut those above 1-p too."""
    metrics = await client.get_metrics(p_size=p_size, use_interquartile=use_interquartile)
    assert _drawn(trace, LEVELS[p_size or "p75"], inside=bool(use_interquartile)) == _ends(metrics)
    assert _averages(trace) == _found_averages(metrics)


@pytest.mark.parametrize("name", HISTOGRAMS)
async def test_histograms_are_at_most_ten_bars(client: HeliconeClient, name: str) -> None:
    """A histogram is at most ten bars, which follow one another."""
    bars = getattr(await client.get_metrics(p_size="p99.9"), name)
    assert 1 <= len(bars) <= 10
    ends = [end for bar in bars for end in (bar.range_start, bar.range_end)]
    assert sorted(ends) == ends


# Numbers of requests in the order of the trace, and milliseconds that the window reaches past each.
WINDOWS = [
    (0, 0, 12030, 0),
    (0, -1, 12030, 1),
    (1000, 0, 9000, 0),
    (1000, -1, 9000, 1),
    (1000, 1, 9000, -1),
    (5000, 0, 5200, 0),
    (6000, -1, 6000, 1),
    (12030, 0, 12030, 1),
]


@pytest.mark.parametrize(("first", "before", "last", "after"), WINDOWS)
async def test_windows(
    client: HeliconeClient, trace: list[dict[str, str]], first: int, before: int, last: int, after: int
) -> None:
    """A time filter leaves out the requests made exactly at its ends, and takes all between."""
    start, end = int(trace[first]["offset_ms"]) + before, int(trace[last]["offset_ms"]) + after
    window = TimeFilter(START + timedelta(milliseconds=start), START + timedelta(milliseconds=end))
    inside = [request for request in trace if start < int(request["offset_ms"]) < end]
    metrics = await client.get_metrics(time_filter=window)
    assert _drawn(inside) == _ends(metrics)
    assert _averages(inside) == _found_averages(metrics)


async def test_split_windows_add_up(client: HeliconeClient, trace: list[dict[str, str]]) -> None:
    """Every request of a time that is split is counted in exactly one of its windows."""
    millisecond = timedelta(milliseconds=1)
    whole = TimeFilter(START - millisecond, START + timedelta(milliseconds=int(trace[-1]["offset_ms"]) + 1))
    windows = whole.split(minutes=7)
    answers = await client.get_metrics_many(
        SessionMetricsQuery(time_filter=window, p_size="p50") for window in windows
    )
    per_window = [
        sum(
            window.start < START + timedelta(milliseconds=int(line["offset_ms"])) < window.end
            for line in trace
        )
        for window in windows
    ]
    assert len(trace) == sum(per_window)
    assert [
        _found_averages(answer) == _averages(_between(trace, window))
        for answer, window in zip(answers, windows, strict=True)
    ] == [True] * len(windows)


def _between(trace: list[dict[str, str]], window: TimeFilter) -> list[dict[str, str]]:
    return [
        line
        for line in trace
        if window.start < START + timedelta(milliseconds=int(line["offset_ms"])) < window.end
    ]


@pytest.mark.parametrize("name", ["Shift 3", "shift 3", "HIFT", "3", "Shift 3 ", "%", "Shift_3"])
async def test_name_contains(client: HeliconeClient, trace: list[dict[str, str]], name: str) -> None:
    """name_contains finds a part of a session's name, in capitals or not, and takes it literally."""
    inside = [request for request in trace if name.lower() in _name(request).lower()]
    metrics = await client.get_metrics(name_contains=name, p_size="p95")
    assert _drawn(inside, 0.95) == _ends(metrics)
    assert _averages(inside) == _found_averages(metrics)
