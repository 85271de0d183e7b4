"""aiohttp, frozen attrs classes, a plain cattrs converter and the standard library's json, by hand."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import attrs
import cattrs
from contestants.rounds import KEY, PATH, Round, compete, pool


@attrs.frozen
class Text:
    equals: str


@attrs.frozen
class Columns:
    model: Text


@attrs.frozen
class Leaf:
    request_response_rmt: Columns


@attrs.frozen
class Query:
    filter: Leaf
    nameContains: str = ""  # noqa: N815 - the API's name
    timezoneDifference: float = 0  # noqa: N815


@attrs.frozen
class Row:
    range_start: str
    range_end: str
    value: float


@attrs.frozen
class AverageRow:
    average: float | None


@attrs.frozen
class Average:
    session_count: list[AverageRow]
    session_duration: list[AverageRow]
    session_cost: list[AverageRow]


@attrs.frozen
class Metrics:
    session_count: list[Row]
    session_duration: list[Row]
    session_cost: list[Row]
    average: Average


@attrs.frozen
class Envelope:
    data: Metrics | None
    error: str | None


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    converter = cattrs.Converter()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(name: str) -> object:
            body = json.dumps(converter.unstructure(Query(Leaf(Columns(Text(name))))))
            async with session.post(url + PATH, data=body.encode()) as response:
                return converter.structure(json.loads(await response.read()), Envelope)

        yield pool(ask, concurrency)


if __name__ == "__main__":
    compete(contestant)
