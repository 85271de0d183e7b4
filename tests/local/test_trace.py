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

# Arrival times and tokens of real requests, from kvcache-ai/Mooncake (Apache-2.0).
TRACE = Path(__file__).parents[1] / "data" / "mooncake_conversation.csv.gz"
pytestmark = pytest.mark.asyncio(loop_scope="module")

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
# The trace names no price and no name; these are the tests' own: $2.50 and $10 a million tokens.
NANODOLLARS_A_PROMPT_TOKEN = 2_500
NANODOLLARS_A_COMPLETION_TOKEN = 10_000
LEVELS = {"p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}


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


Sessions = dict[str, list[float]]


def _sessions(requests: list[dict[str, str]]) -> Sessions:
    """Requests, seconds and dollars of each session, the least first."""
    milliseconds: dict[str, list[int]] = defaultdict(list)
    nanodollars: Counter[str] = Counter()
    for request in requests:
        milliseconds[request["session"]].append(int(request["offset_ms"]))
        nanodollars[request["session"]] += _nanodollars(request)
    durations = (max(times) // 1000 - min(times) // 1000 for times in milliseconds.values())
    return {
        "session_count": sorted(len(times) for times in milliseconds.values()),
        "session_duration": sorted(durations),
        "session_cost": sorted(total / 10**9 for total in nanodollars.values()),
    }


@pytest.fixture(scope="module")
def whole(trace: list[dict[str, str]]) -> Sessions:
    """The sessions of the whole trace."""
    return _sessions(trace)


def _quantile(ordered: list[float], level: float) -> float:
    place = (len(ordered) - 1) * level
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _expected(sessions: Sessions, level: float = 0.75, *, inside: bool = False) -> dict[str, tuple[Any, ...]]:
    """How many sessions each histogram draws, the least and the greatest of them, and the average of all."""
    expected: dict[str, tuple[Any, ...]] = {}
    for name, ordered in sessions.items():
        if not ordered:
            expected[name] = (0, None, None, None)
            continue
        low = _quantile(ordered, 1 - level) if inside else -math.inf
        drawn = [value for value in ordered if low <= value <= _quantile(ordered, level)]
        average = pytest.approx(math.fsum(ordered) / len(ordered), rel=1e-12, abs=0)
        expected[name] = (pytest.approx(len(drawn), rel=1e-12), drawn[0], drawn[-1], average)
    return expected


def _found(metrics: SessionMetrics) -> dict[str, tuple[Any, ...]]:
    found: dict[str, tuple[Any, ...]] = {}
    for name in ("session_count", "session_duration", "session_cost"):
        bars = getattr(metrics, name)
        ends = (bars[0].range_start, bars[-1].range_end) if bars else (None, None)
        found[name] = (bars.total, *ends, getattr(metrics.average, name))
    return found


async def test_requests_per_session(client: HeliconeClient) -> None:
    """The trace is 12,031 requests in 7,381 sessions, and so is the average."""
    average = (await client.get_metrics()).average.session_count
    assert pytest.approx(12031 / 7381, rel=1e-12) == average


async def test_averages(client: HeliconeClient, whole: Sessions) -> None:
    """The averages of requests, seconds and dollars are exact, and none of them is zero."""
    averages = (await client.get_metrics()).average
    assert [pytest.approx(math.fsum(values) / 7381, rel=1e-12, abs=0) for values in whole.values()] == [
        averages.session_count,
        averages.session_duration,
        averages.session_cost,
    ]
    assert 0 < min(map(sum, whole.values()))


@pytest.mark.parametrize("use_interquartile", [None, False, True])
@pytest.mark.parametrize("p_size", [None, *LEVELS])
async def test_histograms_are_cut(
    client: HeliconeClient, whole: Sessions, p_size: Any, use_interquartile: bool | None
) -> None:
    """A histogram draws the sessions up to its quantile, with the interquartile cut those above 1-p too."""
    metrics = await client.get_metrics(p_size=p_size, use_interquartile=use_interquartile)
    assert _expected(whole, LEVELS[p_size or "p75"], inside=bool(use_interquartile)) == _found(metrics)


async def test_histograms_are_at_most_ten_bars(client: HeliconeClient) -> None:
    """A histogram is at most ten bars, which follow one another."""
    metrics = await client.get_metrics(p_size="p99.9")
    for bars in (metrics.session_count, metrics.session_duration, metrics.session_cost):
        assert 1 < len(bars) <= 10
        ends = [end for bar in bars for end in (bar.range_start, bar.range_end)]
        assert sorted(ends) == ends


def _inside(trace: list[dict[str, str]], window: TimeFilter) -> list[dict[str, str]]:
    return [line for line in trace if window.start < _made(line) < window.end]


def _made(line: dict[str, str]) -> datetime:
    return START + timedelta(milliseconds=int(line["offset_ms"]))


# Numbers of requests in the order of the trace, and milliseconds that the window reaches past each.
WINDOWS = [
    (0, 0, 12030, 0),
    (0, 1, 12030, 1),
    (1000, 0, 9000, 0),
    (1000, 1, 9000, 1),
    (1000, -1, 9000, -1),
    (5000, 0, 5200, 0),
    (6000, 1, 6000, 1),
    (12030, 0, 12030, 1),
]


@pytest.mark.parametrize(("first", "before", "last", "after"), WINDOWS)
async def test_windows(
    client: HeliconeClient, trace: list[dict[str, str]], first: int, before: int, last: int, after: int
) -> None:
    """A time filter leaves out the requests made exactly at its ends, and takes all between."""
    window = TimeFilter(
        _made(trace[first]) - timedelta(milliseconds=before),
        _made(trace[last]) + timedelta(milliseconds=after),
    )
    metrics = await client.get_metrics(time_filter=window)
    assert _expected(_sessions(_inside(trace, window))) == _found(metrics)


async def test_split_windows(client: HeliconeClient, trace: list[dict[str, str]]) -> None:
    """Every request of a time that is split is counted in exactly one of its windows."""
    start, border = _made(trace[1000]), _made(trace[3000])
    whole = TimeFilter(start, _made(trace[-1]))
    windows = whole.split(minutes=(border - start) / timedelta(minutes=1))
    assert border == windows[0].end
    answers = await client.get_metrics_many(SessionMetricsQuery(time_filter=window) for window in windows)
    parts = [_inside(trace, window) for window in windows]
    assert _inside(trace, whole) == [line for part in parts for line in part]
    assert [_expected(_sessions(part)) for part in parts] == [_found(answer) for answer in answers]


@pytest.mark.parametrize("name", ["Shift 3", "shift 3", "HIFT", "Shift 3 ", "%", "Shift_3"])
async def test_name_contains(client: HeliconeClient, trace: list[dict[str, str]], name: str) -> None:
    """name_contains finds a part of a session's name, in capitals or not, and takes it literally."""
    named = [line for line in trace if name.lower() in _name(line).lower()]
    metrics = await client.get_metrics(name_contains=name, p_size="p95")
    assert _expected(_sessions(named), 0.95) == _found(metrics)
