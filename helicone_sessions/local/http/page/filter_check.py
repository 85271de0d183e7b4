"""What a text says as a filter, for somebody who is still writing it."""

from typing import Any, Final

import attrs

from helicone_sessions.errors import FilterError, FilterSyntaxError
from helicone_sessions.filters.text.parser import parse_filter
from helicone_sessions.messages.codec import decode

# Bytes of a body: some two thousand conditions, and nobody types as many.
LARGEST_READING: Final = 64 * 1024


def text_in(body: bytes) -> str:
    """The text that a body holds, as ``{"text": "cost > 0.1"}``.

    Raises:
        ValueError: It holds none.

    >>> text_in(b'{"text": "threat"}')
    'threat'
    """
    try:
        found = decode(body)
    except ValueError as error:
        raise ValueError(f"$: the body is not JSON: {error}") from None
    match found:
        case {"text": str(text)}:
            return text
    raise ValueError('$: the body is an object with a text, as {"text": "cost > 0.1"}')


def reading_of(body: bytes) -> dict[str, Any]:
    """What the filter in a body is: JSON, a tree, Python and cautions, or the error and its place.

    The place is counted in characters, as Python counts them.

    Raises:
        ValueError: The body holds no text.

    >>> reading_of(b'{"text": "cost > 1"}')["python"]
    'F.cost > 1'
    >>> reading_of(b'{"text": "cots > 1"}')["position"]
    {'offset': 0, 'line': 1, 'column': 1}
    """
    try:
        made = parse_filter(text_in(body))
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
