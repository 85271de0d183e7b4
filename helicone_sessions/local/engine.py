"""The engine: a query in, its metrics out, by one reading of filters and one plan."""

from typing import Literal
from uuid import UUID

import attrs

from helicone_sessions.local import one_scan
from helicone_sessions.local.backends import Backend
from helicone_sessions.local.selection import by_contract
from helicone_sessions.local.table import Tables
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

Semantics = Literal["contract", "helicone"]
Plan = Literal["one_scan", "helicone"]


@attrs.frozen
class Engine:
    """Answers queries from tables.

    Args:
        backend: The ClickHouse that runs the statements.
        tables: Where its tables are.
        semantics: ``"contract"`` reads filters as the contract says, ``"helicone"`` as the open-source
            server does.
        plan: ``"one_scan"`` is exact and reads the table once, ``"helicone"`` runs the queries of the
            service.
        include_unsessioned: Take the requests without a session id for one session, as the service does.
    """

    backend: Backend
    tables: Tables
    semantics: Semantics = "contract"
    plan: Plan = "one_scan"
    include_unsessioned: bool = True

    async def answer(self, query: SessionMetricsQuery, organization_id: UUID) -> SessionMetrics:
        """The metrics that *query* asks for.

        Raises:
            Unanswerable: A condition cannot be decided.
            BackendError: ClickHouse refused or gave up.
        """
        selection = by_contract(
            query, self.tables, organization_id, include_unsessioned=self.include_unsessioned
        )
        return await one_scan.answer(self.backend, selection, query)
