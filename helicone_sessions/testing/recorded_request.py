"""Records requests as they arrive, and checks them against the contract."""

from collections.abc import Iterator
from typing import Any

import attrs
from multidict import CIMultiDict, CIMultiDictProxy

from helicone_sessions.errors import FilterError
from helicone_sessions.filters.expression import Filter, filter_of_contract
from helicone_sessions.filters.nodes import EVERYTHING, Leaf
from helicone_sessions.filters.wire import encode_leaf
from helicone_sessions.messages.codec import decode
from helicone_sessions.messages.protocol import METRICS, AnyQuery, Endpoint


@attrs.frozen(eq=False)
class CheckedBody:
    """A request body that has been decoded and checked against the contract.

    Args:
        json: The decoded body; None if it is not JSON.
        query: The query; None if the body breaks the contract.
        conditions: The conditions of the filter in order, one for each column and operator.
        complaints: The violations of the contract, and the conditions that the service would ignore.
    """

    json: Any = None
    query: AnyQuery | None = None
    conditions: tuple[Filter, ...] = ()
    complaints: tuple[str, ...] = ()


@attrs.frozen(eq=False, kw_only=True)
class RecordedRequest:
    """A request that the fake service received.

    Args:
        number: The number of the request in order of arrival, starting at 1.
        method: The HTTP method.
        path: The path of the URL.
        headers: The headers, with the key masked.
        body: The body.
        json: The decoded body; None if it is not JSON.
        query: The query; None if the body breaks the contract.
        conditions: The conditions of the filter in order, each as a filter. To check for a condition, write
            ``(F.cost > 0.1) in request.conditions``.
        time: The time of arrival, measured by the clock of the server.
        connection: The host and port of the client. They are the same for all requests over one connection.

    >>> import asyncio
    >>> from helicone_sessions import F, HeliconeClient
    >>> from helicone_sessions.testing import FakeHelicone
    >>> async def main():
    ...     async with FakeHelicone() as fake, HeliconeClient(fake.api_key, base_url=fake.url) as client:
    ...         await client.get_metrics((F.cost > 0.1) & (F.status == 200), p_size="p95")
    ...         return fake.requests[0]
    >>> request = asyncio.run(main())
    >>> request.conditions, request.query.p_size, request.headers["Authorization"]
    ((F.cost > 0.1, F.status == 200), 'p95', 'Bearer ***')
    """

    number: int
    method: str
    path: str
    headers: CIMultiDict[str]
    body: bytes
    json: Any
    query: AnyQuery | None
    conditions: tuple[Filter, ...]
    time: float
    connection: tuple[str, int]


_MASKS = {"authorization": "Bearer ***", "proxy-authorization": "***"}


def masked(headers: "CIMultiDictProxy[str]") -> "CIMultiDict[str]":
    """Return a copy of the headers with the key masked."""
    return CIMultiDict((name, _MASKS.get(name.lower(), value)) for name, value in headers.items())


def check_body(body: bytes, endpoint: Endpoint[Any, Any] = METRICS) -> CheckedBody:
    """Decode a body, and check the body and its filter against the contract."""
    try:
        wire = decode(body)
    except ValueError as error:
        return CheckedBody(complaints=(f"$: the body is not JSON: {error}",))
    try:
        query = endpoint.query_from_wire(wire)
    except FilterError as error:
        return CheckedBody(wire, complaints=(str(error),))
    conditions: list[Filter] = []
    complaints = []
    for path, leaf in _leaves(wire.get("filter") or "all", "$.filter"):
        node = filter_of_contract(leaf, path=path).node
        found: list[Any] = [] if node is EVERYTHING else list(node.children or [node])
        conditions += map(_as_filter, found)
        if len(found) != 1:
            complaints.append(f"{path}: {_fault_of_leaf(found)}")
    return CheckedBody(wire, query, tuple(conditions), tuple(complaints))


def _leaves(wire: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of a filter that follows the contract, from left to right."""
    waiting = [(wire, path)]
    while waiting:
        item, path = waiting.pop()
        if item == "all":
            continue
        if "operator" in item:
            waiting += [(item["right"], f"{path}.right"), (item["left"], f"{path}.left")]
        else:
            yield path, item


def _as_filter(leaf: Leaf) -> Filter:
    return Filter.from_wire(encode_leaf(leaf))


def _fault_of_leaf(conditions: list[Leaf]) -> str:
    """Return the complaint about a leaf that does not have exactly one condition (server source)."""
    if not conditions:
        return "a leaf without a condition, which the open-source server reads as everything"
    first: dict[str, Leaf] = {}
    for condition in conditions:
        first.setdefault(condition.column.table, condition)
    dropped = [condition for condition in conditions if condition is not first[condition.column.table]]
    what = (
        f"the open-source server would read only {_listed(list(first.values()))} and drop {_listed(dropped)}"
        if dropped
        else f"the contract does not say what {_listed(conditions)} in one leaf mean together"
    )
    return f"a leaf with {len(conditions)} conditions: {what}; send one condition a leaf"


def _listed(conditions: list[Leaf]) -> str:
    return ", ".join(repr(_as_filter(condition)) for condition in conditions)
