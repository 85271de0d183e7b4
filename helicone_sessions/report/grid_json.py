"""Grids to and from JSON: queries and answers in the API's own, errors as their text."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

from helicone_sessions.errors import HeliconeError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.messages.converter import converter, metrics_from
from helicone_sessions.messages.query import SessionMetricsQuery
from helicone_sessions.messages.tabular import json_text
from helicone_sessions.messages.time_filter import TimeFilter
from helicone_sessions.report.cells import GridCell
from helicone_sessions.report.windows import Window

_VERSION: Final = 1
Grid = TypeVar("Grid")


def grid_to_json(grid: Any) -> str:
    """The JSON of a `MetricsGrid`.

    Raises:
        ValueError: A segment has a name that JSON does not have.
    """
    for name in grid.segments:
        if name is not None and not isinstance(name, (str, int, float)):
            raise ValueError(f"to_json(): the segment {name!r} has a name that is neither text nor a number")
    return json_text(
        {
            "version": _VERSION,
            "query": converter.unstructure(grid.query),
            "segments": [{"name": name, "filter": each.to_wire()} for name, each in grid.segments.items()],
            "windows": [_window_to_json(window) for window in grid.windows],
            "cells": [
                {
                    "place": place,
                    "query": converter.unstructure(cell.query),
                    "metrics": cell.metrics and converter.unstructure(cell.metrics),
                    "error": cell.error and f"{type(cell.error).__name__}: {cell.error}",
                }
                for place, cell in grid.cells.items()
            ],
        }
    )


def grid_from_json(kind: type[Grid], text: str | bytes) -> Grid:
    """The grid that `grid_to_json` wrote.

    Raises:
        ValueError: The text is something else.
    """
    try:
        return kind(*_parts(json.loads(text)))
    except Exception as error:  # noqa: BLE001 - whatever is wrong, it is not ours
        raise ValueError(f"MetricsGrid.from_json(): this is not what to_json() wrote: {error!r}") from None


def _parts(wire: Any) -> tuple[Any, ...]:
    if wire["version"] != _VERSION:
        raise ValueError(f"version {_VERSION} is due, not {wire['version']!r}")
    segments = {each["name"]: Filter.from_wire(each["filter"]) for each in wire["segments"]}
    windows = tuple(_window_from_json(each) for each in wire["windows"])
    query = converter.structure(wire["query"], SessionMetricsQuery)
    names = list(segments)
    cells = {tuple(each["place"]): _cell_from_json(each, names, windows) for each in wire["cells"]}
    return query, segments, windows, cells


def _cell_from_json(wire: Mapping[str, Any], names: list[Any], windows: tuple[Window, ...]) -> GridCell:
    segment, window = wire["place"]
    return GridCell(
        None if segment is None else names[segment],
        None if window is None else windows[window],
        converter.structure(wire["query"], SessionMetricsQuery),
        None if wire["metrics"] is None else metrics_from(wire["metrics"]),
        None if wire["error"] is None else HeliconeError(wire["error"]),
    )


def _window_to_json(window: Window) -> Any:
    if window.start is None or window.end is None:
        return None
    return {
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "timeFilter": converter.unstructure(window.time_filter),
    }


def _window_from_json(wire: Any) -> Window:
    if wire is None:
        return Window(None, None, None)
    return Window(
        datetime.fromisoformat(wire["start"]),
        datetime.fromisoformat(wire["end"]),
        converter.structure(wire["timeFilter"], TimeFilter),
    )
