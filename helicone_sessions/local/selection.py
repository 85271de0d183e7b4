"""The requests that a query selects, as SQL: what every plan begins with."""

from uuid import UUID

import attrs

from helicone_sessions.filters.filter import ALL
from helicone_sessions.filters.nodes import simplify
from helicone_sessions.filters.patterns import escape_like
from helicone_sessions.local.sql import Condition, Parameters, condition
from helicone_sessions.local.table import Tables
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.query import SessionMetricsQuery


@attrs.frozen
class Selection:
    """The requests that a query selects.

    Args:
        tables: The tables.
        window: The condition of the caller's organisation, the time and the name.
        asked: The condition of the filter.
        parameters: The values of both.
    """

    tables: Tables
    window: str
    asked: Condition
    parameters: Parameters

    def groups(self) -> str:
        """A statement for the selected requests grouped by the ``id`` and the ``name`` of their session.

        Its columns are ``id``, ``name``, ``requests``, ``first``, ``latest`` and ``nanodollars``.
        """
        return self._by_session() if self.asked.on_sessions else self._by_request()

    def _by_request(self) -> str:
        return f"""
SELECT {self.tables.session_id} AS id, {self.tables.session_name} AS name, count() AS requests,
  min(request_created_at) AS first, max(request_created_at) AS latest, sum(cost) AS nanodollars
FROM {self.tables.requests} WHERE {self.window} AND {self.asked.text} GROUP BY id, name"""

    def _by_session(self) -> str:
        """The same where conditions are on sessions as a whole.

        The requests are grouped by what they say to the other conditions too; a window over each session
        gives its totals; then the groups that fulfil the whole filter are kept.
        """
        marks = "".join(f", {text} AS mark{place}" for place, text in enumerate(self.asked.marks))
        marked = "".join(f", mark{place}" for place in range(len(self.asked.marks)))
        return f"""
SELECT id, name, sum(part_requests) AS requests, min(part_first) AS first, max(part_latest) AS latest,
  sum(part_nanodollars) AS nanodollars
FROM (
  SELECT *, sum(part_requests) OVER session AS session_requests,
    sum(part_nanodollars) OVER session AS session_cost,
    sum(part_prompt_tokens) OVER session AS session_prompt_tokens,
    sum(part_completion_tokens) OVER session AS session_completion_tokens,
    min(part_first) OVER session AS session_start, max(part_latest) OVER session AS session_end
  FROM (
    SELECT {self.tables.session_id} AS id, {self.tables.session_name} AS name{marks},
      count() AS part_requests,
      min(request_created_at) AS part_first, max(request_created_at) AS part_latest,
      sum(cost) AS part_nanodollars, ifNull(sum(prompt_tokens), 0) AS part_prompt_tokens,
      ifNull(sum(completion_tokens), 0) AS part_completion_tokens
    FROM {self.tables.requests} WHERE {self.window} GROUP BY id, name{marked}
  ) WINDOW session AS (PARTITION BY id)
) WHERE {self.asked.text} GROUP BY id, name"""


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
    caller = f"organization_id = {parameters.add('UUID', str(organization_id))}"
    root = simplify((ALL if query.filter is None else query.filter).node)
    window = [caller, *_window(query, tables, parameters)]
    if not include_unsessioned:
        window.append(f"{tables.session_id} != ''")
    asked = condition(root, parameters, tables, caller)
    return Selection(tables, " AND ".join(window), asked, parameters)


def _window(query: SessionMetricsQuery, tables: Tables, parameters: Parameters) -> list[str]:
    conditions = []
    if query.time_filter:
        wire = converter.unstructure(query.time_filter)
        for sign, name in ((">", "startTimeUnixMs"), ("<", "endTimeUnixMs")):
            moment = parameters.add("Int64", wire[name])
            conditions.append(f"request_created_at {sign} fromUnixTimestamp64Milli({moment}, 'UTC')")
    if query.name_contains:
        pattern = parameters.add("String", f"%{escape_like(query.name_contains)}%")
        conditions.append(f"{tables.session_name} ILIKE {pattern}")
    return conditions
