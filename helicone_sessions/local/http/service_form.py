"""Parses request bodies and builds responses in the same way as the open-source server.

That server converts text to numbers and booleans, treats times without a zone as UTC, and accepts time
filters that end before they start. Its errors name the field.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterError, FilterValueError
from helicone_sessions.filters.schema import COLUMNS, SERVER_END_OF_TIME, SERVER_FIRST_YEAR, Kind
from helicone_sessions.local.http.request_body import json_in
from helicone_sessions.local.query.service_sql import EPOCH, moment_of
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.protocol import (
    METRICS,
    REQUEST_COUNT,
    REQUESTS,
    SESSION_COUNT,
    SESSIONS,
    Endpoint,
)

# The server queries the histograms first. It returns this error if one of these queries fails.
QUERY_FAILED: Final = "No request count found"
CRASHED: Final = {"message": "Internal Server Error", "details": "Internal Server Error"}

_REQUIRED_BY_METRICS: Final = ("nameContains", "timezoneDifference")
_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (SESSIONS.path, SESSION_COUNT.path), ("search", "timeFilter", "timezoneDifference", "filter")
    ),
    **dict.fromkeys((REQUESTS.path, REQUEST_COUNT.path), ("filter",)),
}
_LARGEST_DIFFERENCE: Final = 1440
# In milliseconds: the first and the last time that the server can format with a four-digit year, and the last
# time that a DateTime can hold.
_FIRST_MILLISECOND: Final = -62_167_219_200_000
_LAST_MILLISECOND: Final = 253_402_300_799_999
_END_OF_TIME: Final = (SERVER_END_OF_TIME - EPOCH) // timedelta(milliseconds=1) - 1
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_AVERAGES: Final = ("session_cost", "session_duration", "session_count")


class Invalid(Exception):
    """Raised for an invalid body; the server responds with status 422.

    Args:
        details: The errors, with the paths of the fields as keys.
    """

    def __init__(self, details: Mapping[str, Any]) -> None:
        super().__init__(f"invalid: {', '.join(details)}")
        self.details = details


@attrs.frozen
class ServiceQuery:
    """A query as the server interprets it.

    Args:
        query: The query.
        wire_filter: The filter of the query, with converted constants.
        failure: The server's error, if the query fails regardless of the data.
    """

    query: Any
    wire_filter: Any
    failure: str | None = None


def read_query(body: bytes, endpoint: Endpoint[Any, Any] = METRICS) -> ServiceQuery:
    """Parse the query in a request body.

    Args:
        body: The body.
        endpoint: The endpoint of the request.

    Raises:
        ValueError: The body is not JSON.
        Invalid: The body does not follow the contract, even after the server's conversions.
    """
    wire = json_in(body)
    if not isinstance(wire, dict):
        raise Invalid({"requestBody": {"message": "invalid object"}})
    for name in _REQUIRED.get(endpoint.path, _REQUIRED_BY_METRICS):
        if name not in wire:
            raise Invalid({f"requestBody.{name}": {"message": f"'{name}' is required"}})
    failures: list[str] = []
    try:
        converted = {name: _FIELDS[name](value) if name in _FIELDS else value for name, value in wire.items()}
        converted |= _within_bounds(converted, failures)
        query = endpoint.query_from_wire(converted)
    except FilterError as error:
        raise Invalid(_details(error, wire)) from None
    return ServiceQuery(query, converted.get("filter", "all"), failures[0] if failures else None)


def service_answer(metrics: SessionMetrics) -> dict[str, Any]:
    """Build a response's ``data`` in the server's field order. Averages are null if there are no sessions."""
    averages = {name: [{"average": getattr(metrics.average, name)}] for name in _AVERAGES}
    return {**converter.unstructure(metrics), "average": averages}


def _details(error: FilterError, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an error to the server's format."""
    field = re.sub(r"^\$\.?|[.\[].*", "", error.field or "$")
    found: dict[str, Any] = {"message": error.message}
    if field in wire and not isinstance(wire[field], (dict, list)):
        found["value"] = wire[field]
    return {f"requestBody.{field}" if field else "requestBody": found}


def _within_bounds(wire: Mapping[str, Any], failures: list[str]) -> dict[str, Any]:
    """Return replacements for values that the server accepts but `SessionMetricsQuery` rejects.

    Args:
        wire: The converted body.
        failures: A list to which the server's errors for such values are added.
    """
    found: dict[str, Any] = {}
    for name in ("offset", "limit"):
        if _is_number(wire.get(name)) and (wire[name] < 0 or wire[name] % 1):
            failures.append("invalid limit")
            found[name] = 0
    difference = wire.get("timezoneDifference", 0)
    if _is_number(difference) and not -_LARGEST_DIFFERENCE <= difference <= _LARGEST_DIFFERENCE:
        failures.append("Invalid timezone difference")
        found["timezoneDifference"] = 0
    match wire.get("timeFilter"):
        case {"startTimeUnixMs": start, "endTimeUnixMs": end, **rest} if not rest:
            if _is_number(start) and _is_number(end):
                found["timeFilter"] = _time_within_bounds(start, end, failures)
    return found


def _time_within_bounds(start: float, end: float, failures: list[str]) -> dict[str, float]:
    if not all(_FIRST_MILLISECOND <= each <= _LAST_MILLISECOND for each in (start, end)):
        failures.append(QUERY_FAILED)
    start, end = (min(max(each, 0), _END_OF_TIME) for each in (start, end))
    if start >= end:
        # No request matches a range within one second: fractions are dropped, and both ends are exclusive.
        start, end = 0, 1
    return {"startTimeUnixMs": start, "endTimeUnixMs": end}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _boolean(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _time(value: Any) -> Any:
    try:
        moment = moment_of(value)
    except (TypeError, ValueError, OverflowError):
        return value
    if moment.year < SERVER_FIRST_YEAR:
        raise FilterValueError(
            field="$.filter", problem=f"has the time {value!r}, before the year {SERVER_FIRST_YEAR}"
        )
    return moment.isoformat()


def _time_filter(value: Any) -> Any:
    return {name: _number(each) for name, each in value.items()} if isinstance(value, dict) else value


def _filter(value: Any) -> Any:
    """Convert the constants of a filter as the server does."""
    root = {"filter": value}
    waiting: list[tuple[dict[str, Any], str]] = [(root, "filter")]
    while waiting:
        parent, name = waiting.pop()
        node = parent[name]
        if isinstance(node, dict) and "left" in node:
            parent[name] = branch = dict(node)
            waiting += [(branch, side) for side in ("left", "right") if side in branch]
        elif isinstance(node, dict):
            parent[name] = {table: _columns(columns) for table, columns in node.items()}
    return root["filter"]


def _columns(columns: Any) -> Any:
    if not isinstance(columns, dict):
        return columns
    return {name: _operators(name, operators) for name, operators in columns.items()}


def _operators(name: str, operators: Any) -> Any:
    convert = _CONSTANTS.get(COLUMNS[name].kind) if name in COLUMNS else None
    if convert is None or not isinstance(operators, dict):
        return operators
    return {operator: convert(constant) for operator, constant in operators.items()}


_CONSTANTS: Final[Mapping[Kind, Callable[[Any], Any]]] = {
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _boolean,
    Kind.TIMESTAMP: _time,
}
_FIELDS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "timezoneDifference": _number,
    "offset": _number,
    "limit": _number,
    "isScored": _boolean,
    "useInterquartile": _boolean,
    "timeFilter": _time_filter,
    "filter": _filter,
}
