"""`GridQuery`: the metrics of many segments and periods in one request.

This endpoint is not part of Helicone's API. The embedded engine serves it with ``semantics="contract"``, and
announces it with the `GRID_HEADER` response header. Other servers need one query for each cell.

``POST /v1/session/metrics/grid`` takes::

    {
      "query": {"nameContains": "", "timezoneDifference": 0, "filter": …, "timeFilter": …, "pSize": "p95"},
      "segments": [filter, …]  or  {"column": "properties", "key": "tier", "top": 10},
      "periods": [{"startTimeUnixMs": 1793491200000, "endTimeUnixMs": 1793577600000}, …],
      "totals": true,
      "quantiles": ["p50", "p99"]
    }

``query`` is required and has the form of a metrics query. Each cell holds the metrics of that query,
restricted to the filter of its segment and to the time range of its period. Totals over all periods cover the
time range of the query, and totals over all segments use only the filter of the query. The response contains
the cells with at least one session in columnar form: as lists of values instead of one object per cell. In
this example, the first cell belongs to the first segment and covers the whole time range, because a null
index means a total::

    {
      "data": {
        "values": ["pro", "free"]  or  null,
        "cells": {
          "segment": [0, …], "period": [null, …],
          "sessions": [2, …], "requests": [5, …], "dollars": [0.75, …],
          "histograms": [[[1, 4, 2], …], [[0, 60, 2], …], [[0.25, 0.5, 2], …]],
          "averages": [[2.5, …], [30, …], [0.375, …]],
          "quantiles": {"p50": [[1, …], [0, …], [0.25, …]], "p99": [[4, …], [60, …], [0.5, …]]}
        }
      },
      "error": null
    }

Histograms, averages and quantiles are lists with one entry each for requests, seconds and dollars, in this
order. A histogram is a list of bars, and a bar is a list of its start, end and height.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import repeat
from typing import Any, Final, get_args

import attrs

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.constants import escape_like
from helicone_sessions.filters.expression import Filter, filter_of_contract
from helicone_sessions.filters.schema import COLUMNS, REQUESTS, Kind
from helicone_sessions.filters.wire import json_text
from helicone_sessions.messages.converter import Mismatch, converter, query_to_wire
from helicone_sessions.messages.metrics import (
    UNITS,
    Histogram,
    HistogramRow,
    PSize,
    SessionAverages,
    SessionMetrics,
)
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter

GRID_PATH: Final = "v1/session/metrics/grid"
GRID_HEADER: Final = {"Helicone-Sessions-Grid": f"/{GRID_PATH}"}
MOST_CELLS: Final = 100_000
"""The maximum number of cells in a query, including the totals."""

SegmentValue = str | int | float | bool | None
Position = tuple[int | None, int | None]
"""The indexes of a segment and a period; None means the total over all of them."""

_NAMES: Final = ("query", "segments", "periods", "totals", "quantiles")
_OPTIONAL: Final[tuple[tuple[str, Any, str], ...]] = (
    ("segments", (list, Mapping), "a list of filters, or an object"),
    ("periods", list, "a list"),
    ("totals", bool, "true or false"),
    ("quantiles", list, "a list"),
)
# A tuple, because a body can contain values that cannot be hashed.
GROUPABLE: Final = (
    *(
        name
        for name, column in COLUMNS.items()
        if column.table == REQUESTS
        and column.kind in (Kind.TEXT, Kind.BOOLEAN)
        and name not in ("assets", "scores_column", "node_id", "job_id")
    ),
    "status",
    "properties",
)


@attrs.frozen
class GroupBy:
    """One segment for each value that a column has in the data, with the most expensive value first.

    Args:
        column: A text or boolean column of requests, ``"status"``, or ``"properties"`` with a key.
        key: The key of the property.
        top: The number of values to keep, by total cost in the time range of the query; None for all.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: The column does not support grouping, or *top* is not above zero.

    >>> GroupBy("properties", "tier").filter_of("pro"), GroupBy("country_code").filter_of(None)
    (F.properties['tier'] == 'pro', F.country_code.is_null())
    """

    column: str
    key: str | None = None
    top: int | None = None

    def __attrs_post_init__(self) -> None:
        if self.column not in GROUPABLE:
            raise FilterValueError(
                argument="column",
                problem=f"must have values to group by, got {self.column!r}",
                remedy='Use a text or boolean column of requests, "status", or "properties" with a key',
            )
        if (self.column == "properties") != isinstance(self.key, str):
            raise FilterTypeError(
                argument="key",
                problem=f"must be given for properties and for no other column, got {self.key!r}",
            )
        if self.top is not None and (isinstance(self.top, bool) or not isinstance(self.top, int)):
            raise FilterTypeError(argument="top", problem=f"must be a whole number, got {self.top!r}")
        if self.top is not None and self.top < 1:
            raise FilterValueError(argument="top", problem=f"must be at least 1, got {self.top}")

    def filter_of(self, value: SegmentValue) -> Filter:
        """The filter of the segment for *value*. None means missing text.

        If a boolean or status is missing, the request is in no segment.
        """
        column: Any = F[self.column] if self.key is None else F[self.column][self.key]
        if value is None:
            found: Filter = column.is_null()
        elif isinstance(value, str) and value in column.facts.sentinels:
            # With ==, the API reads these words as "is missing" and "is empty".
            found = column.like(escape_like(value))
        else:
            found = column.eq(value)
        return found


@attrs.frozen
class GridQuery:
    """A query for the metrics of many segments and periods in one request.

    Args:
        query: The query that all cells share. Its time range applies to the totals over all periods.
        segments: The filter of each segment, or a column whose values are the segments. Without segments, all
            cells are totals over all segments.
        periods: The time range of each period; both ends are excluded, as in a query. Without periods, all
            cells cover the time range of the query.
        totals: Whether to include the totals over all segments, over all periods, and over both.
        quantiles: The quantiles to return for each cell. They are computed over all sessions, whatever
            the query's ``p_size``.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: There are more than `MOST_CELLS` cells, or a quantile is unknown.
    """

    query: SessionMetricsQuery
    segments: tuple[Filter, ...] | GroupBy = ()
    periods: tuple[TimeFilter, ...] = ()
    totals: bool = True
    quantiles: tuple[PSize, ...] = ()

    @property
    def filter(self) -> Filter | None:
        """The filter that all cells share."""
        return self.query.filter

    def __attrs_post_init__(self) -> None:
        segments = 1 if isinstance(self.segments, GroupBy) else len(self.segments)
        if (segments + 1) * (len(self.periods) + 1) > MOST_CELLS:
            raise FilterValueError(
                argument="segments",
                problem=f"{segments:,} segments and {len(self.periods):,} periods make more than"
                f" {MOST_CELLS:,} cells",
                remedy="Split the grid, for example by time",
            )
        for level in self.quantiles:
            if level not in get_args(PSize):
                raise FilterValueError(
                    argument="quantiles",
                    problem=f"must be among {', '.join(get_args(PSize))}, got {level!r}",
                )


@attrs.frozen
class CellFigures:
    """The metrics, totals and quantiles of one cell.

    Args:
        metrics: The metrics that a query for this cell alone would return.
        sessions: The number of sessions.
        requests: The number of requests.
        dollars: The total cost.
        quantiles: For each requested quantile, the largest number of requests, of seconds and of dollars
            among the sessions at or below the quantile.
    """

    metrics: SessionMetrics
    sessions: int
    requests: int
    dollars: float
    quantiles: Mapping[PSize, SessionAverages] = attrs.field(factory=dict)

    @classmethod
    def empty(cls) -> "CellFigures":
        """The metrics, totals and quantiles of a cell without sessions."""
        return cls(SessionMetrics.empty(), 0, 0, 0.0)


@attrs.frozen
class GridFigures:
    """The result of a `GridQuery`.

    Args:
        values: The value of each segment if the query has a `GroupBy`; otherwise None.
        cells: The cells with sessions, by position.
    """

    values: tuple[SegmentValue, ...] | None
    cells: Mapping[Position, CellFigures]

    def cell(self, segment: int | None, period: int | None) -> CellFigures:
        """The metrics, totals and quantiles of a cell. A cell that is not in `cells` has no sessions."""
        return self.cells.get((segment, period)) or CellFigures.empty()


def offers_grid(headers: Mapping[str, str]) -> bool:
    """Whether the server announces the endpoint in the *headers* of a response.

    >>> offers_grid(GRID_HEADER), offers_grid({})
    (True, False)
    """
    return all(headers.get(name) == value for name, value in GRID_HEADER.items())


def grid_query_to_wire(grid: GridQuery) -> dict[str, Any]:
    """The request body for *grid*, before it is encoded as JSON.

    Raises:
        FilterValueError: A filter cannot be sent.

    >>> grid_query_to_wire(GridQuery(SessionMetricsQuery(), GroupBy("model", top=3)))["segments"]
    {'column': 'model', 'top': 3}
    """
    if isinstance(grid.segments, GroupBy):
        segments: Any = {
            name: value for name, value in attrs.asdict(grid.segments).items() if value is not None
        }
    else:
        segments = [each.to_wire() for each in grid.segments]
    return {
        "query": query_to_wire(grid.query),
        "segments": segments,
        "periods": [converter.unstructure(each) for each in grid.periods],
        "totals": grid.totals,
        "quantiles": list(grid.quantiles),
    }


def grid_query_from_wire(body: Any) -> GridQuery:
    """The query in a request body.

    Raises:
        FilterError: The body is not a grid query. The message gives the JSON path.
    """
    _check_type(body, Mapping, "an object", "$")
    for name in body:
        if name not in _NAMES:
            raise FilterValueError(
                field="$",
                problem=f"has an unknown field {json_text(name)}",
                remedy=f"The fields are {', '.join(_NAMES)}",
            )
    if "query" not in body:
        raise FilterValueError(field="$.query", problem="is missing")
    for name, kind, expected in _OPTIONAL:
        if name in body:
            _check_type(body[name], kind, expected, f"$.{name}")
    with _path("$.query"):
        query = converter.structure(body["query"], SessionMetricsQuery)
    periods = []
    for index, each in enumerate(body.get("periods", ())):
        with _path(f"$.periods[{index}]", "$.timeFilter"):
            periods.append(converter.structure(each, TimeFilter))
    try:
        return GridQuery(
            query=query,
            segments=_segments_from_wire(body.get("segments", [])),
            periods=tuple(periods),
            totals=body.get("totals", True),
            quantiles=tuple(body.get("quantiles", ())),
        )
    except FilterError as error:
        raise _of_field(error, "$") from None


def _segments_from_wire(segments: Any) -> tuple[Filter, ...] | GroupBy:
    if isinstance(segments, list):
        return tuple(
            filter_of_contract(each, path=f"$.segments[{index}]") for index, each in enumerate(segments)
        )
    if not {"column"} <= segments.keys() <= {"column", "key", "top"}:
        raise FilterValueError(
            field="$.segments",
            problem=f"must have a column, and may have a key and top, got {json_text(dict(segments))}",
        )
    try:
        return GroupBy(**segments)
    except FilterError as error:
        raise _of_field(error, "$.segments") from None


@contextmanager
def _path(path: str, root: str = "$") -> Iterator[None]:
    """Replace *root* with *path* in the JSON path of an error."""
    try:
        yield
    except FilterError as error:
        if error.field is None:
            raise
        field = path + error.field.removeprefix(root)
        raise type(error)(field=field, problem=error.problem, remedy=error.remedy) from None


def _of_field(error: FilterError, path: str) -> FilterError:
    """Convert an error about an argument to an error about a field."""
    if error.argument is None:
        return error
    return type(error)(field=f"{path}.{error.argument}", problem=error.problem, remedy=error.remedy)


def _check_type(value: object, kind: Any, expected: str, path: str) -> None:
    if not isinstance(value, kind):
        raise FilterTypeError(field=path, problem=f"must be {expected}, got {json_text(value)}")


def grid_figures_from_wire(data: Any, path: str = "$.data") -> GridFigures:
    """The `GridFigures` in the ``data`` of a response.

    Args:
        data: The decoded JSON value.
        path: The JSON path of the value in the response.

    Raises:
        Mismatch: The data does not have the form of a grid.
    """
    try:
        values, cells = data["values"], data["cells"]
        return GridFigures(None if values is None else tuple(values), _cells_from_wire(cells))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Mismatch(path, f"expected the figures of a grid ({type(error).__name__}: {error})") from None


def _cells_from_wire(cells: Any) -> dict[Position, CellFigures]:
    positions = zip(cells["segment"], cells["period"], strict=True)
    figures = zip(
        _metrics(cells["histograms"], cells["averages"]),
        cells["sessions"],
        cells["requests"],
        cells["dollars"],
        _quantiles(cells["quantiles"], len(cells["sessions"])),
        strict=True,
    )
    return {position: CellFigures(*each) for position, each in zip(positions, figures, strict=True)}


def _metrics(histograms: Any, averages: Any) -> Iterator[SessionMetrics]:
    counts, durations, costs = (
        map(_histogram, column, repeat(unit)) for column, unit in zip(histograms, UNITS.values(), strict=True)
    )
    return map(SessionMetrics, counts, durations, costs, map(SessionAverages, *averages))


def _histogram(numbers: list[float], unit: str) -> Histogram:
    if len(numbers) % 3:
        raise ValueError("a bar is incomplete")
    each = map(float, numbers)
    return Histogram(tuple(map(HistogramRow, each, each, each)), unit=unit)


def _quantiles(levels: Any, cells: int) -> Iterator[dict[PSize, SessionAverages]]:
    columns = (map(SessionAverages, *figures) for figures in levels.values())
    if not levels:
        return ({} for _ in range(cells))
    return (dict(zip(levels, values, strict=True)) for values in zip(*columns, strict=True))
