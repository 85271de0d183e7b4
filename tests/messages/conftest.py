"""Fixtures for the tests of messages."""

import sys
from collections.abc import Iterator

import pytest

from helicone_sessions.messages import codec, protocol


@pytest.fixture(params=["standard library", "msgspec"])
def package(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The tests run with each of the two packages for JSON."""
    if request.param == "msgspec":
        pytest.importorskip("msgspec", reason="the extra `speed` is not installed")
    else:
        monkeypatch.setitem(sys.modules, "msgspec", None)
    forget()
    yield request.param
    forget()


def forget() -> None:
    """Look for msgspec again."""
    codec.installed_msgspec.cache_clear()
    protocol._metrics_reader.cache_clear()
