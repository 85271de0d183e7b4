"""Pages of requests, under the names of Helicone's request export."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from helicone_sessions.local.drivers.driver import Statement
from helicone_sessions.local.query.contract_sql import Parameters, Unanswerable
from helicone_sessions.local.query.one_scan import NANO
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.query import RequestsQuery

LARGEST_PAGE: Final = 16 * 1024 * 1024
"""The bodies in a page, in bytes; on larger pages the service times out."""
_LARGEST_LIMIT: Final = 1000

Rows = list[list[Any]]

_TIMES: Final = ("request_created_at", "response_created_at")
_BODIES: Final = ("request_body", "response_body")
_EXPRESSIONS: Final[Mapping[str, str]] = {
    "request_id": "toString(request_id)",
    "cache_reference_id": "toString(cache_reference_id)",
    "cost": f"cost / {NANO}",
    **{name: f"toString(toDateTime64({name}, 3, 'UTC'))" for name in _TIMES},
}
# The fields of a row, and the column behind each.
_FIELDS: Final[Mapping[str, str]] = {
    "response_created_at": "response_created_at",
    "response_body": "response_body",
    "response_status": "status",
    "request_id": "request_id",
    "request_body": "request_body",
    "request_created_at": "request_created_at",
    "request_user_id": "user_id",
    "request_properties": "properties",
    "provider": "provider",
    "delay_ms": "latency",
    "request_model": "model",
    "response_model": "model",
    "model": "model",
    "time_to_first_token": "time_to_first_token",
    "completion_tokens": "completion_tokens",
    "prompt_tokens": "prompt_tokens",
    "prompt_cache_read_tokens": "prompt_cache_read_tokens",
    "prompt_cache_write_tokens": "prompt_cache_write_tokens",
    "country_code": "country_code",
    "scores": "scores",
    "properties": "properties",
    "asset_ids": "assets",
    "target_url": "target_url",
    "cache_reference_id": "cache_reference_id",
    "request_referrer": "request_referrer",
    "cache_enabled": "cache_enabled",
    "cost": "cost",
    "prompt_id": "prompt_id",
    "prompt_version": "prompt_version",
    "threat": "threat",
    "is_passthrough_billing": "is_passthrough_billing",
}


@attrs.frozen
class Listing:
    """A statement, and the ``data`` of the response that its rows become.

    Args:
        statement: The statement.
        data: Makes the ``data`` of the rows.
        size: A statement for the bytes of the bodies in the rows, if there are any.
    """

    statement: Statement
    data: Callable[[Rows], Any]
    size: Statement | None = None


def page_of_requests(
    query: RequestsQuery, where: str, parameters: Parameters, tables: Tables, *, empty_body: Any
) -> Listing:
    """A page of requests in order of time; none is in it twice.

    Args:
        query: The page.
        where: The condition of the caller and the filter.
        parameters: The values of the condition.
        tables: The tables; of columns that they lack the fields are null.
        empty_body: The body of a request without one.

    Raises:
        Unanswerable: The page is too long.
    """
    if query.limit > _LARGEST_LIMIT:
        raise Unanswerable("invalid limit")
    if query.is_scored is not None:
        where = f"{where} AND {'NOT ' if query.is_scored else ''}empty(scores)"
    word = "ASC" if query.sort == "asc" else "DESC"
    page = f"""FROM {tables.requests} WHERE {where}
ORDER BY request_created_at {word}, request_id {word}
LIMIT {parameters.add("UInt64", query.limit)} OFFSET {parameters.add("UInt64", query.offset)}"""
    names = [name for name in dict.fromkeys(_FIELDS.values()) if name in tables.columns]
    # Aliases of their own, because in ORDER BY ClickHouse prefers an alias to the column.
    columns = ", ".join(f"{_EXPRESSIONS.get(name, name)} AS field_{name}" for name in names)
    sizes = " + ".join(f"length({name})" for name in _BODIES if name in tables.columns) or "0"

    def data(rows: Rows) -> list[dict[str, Any]]:
        requests = (_request(dict(zip(names, row, strict=True)), empty_body) for row in rows)
        return list({each["request_id"]: each for each in requests}.values())

    return Listing(
        Statement(f"SELECT {columns} {page}", parameters.values),
        data,
        Statement(f"SELECT sum(bytes) FROM (SELECT {sizes} AS bytes {page})", parameters.values),
    )


def number_of_requests(where: str, parameters: Parameters, tables: Tables) -> Listing:
    """The number of requests that fulfil a condition."""
    text = f"SELECT count() FROM {tables.requests} WHERE {where}"
    return Listing(Statement(text, parameters.values), lambda rows: rows[0][0])


def _request(stored: dict[str, Any], empty_body: Any) -> dict[str, Any]:
    found: dict[str, Any] = {field: stored.get(column) for field, column in _FIELDS.items()}
    for name in _TIMES:
        if found[name] is not None:
            found[name] = f"{found[name].replace(' ', 'T')}Z"
    sent, received = found["prompt_tokens"], found["completion_tokens"]
    found["total_tokens"] = None if sent is None or received is None else sent + received
    found["storage_location"] = "clickhouse" if any(found[name] for name in _BODIES) else ""
    for name in _BODIES:
        found[name] = _parsed(found[name]) if found[name] else empty_body
    return found


def _parsed(text: str) -> Any:
    """A body as the service gives it: an object or a list as such, other text as text."""
    try:
        value = decode(text.encode())
    except ValueError:
        return text
    return value if isinstance(value, (dict, list)) else text
