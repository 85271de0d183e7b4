"""Lists and counts sessions and requests, and lists session names, under either semantics.

`ContractListings` interprets queries according to the API's contract. Conditions on requests select the
requests that are included in a session's totals. Conditions on whole sessions select sessions, based on all
requests of a session that match the time range, the name and the search of the query. Requests without a
session id are never listed.

`ServiceListings` produces the same lists as the open-source server, with the same limits and formats.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Statement
from helicone_sessions.local.query.contract_sql import Parameters, Unanswerable, condition
from helicone_sessions.local.query.metrics_sql import (
    COST,
    NANO,
    all_of,
    caller_condition,
    part_columns,
    scope,
    with_session_totals,
)
from helicone_sessions.local.query.service_sql import service_condition, service_having
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS, SESSION_ID
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.query import (
    MOST_NAMES,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
)

LARGEST_PAGE: Final = 16 * 1024 * 1024
"""The maximum total size of the bodies in a page, in bytes. The service times out on larger pages."""
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
# The fields whose names differ from the names of their columns, and the columns that are not part of a row.
_RENAMED: Final = {
    "response_status": "status",
    "request_user_id": "user_id",
    "request_properties": "properties",
    "delay_ms": "latency",
    "request_model": "model",
    "response_model": "model",
    "asset_ids": "assets",
}
_ABSENT: Final = ("organization_id", "status", "user_id", "latency", "assets")
# The column of each field of a row.
_FIELDS: Final[Mapping[str, str]] = {
    **{name: name for name in REQUEST_COLUMNS if name not in _ABSENT},
    **_RENAMED,
}

# The columns of a group, each with the function that combines the values of its parts.
_TOTALS: Final = {
    "requests": "sum",
    "first": "min",
    "latest": "max",
    "nanodollars": "sum",
    "prompt_tokens": "sum",
    "completion_tokens": "sum",
    "latency": "sum",
    "latencies": "sum",
    "users": "groupUniqArrayArray",
}
# The fields have the same order as the columns of the statements.
_SESSION_FIELDS: Final = (
    "created_at",
    "latest_request_created_at",
    "session_id",
    "session_name",
    "avg_latency",
    "total_cost",
    "total_requests",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "user_ids",
)
# The list of names has no pages.
_MOST_NAMES: Final = 10_000

_HAS_ID: Final = f"mapContains(properties, '{SESSION_ID}')"
_DAYS_OF_NAMES: Final = 150
_PLACEHOLDER: Final = {"helicone_message": "fetching body from signed_url"}
_OF_KEYS: Final = {"session_session_id": "id", "session_session_name": "name"}
_OF_GROUPS: Final = {
    "session_total_cost": "total_cost",
    "session_total_tokens": "total_tokens",
    "session_prompt_tokens": "prompt_tokens",
    "session_completion_tokens": "completion_tokens",
    "session_total_requests": "total_requests",
    "session_created_at": "created_at",
    "session_latest_request_created_at": "latest",
}


@attrs.frozen
class Listing:
    """A statement, and a function that converts its rows to the ``data`` of the response.

    Args:
        statement: The statement.
        data: The function that converts the rows.
        size: A statement that computes the size of all bodies in bytes, if the rows have bodies.
    """

    statement: Statement
    data: Callable[[Rows], Any]
    size: Statement | None = None


def _page_of_requests(
    query: RequestsQuery, where: str, parameters: Parameters, tables: Tables, *, empty_body: Any
) -> Listing:
    """List a page of requests, sorted by time and without duplicates.

    Args:
        query: The query for the page.
        where: The condition that selects the caller's matching requests.
        parameters: The values of the condition.
        tables: The tables. If a column is missing, its field is null.
        empty_body: The value that represents an empty body.

    Raises:
        Unanswerable: The page is too long.
    """
    if query.limit > _LARGEST_LIMIT:
        raise Unanswerable("invalid limit")
    scored = {None: "", True: " AND NOT empty(scores)", False: " AND empty(scores)"}[query.is_scored]
    word = "ASC" if query.sort == "asc" else "DESC"
    page = f"""FROM {tables.requests} WHERE {where}{scored}
ORDER BY request_created_at {word}, request_id {word}
LIMIT {parameters.add("UInt64", query.limit)} OFFSET {parameters.add("UInt64", query.offset)}"""
    names = [name for name in dict.fromkeys(_FIELDS.values()) if name in tables.columns]
    # The aliases have a prefix, because ClickHouse prefers an alias over a column in ORDER BY.
    columns = ", ".join(f"{_EXPRESSIONS.get(name, name)} AS field_{name}" for name in names)
    sizes = " + ".join(f"length({name})" for name in _BODIES if name in names) or "0"

    return Listing(
        Statement(f"SELECT {columns} {page}", parameters.values),
        partial(_requests, names, empty_body),
        Statement(f"SELECT sum(bytes) FROM (SELECT {sizes} AS bytes {page})", parameters.values),
    )


def _number_of_requests(where: str, parameters: Parameters, tables: Tables) -> Listing:
    """Count the requests that match a condition."""
    text = f"SELECT count() FROM {tables.requests} WHERE {where}"
    return Listing(Statement(text, parameters.values), lambda rows: rows[0][0])


def _requests(names: list[str], empty_body: Any, rows: Rows) -> list[dict[str, Any]]:
    requests = (_request(dict(zip(names, row, strict=True)), empty_body) for row in rows)
    return list({each["request_id"]: each for each in requests}.values())


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
    """Convert a body as the service does: JSON objects and arrays are parsed, anything else remains text."""
    try:
        value = decode(text.encode())
    except ValueError:
        return text
    return value if isinstance(value, (dict, list)) else text


@attrs.frozen
class ContractListings:
    """Compiles the listings of one organisation according to the API's contract.

    Args:
        tables: The tables.
        organization_id: The organisation.
    """

    tables: Tables
    organization_id: UUID

    def sessions(self, query: SessionsQuery) -> Listing:
        """List a page of sessions, the newest first.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
        """
        parameters = Parameters()
        shift = parameters.add("Int64", round(query.timezone_difference * 60))
        limit = parameters.add("UInt64", query.page_size)
        offset = parameters.add("UInt64", query.offset)
        times = (
            f"toString(addSeconds(toDateTime64({end}, 3, 'UTC'), {shift}))" for end in ("first", "latest")
        )
        text = f"""
SELECT {", ".join(times)}, id, name, latency / latencies, nanodollars / {NANO}, requests, prompt_tokens,
  completion_tokens, prompt_tokens + completion_tokens, arrayFilter(one -> one != '', arraySort(users))
FROM ({self._groups(query, parameters)}) ORDER BY first DESC, id, name LIMIT {limit} OFFSET {offset}"""
        return Listing(Statement(text, parameters.values), _sessions)

    def session_count(self, query: SessionsQuery) -> Listing:
        """Count the sessions and compute their averages. A session id with two names is counted twice.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
        """
        parameters = Parameters()
        text = f"""
SELECT count(), toString(sum(nanodollars)), sum(latency), sum(requests)
FROM ({self._groups(query, parameters)})"""
        return Listing(Statement(text, parameters.values), lambda rows: _session_count(*rows[0]))

    def session_names(self, query: SessionMetricsQuery) -> Listing:
        """List the names of sessions, the most recently used first.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
        """
        parameters = Parameters()
        groups = self._of_requests(query, query.filter, [], parameters)
        text = f"""
SELECT name, toString(toDateTime64(min(first), 3, 'UTC')), toString(toDateTime64(max(latest), 3, 'UTC')),
  sum(latency) / sum(latencies), count()
FROM ({groups}) GROUP BY name ORDER BY max(latest) DESC, name LIMIT {_MOST_NAMES + 1}"""
        return Listing(Statement(text, parameters.values), _names)

    def requests(self, query: RequestsQuery) -> Listing:
        """List a page of requests, sorted by time.

        Raises:
            Unanswerable: The engine cannot evaluate a condition, or the page is too long.
        """
        parameters = Parameters()
        where = self._matching(query.filter, parameters)
        return _page_of_requests(query, where, parameters, self.tables, empty_body=None)

    def request_count(self, query: RequestCountQuery) -> Listing:
        """Count the requests.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
        """
        parameters = Parameters()
        return _number_of_requests(self._matching(query.filter, parameters), parameters, self.tables)

    def _matching(self, matching: Filter | None, parameters: Parameters) -> str:
        """Combine the condition on the caller with a filter on requests."""
        caller = caller_condition(self.organization_id, parameters)
        return all_of(caller, condition(matching, parameters, self.tables, caller).text)

    def _groups(self, query: SessionsQuery, parameters: Parameters) -> str:
        conditions = _name_and_search(query, escape_like(query.search), parameters, self.tables)
        in_time = SessionMetricsQuery(time_filter=query.time_filter)
        return self._of_requests(in_time, query.filter, conditions, parameters)

    def _of_requests(
        self,
        query: SessionMetricsQuery,
        matching: Filter | None,
        conditions: list[str],
        parameters: Parameters,
    ) -> str:
        """Build a statement that selects the matching requests, grouped by session id and session name."""
        tables = self.tables
        caller = caller_condition(self.organization_id, parameters)
        within = scope(query, tables, caller, parameters, include_unsessioned=False)
        where = all_of(within, *conditions)
        kept = condition(matching, parameters, tables, caller)
        if not kept.on_sessions:
            where = all_of(where, kept.text)
        keys = {"id": tables.each_id, "name": tables.each_name}
        if kept.marks:
            keys["marks"] = f"[{', '.join(kept.marks)}]"
        latency = "latency" if "latency" in tables.columns else "NULL"
        parts = f"""
SELECT {", ".join(f"{sql} AS {name}" for name, sql in keys.items())}, {part_columns(tables)},
  ifNull(sum({latency}), 0) AS part_latency, count({latency}) AS part_latencies,
  {_users(tables)} AS part_users
FROM {tables.requests} WHERE {where}
GROUP BY {", ".join(keys)}"""
        if kept.on_sessions:
            parts = f"SELECT * FROM ({with_session_totals(parts, 'id')}) WHERE {kept.text}"
        # If there are no marks, each part is already a group.
        total = "{function}(part_{name}) AS {name}" if kept.marks else "part_{name} AS {name}"
        columns = ", ".join(total.format(name=name, function=function) for name, function in _TOTALS.items())
        return f"SELECT id, name, {columns} FROM ({parts}){' GROUP BY id, name' if kept.marks else ''}"


def _users(tables: Tables) -> str:
    return "groupUniqArray(toString(user_id))" if "user_id" in tables.columns else "emptyArrayString()"


def _name_and_search(query: SessionsQuery, search: str, parameters: Parameters, tables: Tables) -> list[str]:
    """Build the conditions for the name of *query* and for the search pattern *search*."""
    conditions = []
    if query.name:
        conditions.append(f"{tables.session_name} = {parameters.add('String', query.name)}")
    if search:
        part = parameters.add("String", f"%{search}%")
        conditions.append(f"({tables.session_id} ILIKE {part} OR {tables.session_name} ILIKE {part})")
    return conditions


def _sessions(rows: Rows) -> list[dict[str, Any]]:
    return [dict(zip(_SESSION_FIELDS, row, strict=True)) for row in rows]


def _session_count(sessions: int, nanodollars: str, latency: float | None, requests: int) -> dict[str, Any]:
    """Build the ``data`` for a count of sessions. If there are no sessions, all values are zero."""
    dollars = int(nanodollars) / NANO
    each = sessions or 1
    return {
        "count": sessions,
        "total_cost": dollars,
        "avg_cost": dollars / each,
        "avg_latency": (latency or 0) / each,
        "avg_requests": requests / each,
    }


def _names(rows: Rows) -> list[dict[str, Any]]:
    if len(rows) > _MOST_NAMES:
        raise Unanswerable(f"there are more than {_MOST_NAMES:,} names: narrow the time range or the filter")
    return [_name(*row) for row in rows]


def _name(name: str, first: str, last: str, latency: float | None, sessions: int) -> dict[str, Any]:
    """Build the ``data`` for one session name."""
    return {
        "name": name,
        "created_at": first,
        "first_used": first,
        "last_used": last,
        "avg_latency": latency,
        "session_count": sessions,
    }


@attrs.frozen
class ServiceListings:
    """Compiles the listings of one organisation as the open-source server does.

    Args:
        tables: The tables.
        organization_id: The organisation.
        wire: The filter as the client sent it.
    """

    tables: Tables
    organization_id: UUID
    wire: WireFilter

    def sessions(self, query: SessionsQuery) -> Listing:
        """List a page of sessions, the newest first.

        Raises:
            Crash: The server would crash on the filter.
            Unanswerable: The query fails on the server.
        """
        parameters = Parameters()
        limit = parameters.add("UInt64", query.page_size)
        offset = parameters.add("UInt64", query.offset)
        text = f"""
SELECT toString(created_at), toString(latest), id, name, avg_latency, total_cost, total_requests,
  prompt_tokens, completion_tokens, total_tokens, users
FROM ({self._groups(query, parameters, {**_OF_KEYS, **_OF_GROUPS})})
ORDER BY created_at DESC, id, name LIMIT {limit} OFFSET {offset}"""
        return Listing(Statement(text, parameters.values), _sessions_of_service)

    def session_count(self, query: SessionsQuery) -> Listing:
        """Count the sessions and compute their averages.

        Raises:
            Crash: The server would crash on the filter.
            Unanswerable: The query fails on the server, for example if it has conditions on whole sessions.
        """
        parameters = Parameters()
        text = f"""
SELECT count(), toString(sum(nanodollars)), sum(all_latency), sum(total_requests)
FROM ({self._groups(query, parameters, _OF_KEYS)})"""
        return Listing(Statement(text, parameters.values), lambda rows: _session_count(*rows[0]))

    def session_names(self, query: SessionMetricsQuery) -> Listing:
        """List at most 50 session names from the last 150 days.

        Raises:
            Crash: The server would crash on the filter.
            Unanswerable: The query fails on the server.
        """
        parameters = Parameters()
        shift = -round(abs(query.timezone_difference))
        name = []
        if query.name_contains:
            part = parameters.add("String", query.name_contains)
            name = [f"{self.tables.session_name} ILIKE '%' || {part}::text || '%'"]
        where = self._where(attrs.evolve(query, name_contains=""), name, parameters)
        first, last = (
            f"toString(addMinutes(toDateTime64({end}(request_created_at), 3, 'UTC'), {shift}))"
            for end in ("min", "max")
        )
        latency = "avg(latency)" if "latency" in self.tables.columns else "NULL"
        text = f"""
SELECT {self.tables.each_name} AS name, {first}, {last}, {latency},
  count(DISTINCT {self.tables.each_id})
FROM {self.tables.requests}
WHERE {where} AND request_created_at > now() - INTERVAL {_DAYS_OF_NAMES} DAY
GROUP BY name LIMIT {MOST_NAMES}"""
        return Listing(Statement(text, parameters.values), _names_of_service)

    def requests(self, query: RequestsQuery) -> Listing:
        """List a page of requests, sorted by time.

        Raises:
            Crash: The server would crash on the filter.
            Unanswerable: The query fails on the server, or the page is too long.
        """
        parameters = Parameters()
        where = self._matching(parameters)
        return _page_of_requests(query, where, parameters, self.tables, empty_body=_PLACEHOLDER)

    def request_count(self, _query: RequestCountQuery) -> Listing:
        """Count the requests.

        Raises:
            Crash: The server would crash on the filter.
            Unanswerable: The query fails on the server.
        """
        parameters = Parameters()
        return _number_of_requests(self._matching(parameters), parameters, self.tables)

    def _groups(self, query: SessionsQuery, parameters: Parameters, columns: dict[str, str]) -> str:
        tables = self.tables
        conditions = _name_and_search(query, query.search, parameters, tables)
        where = self._where(SessionMetricsQuery(time_filter=query.time_filter), conditions, parameters)
        having = service_having(self.wire, parameters, columns)
        shift = parameters.add("Int64", round(query.timezone_difference))
        first, last = (
            f"addMinutes(toDateTime64({end}(request_created_at), 3, 'UTC'), {shift})"
            for end in ("min", "max")
        )
        prompt, completion, latency, average = (
            f"{function}({name})" if name in tables.columns else "NULL"
            for function, name in (
                ("sum", "prompt_tokens"),
                ("sum", "completion_tokens"),
                ("sum", "latency"),
                ("avg", "latency"),
            )
        )
        # The conditions refer to columns of the table, so the aggregates are named only in the outer query.
        return f"""
SELECT * FROM (
  SELECT *, sent AS prompt_tokens, received AS completion_tokens, sent + received AS total_tokens,
    nanodollars / {NANO} AS total_cost
  FROM (
    SELECT {tables.each_id} AS id, {tables.each_name} AS name, {first} AS created_at, {last} AS latest,
      {average} AS avg_latency, {latency} AS all_latency, {COST} AS nanodollars,
      count() AS total_requests, {prompt} AS sent, {completion} AS received, {_users(tables)} AS users
    FROM {tables.requests} WHERE {where} GROUP BY id, name
  )
) WHERE {having}"""

    def _where(self, query: SessionMetricsQuery, conditions: list[str], parameters: Parameters) -> str:
        caller = caller_condition(self.organization_id, parameters)
        within = scope(query, self.tables, caller, parameters, as_service=True)
        compiled = service_condition(self.wire, parameters, self.tables)
        return all_of(within, _HAS_ID, *conditions, compiled.text)

    def _matching(self, parameters: Parameters) -> str:
        caller = caller_condition(self.organization_id, parameters)
        return all_of(caller, service_condition(self.wire, parameters, self.tables).text)


def _sessions_of_service(rows: Rows) -> list[dict[str, Any]]:
    """Convert sessions to the server's format, in which the number of requests is text and null becomes 0."""
    return [
        {
            name: str(value) if name == "total_requests" else 0 if value is None else value
            for name, value in session.items()
        }
        for session in _sessions(rows)
    ]


def _names_of_service(rows: Rows) -> list[dict[str, Any]]:
    return [
        {**_name(name, first, last, latency or 0, sessions), "session_count": str(sessions)}
        for name, first, last, latency, sessions in rows
    ]
