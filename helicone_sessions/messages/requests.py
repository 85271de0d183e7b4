"""The queries for single requests: `RequestsQuery`, `RequestCountQuery`; a request itself is a dict."""

from typing import Any, Literal

import attrs

from helicone_sessions.errors import FilterValueError
from helicone_sessions.filters.expression import Filter
from helicone_sessions.filters.whole_sessions import has_session_conditions
from helicone_sessions.messages.query import check_whole, optional_filter

LARGEST_PAGE = 1000
"""The most rows of one page (server source); a larger ``limit`` is an error there."""

Request = dict[str, Any]
"""A request under the API's names, for example ``request_id`` and ``request_created_at``."""


def _requests_only(_query: object, _field: object, value: Filter | None) -> None:
    if value is not None and has_session_conditions(value):
        raise FilterValueError(
            argument="filter",
            problem=f"must hold conditions on requests only, got {value}",
            remedy="Replace the conditions on session_… columns",
        )


@attrs.frozen
class RequestsQuery:
    """One page of ``POST /v1/request/query-clickhouse``.

    The server removes repeated requests after it cuts a page, so a page can be shorter than its limit
    although more follow; only an empty page is the last (server source).

    Args:
        filter: Conditions on requests; None for all requests.
        offset: The number of stored rows to skip.
        limit: The number of stored rows in a page, at most 1,000.
        sort: The order by ``created_at``; None leaves it to the server.
        is_scored: Only requests with (or without) scores.

    Raises:
        FilterTypeError: An argument has the wrong type.
        FilterValueError: A number is negative, or the filter has a condition on sessions.

    >>> from helicone_sessions import F
    >>> RequestsQuery(F.status == 200, limit=100, sort="asc").limit
    100
    """

    filter: Filter | None = attrs.field(default=None, converter=optional_filter, validator=_requests_only)
    offset: int = attrs.field(default=0, validator=check_whole)
    limit: int = attrs.field(default=10, validator=check_whole)
    sort: Literal["asc", "desc"] | None = attrs.field(default=None)
    is_scored: bool | None = None

    @sort.validator
    def _check_sort(self, _field: object, value: object) -> None:
        if value not in ("asc", "desc", None):
            raise FilterValueError(argument="sort", problem=f'must be "asc" or "desc", got {value!r}')


@attrs.frozen
class RequestCountQuery:
    """The query of ``POST /v1/request/count/query``: the number of requests.

    Args:
        filter: Conditions on requests; None for all requests.

    Raises:
        FilterTypeError: It is not a filter.
        FilterValueError: It has a condition on sessions.

    >>> RequestCountQuery()
    RequestCountQuery(filter=None)
    """

    filter: Filter | None = attrs.field(default=None, converter=optional_filter, validator=_requests_only)
