"""The embedded engine: a local server that answers like the service, from ClickHouse."""

from helicone_sessions.local.drivers.driver import Limits
from helicone_sessions.local.server import LocalServer
from helicone_sessions.local.sql.sql_store import SqlResult, Store

__all__ = ["Limits", "LocalServer", "SqlResult", "Store"]
