"""Checks of the parts of an error, where its wording does not matter."""

from collections.abc import Callable
from typing import Any


def parts(**expected: str) -> Callable[[Any], bool]:
    """A check for `pytest.raises` that the error has these parts, such as its ``argument``."""
    return lambda error: all(getattr(error, name) == value for name, value in expected.items())
