"""Copies the requests of an account into a store of the embedded engine.

The time range is copied in periods, oldest first. A period is recorded in the checkpoint only after it has
been read and stored completely, so a kill at any moment loses nothing. A request that arrives twice is stored
once.
"""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import attrs

from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    HeliconeError,
    RequestTimeout,
)
from helicone_sessions.filters.columns import F
from helicone_sessions.local.dataset import opened_store
from helicone_sessions.local.drivers.directory_lock import StoreInUse
from helicone_sessions.local.server import LocalServer
from helicone_sessions.local.server_config import organization_uuid
from helicone_sessions.local.storage.store import Store
from helicone_sessions.local.storage.store_files import Coverage, read_checkpoint, write_checkpoint
from helicone_sessions.masking import masked_repr
from helicone_sessions.messages.converter import moment_in
from helicone_sessions.messages.query import REQUESTS_PAGE, Request
from helicone_sessions.transport.client import HeliconeClient
from helicone_sessions.transport.paging import second_of
from helicone_sessions.transport.retry import takes_too_long
from helicone_sessions.transport.signed_bodies import BodyUnavailable, SignedBodies

OnProgress = Callable[[int, int | None], object]

# The longest delay after which the service may store a request.
OVERLAP: Final = timedelta(hours=1)
# The intended number of requests in a period. After a kill, usually no more than this many requests are read
# again.
_AIM: Final = 10_000
_FIRST_LENGTH: Final = timedelta(hours=1)
_SHORTEST: Final = timedelta(minutes=1)
# The number of requests to hold in memory.
_CHUNK: Final = 5_000
_TICK: Final = 500
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND: Final = timedelta(seconds=1)
_BODIES: Final = frozenset({"request_body", "response_body"})
# With bodies: the number of requests to hold in memory, the concurrent downloads, and the bytes to load at a
# time.
_CHUNK_WITH_BODIES: Final = 500
_BODIES_AT_ONCE: Final = 20
_MOST_BYTES: Final = 64 * 1024 * 1024


@attrs.frozen
class SyncReport:
    """The result of a sync.

    Args:
        requests: The number of requests that were stored. Of these, ``requests - replaced`` are new.
        replaced: The number of requests that replaced an earlier copy in the store. They include the requests
            of the last hour, which each sync reads again.
        skipped: The number of requests that could not be stored, by reason. Requests that were stored without
            their bodies are counted here as well, under reasons such as ``"bodies: status 404"``.
        cost_differences: The number of requests whose ``cost`` and ``costUSD`` differ. The store contains
            ``cost``, because the metrics of the service are based on it.
        since: The start of the time range that was read; None if it starts with the first request of the
            account.
        until: The end of the time range that was read.
        periods: The number of periods into which the time range was divided.

    >>> report = SyncReport(1200, 200, {}, 0, None, datetime(2026, 11, 1, tzinfo=UTC), 3)
    >>> report.requests - report.replaced
    1000
    """

    requests: int
    replaced: int
    skipped: Mapping[str, int]
    cost_differences: int
    since: datetime | None
    until: datetime
    periods: int


async def sync(
    client: HeliconeClient,
    path: str | os.PathLike[str] | LocalServer,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    bodies: bool = False,
    organization_id: UUID | str | None = None,
    on_progress: OnProgress | None = None,
) -> SyncReport:
    """Copy new requests from the client's account into a store.

    The store records which time ranges it covers, so a sync continues where the previous one ended, even
    after a kill. It reads the last hour again, because the service stores some requests late. A request that
    arrives again replaces its earlier copy, so the store holds each request once. If the service deletes or
    changes a request later, the store is not updated. Session tags are not copied.

    Args:
        client: A client for the account.
        path: The directory of the store, which is created if it is missing. You can also pass a running
            `LocalServer` that has a path; its answers include the requests of each period as soon as they are
            stored.
        since: The start of the time range to copy; None to start with the first request of the account.
        until: The end of the time range to copy, excluded; None for now.
        bodies: Whether to copy the bodies of requests and responses as well. Each request takes a download of
            at most 16 MB from the service's storage, over https and without the key. If the bodies cannot be
            read, the request is stored without them and counted in ``skipped``.
        organization_id: The organisation under which to store the requests, if the store holds several
            accounts.
        on_progress: Called with the number of requests copied so far and the total number to copy, which is
            None if the service does not report it.

    Raises:
        MissingExtra: The ``local`` extra is not installed.
        ConfigurationError: An argument is invalid, or the store cannot be opened.
        HeliconeError: A call failed after all retries. The requests that were copied before it remain in the
            store.

    >>> from tempfile import TemporaryDirectory
    >>> from helicone_sessions.local import LocalServer
    >>> from helicone_sessions.testing import FakeHelicone, request
    >>> async def main(path):
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         fake.stored_requests = [request(cost=0.5), request(cost=0.25)]
    ...         report = await sync(client, path)
    ...     async with LocalServer(path=path) as server:
    ...         return report.requests, await server.count()
    >>> with TemporaryDirectory() as path:
    ...     asyncio.run(main(path))
    (2, 2)
    """
    now = second_of(datetime.now(UTC)) + _SECOND
    start = _BEGINNING if since is None else _whole_second("since", since)
    end = now if until is None else min(now, _whole_second("until", until))
    if start >= end:
        raise ConfigurationError(
            argument="since",
            problem=f"must be before {'now' if until is None else 'the end'}, got {start.isoformat()}",
            remedy="Use an earlier time",
        )
    organization = None if organization_id is None else organization_uuid(organization_id)
    async with AsyncExitStack() as stack:
        store: Store | LocalServer
        if isinstance(path, LocalServer):
            store, directory = path, _directory_of(path)
        else:
            store, directory = await stack.enter_async_context(_opened(path)), Path(path)
        reader = await stack.enter_async_context(client.signed_bodies()) if bodies else None
        copying = _Copying(
            client, store, directory, organization or store.organization_id, reader, on_progress
        )
        return await copying.run(start, end)


def _directory_of(server: LocalServer) -> Path:
    if server.path is None:
        raise ConfigurationError(
            argument="path",
            problem="is a server that keeps its data in memory",
            remedy="Start the server with a path, where the sync can keep its checkpoint",
        )
    return server.path


@asynccontextmanager
async def _opened(path: str | os.PathLike[str]) -> AsyncGenerator[Store, None]:
    try:
        async with opened_store(path) as store:
            yield store
    except StoreInUse as error:
        raise ConfigurationError(
            argument="path",
            problem=error.problem,
            remedy="Stop that process. To keep a server current, start it with"
            " `helicone-sessions serve --sync-every 15m`",
        ) from error


def queries_of(requests: int) -> int:
    """Estimate the number of queries that it takes to copy a number of requests.

    >>> queries_of(1_000_000)
    1330
    """
    # In addition to its pages, each period takes a count, a query for the newest request, and a last page to
    # see that no more follow. The first periods are short.
    periods = requests // _AIM + 10
    return requests // REQUESTS_PAGE + 3 * periods


@attrs.define(eq=False)
class _Copying:
    """A sync in progress."""

    client: HeliconeClient
    store: Store | LocalServer
    directory: Path
    organization: UUID
    bodies: SignedBodies | None
    on_progress: OnProgress | None
    began: datetime = attrs.field(factory=lambda: datetime.now(UTC), init=False)
    coverage: Coverage = attrs.field(factory=Coverage, init=False)
    length: timedelta = attrs.field(default=_FIRST_LENGTH, init=False)
    total: int | None = attrs.field(default=None, init=False)
    read: int = attrs.field(default=0, init=False)
    requests: int = attrs.field(default=0, init=False)
    replaced: int = attrs.field(default=0, init=False)
    skipped: Counter[str] = attrs.field(factory=Counter, init=False)
    cost_differences: int = attrs.field(default=0, init=False)
    periods: int = attrs.field(default=0, init=False)

    async def run(self, start: datetime, end: datetime) -> SyncReport:
        self.coverage = await asyncio.to_thread(read_checkpoint, self.directory, self.organization)
        gaps = list(self.coverage.missing(start, end))
        self.total = await self._count(gaps)
        self._tell()
        for first, last in gaps:
            await self._copy(first, last)
        since = gaps[0][0] if gaps else end
        return SyncReport(
            self.requests,
            self.replaced,
            dict(self.skipped),
            self.cost_differences,
            None if since == _BEGINNING else since,
            end,
            self.periods,
        )

    async def _count(self, gaps: list[tuple[datetime, datetime]]) -> int | None:
        """Return the number of requests to copy, or None if the service cannot count them."""
        try:
            return sum([await self.client.count_requests(_between(*gap)) for gap in gaps])
        except AuthenticationError:
            raise
        except (APIError, RequestTimeout):
            return None

    def _tell(self) -> None:
        if self.on_progress is not None:
            self.on_progress(self.read, self.total)

    async def _copy(self, start: datetime, end: datetime) -> None:
        """Copy the time range from *start* to *end* in periods of a suitable length."""
        oldest = start if start > _BEGINNING else await self._oldest(end)
        at = start
        while at < end:
            first = max(at, oldest)
            last = min(second_of(first + self.length), end)
            try:
                read = await self._copy_period(at, last)
            except HeliconeError as error:
                if not takes_too_long(error) or last - first <= _SHORTEST:
                    raise
                self.length = max(_SHORTEST, (last - first) / 2)
                continue
            await self._note(start, last)
            if read < _AIM / 2:
                self.length *= 2
            elif read > _AIM:
                self.length = max(_SHORTEST, self.length * _AIM / read)
            self.periods += 1
            at = last

    async def _oldest(self, end: datetime) -> datetime:
        """Return the time of the oldest request, or *end* if there are no requests."""
        async with aclosing(self.client.stream_requests(_between(_BEGINNING, end), page_size=100)) as rows:
            async for row in rows:
                return second_of(moment_in(row["request_created_at"]))
        return end

    async def _copy_period(self, start: datetime, end: datetime) -> int:
        """Copy the requests of a period, and return their number."""
        read = 0
        chunk: list[Request] = []
        # The stream yields each request of the period once, and checks their number at the end.
        async with aclosing(self.client.stream_requests(_between(start, end))) as rows:
            async for row in rows:
                chunk.append(row)
                read += 1
                self.read += 1
                if read % _TICK == 0:
                    self._tell()
                if len(chunk) == (_CHUNK if self.bodies is None else _CHUNK_WITH_BODIES):
                    await self._keep(chunk)
                    chunk = []
        await self._keep(chunk)
        self._tell()
        return read

    async def _note(self, start: datetime, end: datetime) -> None:
        """Record in the checkpoint that the time range from *start* to *end* has been copied."""
        # The clock of this machine may be wrong, so the time after the newest request is not recorded as
        # covered.
        settled = min(end, self.began - OVERLAP, self.coverage.newest or start)
        self.coverage = self.coverage.plus(start, second_of(settled))
        await asyncio.to_thread(write_checkpoint, self.directory, self.organization, self.coverage)

    async def _keep(self, chunk: list[Request]) -> None:
        async for requests in self._complete(chunk):
            loaded = await self.store.copy(requests, self.organization)
            self.requests += loaded.rows
            self.replaced += loaded.replaced
            self.cost_differences += loaded.cost_differences
            self.skipped.update(loaded.reasons)
            self.coverage = self.coverage.with_newest(moment_in(requests[-1]["request_created_at"]))

    async def _complete(self, chunk: list[Request]) -> AsyncIterator[list[Request]]:
        """Yield the requests in groups that fit into memory, with their bodies if these are copied."""
        if self.bodies is None:
            if chunk:
                yield [_without_bodies(request) for request in chunk]
            return
        requests: list[Request] = []
        size = 0
        for place in range(0, len(chunk), _BODIES_AT_ONCE):
            some = chunk[place : place + _BODIES_AT_ONCE]
            for request, bytes_read in await asyncio.gather(
                *(self._with_bodies(self.bodies, one) for one in some)
            ):
                requests.append(request)
                size += bytes_read
            if size >= _MOST_BYTES or place + _BODIES_AT_ONCE >= len(chunk):
                yield requests
                requests, size = [], 0

    async def _with_bodies(self, bodies: SignedBodies, request: Request) -> tuple[Request, int]:
        """Return a request with its bodies, and the total size of the bodies in bytes."""
        if request.get("storage_location") == "clickhouse":
            return request, 0
        try:
            body = await bodies.read(request.get("signed_body_url"))
        except BodyUnavailable as error:
            self.skipped[f"bodies: {error.reason}"] += 1
            return _without_bodies(request), 0
        found = {"request_body": _as_body(body.request), "response_body": _as_body(body.response)}
        return {**request, **found}, body.size


def _without_bodies(request: Request) -> Request:
    return {name: value for name, value in request.items() if name not in _BODIES}


def _as_body(value: Any) -> str | None:
    """Return a body as text, with a question mark for each incomplete character, such as half an emoji."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "replace").decode()


def _between(start: datetime, end: datetime) -> Any:
    """Return the condition for requests from *start* up to but excluding *end*, in whole seconds."""
    before = F.request_created_at < end
    return before if start == _BEGINNING else (F.request_created_at >= start) & before


def _whole_second(argument: str, moment: object) -> datetime:
    """Return *moment* in whole seconds, because the service ignores fractions of a second in conditions."""
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ConfigurationError(
            argument=argument,
            problem=f"must be a datetime with a time zone, got {masked_repr(moment)}",
            remedy="Pass datetime.now(UTC) - timedelta(days=90), for example",
        )
    return second_of(moment.astimezone(UTC))
