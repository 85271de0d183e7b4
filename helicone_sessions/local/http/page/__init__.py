"""The web page as one document, with headers that prevent all other code from running in it."""

import base64
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, Final, get_args

from aiohttp import web

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.parser import parse_filter
from helicone_sessions.filters.schema import ALIASES, COLUMNS, ColumnFacts, Kind, Reading
from helicone_sessions.filters.tokens import OPERATORS_OF
from helicone_sessions.local.http.listening import facts
from helicone_sessions.local.query.overview_sql import BARS_PATH, IN_BAR_PATH
from helicone_sessions.messages.grid_query import GRID_HEADER, GRID_PATH, GROUPABLE
from helicone_sessions.messages.metrics import UNITS, PSize
from helicone_sessions.messages.protocol import PATH

FILTER_PATH: Final = "v1/filter"

# Joined in this order, the files form one script.
_SCRIPTS: Final = (
    "elements.js",
    "numbers.js",
    "server.js",
    "state.js",
    "values.js",
    "language.js",
    "completion.js",
    "filter_box.js",
    "query.js",
    "code.js",
    "bins.js",
    "histogram.js",
    "overview.js",
    "breakdown.js",
    "sessions.js",
    "page.js",
)
# The constants of these columns have another kind than the column: scores are a map with numbers.
_TAKEN: Final = {"scores": Kind.NUMBER}
_CONSTANTS: Final = {
    Kind.NUMBER: "1",
    Kind.TIMESTAMP: "2026-11-01T00:00:00Z",
    Kind.BOOLEAN: "true",
    Kind.TEXT: '"a"',
    Kind.MAP: '"a"',
    Kind.KEY: '"a"',
}
_NEGATED: Final = {
    "contains": "not contains",
    "in": "not in",
    "is null": "is not null",
    "is empty": "is not empty",
}
_ENDINGS: Final = ("null", "empty", "true", "false")
# The columns that the page offers for segments and suggestions. Request ids and texts have too many values.
_GROUPABLE: Final = [
    name
    for name in GROUPABLE
    if name != "properties" and not COLUMNS[name].uuid and not COLUMNS[name].server_expires
]
# The condition that excludes requests without a session id.
_SESSIONED: Final = ~F.session_id.is_empty()
# The map keys that Helicone itself writes.
_KEYS: Final = {
    "properties": tuple(ALIASES.values()),
    "scores": ("helicone-score-feedback",),
}


async def page(_request: web.Request) -> web.Response:
    """Serve the page. It contains no data, so no key is required."""
    facts.get().outcome = "answered"
    text, headers = document()
    return web.Response(text=text, content_type="text/html", charset="utf-8", headers=headers)


@cache
def document() -> tuple[str, dict[str, str]]:
    """Return the text of the page and its headers.

    >>> text, headers = document()
    >>> text.startswith("<!doctype html>"), headers["Referrer-Policy"]
    (True, 'no-referrer')
    """
    style, script = _part("page.css"), "".join(map(_part, _SCRIPTS))
    text = _part("page.html")
    for name, part in (("style", style), ("facts", _as_data(_facts())), ("script", script)):
        text = text.replace(f"<!-- {name} -->", part)
    return text, {
        "Content-Security-Policy": "; ".join(_policy(style, script)),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text("utf-8")


def _policy(style: str, script: str) -> Iterator[str]:
    """Yield the directives of a policy that allows only the page itself and connections to its server."""
    yield "default-src 'none'"
    yield f"script-src '{_digest(script)}'"
    yield f"style-src '{_digest(style)}'"
    # The page embeds its icon.
    yield "img-src data:"
    yield "connect-src 'self'"
    yield "base-uri 'none'"
    yield "form-action 'none'"
    yield "frame-ancestors 'none'"
    # With this directive, the browser refuses to parse any text as HTML.
    yield "require-trusted-types-for 'script'"
    yield "trusted-types 'none'"


def _digest(part: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(part.encode()).digest()).decode()}"


def _as_data(value: Any) -> str:
    """Encode a value as JSON that cannot close the surrounding HTML element."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _facts() -> dict[str, Any]:
    """Collect the facts that the page's script needs about the API and the filter language."""
    return {
        "queryPath": PATH,
        "filterPath": FILTER_PATH,
        "gridPath": GRID_PATH,
        "gridHeader": next(iter(GRID_HEADER)),
        "barsPath": BARS_PATH,
        "inBarPath": IN_BAR_PATH,
        "units": UNITS,
        "sizes": get_args(PSize),
        "keys": _KEYS,
        "columns": [_of_column(column) for column in COLUMNS.values()],
        "aliases": [_of_alias(alias, key) for alias, key in ALIASES.items()],
        "groupable": _GROUPABLE,
        "sessioned": {"wire": _SESSIONED.to_wire(), "python": repr(_SESSIONED)},
    }


def _of_alias(alias: str, key: str) -> dict[str, Any]:
    """Describe a property alias, which filters can use like a text column."""
    column = COLUMNS[f"session_{alias}"]
    operators = _operators(COLUMNS["properties"], _CONSTANTS[Kind.TEXT])
    return {
        **_of_column(column),
        "name": alias,
        "key": key,
        "operators": [*operators],
        "service": "",
    }


def _of_column(column: ColumnFacts) -> dict[str, Any]:
    service, taken = column.server_note, _TAKEN.get(column.name, column.kind)
    if column.on_server is not Reading.READ:
        service = f"{column.on_server.value}; {column.server_note}"
    return {
        "name": column.name,
        "kind": column.kind.name.lower(),
        "unit": column.unit,
        "about": column.about,
        "takes": taken.name.lower(),
        "operators": [*_operators(column, _CONSTANTS[taken])],
        "service": "; ".join(filter(None, (service, column.server_remedy))),
    }


def _operators(column: ColumnFacts, constant: str) -> Iterator[str]:
    """Yield the operators that the column supports, including negated ones such as ``not in``."""
    name = f'{column.name}["a"]' if column.kind is Kind.MAP else column.name
    behind = {"in": f"({constant})", "between": f"{constant} and {constant}"} | dict.fromkeys(_ENDINGS, "")
    for operator in OPERATORS_OF[column.kind]:
        for spelt in filter(None, (operator, _NEGATED.get(operator))):
            try:
                parse_filter(f"{name} {spelt} {behind.get(spelt.split()[-1], constant)}")
            except FilterError:
                # Scores do not support "is empty".
                continue
            yield spelt
