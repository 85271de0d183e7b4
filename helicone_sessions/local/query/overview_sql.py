"""Computes the exact totals and histogram bars of a query, and lists the sessions in a bar.

Helicone's API offers neither. The figures of a session (requests, seconds and dollars) cover only the
session's matching requests. Conditions on whole sessions cover all requests of a session, so a filter cannot
select the sessions in a bar.

``POST /v1/session/metrics/bars`` takes::

    {
      "query": {"nameContains": "", "timezoneDifference": 0, "filter": …, "timeFilter": …},
      "unsessioned": true,
      "edges": {"session_count": [1, 2, 4], "session_duration": [0, 60], "session_cost": [0, 0.1, 1]}
    }

and returns the number of sessions below the first edge, between adjacent edges, and at or above the last
edge::

    {"data": {"sessions": 4, "requests": 9, "dollars": 1.25, "unsessioned": 0, "first": 1793491200000,
              "latest": 1793577600000, "counts": {"session_count": [0, 2, 1, 1], …}}, "error": null}

``POST /v1/session/metrics/sessions`` lists the sessions whose figure is at least ``start`` and less than
``end``::

    {"query": {…}, "unsessioned": true, "figure": "session_cost", "start": 0.1, "end": 1, "sort": "-dollars",
     "limit": 50}

If ``unsessioned`` is true, the requests without a session id are counted as one session with the id ``""``.
Times are in milliseconds since 1970.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterTypeError, FilterValueError
from helicone_sessions.filters.wire import json_text
from helicone_sessions.local.drivers import Statement
from helicone_sessions.local.query.listing_sql import Listing
from helicone_sessions.local.query.metrics_sql import NANO, Selection
from helicone_sessions.messages.converter import converter
from helicone_sessions.messages.metrics import UNITS
from helicone_sessions.messages.query import SessionMetricsQuery

BARS_PATH: Final = "v1/session/metrics/bars"
IN_BAR_PATH: Final = "v1/session/metrics/sessions"
MOST_EDGES: Final = 100
MOST_SESSIONS: Final = 1000

# The columns of a listed session. The list can be sorted by each of them.
_COLUMNS: Final[Mapping[str, str]] = {
    "id": "id",
    "name": "names",
    "first": "toUnixTimestamp64Milli(first)",
    "latest": "toUnixTimestamp64Milli(latest)",
    "seconds": "seconds",
    "dollars": "dollars",
    "requests": "requests",
}
_FIGURES: Final[Mapping[str, str]] = {
    "session_count": "requests",
    "session_duration": "seconds",
    "session_cost": "dollars",
}


@attrs.frozen
class Bars:
    """A query for the totals of all sessions, and for the number of sessions between adjacent edges.

    Args:
        query: The query. The cut of its histograms is ignored.
        unsessioned: Count the requests without a session id as one session.
        edges: The edges for each figure, in ascending order.
    """

    query: SessionMetricsQuery
    unsessioned: bool = True
    edges: Mapping[str, Sequence[float]] = attrs.field(factory=dict)


@attrs.frozen
class InBar:
    """A query for the sessions in one bar, or for all sessions.

    Args:
        query: The query. The cut of its histograms is ignored.
        unsessioned: Count the requests without a session id as one session.
        figure: The figure of the bar. As in the metrics, requests are counted by session id and session name.
            The other figures are computed by session id.
        start: The lower limit of the figure, inclusive; None means no limit.
        end: The upper limit of the figure, exclusive; None means no limit.
        sort: The column to sort by. With a leading ``-``, the largest values come first.
        limit: The maximum number of sessions.
    """

    query: SessionMetricsQuery
    unsessioned: bool = True
    figure: str = "session_cost"
    start: float | None = None
    end: float | None = None
    sort: str = "-dollars"
    limit: int = 50


def bars_from_wire(body: Any) -> Bars:
    """Parse a request body to `Bars`.

    Raises:
        FilterError: The body does not have the expected form.
    """
    query = _checked(body, attrs.fields_dict(Bars))
    edges = body.get("edges", {})
    if not isinstance(edges, dict) or not edges.keys() <= UNITS.keys():
        raise FilterValueError(
            field="$.edges", problem=f"must be an object with {', '.join(UNITS)}, got {json_text(edges)}"
        )
    for name, each in edges.items():
        if not isinstance(each, list) or not 1 <= len(each) <= MOST_EDGES or not all(map(_is_number, each)):
            raise FilterTypeError(
                field=f"$.edges.{name}",
                problem=f"must be a list of 1 to {MOST_EDGES} numbers, got {json_text(each)}",
            )
        if any(low >= high for low, high in itertools.pairwise(each)):
            raise FilterValueError(
                field=f"$.edges.{name}", problem=f"must be in ascending order, got {json_text(each)}"
            )
    return Bars(query, body.get("unsessioned", True), edges)


def in_bar_from_wire(body: Any) -> InBar:
    """Parse a request body to `InBar`.

    Raises:
        FilterError: The body does not have the expected form.
    """
    query = _checked(body, attrs.fields_dict(InBar))
    # The values can have any type until they are checked.
    found: Any = InBar(**{**body, "query": query})
    if found.figure not in list(UNITS):
        raise _not_among("figure", UNITS, found.figure)
    if not isinstance(found.sort, str) or found.sort.removeprefix("-") not in _COLUMNS:
        raise _not_among("sort", _COLUMNS, found.sort)
    for name, value in (("start", found.start), ("end", found.end)):
        if value is not None and not _is_number(value):
            raise FilterTypeError(
                field=f"$.{name}", problem=f"must be a number or null, got {json_text(value)}"
            )
    if isinstance(found.limit, bool) or found.limit not in range(1, MOST_SESSIONS + 1):
        raise FilterValueError(
            field="$.limit", problem=f"must be from 1 to {MOST_SESSIONS}, got {json_text(found.limit)}"
        )
    checked: InBar = found
    return checked


def _checked(body: Any, fields: Mapping[str, Any]) -> SessionMetricsQuery:
    if not isinstance(body, dict) or not {"query"} <= body.keys() <= fields.keys():
        raise FilterValueError(
            field="$",
            problem=f"must be an object with query, got {json_text(body)}",
            remedy=f"Its fields are {', '.join(fields)}",
        )
    if not isinstance(body.get("unsessioned", True), bool):
        raise FilterTypeError(
            field="$.unsessioned", problem=f"must be true or false, got {json_text(body['unsessioned'])}"
        )
    return converter.structure(body["query"], SessionMetricsQuery)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _not_among(name: str, known: Mapping[str, str], value: Any) -> FilterValueError:
    return FilterValueError(
        field=f"$.{name}", problem=f"must be among {', '.join(known)}, got {json_text(value)}"
    )


def listing_of_bars(selection: Selection, bars: Bars) -> Listing:
    """Compile the query for the totals and the bars of a selection."""
    counts = {name: _counts(selection, name, edges) for name, edges in bars.edges.items()}
    kept = "1" if bars.unsessioned else "id != ''"
    text = f"""
SELECT countIf(kept), sumIf(requests, kept), toString(sumIf(nanodollars, kept)),
  toUnixTimestamp64Milli(minIf(first, kept)), toUnixTimestamp64Milli(maxIf(latest, kept)),
  sumIf(requests, id = ''){"".join(f", {each}" for each in counts.values())}
FROM (SELECT *, {kept} AS kept FROM ({_sessions(selection)}))"""
    statement = Statement(text, selection.parameters.values)

    def data(rows: list[list[Any]]) -> dict[str, Any]:
        sessions, requests, nanodollars, first, latest, unsessioned, *found = rows[0]
        return {
            "sessions": sessions,
            "requests": requests,
            "dollars": int(nanodollars) / NANO,
            "unsessioned": unsessioned,
            "first": first if sessions else None,
            "latest": latest if sessions else None,
            "counts": {
                name: [
                    dict(zip(*each, strict=True)).get(place, 0) for place in range(len(bars.edges[name]) + 1)
                ]
                for name, each in zip(counts, found, strict=True)
            },
        }

    return Listing(statement, data)


def _counts(selection: Selection, name: str, edges: Sequence[float]) -> str:
    """Build the SQL that counts the sessions in each bar. A bar's index is the number of edges below it."""
    array = selection.parameters.add("Array(Float64)", f"[{','.join(repr(float(each)) for each in edges)}]")
    values = "by_name" if name == "session_count" else f"[{_FIGURES[name]}]"
    places = f"arrayMap(value -> arrayCount(edge -> edge <= value, {array}), {values})"
    # A single aggregate function counts all bars: dozens of functions would take longer to plan than to run.
    return f"sumMapIf({places}, arrayMap(value -> 1, {values}), kept)"


def listing_in_bar(selection: Selection, wanted: InBar) -> Listing:
    """Compile the query for the sessions of a selection that are in a bar."""
    figure = _FIGURES[wanted.figure]
    kept = [] if wanted.unsessioned else ["id != ''"]
    for sign, value in ((">=", wanted.start), ("<", wanted.end)):
        if value is not None:
            kept.append(f"{figure} {sign} {selection.parameters.add('Float64', float(value))}")
    column, order = wanted.sort.removeprefix("-"), "DESC" if wanted.sort.startswith("-") else "ASC"
    sessions = _sessions(selection, by_name=wanted.figure == "session_count")
    text = f"""
SELECT {", ".join(_COLUMNS.values())} FROM ({sessions}) WHERE {" AND ".join(kept) or "1"}
ORDER BY {_COLUMNS[column]} {order}, id, names LIMIT {wanted.limit}"""
    return Listing(
        Statement(text, selection.parameters.values),
        lambda rows: [dict(zip(_COLUMNS, row, strict=True)) for row in rows],
    )


def _sessions(selection: Selection, *, by_name: bool = False) -> str:
    """Build a statement that selects sessions with ids and names. Other statements select only hashes."""
    tables = attrs.evolve(
        selection.tables,
        session_key=selection.tables.each_id,
        each_name_key=selection.tables.each_name,
        has_several_names=None,
    )
    groups = attrs.evolve(selection, tables=tables).groups()
    return f"""
SELECT named.id AS id, arrayStringConcat(arraySort(groupArray(named.name)), ', ') AS names,
  groupArray(named.requests) AS by_name, sum(named.requests) AS requests, min(named.first) AS first,
  max(named.latest) AS latest, dateDiff('second', min(named.first), max(named.latest)) AS seconds,
  sum(named.nanodollars) AS nanodollars, sum(named.nanodollars) / {NANO} AS dollars
FROM ({groups}) AS named GROUP BY named.id{", named.name" if by_name else ""}"""
