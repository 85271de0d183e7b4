"""Grids to and from JSON: queries and metrics in the API's form, errors as text."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import attrs

from helicone_sessions.errors import HeliconeError
from helicone_sessions.filters.constants import zone_of
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.converter import converter, metrics_from
from helicone_sessions.messages.grid_query import Position
from helicone_sessions.messages.metrics import SessionAverages, with_cut
from helicone_sessions.messages.query import SessionMetricsQuery, TimeFilter
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.report.cells import CellSums, GridCell
from helicone_sessions.report.fill import Plan
from helicone_sessions.report.periods import Period

_VERSION: Final = 2


def grid_to_json(plan: Plan, cells: Mapping[Position, GridCell], note: str) -> str:
    """The parts of a `MetricsGrid` as JSON; the queries of cells follow from the plan.

    Raises:
        ValueError: JSON cannot hold the name of a segment.
    """
    for name in plan.segments:
        if name is not None and not isinstance(name, (str, int, float)):
            raise ValueError(f"JSON cannot hold the segment name {name!r}. Use a string or a number")
    time = plan.query.time_filter
    return json_text(
        {
            "version": _VERSION,
            "query": converter.unstructure(attrs.evolve(plan.query, time_filter=None)),
            "time": time and _time_to_json(time),
            "segments": [{"name": name, "filter": each.to_wire()} for name, each in plan.segments.items()],
            "periods": [_period_to_json(period) for period in plan.periods],
            "percentiles": plan.percentiles,
            "exactSums": plan.exact_sums,
            "note": note,
            "cells": [
                {
                    "position": position,
                    "metrics": cell.metrics and converter.unstructure(cell.metrics),
                    "error": cell.error and f"{type(cell.error).__name__}: {cell.error}",
                    "sums": cell.sums and attrs.asdict(cell.sums),
                    "percentiles": {level: each.to_dict() for level, each in cell.percentiles.items()},
                }
                for position, cell in cells.items()
            ],
        }
    )


def grid_from_json(text: str | bytes) -> tuple[Plan, dict[Position, GridCell], str]:
    """The plan, cells and note that `grid_to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        return _parts(json.loads(text))
    except Exception as error:  # noqa: BLE001 - any error means that the text is something else
        raise ValueError(f"this is not the JSON of MetricsGrid.to_json(): {error!r}") from None


def _parts(wire: Any) -> tuple[Plan, dict[Position, GridCell], str]:
    if wire["version"] != _VERSION:
        raise ValueError(f"expected version {_VERSION}, got {wire['version']!r}")
    time = wire["time"] and _time_from_json(wire["time"])
    plan = Plan(
        attrs.evolve(converter.structure(wire["query"], SessionMetricsQuery), time_filter=time),
        {each["name"]: Filter.from_wire(each["filter"]) for each in wire["segments"]},
        tuple(_period_from_json(each) for each in wire["periods"]),
        tuple(wire["percentiles"]),
        wire["exactSums"],
    )
    cells: dict[Position, GridCell] = {}
    for each in wire["cells"]:
        segment, period = each["position"]
        cells[segment, period] = _cell_from_json(plan.cell((segment, period)), each)
    return plan, cells, wire["note"]


def _cell_from_json(cell: GridCell, wire: Mapping[str, Any]) -> GridCell:
    metrics = None if wire["metrics"] is None else metrics_from(wire["metrics"])
    return attrs.evolve(
        cell,
        metrics=None if metrics is None else with_cut(metrics, cell.query.cut),
        error=None if wire["error"] is None else HeliconeError(wire["error"]),
        sums=None if wire["sums"] is None else CellSums(**wire["sums"]),
        percentiles={level: SessionAverages(**each) for level, each in wire["percentiles"].items()},
    )


def _time_to_json(time: TimeFilter) -> dict[str, Any]:
    return {
        "start": time.start.isoformat(),
        "end": time.end.isoformat(),
        "timeZone": getattr(time.time_zone, "key", None),
    }


def _time_from_json(wire: Mapping[str, Any]) -> TimeFilter:
    return TimeFilter(wire["start"], wire["end"], wire["timeZone"])


def _period_to_json(period: Period) -> Any:
    if period.start is None or period.end is None:
        return None
    return {
        "start": period.start.isoformat(),
        "end": period.end.isoformat(),
        "everySeconds": period.every and period.every.total_seconds(),
        "timeZone": getattr(period.start.tzinfo, "key", None),
        "time": period.time_filter and _time_to_json(period.time_filter),
    }


def _period_from_json(wire: Any) -> Period:
    if wire is None:
        return Period(None, None, None)
    start, end = (datetime.fromisoformat(wire[name]) for name in ("start", "end"))
    if zone := wire.get("timeZone"):
        start, end = (moment.astimezone(zone_of(zone)) for moment in (start, end))
    every = None if wire.get("everySeconds") is None else timedelta(seconds=wire["everySeconds"])
    return Period(start, end, wire["time"] and _time_from_json(wire["time"]), every)
