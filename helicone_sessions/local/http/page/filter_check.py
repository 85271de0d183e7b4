"""Checks the filter text of the page's filter box while it is typed."""

from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterError, FilterSyntaxError, FilterValueError
from helicone_sessions.filters.text.parser import parse_filter
from helicone_sessions.local.http.request_body import json_in

# Bytes of a body; some two thousand conditions.
LARGEST_FILTER_BODY: Final = 64 * 1024


def _text_in(body: bytes) -> str:
    """The text in a body like ``{"text": "cost > 0.1"}``.

    Raises:
        FilterValueError: The body is something else.

    >>> _text_in(b'{"text": "threat"}')
    'threat'
    """
    match json_in(body):
        case {"text": str(text)}:
            return text
    raise FilterValueError(problem='the body must be an object like {"text": "cost > 0.1"}')


def check_filter(body: bytes) -> dict[str, Any]:
    """The filter in a body as JSON, a tree, Python and cautions; or its error and position (in characters).

    Raises:
        FilterValueError: The body holds no text.

    >>> check_filter(b'{"text": "cost > 1"}')["python"]
    'F.cost > 1'
    >>> check_filter(b'{"text": "cots > 1"}')["position"]
    {'offset': 0, 'line': 1, 'column': 1}
    """
    text = _text_in(body)
    try:
        made = parse_filter(text)
        # First of all, as it refuses what is nested so deeply that a tree of it would be huge.
        wire = made.to_wire()
    except FilterError as error:
        return {"error": error.message, "position": _place(error)}
    return {
        "wire": wire,
        "explain": made.explain(),
        "python": repr(made),
        "cautions": [attrs.asdict(caution) for caution in made.cautions()],
    }


def _place(error: FilterError) -> dict[str, int] | None:
    if not isinstance(error, FilterSyntaxError):
        return None
    return {"offset": error.offset, "line": error.line, "column": error.column}
