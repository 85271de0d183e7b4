"""How the documentation is built: `nox -s docs`."""

import doctest
from importlib import metadata

from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Reading

project = "helicone-sessions"
author = "The helicone-sessions developers"
project_copyright = author
release = version = metadata.version("helicone-sessions")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.doctest", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"helicone-sessions {release}"

# In docstrings, names in single backticks are links.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

# Docstrings run as tests of the package; here only what the pages show does.
doctest_test_doctest_blocks = ""
doctest_default_flags = doctest.ELLIPSIS
doctest_global_setup = """
try:
    import chdb
except ImportError:
    chdb = None
"""

myst_enable_extensions = ["substitution"]
myst_heading_anchors = 3


def columns_table() -> str:
    rows = [
        ("Column", "Holds", "What it is", "Known of the open-source server"),
        ("---",) * 4,
        *((_name(column), _holds(column), column.about, _known(column)) for column in COLUMNS.values()),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _name(column: ColumnFacts) -> str:
    return f"`F.{column.attribute}`"


def _holds(column: ColumnFacts) -> str:
    return f"{column.kind}, {column.unit}" if column.unit else str(column.kind)


def _known(column: ColumnFacts) -> str:
    facts = [] if column.on_server is Reading.READ else [str(column.on_server)]
    if column.server_refuses:
        facts.append(f"refuses {', '.join(column.server_refuses)}")
    return "; ".join([*facts, column.server_note] if column.server_note else facts)


myst_substitutions = {"columns": columns_table()}
