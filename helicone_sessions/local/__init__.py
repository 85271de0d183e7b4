"""The embedded engine: a server on loopback that answers like the service, by ClickHouse in-process."""

from helicone_sessions.local.server import LocalServer

__all__ = ["LocalServer"]
