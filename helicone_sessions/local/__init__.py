"""The embedded engine: a local server that answers like the service, from ClickHouse."""

from helicone_sessions.local.drivers import Limits
from helicone_sessions.local.server import LocalServer
from helicone_sessions.local.sql import SqlResult, Store

__all__ = ["Limits", "LocalServer", "SqlResult", "Store"]
