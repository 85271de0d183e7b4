"""The embedded engine: a server on loopback that answers like the service, by ClickHouse."""

from helicone_sessions.local.drivers.driver import Limits
from helicone_sessions.local.server import LocalServer
from helicone_sessions.local.sql.sql_store import SqlResult, Store

__all__ = ["Limits", "LocalServer", "SqlResult", "Store"]
