"""How the documentation is built: `nox -s docs`."""

import doctest
import re
from importlib import metadata
from typing import Any

import attrs

from helicone_sessions import F, SessionMetrics
from helicone_sessions.cli import _app
from helicone_sessions.filters.columns import MapColumn
from helicone_sessions.filters.columns.kinds import Column
from helicone_sessions.filters.schema import COLUMNS, OPERATORS, ColumnFacts, Kind
from helicone_sessions.report import GridComparison, MetricsGrid

project = "helicone-sessions"
author = "The helicone-sessions developers"
project_copyright = author
release = version = metadata.version("helicone-sessions")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_extra_path = ["llms.txt"]
html_static_path = ["_static"]
html_css_files = ["reference.css"]
html_theme = "furo"
html_title = f"helicone-sessions {release}"

# The copy button takes the input of the interpreter, without prompts and output.
copybutton_prompt_text = r">>> |\.\.\. ?"
copybutton_prompt_is_regexp = True
copybutton_selector = "div:not(.highlight-none) > div.highlight > pre"

# In docstrings, names in single backticks are links.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# Docstrings run as tests of the package; here only the blocks of pages run.
doctest_test_doctest_blocks = ""
doctest_default_flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
doctest_global_setup = """
try:
    import chdb
except ImportError:
    chdb = None
"""

# The notebook runs when its page is built; an error in it fails the build.
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120

# Quotation marks are as often code as prose.
smartquotes_action = "D"
myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3

# `nox -s links`: these addresses are examples, and the last one is the placeholder of pyproject.toml.
linkcheck_ignore = [r"https?://[^/]*(\.example|localhost|127\.0\.0\.1)\b"]


def columns_of(kind: Kind) -> list[Column | MapColumn]:
    return [F[column.name] for column in COLUMNS.values() if column.kind is kind]


def operators_of(column: Column | MapColumn) -> list[str]:
    """The operators of a column; for a map, those of its keys."""
    return (column["key"] if isinstance(column, MapColumn) else column)._operators().split(", ")


def operators_text(kind: Kind) -> str:
    """The operators in Python, and those in the API."""
    written = (f"`{word}`" if word[0] in "=!<>." else word for word in operators_of(columns_of(kind)[0]))
    sent = (f"`{operator}`" for operator in OPERATORS[kind])
    return f"Operators: {', '.join(written)}. In the API: {', '.join(sent)}."


def columns_table(kind: Kind) -> str:
    columns = columns_of(kind)
    heads = ["Column", "Meaning", "On the open-source server"]
    if kind is Kind.NUMBER:
        heads.insert(2, "Unit")
    common = operators_of(columns[0])
    rows = [heads, ["---"] * len(heads), *(column_row(column, common) for column in columns)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def column_row(column: Column | MapColumn, common: list[str]) -> list[str]:
    facts = column.facts
    missing = [f"`{word}`" for word in common if word not in operators_of(column)]
    names = [f"`{column!r}`", *([] if facts.attribute == facts.name else [f"in the API `{facts.name}`"])]
    what = [facts.about, *([f"it has no {' and no '.join(missing)}"] if missing else [])]
    units = [facts.unit or ""] if facts.kind is Kind.NUMBER else []
    return ["<br>".join(names), "; ".join(what), *units, reading(facts)]


def reading(facts: ColumnFacts) -> str:
    said = [str(facts.on_server)]
    if facts.server_refuses:
        said.append(f"refuses {', '.join(f'`{operator}`' for operator in facts.server_refuses)}")
    if facts.server_twists:
        said.append(f"reads {', '.join(f'`{operator}`' for operator in facts.server_twists)} differently")
    said += [part for part in (facts.server_note, facts.server_remedy) if part]
    return re.sub(r"F\.\w+(\[[^]]+\])?|\.ilike\([^)]+\)|[!=]=(?: '')?", r"`\g<0>`", "; ".join(said))


def rows_table(tabular: type[MetricsGrid | GridComparison | SessionMetrics]) -> str:
    rows = [["Column", "Meaning"], ["---", "---"]]
    rows += [[f"`{name}`", about] for name, about in tabular.columns.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def options_of(command: str) -> str:
    """The options of a command from its help, without the heading."""
    whole = _app(command="").generate_docs("markdown")
    _, _, found = whole.partition(f"\n## helicone-sessions {command}\n")
    shown = found.partition("\n## ")[0].replace(" *[default: None]*", "")
    return re.sub(r"(?<![`\w])--[a-z-]+", r"`\g<0>`", shown)


COMMANDS = ("metrics", "sessions", "sync", "sql", "filter", "demo", "serve", "rebuild")

myst_substitutions = {
    **{f"{kind.name.lower()}_operators": operators_text(kind) for kind in Kind},
    **{f"{kind.name.lower()}_columns": columns_table(kind) for kind in Kind},
    "metrics_rows": rows_table(SessionMetrics),
    "grid_rows": rows_table(MetricsGrid),
    "comparison_rows": rows_table(GridComparison),
    **{f"{command}_options": options_of(command) for command in COMMANDS},
}


def with_defaults(*event: Any) -> tuple[str, str | None] | None:
    """A signature with the values of defaults, and with `...` for those created at the call."""
    thing, _, signature, returns = event[3:]
    if not signature:
        return None
    for field in attrs.fields(thing) if attrs.has(thing) else ():
        signature = signature.replace(f"attr_dict['{field.name}'].default", repr(field.default))
    return re.sub(r"\b(NOTHING|_KEPT)\b", "...", signature), returns


def setup(app: Any) -> None:
    app.connect("autodoc-process-signature", with_defaults)
