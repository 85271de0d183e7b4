"""Rules of the house that no linter holds."""

from pathlib import Path

import helicone_sessions

PACKAGE = Path(helicone_sessions.__file__).parent
MOST_LINES = 600


def test_no_module_is_long() -> None:
    """Every module can be read at a sitting; a longer one has more than one job."""
    lines = {
        str(path.relative_to(PACKAGE)): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }

    assert len(lines) > 100
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}
