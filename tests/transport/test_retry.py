from typing import Any

import pytest

from helicone_sessions import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    FilterValueError,
    HeliconeError,
    InvalidRequest,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    UnexpectedResponse,
)
from helicone_sessions.transport.retry import RetryPolicy, is_transient

BROKEN = ConnectionFailed("reset")
SLOW = RequestTimeout("slow", limit="timeout", seconds=1)


def failed(text: str) -> QueryFailed:
    return QueryFailed(text, status=500)


def policy(share: float = 1.0, **options: Any) -> RetryPolicy:
    """A policy whose jitter is always *share* of the maximum."""
    return RetryPolicy(**{"random": lambda: share, **options})


@pytest.mark.parametrize(
    "error",
    [
        BROKEN,
        SLOW,
        RateLimited("slow down", status=429),
        RateLimited("slow down", status=429, retry_after=3.0),
        *(ServerError("gateway", status=status) for status in (500, 502, 503, 504, 520, 599)),
        failed("Code: 159. DB::Exception: Timeout exceeded: elapsed 30.1 seconds"),
        failed("Timeout error."),
        failed("Request timed out"),
        failed("The query timed-out"),
        failed("Code: 202. DB::Exception: Too many simultaneous queries. Maximum: 100"),
        failed("Code: 241. DB::Exception: Memory limit (total) exceeded: would use 10.00 GiB"),
        failed("connect ECONNREFUSED 10.0.0.7:8123"),
        failed("read ECONNRESET"),
        failed("Connection refused"),
        failed("Poco::Exception: connection reset by peer"),
        ServerError("read ECONNRESET", status=500, is_lasting=True),
    ],
    ids=str,
)
def test_a_fault_that_passes_is_transient(error: HeliconeError) -> None:
    """No answer, a gateway's page, the rate limit and ClickHouse's words for overload are transient."""
    assert True is is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("wrong key", status=401),
        AuthenticationError("no access", status=403),
        InvalidRequest("malformed", status=400),
        InvalidRequest("no such address", status=404),
        ServerError("not implemented", status=501),
        ServerError("Internal Server Error", status=500, is_lasting=True),
        UnexpectedResponse("not JSON", status=200),
        UnexpectedResponse("redirect", status=302),
        APIError("off", status=418),
        ConfigurationError("closed"),
        FilterValueError("no inverse"),
        failed("Invalid timezone difference"),
        failed("No request count found"),
        failed("Code: 43. DB::Exception: Illegal type UUID of argument"),
        failed("Code: 47. DB::Exception: Unknown expression identifier 'time'"),
        failed(""),
    ],
    ids=str,
)
def test_a_fault_that_stays_is_not(error: HeliconeError) -> None:
    """A query that would fail again is not retried."""
    assert False is is_transient(error)


@pytest.mark.parametrize(
    ("expected", "retries"),
    [(0.5, 0), (1.0, 1), (2.0, 2), (4.0, 3), (8.0, 4), (16.0, 5), (20.0, 6), (20.0, 50), (20.0, 2000)],
)
def test_the_longest_wait_doubles_up_to_an_end(expected: float, retries: int) -> None:
    """The wait is half a second before the first retry, and doubles each time up to twenty."""
    assert expected == policy(max_retries=10_000).wait(BROKEN, retries)


@pytest.mark.parametrize(("expected", "share"), [(0.0, 0.0), (1.0, 0.25), (4.0, 1.0)])
def test_the_jitter_is_full(expected: float, share: float) -> None:
    """The wait is anything between zero and its maximum."""
    assert expected == policy(share).wait(BROKEN, 3)


def test_the_usual_jitter_keeps_the_bounds() -> None:
    """With Python's random numbers the waits differ, and stay within the bounds."""
    waits = [RetryPolicy().wait(BROKEN, 2) for _ in range(200)]

    assert all(wait is not None and 0 <= wait <= 2 for wait in waits)
    assert 1 < len(set(waits))


@pytest.mark.parametrize(
    ("first", "longest", "expected"), [(1.0, 3.0, 3.0), (0.1, 20.0, 0.8), (0.0, 20.0, 0.0)]
)
def test_first_and_longest_wait_can_be_set(first: float, longest: float, expected: float) -> None:
    """The bounds are fields of the policy."""
    assert expected == pytest.approx(policy(first_wait=first, longest_wait=longest).wait(BROKEN, 3))


def overloaded(seconds: float) -> HeliconeError:
    return ServerError("overloaded", status=503, retry_after=seconds)


@pytest.mark.parametrize(
    ("expected", "seconds", "share"),
    [(7.0, 7.0, 0.0), (7.5, 7.0, 1.0), (0.25, 0.0, 0.5), (3600.0, 3600.0, 0.0), (3600.5, 3600.0, 1.0)],
)
def test_jitter_only_adds_to_the_wait_asked_for(expected: float, seconds: float, share: float) -> None:
    """An earlier retry than the service asks for would be refused again."""
    assert expected == policy(share).wait(overloaded(seconds), 0)


@pytest.mark.parametrize("seconds", [3600.1, 1e12])
def test_a_wait_of_more_than_an_hour_is_an_error(seconds: float) -> None:
    """No call waits for hours: the error is raised at once."""
    assert policy().wait(overloaded(seconds), 0) is None
    assert not policy().outlasts(RateLimited("slow down", status=429, retry_after=seconds), 0)


@pytest.mark.parametrize(
    ("expected", "max_retries", "retries"),
    [(False, 0, 0), (True, 1, 0), (False, 1, 1), (True, 4, 3), (False, 4, 4), (True, 100, 99)],
)
def test_max_retries_counts_the_retries(expected: bool, max_retries: int, retries: int) -> None:
    """With this number of retries there is one more attempt."""
    assert expected is (policy(max_retries=max_retries).wait(BROKEN, retries) is not None)


@pytest.mark.parametrize(
    "error", [failed("Invalid timezone difference"), InvalidRequest("x", status=400)], ids=str
)
def test_a_lasting_fault_is_not_retried(error: HeliconeError) -> None:
    """A deterministic error has no wait, however many retries remain."""
    assert policy(max_retries=100).wait(error, 0) is None


@pytest.mark.parametrize("seconds", [None, 0.0, 300.0, 3600.0])
def test_a_refusal_is_waited_out_without_retries(seconds: float | None) -> None:
    """A query waits for the rate limit even without retries, for hours if necessary, but not forever."""
    refusal = RateLimited("slow down", status=429, retry_after=seconds)

    assert policy(max_retries=0).outlasts(refusal, elapsed=5 * 3600.0)
    assert not policy(max_retries=100).outlasts(refusal, elapsed=6 * 3600.0)
