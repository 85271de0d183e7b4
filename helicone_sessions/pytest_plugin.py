"""The pytest plugin: the fixture ``helicone_server``."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helicone_sessions.testing import FakeHelicone


@pytest.fixture
def helicone_server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[FakeHelicone]":
    """A fake of Helicone's service, which every ``HeliconeClient()`` in the test uses.

    The fixture sets ``HELICONE_API_KEY`` and ``HELICONE_BASE_URL``, and installs a clock on which the waits
    of clients take no time (``helicone_server.clock``). A body that breaks the contract, or a filter with a
    leaf that does not hold exactly one condition, fails the test. Other filters that the service reads
    differently cause a ``HeliconeFilterWarning`` in the client.
    """
    # pytest loads this plugin in every run, so it imports as little as possible.
    from helicone_sessions.clock import replaced
    from helicone_sessions.testing import FakeHelicone, VirtualClock

    clock = VirtualClock()
    with replaced(clock), FakeHelicone(clock=clock) as server:
        monkeypatch.setenv("HELICONE_API_KEY", server.api_key)
        monkeypatch.setenv("HELICONE_BASE_URL", server.url)
        yield server
