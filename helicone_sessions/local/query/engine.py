"""The engine: runs queries as SQL under either semantics, and converts the results to metrics and lists."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal
from uuid import UUID

import attrs

from helicone_sessions.filters.wire import WireFilter
from helicone_sessions.local.drivers import Driver
from helicone_sessions.local.query.listing_sql import LARGEST_PAGE, ContractListings, Listing, ServiceListings
from helicone_sessions.local.query.metrics_sql import OneScan, Selection, answer_grid, select
from helicone_sessions.local.query.overview_sql import Bars, InBar, listing_in_bar, listing_of_bars
from helicone_sessions.local.storage.table import Tables
from helicone_sessions.messages.grid_query import GridQuery
from helicone_sessions.messages.metrics import SessionMetrics
from helicone_sessions.messages.query import SessionMetricsQuery

Semantics = Literal["contract", "helicone"]
# A function that computes the metrics of a selection.
Strategy = Callable[[Driver, Selection, SessionMetricsQuery], Awaitable[SessionMetrics]]


class PageTooLarge(Exception):
    """The rows of a page are too large for one response."""


@attrs.frozen
class Engine:
    """Answers queries from ClickHouse tables.

    Args:
        driver: The driver that runs the statements.
        tables: The tables to query.
        semantics: How filters are interpreted: ``"contract"`` follows the API's contract, ``"helicone"``
            follows the open-source server.
        include_unsessioned: Count the requests without a session id as one session, as the service does.
        strategy: The function that computes the metrics.
    """

    driver: Driver
    tables: Tables
    semantics: Semantics = "contract"
    include_unsessioned: bool = True
    strategy: Strategy = attrs.field(factory=lambda: OneScan().answer, repr=False, eq=False)

    async def answer(
        self,
        query: SessionMetricsQuery,
        organization_id: UUID,
        wire_filter: WireFilter | None = None,
        *,
        is_large: bool = False,
    ) -> SessionMetrics:
        """Compute the metrics of *query*.

        Args:
            query: The query.
            organization_id: The organisation whose requests are counted.
            wire_filter: The filter as the client sent it. Only ``semantics="helicone"`` needs it, because
                ``query.filter`` does not preserve the order of the conditions in a leaf. By default, it is
                built from ``query.filter``.
            is_large: Compile the filter on a thread, so that the event loop stays responsive.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
            Crash: The open-source server would crash on the filter (``semantics="helicone"``).
            DriverError: ClickHouse rejected the statement or did not finish it.
            FilterValueError: *wire_filter* is not given, and ``query.filter`` cannot be sent.
        """
        arguments = (query, organization_id, wire_filter)
        if is_large:
            selection = await asyncio.to_thread(self._selection, *arguments)
        else:
            selection = self._selection(*arguments)
        return await self.strategy(self.driver, selection, query)

    def listings(self, organization_id: UUID, wire_filter: WireFilter) -> ContractListings | ServiceListings:
        """Return the compiler for an organisation's listings, under the engine's semantics.

        Args:
            organization_id: The organisation.
            wire_filter: The filter as the client sent it. Only ``semantics="helicone"`` uses it.
        """
        if self.semantics == "contract":
            return ContractListings(self.tables, organization_id)
        return ServiceListings(self.tables, organization_id, wire_filter)

    async def answer_listing(self, listing: Listing) -> Any:
        """Run a listing, and return the ``data`` of the response.

        Raises:
            PageTooLarge: The bodies of the requests are too large for one response.
            Unanswerable: There are too many session names.
            DriverError: ClickHouse rejected the statement or did not finish it.
        """
        if listing.size is not None:
            ((size,),) = (await self.driver.query(listing.size)).rows
            if size > LARGEST_PAGE:
                raise PageTooLarge(
                    f"the bodies of the page have {size:,} bytes; the limit is {LARGEST_PAGE:,}"
                )
        return listing.data((await self.driver.query(listing.statement)).rows)

    async def answer_grid(self, grid: GridQuery, organization_id: UUID) -> dict[str, Any]:
        """Run a grid query, and return the ``data`` of the response. Filters follow the API's contract.

        Args:
            grid: The query.
            organization_id: The organisation whose requests are counted.

        Raises:
            Unanswerable: The engine cannot evaluate a condition, or a column has too many values.
            DriverError: ClickHouse rejected a statement or did not finish it.
        """
        return await answer_grid(
            self.driver, self.tables, organization_id, grid, include_unsessioned=self.include_unsessioned
        )

    def overview(
        self, wanted: Bars | InBar, organization_id: UUID, wire_filter: WireFilter | None = None
    ) -> Listing:
        """Compile a query for the totals and bars of one organisation, or for the sessions in a bar.

        Args:
            wanted: The query.
            organization_id: The organisation.
            wire_filter: The filter as the client sent it. Only ``semantics="helicone"`` uses it.

        Raises:
            Unanswerable: The engine cannot evaluate a condition.
            Crash: The open-source server would crash on the filter (``semantics="helicone"``).
        """
        selection = self._selection(wanted.query, organization_id, wire_filter)
        if isinstance(wanted, Bars):
            return listing_of_bars(selection, wanted)
        return listing_in_bar(selection, wanted)

    def _selection(
        self, query: SessionMetricsQuery, organization_id: UUID, wire_filter: WireFilter | None
    ) -> Selection:
        if self.semantics == "contract":
            wire_filter = None
        elif wire_filter is None:
            wire_filter = "all" if query.filter is None else query.filter.to_wire()
        return select(
            query,
            self.tables,
            organization_id,
            wire=wire_filter,
            include_unsessioned=self.include_unsessioned,
        )
