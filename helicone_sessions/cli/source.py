"""Where a command gets its answers: the service, or a store or files on this machine."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import attrs
from cyclopts import Parameter

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import Filter
from helicone_sessions.transport.client import HeliconeClient
from helicone_sessions.transport.hooks import Hooks


@Parameter(name="*")
@attrs.frozen
class Source:
    """The service, or data on this machine.

    Args:
        region: The region of the service.
        timeout: Seconds for one attempt.
        max_concurrency: The number of queries under way at once.
        path: Answer from this store instead, a directory that `serve --path` or `sync` filled.
        data: Answer from this file of requests instead, .jsonl, .json, .csv or .parquet. Repeat it for more.
        without_unsessioned: Leave out requests without a session id, which otherwise count as one session.
    """

    region: Literal["us", "eu"] | None = None
    timeout: float = 60.0
    max_concurrency: int = 8
    path: Path | None = None
    data: list[str] | None = None
    without_unsessioned: bool = False

    def __attrs_post_init__(self) -> None:
        if self.is_local and self.region is not None:
            raise ConfigurationError(
                argument="region",
                problem="cannot be combined with `path` or `data`",
                remedy="Leave one of them out",
            )
        if self.path is not None and self.data is None and not self.path.is_dir():
            raise ConfigurationError(
                argument="path",
                problem=f"must be the directory of a store, got {str(self.path)!r}",
                remedy="Fill one with helicone-sessions serve --path, or pass files with --data",
            )

    @property
    def is_local(self) -> bool:
        """Whether the answers come from this machine."""
        return self.path is not None or self.data is not None

    def narrowed(self, given: Filter | None) -> Filter | None:
        """The filter, without the requests that have no session id if they are to be left out."""
        if not self.without_unsessioned:
            return given
        has_session = ~F.session_id.is_empty()
        return has_session if given is None else given & has_session

    @asynccontextmanager
    async def client(self, hooks: Hooks | None = None) -> AsyncIterator[HeliconeClient]:
        """A client of the service, or of an embedded engine that runs while the block does."""
        options: dict[str, Any] = {
            "timeout": self.timeout,
            "max_concurrency": self.max_concurrency,
            "hooks": hooks,
        }
        if not self.is_local:
            async with HeliconeClient(region=self.region, **options) as client:
                yield client
            return
        from helicone_sessions.local import LocalServer

        data: Any = self.data or ()
        async with (
            LocalServer(data, path=self.path) as server,
            HeliconeClient(server.api_key, base_url=server.url, **options) as client,
        ):
            yield client
