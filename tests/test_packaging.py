"""What is shipped, and that its papers agree with it."""

import os
import re
from importlib import metadata
from pathlib import Path

import pytest

import helicone_sessions

ROOT = Path(__file__).parents[1]
on_the_wheel = pytest.mark.skipif(
    os.environ.get("HELICONE_SESSIONS_TEST_WHEEL") != "1", reason="the package was not installed by nox"
)


def files_of_the_wheel() -> list[str]:
    return [str(path) for path in metadata.files("helicone-sessions") or []]


@on_the_wheel
def test_the_installed_package_is_tested() -> None:
    """The tests import the wheel and not the source tree around them."""
    assert "site-packages" in Path(helicone_sessions.__file__).parts


@on_the_wheel
def test_type_checkers_find_the_annotations() -> None:
    """The wheel holds the marker that tells type checkers to read the package's own annotations."""
    assert "helicone_sessions/py.typed" in files_of_the_wheel()


@on_the_wheel
def test_only_the_package_is_installed() -> None:
    """The wheel puts nothing beside the package: no tests, no docs."""
    tops = {Path(name).parts[0] for name in files_of_the_wheel() if not name.startswith("..")}

    assert {top for top in tops if not top.endswith(".dist-info")} == {"helicone_sessions"}


def test_the_changelog_tells_of_this_version() -> None:
    """The newest heading of the changelog names the version that is installed."""
    headings = re.findall(r"^## \[?(\d[^\s\]]*)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert headings[0] == metadata.version("helicone-sessions")


def test_the_reference_has_every_public_name() -> None:
    """Each name that the package exports has an entry in the reference."""
    reference = (ROOT / "docs" / "reference.md").read_text("utf-8")
    entries = re.findall(r"^\.\. [\w:]+:: (\w+)", reference, re.MULTILINE)

    assert [name for name in helicone_sessions.__all__ if name not in entries] == []
