"""Lists of sessions and requests, their numbers, and names of sessions, as the contract reads the queries.

Conditions on requests select the requests whose totals are listed; conditions on whole sessions select
sessions by all their requests in the time of the query, of the name and the search that it names. Requests
without a session id are in no list.
"""

from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.expression import ALL, Filter
from helicone_sessions.filters.nodes import simplify
from helicone_sessions.local.drivers.driver import Statement
from helicone_sessions.local.query.contract_sql import Parameters, Unanswerable, condition
from helicone_sessions.local.query.one_scan import NANO
from helicone_sessions.local.query.request_sql import Listing, Rows, number_of_requests, page_of_requests
from helicone_sessions.local.query.selection import (
    caller_condition,
    contract_window,
    part_columns,
    with_session_totals,
)
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.query import (
    RequestCountQuery,
    RequestsQuery,
    SessionMetricsQuery,
    SessionsQuery,
)

# The columns of a group, and how those of its parts are put together.
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
# A list of names has no pages.
_MOST_NAMES: Final = 10_000


@attrs.frozen
class ContractListings:
    """Makes the listings of one organisation.

    Args:
        tables: The tables.
        organization_id: The organisation.
    """

    tables: Tables
    organization_id: UUID

    def sessions(self, query: SessionsQuery) -> Listing:
        """A page of sessions, the newest first.

        Raises:
            Unanswerable: A condition cannot be decided.
        """
        parameters = Parameters()
        shift = parameters.add("Int64", round(query.timezone_difference * 60))
        limit = parameters.add("UInt64", query.page_size)
        offset = parameters.add("UInt64", query.offset)
        times = (
            f"toString(addSeconds(toDateTime64({end}, 3, 'UTC'), {shift}))" for end in ("first", "latest")
        )
        text = f"""
SELECT id, name, {", ".join(times)}, nanodollars / {NANO}, requests, prompt_tokens, completion_tokens,
  latency / latencies, arrayFilter(one -> one != '', arraySort(users))
FROM ({self._groups(query, parameters)}) ORDER BY first DESC, id, name LIMIT {limit} OFFSET {offset}"""
        return Listing(Statement(text, parameters.values), lambda rows: [_session(*row) for row in rows])

    def session_count(self, query: SessionsQuery) -> Listing:
        """The number of sessions, an id with two names being two, and their averages.

        Raises:
            Unanswerable: A condition cannot be decided.
        """
        parameters = Parameters()
        text = f"""
SELECT count(), toString(sum(nanodollars)), sum(latency), sum(requests)
FROM ({self._groups(query, parameters)})"""
        return Listing(Statement(text, parameters.values), lambda rows: session_count(*rows[0]))

    def session_names(self, query: SessionMetricsQuery) -> Listing:
        """The names of sessions, the latest used first.

        Raises:
            Unanswerable: A condition cannot be decided.
        """
        parameters = Parameters()
        groups = self._of_requests(query, query.filter, [], parameters)
        text = f"""
SELECT name, toString(toDateTime64(min(first), 3, 'UTC')), toString(toDateTime64(max(latest), 3, 'UTC')),
  sum(latency) / sum(latencies), count()
FROM ({groups}) GROUP BY name ORDER BY max(latest) DESC, name LIMIT {_MOST_NAMES + 1}"""
        return Listing(Statement(text, parameters.values), _names)

    def requests(self, query: RequestsQuery) -> Listing:
        """A page of requests in order of time.

        Raises:
            Unanswerable: A condition cannot be decided, or the page is too long.
        """
        parameters = Parameters()
        where = self._matching(query.filter, parameters)
        return page_of_requests(query, where, parameters, self.tables, empty_body=None)

    def request_count(self, query: RequestCountQuery) -> Listing:
        """The number of requests.

        Raises:
            Unanswerable: A condition cannot be decided.
        """
        parameters = Parameters()
        return number_of_requests(self._matching(query.filter, parameters), parameters, self.tables)

    def _matching(self, matching: Filter | None, parameters: Parameters) -> str:
        """The condition of the caller and of a filter on requests."""
        caller = caller_condition(self.organization_id, parameters)
        node = simplify((ALL if matching is None else matching).node)
        return f"{caller} AND {condition(node, parameters, self.tables, caller).text}"

    def _groups(self, query: SessionsQuery, parameters: Parameters) -> str:
        window = []
        if query.name:
            window.append(f"{self.tables.session_name} = {parameters.add('String', query.name)}")
        if query.search:
            part = parameters.add("String", f"%{escape_like(query.search)}%")
            window.append(
                f"({self.tables.session_id} ILIKE {part} OR {self.tables.session_name} ILIKE {part})"
            )
        in_time = SessionMetricsQuery(time_filter=query.time_filter)
        return self._of_requests(in_time, query.filter, window, parameters)

    def _of_requests(
        self, query: SessionMetricsQuery, matching: Filter | None, window: list[str], parameters: Parameters
    ) -> str:
        """The requests that match, grouped by the id and the name of their session, as SQL."""
        tables = self.tables
        caller = caller_condition(self.organization_id, parameters)
        within = contract_window(query, tables, caller, parameters, include_unsessioned=False)
        where = " AND ".join([within, *window])
        kept = condition(simplify((ALL if matching is None else matching).node), parameters, tables, caller)
        keys = {"id": tables.each_id, "name": tables.each_name}
        if kept.marks:
            keys["marks"] = f"[{', '.join(kept.marks)}]"
        latency = "latency" if "latency" in tables.columns else "NULL"
        users = "groupUniqArray(toString(user_id))" if "user_id" in tables.columns else "emptyArrayString()"
        parts = f"""
SELECT {", ".join(f"{sql} AS {name}" for name, sql in keys.items())}, {part_columns(tables)},
  ifNull(sum({latency}), 0) AS part_latency, count({latency}) AS part_latencies, {users} AS part_users
FROM {tables.requests} WHERE {where if kept.on_sessions else f"{where} AND {kept.text}"}
GROUP BY {", ".join(keys)}"""
        if kept.on_sessions:
            parts = f"SELECT * FROM ({with_session_totals(parts, 'id')}) WHERE {kept.text}"
        # Without marks each part is a group already.
        columns = ", ".join(
            f"{f'{function}(part_{name})' if kept.marks else f'part_{name}'} AS {name}"
            for name, function in _TOTALS.items()
        )
        return f"SELECT id, name, {columns} FROM ({parts}){' GROUP BY id, name' if kept.marks else ''}"


def _session(
    session_id: str,
    name: str,
    first: str,
    latest: str,
    dollars: float,
    requests: int,
    prompt_tokens: int,
    completion_tokens: int,
    latency: float | None,
    user_ids: list[str],
) -> dict[str, Any]:
    return {
        "created_at": first,
        "latest_request_created_at": latest,
        "session_id": session_id,
        "session_name": name,
        "avg_latency": latency,
        "total_cost": dollars,
        "total_requests": requests,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "user_ids": user_ids,
    }


def session_count(sessions: int, nanodollars: str, latency: float | None, requests: int) -> dict[str, Any]:
    """The ``data`` of a count of sessions; without sessions all is 0."""
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
        raise Unanswerable(f"there are more than {_MOST_NAMES:,} names: narrow the time or the filter")
    return [session_name(*row) for row in rows]


def session_name(name: str, first: str, last: str, latency: float | None, sessions: int) -> dict[str, Any]:
    """The ``data`` of one name."""
    return {
        "name": name,
        "created_at": first,
        "first_used": first,
        "last_used": last,
        "avg_latency": latency,
        "session_count": sessions,
    }
