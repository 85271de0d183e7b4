"""The code that type checkers have to accept runs; `nox -s typing` runs the checkers."""

import runpy
from pathlib import Path


def test_what_checkers_accept_runs() -> None:
    """Every line that mypy and pyright have to accept builds what it says when it is run."""
    found = runpy.run_path(str(Path(__file__).with_name("accepted.py")))
    assert found["filter_"].to_wire()
