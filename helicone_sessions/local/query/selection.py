"""The requests that a query selects, as SQL."""

from typing import Final
from uuid import UUID

import attrs

from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.expression import ALL
from helicone_sessions.filters.nodes import simplify
from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.query.contract_sql import Condition, Parameters, condition
from helicone_sessions.local.query.service_sql import second, service_condition
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.query import SessionMetricsQuery

# A session may cost more than the column can hold, and a sum of that type wraps around.
COST: Final = "sum(toInt128(cost))"


@attrs.frozen
class Selection:
    """The requests that a query selects.

    Args:
        tables: The tables.
        window: The condition of the caller's organisation, the time and the name.
        condition: The condition of the filter.
        parameters: The values of both.
    """

    tables: Tables
    window: str
    condition: Condition
    parameters: Parameters

    def groups(self) -> str:
        """A statement for the selected requests grouped by the session (``id``) and its ``name``.

        Its columns are ``id``, ``name``, ``requests``, ``first``, ``latest`` and ``nanodollars``.
        """
        return self._by_session() if self.condition.on_sessions else self._by_request()

    def sessions(self) -> str:
        """A statement for the sessions of the selected requests, for conditions on requests only.

        Its columns are ``requests``, ``seconds``, ``nanodollars`` and, if that is not known of the tables,
        ``several``: whether the session has several names.
        """
        # Of the names themselves least and greatest take longer than all the rest.
        name = f"cityHash64({self.tables.each_name})"
        is_known = self.tables.has_several_names is not None
        several = "" if is_known else f", min({name}) != max({name}) AS several"
        return f"""
SELECT count() AS requests,
  dateDiff('second', min(request_created_at), max(request_created_at)) AS seconds,
  {COST} AS nanodollars{several}
FROM {self.tables.requests} WHERE {self.window} AND {self.condition.text}
GROUP BY {self.tables.session_key}"""

    def _by_request(self) -> str:
        return f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name, count() AS requests,
  min(request_created_at) AS first, max(request_created_at) AS latest, {COST} AS nanodollars
FROM {self.tables.requests} WHERE {self.window} AND {self.condition.text} GROUP BY id, name"""

    def _by_session(self) -> str:
        """The same where conditions are on sessions as a whole.

        The requests are grouped by the results of the other conditions too; a window over each session
        gives its totals; then the groups that fulfil the whole filter are kept.
        """
        # One column, whatever their number: ClickHouse takes seconds to plan for hundreds of keys.
        marks = f", [{', '.join(self.condition.marks)}] AS marks" if self.condition.marks else ""
        marked = ", marks" if self.condition.marks else ""
        parts = f"""
SELECT {self.tables.session_key} AS id, {self.tables.name_key} AS name{marks}, {part_columns(self.tables)}
FROM {self.tables.requests} WHERE {self.window} GROUP BY id, name{marked}"""
        return f"""
SELECT id, name, {SUMS_OF_PARTS}
FROM ({with_session_totals(parts, "id")}) WHERE {self.condition.text} GROUP BY id, name"""


SUMS_OF_PARTS: Final = (
    "sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,"
    " sum(part_nanodollars) AS nanodollars"
)


def part_columns(tables: Tables) -> str:
    """The columns of a part: requests of a session that are alike in everything a statement looks at."""
    prompt, completion = (
        f"ifNull(sum({column}), 0)" if column in tables.columns else "0"
        for column in ("prompt_tokens", "completion_tokens")
    )
    return f"""count() AS part_requests, min(request_created_at) AS part_first,
  max(request_created_at) AS part_latest, {COST} AS part_nanodollars,
  {prompt} AS part_prompt_tokens, {completion} AS part_completion_tokens"""


def with_session_totals(parts: str, session: str) -> str:
    """The parts with the totals of their sessions, the columns that conditions on whole sessions compare.

    Args:
        parts: A statement with the columns of `part_columns`.
        session: The columns that identify a session in it.
    """
    return f"""
SELECT *, sum(part_requests) OVER session AS session_requests,
  sum(part_nanodollars) OVER session AS session_cost,
  sum(part_prompt_tokens) OVER session AS session_prompt_tokens,
  sum(part_completion_tokens) OVER session AS session_completion_tokens,
  min(part_first) OVER session AS session_start, max(part_latest) OVER session AS session_end
FROM ({parts}) WINDOW session AS (PARTITION BY {session})"""


def by_contract(
    query: SessionMetricsQuery, tables: Tables, organization_id: UUID, *, include_unsessioned: bool = True
) -> Selection:
    """The requests that *query* selects as the contract reads it.

    Args:
        query: The query.
        tables: The tables.
        organization_id: The caller.
        include_unsessioned: Take the requests without a session id for a session, as the service does.

    Raises:
        Unanswerable: A condition cannot be decided.
    """
    parameters = Parameters()
    caller = caller_condition(organization_id, parameters)
    owned = owned_by(organization_id, tables, caller)
    window = contract_window(query, tables, owned, parameters, include_unsessioned=include_unsessioned)
    compiled = condition(
        simplify((ALL if query.filter is None else query.filter).node), parameters, tables, caller
    )
    return Selection(tables, window, compiled, parameters)


def contract_window(
    query: SessionMetricsQuery,
    tables: Tables,
    caller: str,
    parameters: Parameters,
    *,
    include_unsessioned: bool = True,
) -> str:
    """The condition of the caller, and of the time and the name of *query* as the contract reads them."""
    window = []
    for sign, milliseconds in _ends(query):
        moment = parameters.add("Int64", milliseconds)
        window.append(f"request_created_at {sign} fromUnixTimestamp64Milli({moment}, 'UTC')")
    if query.name_contains:
        pattern = parameters.add("String", f"%{escape_like(query.name_contains)}%")
        window.append(f"{tables.session_name} ILIKE {pattern}")
    return _window(caller, window, tables, include_unsessioned)


def as_service(
    query: SessionMetricsQuery,
    wire: WireFilter,
    tables: Tables,
    organization_id: UUID,
    *,
    include_unsessioned: bool = True,
) -> Selection:
    """The requests that *query* selects as the open-source server reads it.

    Times lose their fractions of a second, and the name is compared as a whole, as in later versions of that
    server; "" is any name.

    Args:
        query: The query without its filter.
        wire: The filter as it was sent.
        tables: The tables.
        organization_id: The caller.
        include_unsessioned: Take the requests without a session id for a session, as the service does.

    Raises:
        Crash: The server breaks off before it has a query.
        Unanswerable: The query fails there.
    """
    parameters = Parameters()
    owned = owned_by(organization_id, tables, caller_condition(organization_id, parameters))
    window = service_window(query, tables, owned, parameters, include_unsessioned=include_unsessioned)
    compiled = service_condition(wire, parameters, tables)
    return Selection(tables, window, compiled, parameters)


def service_window(
    query: SessionMetricsQuery,
    tables: Tables,
    caller: str,
    parameters: Parameters,
    *,
    include_unsessioned: bool = True,
) -> str:
    """The condition of the caller, and of the time and the name of *query* as the server reads them."""
    window = []
    for sign, milliseconds in _ends(query):
        window.append(f"request_created_at {sign} {second(milliseconds // 1000, parameters)}")
    if query.name_contains:
        window.append(f"{tables.session_name} = {parameters.add('String', query.name_contains)}")
    return _window(caller, window, tables, include_unsessioned)


def caller_condition(organization_id: UUID, parameters: Parameters) -> str:
    """The condition that limits a table to the requests of an organisation."""
    return f"organization_id = {parameters.add('UUID', str(organization_id))}"


def owned_by(organization_id: UUID, tables: Tables, caller: str) -> str:
    """*caller* for the table of requests: nothing has to be checked if all of them are the caller's."""
    return "1" if tables.only_organization == organization_id else caller


def _ends(query: SessionMetricsQuery) -> list[tuple[str, int]]:
    """The exclusive ends of the time filter, in milliseconds since 1970."""
    if query.time_filter is None:
        return []
    wire = converter.unstructure(query.time_filter)
    return [(">", wire["startTimeUnixMs"]), ("<", wire["endTimeUnixMs"])]


def _window(caller: str, conditions: list[str], tables: Tables, include_unsessioned: bool) -> str:
    sessioned = [] if include_unsessioned else [f"{tables.session_id} != ''"]
    return " AND ".join([caller, *conditions, *sessioned])
