"""What the tests of messages share."""

import sys
from collections.abc import Iterator

import pytest

from helicone_sessions.messages import codec


@pytest.fixture(params=["standard library", "orjson"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tests run with each of the two packages for JSON."""
    if request.param == "orjson":
        pytest.importorskip("orjson")
    else:
        monkeypatch.setitem(sys.modules, "orjson", None)
    codec._orjson.cache_clear()
    yield request.param
    codec._orjson.cache_clear()
