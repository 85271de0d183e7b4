"""Lists of sessions and requests are read completely, each row once, whatever the server does."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
import pytest

from helicone_sessions import HeliconeClient, Session, TimeFilter
from helicone_sessions.clock import replaced
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    RecordedRequest,
    Traps,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
    request,
    session,
)
from tests.repeats import repeats

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
WEEK: Final = TimeFilter(START, START + timedelta(days=7))
FAULTS: Final = (
    Fault.DROP,
    Fault.RESET,
    Fault.TRUNCATE,
    Fault.GOES_STALE,
    Fault.NOT_HTTP,
    gateway_page(502),
    gateway_page(503),
    gateway_page(504),
    gateway_page(500),
    failure("Too many simultaneous queries"),
    failure("Timeout exceeded: elapsed 30 seconds"),
)


@attrs.define
class Account:
    """A service with random data and traps, whose data changes while it is read.

    Args:
        dice: All that is random.
        fake: The service.
    """

    dice: random.Random
    fake: FakeHelicone
    arrivals: int = 0

    def fill(self) -> None:
        """Store rows at few different times, so that many have the same."""
        self.fake.traps = Traps(
            numbers_as_text=self.dice.random() < 0.5,
            without_user_ids=self.dice.random() < 0.5,
            repeats_rows=self.dice.random() < 0.5,
            shuffles_ties=self.dice.random() < 0.5,
            drops_fractions=self.dice.random() < 0.5,
            fails_on_whole_sessions=True,
            slow_above=self.dice.choice([None, 1, 2, 3, 7, 50, 300]),
        )
        most = {1: 20, 2: 30, 3: 40}.get(self.fake.traps.slow_above or 0, 150)
        self.fake.sessions = [self.new_session() for _ in range(self.dice.randrange(most))]
        self.fake.stored_requests = [self.new_request() for _ in range(self.dice.randrange(most))]

    def moment(self) -> datetime:
        milliseconds = self.dice.choice([0, 0, 1, 500, 999])
        return START + timedelta(
            seconds=self.dice.choice([1, 1, 2, 3, 60, 600, 7200]), milliseconds=milliseconds
        )

    def new_session(self) -> Session:
        return session(
            f"s-{self.dice.getrandbits(60)}", "ab"[self.dice.randrange(2)], created_at=self.moment()
        )

    def new_request(self) -> dict[str, Any]:
        return request(f"r-{self.dice.getrandbits(60)}", created_at=self.moment())

    async def answer(self, _request: RecordedRequest) -> Any:
        """Fail now and then, and store rows that were made long ago."""
        if self.dice.random() < 0.15:
            return self.dice.choice(FAULTS)
        if self.arrivals < 30 and self.dice.random() < 0.2:
            self.arrivals += 1
            self.fake.stored_requests.append(self.new_request())
            self.fake.sessions.append(self.new_session())
            # The first request of a session arrives late, which moves the session towards the end.
            place = self.dice.randrange(len(self.fake.sessions))
            moved = self.fake.sessions[place]
            earlier = min(moved.created_at, self.moment())
            self.fake.sessions[place] = attrs.evolve(moved, created_at=earlier)
        return metrics()


async def read(rows: AsyncIterator[Any], key: Callable[[Any], Any]) -> Counter[Any]:
    return Counter([key(row) async for row in rows])


def identity(one: Session) -> tuple[str, str]:
    return one.session_id, one.session_name


@pytest.mark.parametrize("seed", range(repeats(12)))
async def test_every_row_is_read_once(seed: int) -> None:
    """Four clients with pages of any size get each session and request of a busy, faulty service once."""
    clock = VirtualClock()
    dice = random.Random(seed)  # noqa: S311
    async with FakeHelicone(clock=clock) as fake, AsyncExitStack() as stack:
        account = Account(dice, fake)
        account.fill()
        fake.limit(requests=10, per=60)
        fake.otherwise(account.answer)
        wanted_sessions = {identity(one) for one in fake.sessions}
        wanted_requests = {one["request_id"] for one in fake.stored_requests}
        with replaced(clock):
            clients = [
                await stack.enter_async_context(
                    HeliconeClient(fake.api_key, base_url=fake.url, max_retries=12)
                )
                for _ in range(4)
            ]
        sessions = [read(client.stream_sessions(time_filter=WEEK), identity) for client in clients]
        requests = [
            read(
                client.stream_requests(time_filter=WEEK, page_size=dice.choice([1, 2, 5, 30, 999, 1000])),
                lambda row: row["request_id"],
            )
            for client in clients
        ]
        found = await asyncio.gather(*sessions, *requests)

    for counts in found:
        assert set(counts.values()) <= {1}
    for counts in found[:4]:
        assert wanted_sessions <= counts.keys() <= {identity(one) for one in fake.sessions}
    for counts in found[4:]:
        assert wanted_requests <= counts.keys() <= {one["request_id"] for one in fake.stored_requests}
