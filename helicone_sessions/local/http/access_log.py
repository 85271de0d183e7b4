"""The access log: one record per request."""

import logging
from contextvars import ContextVar
from typing import ClassVar, Final, Self
from urllib.parse import quote

import attrs
from aiohttp import web
from aiohttp.abc import AbstractAccessLogger
from aiohttp.http_exceptions import HttpProcessingError

from helicone_sessions.masking import masked_text

ACCESS: Final = logging.getLogger("helicone_sessions.access")
# aiohttp's own messages about connections.
CONNECTIONS: Final = logging.getLogger("helicone_sessions.connections")

_LONGEST_PATH: Final = 200
_LONGEST_METHOD: Final = 20


@attrs.define
class RequestFacts:
    """Facts of a request that its handler adds to the record.

    Args:
        organization: The caller.
        bytes_in: The length of the body, unpacked.
        outcome: One word for what became of it.
    """

    organization: object = "-"
    bytes_in: int = 0
    outcome: str = "refused"


# aiohttp runs each request in a context of its own, its access logger included.
facts: Final[ContextVar[RequestFacts]] = ContextVar("facts")


class AccessLog(AbstractAccessLogger):
    """Writes the records: never a key, a body, a filter or the query of an address."""

    secrets: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def without(cls, secrets: tuple[str, ...]) -> type[Self]:
        """The class for a server with these keys, which aiohttp makes an object of."""
        return type(cls.__name__, (cls,), {"secrets": secrets})

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """Write the record of a request that was answered in *time* seconds."""
        size = response.body_length if response.prepared else 0
        seen = facts.get(RequestFacts())
        record(request, response.status, seen, self.secrets, seconds=time, bytes_out=size)

    @property
    def enabled(self) -> bool:
        """Whether anybody reads it."""
        return self.logger.isEnabledFor(logging.INFO)


def record(
    request: web.BaseRequest,
    status: int,
    seen: RequestFacts,
    secrets: tuple[str, ...],
    *,
    seconds: float,
    bytes_out: int = 0,
) -> None:
    """Write one record.

    Args:
        request: The request.
        status: The status of its response.
        seen: The facts that its handler knows.
        secrets: The keys of the server, which a path may hold by mistake.
        seconds: The time that it took.
        bytes_out: The length of the response.
    """
    # Quoted, so that a path or a method cannot forge a line.
    path = quote(request.rel_url.raw_path, safe="/%")
    fields = {
        "method": masked_text(quote(request.method), *secrets, most=_LONGEST_METHOD),
        "path": masked_text(path, *secrets, most=_LONGEST_PATH),
        "status": status,
        "ms": round(seconds * 1000, 1),
        "bytes_in": seen.bytes_in,
        "bytes_out": bytes_out,
        "organization": str(seen.organization),
        "outcome": seen.outcome,
    }
    ACCESS.info(" ".join(f"{name}={value}" for name, value in fields.items()), extra=fields)


def _is_news(record: logging.LogRecord) -> bool:
    """Drop errors of malformed requests: they quote the headers with the key, and are in the access log."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


CONNECTIONS.addFilter(_is_news)
