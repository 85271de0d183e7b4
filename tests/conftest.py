"""The event loops of tests, the engine that some share, the number of random examples, and signals."""

import asyncio
import signal
from collections.abc import Callable, Iterator

import hypothesis
import pytest

from tests.repeats import repeats
from tests.virtual_time import VirtualTimeLoop

# A busy machine may take any time for an example.
hypothesis.settings.register_profile("tests", max_examples=repeats(100), deadline=None)
hypothesis.settings.load_profile("tests")

# A shell ignores SIGINT for what it starts in the background, and so would all commands that tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests that are marked with ``virtual_time`` on a loop whose timeouts take no time."""
    is_virtual = item.get_closest_marker("virtual_time") is not None
    return {"virtual": VirtualTimeLoop} if is_virtual else {"real": asyncio.new_event_loop}


@pytest.fixture(scope="module")
def engine_kept_running() -> Iterator[None]:
    """A connection that keeps the engine of this process running: each start takes a tenth of a second.

    Modules that keep their data in memory use it; a process has either memory or one directory open.
    """
    chdb = pytest.importorskip("chdb", reason="the extra `local` is not installed")
    connection = chdb.connect(":memory:")
    yield
    connection.close()
