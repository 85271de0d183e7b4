"""The pytest plugin, which provides the ``helicone_server`` fixture."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from helicone_sessions.testing import FakeHelicone


@pytest.fixture
def helicone_server(monkeypatch: pytest.MonkeyPatch) -> "Iterator[FakeHelicone]":
    """A fake Helicone service that every ``HeliconeClient()`` in the test uses.

    The fixture sets ``HELICONE_API_KEY`` and ``HELICONE_BASE_URL``. It also installs a virtual clock
    (``helicone_server.clock``), so clients do not really wait. The test fails if a request body breaks the
    contract, or if a leaf of the filter does not have exactly one condition. For other filters that the
    service reads differently, the client issues a ``HeliconeFilterWarning``.
    """
    # pytest loads this plugin in every run, so it imports as little as possible.
    from helicone_sessions.clock import replaced
    from helicone_sessions.testing import FakeHelicone, VirtualClock

    clock = VirtualClock()
    with replaced(clock), FakeHelicone(clock=clock) as server:
        monkeypatch.setenv("HELICONE_API_KEY", server.api_key)
        monkeypatch.setenv("HELICONE_BASE_URL", server.url)
        yield server
