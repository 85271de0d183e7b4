"""The engine: a query in, its metrics out, by one reading of filters and one plan."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal
from uuid import UUID

import attrs

from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Backend
from helicone_sessions.local.query import six_queries
from helicone_sessions.local.query.one_scan import OneScan
from helicone_sessions.local.query.result import Answer
from helicone_sessions.local.query.selection import Selection, as_service, by_contract
from helicone_sessions.local.storage.table import Tables
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
    _answer: Callable[[Backend, Selection, SessionMetricsQuery], Awaitable[Answer]] = attrs.field(
        init=False, repr=False, eq=False
    )

    @_answer.default
    def _answer_of_the_plan(self) -> Callable[..., Awaitable[Answer]]:
        return OneScan().answer if self.plan == "one_scan" else six_queries.answer

    async def answer(
        self,
        query: SessionMetricsQuery,
        organization_id: UUID,
        wire_filter: WireFilter | None = None,
        *,
        is_large: bool = False,
    ) -> SessionMetrics:
        """The metrics of *query*.

        Args:
            query: The query.
            organization_id: The caller.
            wire_filter: The filter as it was sent, for ``semantics="helicone"``: ``query.filter`` does not
                keep the order of the conditions in a leaf. Without it ``query.filter`` is read as the client
                would send it.
            is_large: Whether the filter is so large that its SQL is made in a thread, beside the loop.

        Raises:
            Unanswerable: A condition cannot be decided.
            Crash: The open-source server's code breaks off on the filter (``semantics="helicone"``).
            BackendError: ClickHouse refused or gave up.
            FilterValueError: ``query.filter`` cannot be sent, and what was sent is not given.
        """
        return (await self.measured(query, organization_id, wire_filter, is_large=is_large)).metrics

    async def measured(
        self,
        query: SessionMetricsQuery,
        organization_id: UUID,
        wire_filter: WireFilter | None = None,
        *,
        is_large: bool = False,
    ) -> Answer:
        """The same as `answer`, and how many rows were read for it."""
        asked = (query, organization_id, wire_filter)
        selection = await asyncio.to_thread(self._selection, *asked) if is_large else self._selection(*asked)
        return await self._answer(self.backend, selection, query)

    def _selection(
        self, query: SessionMetricsQuery, organization_id: UUID, wire_filter: WireFilter | None
    ) -> Selection:
        unsessioned = self.include_unsessioned
        if self.semantics == "contract":
            return by_contract(query, self.tables, organization_id, include_unsessioned=unsessioned)
        if wire_filter is None:
            wire_filter = "all" if query.filter is None else query.filter.to_wire()
        return as_service(query, wire_filter, self.tables, organization_id, include_unsessioned=unsessioned)
