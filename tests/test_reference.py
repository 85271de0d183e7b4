"""The reference has no gap: names with an example each, columns, errors, options, variables."""

import ast
import doctest
import importlib
import inspect
import re
import runpy
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

import helicone_sessions
from helicone_sessions import F, errors
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts
from tests.test_public_api import BESIDE, MODULES

PACKAGE: Final = Path(helicone_sessions.__file__).parent
DOCS: Final = Path(__file__).parents[1] / "docs"
PAGES: Final = (DOCS / "reference.md", *sorted(DOCS.glob("reference/*.md")))
# Public names without an entry, and where they are described.
ELSEWHERE: Final = {
    "filters.columns.Columns": "it is `F`, and its columns have tables",
    "pytest_plugin.helicone_server": "a fixture: docs/testing.md, the environment",
    "cli.demo.demo": "the page of the command line has its options",
    "cli.filter.filter_": "likewise",
    "cli.metrics.metrics": "likewise",
    "cli.serve.serve": "likewise",
    "cli.sql.sql": "likewise",
}
# Methods that are named as if they were public, and are not for users.
INTERNAL: Final = {
    "Held.wait": "the server waits so",
    "Column.condition": "what the signs come to",
    **dict.fromkeys(
        ("Column.facts", "Column.key", "MapColumn.facts"),
        "the tables of columns and the segments of grids are made from it",
    ),
}

# Methods that no example shows, and why.
WITHOUT_EXAMPLE: Final = {
    **dict.fromkeys(
        (f"OpenTelemetryHooks.{what}_{when}" for what in ("query", "attempt") for when in ("begins", "ends")),
        "the client calls it; the example of Hooks has all of them",
    ),
    "OpenTelemetryHooks.waits": "likewise",
    "ScoreColumn.is_empty": "it refuses",
    "ScoreColumn.is_null": "likewise",
}


@attrs.frozen
class Entry:
    """One directive of the reference; ``is_made`` says whether users make the object themselves."""

    kind: str
    options: dict[str, str]
    is_made: bool


def entries() -> dict[str, Entry]:
    """All directives that describe a name, by that name."""
    found = {}
    for page in PAGES:
        module = ""
        for directive in re.finditer(
            r"^\.\. ([\w:]+):: ([\w.]+)(\(\))?\n((?:   :.*\n)*)", page.read_text("utf-8"), re.MULTILINE
        ):
            kind, name, closed, options = directive.groups()
            if kind == "currentmodule":
                module = name
            elif kind in ("autoclass", "autoexception", "autofunction", "py:data"):
                full = name if name.startswith("helicone_sessions.") else f"{module}.{name}"
                given = dict(re.findall(r":([\w-]+): ?(.*)", options))
                found[full] = Entry(kind, given, is_made=closed is None)
    return found


ENTRIES: Final = entries()


def public_names() -> list[str]:
    exported = [*helicone_sessions.__all__]
    for module in MODULES:
        names = importlib.import_module(f"helicone_sessions.{module}").__all__
        exported += [f"{module}.{name}" for name in names]
    return sorted(f"helicone_sessions.{name}" for name in [*exported, *BESIDE] if name not in ELSEWHERE)


PUBLIC: Final = public_names()


def named(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def entry_of(path: str) -> Entry | None:
    """The entry of a name, under whichever of its paths."""
    thing = named(path)
    if isinstance(thing, type) or inspect.isfunction(thing):
        return next((entry for other, entry in ENTRIES.items() if named(other) is thing), None)
    return ENTRIES.get(path)


def with_docstrings() -> list[str]:
    return [path for path in PUBLIC if isinstance(named(path), type) or inspect.isfunction(named(path))]


def methods(kind: type) -> Iterator[tuple[type, str, Any]]:
    """The public methods and properties of a class, each with the class of the package that defines it."""
    for name in dir(kind):
        owner = next((one for one in kind.__mro__ if name in vars(one)), object)
        member = inspect.getattr_static(kind, name)
        is_ours = owner.__module__.startswith("helicone_sessions.") and not owner.__name__.startswith("_")
        if name.startswith("_") or not is_ours or f"{owner.__name__}.{name}" in INTERNAL:
            continue
        function = getattr(member, "__func__", getattr(member, "fget", member))
        if inspect.isfunction(function):
            yield owner, name, function


def shows(entry: Entry | None, kind: type, name: str) -> bool:
    """Whether the entry of a class shows this method."""
    owner = next((one for one in kind.__mro__ if name in vars(one)), None)
    if entry is None or owner is None or "members" not in entry.options:
        return False
    listed = {word.strip() for word in entry.options["members"].split(",")} - {""}
    if (listed and name not in listed) or name in entry.options.get("exclude-members", ""):
        return False
    if owner is kind:
        return True
    ends_at = entry.options.get("inherited-members")
    beyond = next((one.__mro__ for one in kind.__mro__ if one.__name__ == ends_at), (object,))
    return ends_at is not None and owner not in beyond


@pytest.mark.parametrize("path", PUBLIC)
def test_every_public_name_has_an_entry(path: str) -> None:
    """A public name is described in the reference, and the index of the reference leads there."""
    index = PAGES[0].read_text("utf-8")
    name = path.rpartition(".")[2]

    assert entry_of(path) is not None
    assert re.search(rf"(^   |[.~]){name}`?$|\.{name}`", index, re.MULTILINE)


@pytest.mark.parametrize("path", [path for path in PUBLIC if isinstance(named(path), type)])
def test_every_public_method_is_shown(path: str) -> None:
    """The entry of a class shows its methods, or that of a base which has them does."""
    kind = named(path)
    bases = [one for one in kind.__mro__ if one.__module__.startswith("helicone_sessions.")]
    entries_of = {one: entry_of(f"{one.__module__}.{one.__qualname__}") for one in bases}
    missing = [
        f"{owner.__name__}.{name}"
        for owner, name, _ in methods(kind)
        if not any(shows(entry, one, name) for one, entry in entries_of.items())
    ]

    assert [] == missing


@pytest.mark.parametrize("path", with_docstrings())
def test_every_public_name_has_an_example(path: str) -> None:
    """A public class or function shows how it is used, in a session that runs as a test."""
    assert ">>> " in (named(path).__doc__ or "")


def shown_in(docstring: str | None) -> set[str]:
    """The methods that the example of a docstring calls or defines."""
    found = set()
    for example in doctest.DocTestParser().get_examples(docstring or ""):
        for node in ast.walk(ast.parse(example.source)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                found.add(node.func.attr)
            elif isinstance(node, ast.ClassDef):
                found |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
    return found


def without_example(kind: type) -> list[str]:
    """The public methods of a class that neither their own docstring nor that of the class shows."""
    return [
        f"{owner.__name__}.{name}"
        for owner, name, function in methods(kind)
        if not isinstance(inspect.getattr_static(kind, name), property)
        if ">>> " not in (function.__doc__ or "")
        if name not in shown_in(owner.__doc__) | shown_in(kind.__doc__)
    ]


def test_every_public_method_has_an_example() -> None:
    """A method is shown in use, in its own docstring or that of its class; the exceptions are not."""
    kinds = [named(path) for path in PUBLIC if isinstance(named(path), type)]

    assert set(WITHOUT_EXAMPLE) == {name for kind in kinds for name in without_example(kind)}


def parameters(function: Any) -> list[str]:
    """The parameters that a docstring has to name."""
    given = inspect.signature(function).parameters
    return [name for name in given if name not in ("self", "cls") and not name.startswith("_")]


def unnamed(function: Any, docstring: str | None) -> list[str]:
    """The parameters that a docstring does not name."""
    section = re.search(r"^Args:\n((?: .*\n?|\n)*)", inspect.cleandoc(docstring or ""), re.MULTILINE)
    told = re.findall(r"^    (\w+): \S", section[1], re.MULTILINE) if section else []
    return [name for name in parameters(function) if name not in told]


@pytest.mark.parametrize("path", with_docstrings())
def test_every_parameter_is_described(path: str) -> None:
    """The docstring of what users call, or of what that overrides, names each parameter."""
    thing, entry = named(path), entry_of(path)
    missing = {}
    if isinstance(thing, type):
        for _, name, function in methods(thing):
            versions = [getattr(one, name) for one in thing.__mro__ if name in vars(one)]
            missing[name] = min((unnamed(function, one.__doc__) for one in versions), key=len)
        # An exception with the arguments of its base is described there.
        is_own = "__init__" in vars(thing) and not issubclass(thing, Enum)
        if is_own and entry is not None and entry.is_made:
            missing[thing.__name__] = unnamed(thing, thing.__doc__)
    else:
        missing[path] = unnamed(thing, thing.__doc__)

    assert {} == {name: words for name, words in missing.items() if words}


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    """The parts of pages that are generated from the code."""
    pytest.importorskip("cyclopts")
    found: dict[str, str] = runpy.run_path(str(DOCS / "conf.py"))["myst_substitutions"]
    return found


@pytest.mark.parametrize("facts", COLUMNS.values(), ids=list(COLUMNS))
def test_every_column_is_in_the_table_of_its_kind(facts: ColumnFacts, generated: dict[str, str]) -> None:
    """A column has a row with what it is, its unit, and what the server does; above are its operators."""
    kind = facts.kind.name.lower()
    begins = f"| `{F[facts.name]!r}`"
    (row,) = [line for line in generated[f"{kind}_columns"].splitlines() if line.startswith(begins)]
    plain = row.replace("`", "")
    page = (DOCS / "reference" / "columns.md").read_text("utf-8")

    for fact in (facts.name, facts.about, facts.unit or "", facts.on_server, *facts.server_refuses):
        assert fact in plain
    assert facts.server_note in plain
    assert facts.server_remedy in plain
    for operator in facts.operators:
        assert f"`{operator}`" in generated[f"{kind}_operators"]
    assert f"{{{{ {kind}_columns }}}}" in page
    assert f"{{{{ {kind}_operators }}}}" in page


def test_the_operators_of_a_column_are_those_that_work(generated: dict[str, str]) -> None:
    """Each method above a table is one of the columns in it, unless its row says that it is not."""
    for kind, column in (("text", F.model), ("number", F.cost), ("timestamp", F.request_created_at)):
        named_methods = re.findall(r"`\.(\w+)\(\)`", generated[f"{kind}_operators"])
        assert named_methods
        assert all(callable(getattr(column, name)) for name in named_methods)
    assert "it has no `.is_null()`" in generated["text_columns"]


def option_count(kinds: Iterable[Any], parameter_count: int) -> int:
    """The number of options; the fields of `times`, `source` and `loading` are options too."""
    shared = [attrs.fields(attrs.resolve_types(kind)) for kind in kinds if attrs.has(kind)]
    return parameter_count + sum(
        option_count((field.type for field in fields), len(fields)) - 1 for fields in shared
    )


@pytest.mark.parametrize("command", ["demo", "filter", "metrics", "serve", "sessions", "sql"])
def test_every_option_is_there(command: str, generated: dict[str, str]) -> None:
    """The page of the command line has each command, with each of its options."""
    module, _, function = importlib.import_module("helicone_sessions.cli")._COMMANDS[command].partition(":")
    called = getattr(importlib.import_module(f"helicone_sessions.cli.{module}"), function)
    given = option_count(inspect.get_annotations(called).values(), len(parameters(called)))
    shown = generated[f"{command}_options"]

    assert given == len(re.findall(r"^\* `", shown, re.MULTILINE))
    assert f"{{{{ {command}_options }}}}" in (DOCS / "reference" / "command-line.md").read_text("utf-8")


ERRORS: Final = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)
]


@pytest.mark.parametrize("kind", [kind for kind in ERRORS if kind is not errors.HeliconeError])
def test_every_error_is_in_the_table(kind: type[Exception]) -> None:
    """An error has a row that says when it is raised and what to do, and names what it carries."""
    page = (DOCS / "reference" / "errors.md").read_text("utf-8")
    rows = re.findall(rf"^\| `{kind.__name__}` \| (.*) \|$", page, re.MULTILINE)

    assert len(rows) == 1
    assert len(rows[0].split(" | ")) >= 3
    if "__init__" in vars(kind):
        carried = re.findall(r"self\.(\w+) =", inspect.getsource(kind.__init__))
        assert carried
        assert [] == [name for name in carried if f"`{name}`" not in page]


def variables() -> set[str]:
    """The variables of the environment that the package names or reads."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and re.fullmatch(r"HELICONE_[A-Z_]+", str(node.value)):
                found.add(str(node.value))
            read = node.args[:1] if isinstance(node, ast.Call) else []
            holder = getattr(node, "func", None)
            if isinstance(node, ast.Subscript):
                read, holder = [node.slice], node
            if re.search(r"environ\b|environment\b|getenv", ast.unparse(holder) if holder else ""):
                found |= {str(one.value) for one in read if isinstance(one, ast.Constant)}
    return found


def test_every_variable_of_the_environment_is_in_the_table() -> None:
    """Each variable that the package or its libraries read has a row."""
    page = (DOCS / "reference" / "environment.md").read_text("utf-8")
    rows = "".join(re.findall(r"^\| (`.*?) \|", page, re.MULTILINE))
    ours = variables()

    assert {"HELICONE_API_KEY", "HELICONE_SESSIONS_SERVER_KEY"} <= ours
    assert set() == {name for name in ours if f"`{name}`" not in rows}
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY", "NO_COLOR", "SSL_CERT_FILE"):
        assert f"`{name}`" in rows
