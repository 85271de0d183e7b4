"""The embedded engine: a local server with the API of the service, backed by ClickHouse."""

from helicone_sessions.local.drivers import Limits
from helicone_sessions.local.server import LocalServer
from helicone_sessions.local.sql import SqlResult, Store

__all__ = ["Limits", "LocalServer", "SqlResult", "Store"]
