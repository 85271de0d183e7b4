"""How often tests repeat their work: a quarter of it in the plain run, all of it in ``nox -s full``."""

import os
from typing import Final

import pytest

IS_FULL: Final = os.environ.get("HELICONE_SESSIONS_FULL") == "1"
only_full: Final = pytest.mark.skipif(not IS_FULL, reason="a longer form of a test; `nox -s full` runs it")


def repeats(full: int) -> int:
    """The number of examples or repetitions of a test that has *full* of them in ``nox -s full``."""
    return full if IS_FULL else max(1, full // 4)
