"""The public face as text: each name with its signature, so that a break is seen and made on purpose only.

It is read from the source without running it, and so is the same on every Python.
"""

import difflib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

import helicone_sessions

PINNED = Path(__file__).parent / "public_api.txt"
PACKAGE = Path(helicone_sessions.__file__).parent
# Modules whose `__all__` is public, beside the package's own.
MODULES = ("local", "report", "testing")
# Public names outside of an `__all__`: parts of answers, columns, options of commands.
BESIDE = (
    "clock.replaced",
    "pytest_plugin.helicone_server",
    "otel.OpenTelemetryHooks",
    "filters.cautions.Caution",
    "local.storage.rows.Loaded",
    "transport.batch.MetricsStream",
    "filters.columns.Columns",
    *(
        f"filters.columns.kinds.{kind}Column"
        for kind in ("Boolean", "Map", "Number", "PropertyKey", "Score", "Text", "Timestamp")
    ),
    "cli.demo.demo",
    "cli.filter.filter_",
    "cli.metrics.metrics",
    "cli.serve.serve",
    "cli.sql.sql",
)
# Of a field these say how it is given; the rest, as its validator, is the class's own affair.
TOLD_OF_FIELDS = ("default", "factory", "init", "kw_only", "alias")


def public_api(package: Path) -> list[str]:
    """One line for each public name of the package in this directory."""
    root: Any = griffe.load(
        package.name, search_paths=[package.parent], try_relative_path=False, allow_inspection=False
    )
    exported = [str(name) for name in root.exports]
    exported += [f"{module}.{name}" for module in MODULES for name in root[module].exports]
    found = {path: itself(root[path]) for path in sorted([*exported, *BESIDE])}
    listed = {one.path for one in found.values()}
    return [line for path, one in found.items() for line in lines_of(path, one, listed)]


def itself(one: Any) -> Any:
    return one.final_target if one.is_alias else one


def lines_of(path: str, one: Any, listed: set[str]) -> Iterator[str]:
    """The lines of one name: of a class also those of its members, save what comes from a listed class."""
    if one.is_function:
        words = [word for word in ("classmethod", "staticmethod", "async") if word in one.labels]
        for form in one.overloads or [one]:
            yield " ".join([*words, form.signature(name=path)])
    elif one.is_attribute:
        yield f"{path}{annotation(one)}{value(one)}"
    else:
        yield f"class {path}({', '.join(map(str, one.bases))})"
        for name, member in members(one, listed):
            yield from lines_of(f"{path}.{name}", member, listed)


def members(kind: Any, listed: set[str]) -> list[tuple[str, Any]]:
    """The public members of a class: attributes as they stand, as fields are given in this order."""
    found = [
        (name, itself(member))
        for name, member in kind.all_members.items()
        if name == "__init__" or not name.startswith("_")
    ]
    own = [(name, one) for name, one in found if one.parent.path not in listed - {kind.path}]
    return sorted(own, key=lambda pair: (pair[1].is_function, pair[0] if pair[1].is_function else ""))


def annotation(attribute: Any) -> str:
    word = " (property)" if "property" in attribute.labels else ""
    return f": {attribute.annotation}{word}" if attribute.annotation else ""


def value(attribute: Any) -> str:
    """The value of an attribute, if it is part of the public API."""
    given = attribute.value
    if given is None or not attribute.labels & {"class-attribute", "module-attribute"}:
        return ""
    if isinstance(given, griffe.ExprCall) and given.canonical_path == "attrs.field":
        told = [part for part in given.arguments if getattr(part, "name", None) in TOLD_OF_FIELDS]
        return f" = field({', '.join(map(str, told))})" if told else ""
    return "" if isinstance(given, griffe.ExprDict) else f" = {given}"


def test_the_public_names_and_signatures_are_pinned() -> None:
    """Public calls, arguments and results change only on purpose.

    With HELICONE_SESSIONS_NEW_REFERENCES set, the list is rewritten: look at the changes.
    """
    found = public_api(PACKAGE)
    if os.environ.get("HELICONE_SESSIONS_NEW_REFERENCES"):
        PINNED.write_text("".join(f"{line}\n" for line in found), encoding="utf-8")
    pinned = PINNED.read_text(encoding="utf-8").splitlines()
    changed = [*difflib.unified_diff(pinned, found, "tests/public_api.txt", "the package", n=0, lineterm="")]

    assert not changed, "\n".join(
        [
            "the public face has changed. If that is meant, say so in CHANGELOG.md, run this test with",
            "HELICONE_SESSIONS_NEW_REFERENCES=1, and commit tests/public_api.txt:",
            *changed,
        ]
    )


BREAKS = (
    ("transport/client.py", "ordered: bool = False", "ordered: bool = True"),
    ("transport/client.py", "def with_options(", "def with_changes("),
    ("messages/query.py", "p_size: PSize | None = None", "p_size: PSize | None"),
    ("errors.py", "self.request_id = ", "self.request = "),
    ("local/server.py", "def count(self) -> int", "def count(self) -> str"),
    ("cli/serve.py", "port: int = 8585", "port: int = 8080"),
    ("testing/replies.py", "DROP = ", "GONE = "),
)


def test_a_break_is_seen(tmp_path: Path) -> None:
    """A default, a name, a field, an attribute, a type, an option or a member that changes is seen."""
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file, written, instead in BREAKS:
        text = (copy / file).read_text(encoding="utf-8")
        assert written in text
        (copy / file).write_text(text.replace(written, instead), encoding="utf-8")
    gone = set(PINNED.read_text(encoding="utf-8").splitlines()) - set(public_api(copy))

    for name in (
        "HeliconeClient.stream_metrics(",
        "HeliconeClient.with_options(",
        "SessionMetricsQuery.p_size: ",
        "APIError.request_id",
        "async local.LocalServer.count(",
        "cli.serve.serve(",
        "testing.Fault.DROP ",
    ):
        assert any(line.startswith(name) for line in gone), name
