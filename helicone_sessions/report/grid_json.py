"""Grids to and from JSON: queries and metrics in the API's form, errors as text."""

import json
from collections.abc import Hashable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from helicone_sessions.errors import HeliconeError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.converter import converter, metrics_from
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.messages.time_filter import TimeFilter
from helicone_sessions.report.cells import GridCell
from helicone_sessions.report.periods import Period
from helicone_sessions.time_zones import zone_of

_VERSION: Final = 1


def grid_to_json(
    query: SessionMetricsQuery,
    segments: Mapping[Hashable, Filter],
    periods: tuple[Period, ...],
    cells: Mapping[Any, GridCell],
) -> str:
    """The parts of a `MetricsGrid` as JSON.

    Raises:
        ValueError: JSON cannot hold the name of a segment.
    """
    for name in segments:
        if name is not None and not isinstance(name, (str, int, float)):
            raise ValueError(f"JSON cannot hold the segment name {name!r}. Use a string or a number")
    return json_text(
        {
            "version": _VERSION,
            "query": converter.unstructure(query),
            "segments": [{"name": name, "filter": each.to_wire()} for name, each in segments.items()],
            "periods": [_period_to_json(period) for period in periods],
            "cells": [
                {
                    "position": position,
                    "query": converter.unstructure(cell.query),
                    "metrics": cell.metrics and converter.unstructure(cell.metrics),
                    "error": cell.error and f"{type(cell.error).__name__}: {cell.error}",
                }
                for position, cell in cells.items()
            ],
        }
    )


def grid_from_json(text: str | bytes) -> tuple[Any, Any, Any, Any]:
    """The query, segments, periods and cells that `grid_to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        return _parts(json.loads(text))
    except Exception as error:  # noqa: BLE001 - any error means that the text is something else
        raise ValueError(f"this is not the JSON of MetricsGrid.to_json(): {error!r}") from None


def _parts(wire: Any) -> tuple[Any, Any, Any, Any]:
    if wire["version"] != _VERSION:
        raise ValueError(f"expected version {_VERSION}, got {wire['version']!r}")
    segments = {each["name"]: Filter.from_wire(each["filter"]) for each in wire["segments"]}
    periods = tuple(_period_from_json(each) for each in wire["periods"])
    query = converter.structure(wire["query"], SessionMetricsQuery)
    names = list(segments)
    cells = {tuple(each["position"]): _cell_from_json(each, names, periods) for each in wire["cells"]}
    return query, segments, periods, cells


def _cell_from_json(wire: Mapping[str, Any], names: list[Any], periods: tuple[Period, ...]) -> GridCell:
    segment, period = wire["position"]
    return GridCell(
        None if segment is None else names[segment],
        None if period is None else periods[period],
        converter.structure(wire["query"], SessionMetricsQuery),
        None if wire["metrics"] is None else metrics_from(wire["metrics"]),
        None if wire["error"] is None else HeliconeError(wire["error"]),
    )


def _period_to_json(period: Period) -> Any:
    if period.start is None or period.end is None:
        return None
    return {
        "start": period.start.isoformat(),
        "end": period.end.isoformat(),
        "everySeconds": period.every and period.every.total_seconds(),
        "timeZone": getattr(period.start.tzinfo, "key", None),
        "timeFilter": converter.unstructure(period.time_filter),
    }


def _period_from_json(wire: Any) -> Period:
    if wire is None:
        return Period(None, None, None)
    start, end = (datetime.fromisoformat(wire[name]) for name in ("start", "end"))
    if zone := wire.get("timeZone"):
        start, end = (moment.astimezone(zone_of(zone)) for moment in (start, end))
    every = None if wire.get("everySeconds") is None else timedelta(seconds=wire["everySeconds"])
    return Period(start, end, converter.structure(wire["timeFilter"], TimeFilter), every)
