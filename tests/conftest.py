"""The event loops of tests."""

import asyncio
from collections.abc import Callable

import pytest

from tests.virtual_time import VirtualTimeLoop


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests that are marked with ``virtual_time`` on a loop whose timeouts take no time."""
    is_virtual = item.get_closest_marker("virtual_time") is not None
    return {"virtual": VirtualTimeLoop} if is_virtual else {"real": asyncio.new_event_loop}
