"""The errors of the embedded engine: of ClickHouse by its number, and ours under the nearest of those."""

import re
from typing import Final

from helicone_sessions.local.drivers import BackendError, Limits

_TIMEOUT_EXCEEDED: Final = 159
_TOO_MANY_SIMULTANEOUS_QUERIES: Final = 202
_QUERY_WAS_CANCELLED: Final = 394
_ACCESS_DENIED: Final = 497


def refusal(error: BaseException) -> BackendError:
    """What chDB raised, with the number that its text names."""
    if isinstance(error, BackendError):
        return error
    code = re.search(r"\bCode: (\d+)[.,]", text := str(error))
    refused = BackendError(text, int(code[1]) if code else None)
    refused.__cause__ = error
    return refused


def timed_out(limits: Limits | None) -> BackendError:
    """For a statement that was given up from outside."""
    seconds = limits.seconds if limits is not None else None
    return BackendError(
        f"Timeout exceeded: the statement ran for longer than {seconds} s and did not stop of itself",
        _TIMEOUT_EXCEEDED,
    )


def statement_ended() -> BackendError:
    """For a statement whose caller is gone."""
    return BackendError("the statement was ended", _QUERY_WAS_CANCELLED)


def engine_closed() -> BackendError:
    """For statements under way when the backend is closed."""
    return BackendError("the statement was ended: the embedded engine is closed", _QUERY_WAS_CANCELLED)


def all_stuck() -> BackendError:
    """For statements that would wait for threads that may never come back."""
    return BackendError(
        "all threads of the embedded engine are held by statements that cannot be ended",
        _TOO_MANY_SIMULTANEOUS_QUERIES,
    )


def reaches_files() -> BackendError:
    """For a statement that reads and names a way to files."""
    return BackendError("a statement that reads must not reach files", _ACCESS_DENIED)
