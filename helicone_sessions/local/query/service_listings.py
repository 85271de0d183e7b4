"""The lists of `session_sql` as the open-source server makes them, with its limits and forms."""

from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers.driver import Statement
from helicone_sessions.local.query.contract_sql import Parameters
from helicone_sessions.local.query.one_scan import NANO
from helicone_sessions.local.query.request_sql import Listing, Rows, number_of_requests, page_of_requests
from helicone_sessions.local.query.selection import COST, caller_condition, service_window
from helicone_sessions.local.query.service_sql import service_condition, service_having
from helicone_sessions.local.query.session_sql import session_count, session_name
from helicone_sessions.local.storage.table import SESSION_ID, Tables
from helicone_sessions.messages.query import (
    MOST_NAMES,
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
)

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
class ServiceListings:
    """Makes the listings of one organisation.

    Args:
        tables: The tables.
        organization_id: The organisation.
        wire: The filter as it was sent.
    """

    tables: Tables
    organization_id: UUID
    wire: WireFilter

    def sessions(self, query: SessionsQuery) -> Listing:
        """A page of sessions, the newest first.

        Raises:
            Crash: The server breaks off before it has a query.
            Unanswerable: The query fails there.
        """
        parameters = Parameters()
        limit = parameters.add("UInt64", query.page_size)
        offset = parameters.add("UInt64", query.offset)
        text = f"""
SELECT id, name, toString(created_at), toString(latest), avg_latency, total_cost, total_requests,
  prompt_tokens, completion_tokens, total_tokens, users
FROM ({self._groups(query, parameters, {**_OF_KEYS, **_OF_GROUPS})})
ORDER BY created_at DESC, id, name LIMIT {limit} OFFSET {offset}"""
        return Listing(Statement(text, parameters.values), lambda rows: [_session(*row) for row in rows])

    def session_count(self, query: SessionsQuery) -> Listing:
        """The number of sessions and their averages.

        Raises:
            Crash: The server breaks off before it has a query.
            Unanswerable: The query fails there, as with conditions on whole sessions.
        """
        parameters = Parameters()
        text = f"""
SELECT count(), toString(sum(nanodollars)), sum(all_latency), sum(total_requests)
FROM ({self._groups(query, parameters, _OF_KEYS)})"""
        return Listing(Statement(text, parameters.values), lambda rows: session_count(*rows[0]))

    def session_names(self, query: SessionMetricsQuery) -> Listing:
        """At most 50 names of the last 150 days.

        Raises:
            Crash: The server breaks off before it has a query.
            Unanswerable: The query fails there.
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
        return Listing(Statement(text, parameters.values), _names)

    def requests(self, query: RequestsQuery) -> Listing:
        """A page of requests in order of time.

        Raises:
            Crash: The server breaks off before it has a query.
            Unanswerable: The query fails there, or the page is too long.
        """
        parameters = Parameters()
        where = self._matching(parameters)
        return page_of_requests(query, where, parameters, self.tables, empty_body=_PLACEHOLDER)

    def request_count(self, _query: RequestCountQuery) -> Listing:
        """The number of requests.

        Raises:
            Crash: The server breaks off before it has a query.
            Unanswerable: The query fails there.
        """
        parameters = Parameters()
        return number_of_requests(self._matching(parameters), parameters, self.tables)

    def _groups(self, query: SessionsQuery, parameters: Parameters, columns: dict[str, str]) -> str:
        tables = self.tables
        window = []
        if query.name:
            window.append(f"{tables.session_name} = {parameters.add('String', query.name)}")
        if query.search:
            part = parameters.add("String", f"%{query.search}%")
            window.append(f"({tables.session_id} ILIKE {part} OR {tables.session_name} ILIKE {part})")
        where = self._where(SessionMetricsQuery(time_filter=query.time_filter), window, parameters)
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
        users = "groupUniqArray(toString(user_id))" if "user_id" in tables.columns else "emptyArrayString()"
        # Conditions must mean the table's columns, so the aggregates get their names one level up.
        return f"""
SELECT * FROM (
  SELECT *, sent AS prompt_tokens, received AS completion_tokens, sent + received AS total_tokens,
    nanodollars / {NANO} AS total_cost
  FROM (
    SELECT {tables.each_id} AS id, {tables.each_name} AS name, {first} AS created_at, {last} AS latest,
      {average} AS avg_latency, {latency} AS all_latency, {COST} AS nanodollars,
      count() AS total_requests, {prompt} AS sent, {completion} AS received, {users} AS users
    FROM {tables.requests} WHERE {where} GROUP BY id, name
  )
) WHERE {having}"""

    def _where(self, query: SessionMetricsQuery, window: list[str], parameters: Parameters) -> str:
        caller = caller_condition(self.organization_id, parameters)
        within = service_window(query, self.tables, caller, parameters)
        compiled = service_condition(self.wire, parameters, self.tables)
        return " AND ".join([within, _HAS_ID, *window, compiled.text])

    def _matching(self, parameters: Parameters) -> str:
        caller = caller_condition(self.organization_id, parameters)
        return f"{caller} AND {service_condition(self.wire, parameters, self.tables).text}"


def _session(
    session_id: str,
    name: str,
    first: str,
    latest: str,
    latency: float | None,
    dollars: float,
    requests: int,
    prompt_tokens: int | None,
    completion_tokens: int | None,
    total_tokens: int | None,
    users: list[str],
) -> dict[str, Any]:
    """A session in the form of the server: its numbers of requests are text, and null is 0."""
    return {
        "created_at": first,
        "latest_request_created_at": latest,
        "session_id": session_id,
        "session_name": name,
        "avg_latency": latency or 0,
        "total_cost": dollars,
        "total_requests": str(requests),
        "prompt_tokens": prompt_tokens or 0,
        "completion_tokens": completion_tokens or 0,
        "total_tokens": total_tokens or 0,
        "user_ids": users,
    }


def _names(rows: Rows) -> list[dict[str, Any]]:
    return [
        {**session_name(name, first, last, latency or 0, sessions), "session_count": str(sessions)}
        for name, first, last, latency, sessions in rows
    ]
