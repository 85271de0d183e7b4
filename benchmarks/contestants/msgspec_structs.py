"""aiohttp and msgspec's Structs, by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import msgspec
from contestants.rounds import KEY, PATH, Round, compete, pool


class Text(msgspec.Struct):
    equals: str


class Columns(msgspec.Struct):
    model: Text


class Leaf(msgspec.Struct):
    request_response_rmt: Columns


class Query(msgspec.Struct):
    filter: Leaf
    nameContains: str = ""  # noqa: N815 - the API's name
    timezoneDifference: float = 0  # noqa: N815


class Row(msgspec.Struct):
    range_start: str
    range_end: str
    value: float


class AverageRow(msgspec.Struct):
    average: float | None


class Average(msgspec.Struct):
    session_count: list[AverageRow]
    session_duration: list[AverageRow]
    session_cost: list[AverageRow]


class Metrics(msgspec.Struct):
    session_count: list[Row]
    session_duration: list[Row]
    session_cost: list[Row]
    average: Average


class Envelope(msgspec.Struct):
    data: Metrics | None
    error: str | None


@asynccontextmanager
async def contestant(url: str, concurrency: int) -> AsyncIterator[Round]:
    encoder, decoder = msgspec.json.Encoder(), msgspec.json.Decoder(Envelope)
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with aiohttp.ClientSession(headers=headers) as session:

        async def ask(name: str) -> object:
            body = encoder.encode(Query(Leaf(Columns(Text(name)))))
            async with session.post(url + PATH, data=body) as response:
                return decoder.decode(await response.read())

        yield pool(ask, concurrency)


if __name__ == "__main__":
    compete(contestant)
