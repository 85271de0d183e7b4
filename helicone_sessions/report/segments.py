"""The segments of a grid: filters by name, or the values that a column has."""

from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, Final, Protocol

from helicone_sessions.errors import FilterError, FilterTypeError, FilterValueError
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.expression import ALL, Condition, Filter, as_filter
from helicone_sessions.messages.grid_query import GroupBy, SegmentValue
from helicone_sessions.messages.query import Request, SessionMetricsQuery, TimeFilter

EVERYTHING: Final = "all"
# The requests that are read to find the values of a column: one page from each part of the time.
SAMPLED_PARTS, SAMPLED_PAGE = 10, 1000

By = Mapping[Any, Condition] | Column | str
"""Segments: filters by name, or a column whose values are the segments, as ``F.model`` or ``"model"``."""
Segments = dict[Hashable, Filter]


class RequestStream(Protocol):
    """The part of `HeliconeClient` that finds the values of a column."""

    def stream_requests(
        self,
        filter: Filter | None = None,
        *,
        time_filter: TimeFilter,
        page_size: int,
    ) -> Any:
        """The requests that match, as an async generator."""


def named_segments(by: Mapping[Any, Condition]) -> Segments:
    """The filters of segments by name.

    Raises:
        FilterTypeError: One of them is not a filter.
        FilterValueError: There is none.
    """
    if not by:
        raise FilterValueError(
            argument="by", problem="has no segment", remedy="Leave it out for one segment of everything"
        )
    return {name: as_filter(each) for name, each in by.items()}


def group_by(by: Any, top: int | None) -> GroupBy | None:
    """The column of *by*; None if it is a mapping, or left out.

    Raises:
        FilterTypeError: *by* is something else, or *top* is not a whole number.
        FilterValueError: The column cannot be grouped by, or *top* is given without a column.
    """
    if by is None or isinstance(by, Mapping):
        if top is not None:
            raise FilterValueError(
                argument="top", problem="needs a column in `by`", remedy='Pass by="model", for example'
            )
        return None
    if isinstance(by, Column):
        name, key = by.facts.name, by.key
    elif isinstance(by, str):
        name, key = by, None
    else:
        raise FilterTypeError(
            argument="by",
            problem=f"must be a column or a mapping of names to filters, got {by!r}",
            remedy='Pass F.model, "model", F.properties["tier"], or F.model.is_each([...])',
        )
    try:
        return GroupBy(name, key, top)
    except FilterError as error:
        argument = "top" if error.argument == "top" else "by"
        raise type(error)(argument=argument, problem=error.problem, remedy=error.remedy) from None


def everything() -> Segments:
    """One segment that holds all requests."""
    return {EVERYTHING: ALL}


def segments_of_values(by: GroupBy, values: "list[SegmentValue] | tuple[SegmentValue, ...]") -> Segments:
    """A segment for each value."""
    return {value: by.filter_of(value) for value in values}


async def values_in_sample(
    client: RequestStream, query: SessionMetricsQuery, by: GroupBy
) -> list[SegmentValue]:
    """The values of a column in up to 10,000 requests, the most expensive first.

    The service has no list of values, so one page of requests is read from each tenth of the time.

    Raises:
        FilterValueError: The query has no time, or no request in the sample has a value.
    """
    if query.time_filter is None:
        raise FilterValueError(
            argument="by",
            problem="needs a time to look for values in",
            remedy="Give the query a time, for example time_filter=TimeFilter.last(days=30), or pass filters",
        )
    costs: defaultdict[SegmentValue, float] = defaultdict(float)
    length = query.time_filter.length / SAMPLED_PARTS
    for part in query.time_filter.split(minutes=length.total_seconds() / 60):
        left = SAMPLED_PAGE
        requests = client.stream_requests(query.filter, time_filter=part, page_size=SAMPLED_PAGE)
        try:
            async for request in requests:
                value = _value(request, by)
                if isinstance(value, (str, int, bool)) or value is None:
                    costs[value] += float(request.get("cost") or request.get("costUSD") or 0)
                left -= 1
                if not left:
                    break
        finally:
            await requests.aclose()
    if not costs:
        raise FilterValueError(
            argument="by", problem="finds no request in the time of the query", remedy="Use a longer time"
        )
    return sorted(costs, key=lambda value: -costs[value])[: by.top]


def _value(request: Request, by: GroupBy) -> Any:
    names = (by.column, f"request_{by.column}", f"response_{by.column}")
    found = next((request[name] for name in names if request.get(name) is not None), None)
    return (found or {}).get(by.key) if by.key is not None else found
