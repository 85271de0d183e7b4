"""The methods of the client for sessions and requests."""

import asyncio
import json
import random
import tracemalloc
import warnings
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs
import pytest

from helicone_sessions import (
    NONE,
    F,
    FilterTypeError,
    FilterValueError,
    HeliconeClient,
    HeliconeFilterWarning,
    Hooks,
    QueryFailed,
    QueryOutcome,
    ServerError,
    Session,
    SessionCount,
    TimeFilter,
    UnexpectedResponse,
)
from helicone_sessions.clock import replaced
from helicone_sessions.messages.protocol import SESSIONS
from helicone_sessions.messages.query import RequestCountQuery
from helicone_sessions.testing import (
    FakeHelicone,
    Reply,
    Traps,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
    request,
    session,
)
from tests.parts import parts
from tests.repeats import repeats

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
WEEK: Final = TimeFilter(START, START + timedelta(days=7))


@pytest.fixture
async def fake() -> AsyncIterator[FakeHelicone]:
    async with FakeHelicone(clock=VirtualClock()) as fake:
        yield fake


@pytest.fixture
async def client(fake: FakeHelicone) -> AsyncIterator[HeliconeClient]:
    with replaced(fake.clock):
        client = HeliconeClient(fake.api_key, base_url=fake.url)
    async with client:
        yield client


def made(number: int, **fields: Any) -> Session:
    """A session whose start is later the greater its number is."""
    return session(f"s-{number:05}", created_at=START + timedelta(minutes=number), **fields)


def ids(found: Any) -> list[str]:
    return [one.session_id for one in found]


def bodies(fake: FakeHelicone, end_of_path: str) -> list[Any]:
    return [one.json for one in fake.requests if one.path.endswith(end_of_path)]


async def test_the_newest_sessions_take_one_request(fake: FakeHelicone, client: HeliconeClient) -> None:
    """In the default order a limit up to 1,000 is one page."""
    fake.sessions = [made(number) for number in range(300)]

    found = await client.get_sessions(time_filter=WEEK, limit=20)

    assert ids(found) == [f"s-{number:05}" for number in range(299, 279, -1)]
    assert [body["limit"] for body in bodies(fake, "session/query")] == [20]


async def test_times_are_requested_and_read_in_utc(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The client sends no time zone difference and reads times without a zone as UTC."""
    fake.sessions = [made(1)]

    (found,) = await client.get_sessions(time_filter=WEEK)

    assert found == made(1)
    assert bodies(fake, "session/query")[0]["timezoneDifference"] == 0


@pytest.mark.parametrize("sort", [*(field.name for field in attrs.fields(Session)), "duration"])
@pytest.mark.parametrize("sign", ["", "-"])
async def test_any_field_sorts(fake: FakeHelicone, client: HeliconeClient, sort: str, sign: str) -> None:
    """Sessions come in the order of a field across all pages, missing values last."""
    dice = random.Random(7)  # noqa: S311
    fake.sessions = [
        made(
            number,
            session_name=dice.choice("abc"),
            duration=dice.randrange(50),
            total_cost=dice.randrange(50) / 8,
            total_requests=dice.randrange(50),
            prompt_tokens=dice.randrange(50),
            completion_tokens=dice.randrange(50),
            avg_latency=float(dice.randrange(50)),
            user_ids=dice.sample("abc", 2),
        )
        for number in range(60)
    ]

    found = await client.get_sessions(time_filter=WEEK, sort=f"{sign}{sort}", limit=25)

    everything = sorted((getattr(one, sort) for one in fake.sessions), reverse=sign == "-")
    assert [getattr(one, sort) for one in found] == everything[:25]


async def test_without_limit_all_sessions_come(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The service lowers a limit above 1,000 without a message; the client reads page after page."""
    fake.sessions = [made(number) for number in range(2300)]

    found = await client.get_sessions(time_filter=WEEK, limit=None)

    assert ids(found) == [f"s-{number:05}" for number in range(2299, -1, -1)]
    assert max(body["limit"] for body in bodies(fake, "session/query")) == 1000


async def test_a_limit_of_zero_sends_nothing(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The service reads a limit of 0 as 50, so the client answers itself."""
    fake.sessions = [made(1)]

    assert len(await client.get_sessions(time_filter=WEEK, limit=0)) == 0
    assert fake.requests == []


async def test_nothing_is_sent_for_a_filter_that_matches_nothing(
    fake: FakeHelicone, client: HeliconeClient
) -> None:
    """NONE is answered without a request by every method."""
    assert len(await client.get_sessions(NONE, time_filter=WEEK)) == 0
    assert [one async for one in client.stream_sessions(NONE, time_filter=WEEK)] == []
    assert await client.count_sessions(NONE, time_filter=WEEK) == SessionCount(0, 0.0, 0.0, 0.0, 0.0)
    assert await client.get_session_names(NONE) == []
    assert [one async for one in client.stream_requests(NONE)] == []
    assert await client.count_requests(NONE) == 0
    assert fake.requests == []


async def test_name_and_search_select(fake: FakeHelicone, client: HeliconeClient) -> None:
    """`name` is a whole name, `search` a part of id or name."""
    fake.sessions = [session("a-1", "support"), session("a-2", "Support desk"), session("b-3", "checkout")]

    assert ids(await client.get_sessions(time_filter=WEEK, name="support")) == ["a-1"]
    assert sorted(ids(await client.get_sessions(time_filter=WEEK, search="SUPPORT"))) == ["a-1", "a-2"]
    assert sorted(ids(await client.get_sessions(time_filter=WEEK, search="a-"))) == ["a-1", "a-2"]


async def test_conditions_on_sessions_come_first(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A condition on properties in front of one on sessions would make the service fail."""
    fake.sessions = [made(1, total_cost=1.0), made(2, total_cost=9.0)]

    found = await client.get_sessions(
        (F.properties["env"] == "prod") & (F.cost > 0.1) & (F.session_total_cost > 5), time_filter=WEEK
    )

    assert ids(found) == ["s-00002"]
    text = json.dumps(bodies(fake, "session/query")[0]["filter"])
    assert text.index("session_total_cost") < text.index("properties") < text.index('cost": {"gt": 0.1')


async def test_a_mixed_or_is_cautioned(client: HeliconeClient) -> None:
    """An "or" of conditions on requests and on sessions matches everything on the service."""
    with pytest.warns(HeliconeFilterWarning, match="matches everything"):
        await client.get_sessions((F.cost > 1) | (F.session_total_cost > 5), time_filter=WEEK)
    with warnings.catch_warnings(action="error"):
        await client.get_sessions((F.cost > 1) & (F.session_total_cost > 5), time_filter=WEEK)
    with pytest.raises(FilterValueError, match="matches everything"):
        await client.with_options(cautions="error").get_sessions(
            (F.cost > 1) | (F.session_total_cost > 5), time_filter=WEEK
        )


async def test_a_count_of_whole_sessions_is_cautioned(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The service fails to count sessions with a condition on whole sessions, and the warning says so."""
    fake.traps = Traps(fails_on_whole_sessions=True)

    with pytest.warns(HeliconeFilterWarning, match="fail"), pytest.raises(QueryFailed):
        await client.count_sessions(F.session_total_cost > 5, time_filter=WEEK)


async def test_conditions_on_sessions_are_refused_for_requests(client: HeliconeClient) -> None:
    """The endpoints for requests have no conditions on sessions."""
    with pytest.raises(FilterValueError) as refused:
        client.stream_requests(F.session_total_cost > 5)
    assert refused.value.argument == "filter"
    with pytest.raises(FilterValueError):
        await client.count_requests((F.cost > 1) | (F.session_tag == "vip"))


async def test_counts(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The totals are those of all sessions; an older server gives the bare number."""
    fake.sessions = [made(1, total_cost=1.0, total_requests=2), made(2, total_cost=3.0, total_requests=4)]
    assert await client.count_sessions(time_filter=WEEK) == SessionCount(2, 4.0, 2.0, 2400.0, 3.0)

    fake.traps = Traps(numbers_as_text=True, ignores_offset=True)
    assert await client.count_sessions(time_filter=WEEK) == SessionCount(2)

    fake.will_answer(Reply(200, {"data": 0, "error": None}))
    assert await client.count_sessions(time_filter=WEEK) == SessionCount(0)


async def test_an_older_server_gives_the_newest_fifty(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A server that ignores `offset` is noticed, and the error says how many sessions there are."""
    fake.traps = Traps(ignores_offset=True)
    fake.sessions = [made(number) for number in range(120)]
    newest = [f"s-{number:05}" for number in range(119, 69, -1)]

    assert ids(await client.get_sessions(time_filter=WEEK, limit=50)) == newest
    assert ids(await client.get_sessions(time_filter=WEEK, limit=7)) == newest[:7]
    for attempt in (
        client.get_sessions(time_filter=WEEK, limit=51),
        client.get_sessions(time_filter=WEEK, sort="-total_cost", limit=5),
        client.get_sessions(F.session_total_cost >= 0, time_filter=WEEK, limit=None),
    ):
        with pytest.raises(UnexpectedResponse, match="only the newest 50") as refused:
            await attempt
        assert "time_filter" in str(refused.value)
    with pytest.raises(UnexpectedResponse, match="only the newest 50 sessions of 120"):
        await client.get_sessions(time_filter=WEEK)


@pytest.mark.parametrize("number", [1, 49, 50])
async def test_an_older_server_without_more_sessions(
    fake: FakeHelicone, client: HeliconeClient, number: int
) -> None:
    """Fifty sessions or fewer are all, so there is no error."""
    fake.traps = Traps(ignores_offset=True)
    fake.sessions = [made(place) for place in range(number)]

    assert len(await client.get_sessions(time_filter=WEEK, limit=None)) == number
    assert len([one async for one in client.stream_sessions(time_filter=WEEK)]) == number


async def test_fifty_names_are_a_warning(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The service lists at most fifty names, and the client warns about it."""
    fake.sessions = [session(f"s-{place}", f"name-{place}") for place in range(49)]
    with warnings.catch_warnings(action="error"):
        assert len(await client.get_session_names()) == 49

    fake.sessions = [session(f"s-{place}", f"name-{place}") for place in range(70)]
    with pytest.warns(HeliconeFilterWarning, match="at most 50 session names") as said:
        assert len(await client.get_session_names(time_filter=WEEK)) == 50
    assert said[0].filename == __file__


async def test_names(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Names have their times and number of sessions, even if that is text."""
    fake.traps = Traps(numbers_as_text=True)
    fake.sessions = [made(1, session_name="support"), made(5, session_name="support"), made(3)]
    fake.sessions[2] = attrs.evolve(fake.sessions[2], session_name="checkout")

    (found,) = await client.get_session_names(name_contains="SUPP")

    assert (found.name, found.session_count) == ("support", 2)
    assert found.created_at == made(1).created_at
    assert found.last_used == made(5).latest_request_created_at


async def test_whole_sessions(fake: FakeHelicone, client: HeliconeClient) -> None:
    """With `whole_sessions` the totals come from another query, for all requests of the sessions."""
    whole = [made(number, total_cost=float(number)) for number in range(250)]
    matching = [attrs.evolve(one, total_cost=0.5, total_requests=1) for one in whole]

    async def answer(received: Any) -> Any:
        fake.sessions = whole if b"Helicone-Session-Id" in received.body else matching
        return metrics()

    fake.otherwise(answer)
    found = await client.get_sessions(
        F.model == "o3", time_filter=WEEK, sort="-total_cost", limit=3, whole_sessions=True
    )

    assert list(found) == [whole[249], whole[248], whole[247]]
    plain = await client.get_sessions(F.model == "o3", time_filter=WEEK, limit=2)
    assert [one.total_cost for one in plain] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (FilterValueError, {"sort": "total"}),
        (FilterValueError, {"sort": "--total_cost"}),
        (FilterValueError, {"sort": None}),
        (FilterTypeError, {"limit": 2.5}),
        (FilterTypeError, {"limit": True}),
        (FilterValueError, {"limit": -1}),
        (FilterTypeError, {"time_filter": "7d"}),
        (FilterTypeError, {"name": 5}),
        (FilterTypeError, {"search": None}),
        (FilterValueError, {"search": "\ud800"}),
        (FilterTypeError, {"filter": "cost > 1"}),
    ],
)
async def test_arguments_are_checked_before_anything_is_sent(
    fake: FakeHelicone, client: HeliconeClient, error: type[Exception], arguments: dict[str, Any]
) -> None:
    """A wrong argument raises at the call and names the argument."""
    with pytest.raises(error) as refused:
        await client.get_sessions(**{"time_filter": WEEK, **arguments})
    assert next(iter(arguments)) in str(refused.value)
    assert fake.requests == []


@pytest.mark.parametrize("size", [0, 1001, -1, 1.5, "5", True])
async def test_page_sizes(client: HeliconeClient, size: Any) -> None:
    """A page of requests has 1 to 1,000 rows."""
    with pytest.raises((FilterTypeError, FilterValueError), check=parts(argument="page_size")):
        client.stream_requests(page_size=size)


async def test_requests_come_oldest_first(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Requests come in the order of time, unchanged, and their number is checked."""
    fake.stored_requests = [
        request(f"r-{place}", created_at=START + timedelta(seconds=place * 7 % 100), extra=[place])
        for place in range(100)
    ]

    found = [one async for one in client.stream_requests(page_size=9)]

    assert found == sorted(fake.stored_requests, key=lambda one: one["request_created_at"])
    assert all(body["limit"] <= 9 for body in bodies(fake, "query-clickhouse"))
    assert bodies(fake, "request/count/query")


async def test_a_filter_selects_requests(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Filter and time filter apply to the stream and to the count."""
    fake.stored_requests = [
        request(f"r-{place}", created_at=START + timedelta(hours=place), model=("gpt-4o", "o3")[place % 2])
        for place in range(48)
    ]
    day = TimeFilter(START, START + timedelta(days=1))

    found = [one["request_id"] async for one in client.stream_requests(F.model == "o3", time_filter=day)]

    assert found == [f"r-{place}" for place in range(1, 24, 2)]
    assert await client.count_requests(F.model == "o3", time_filter=day) == 12


@pytest.mark.parametrize("drops_fractions", [False, True])
@pytest.mark.parametrize("fraction", [0, 1, 250, 999])
async def test_ends_of_a_time_filter_are_exact(
    fake: FakeHelicone, client: HeliconeClient, fraction: int, drops_fractions: bool
) -> None:
    """Both ends are exclusive to the millisecond, though the service drops fractions of a second."""
    fake.traps = Traps(drops_fractions=drops_fractions)
    start = START + timedelta(milliseconds=fraction)
    time = TimeFilter(start, start + timedelta(seconds=2))
    moments = [START + timedelta(milliseconds=place) for place in range(0, 4000, 1)]
    fake.stored_requests = [request(str(place), created_at=one) for place, one in enumerate(moments)]

    found = [int(one["request_id"]) async for one in client.stream_requests(time_filter=time)]

    assert found == list(range(fraction + 1, fraction + 2000))


@pytest.mark.parametrize("drops_fractions", [False, True])
async def test_adjacent_periods_neither_lose_nor_double(
    fake: FakeHelicone, client: HeliconeClient, drops_fractions: bool
) -> None:
    """The counts of the parts of a time filter add up to the count of the whole."""
    fake.traps = Traps(drops_fractions=drops_fractions)
    fake.stored_requests = [
        request(created_at=START + timedelta(milliseconds=place * 250)) for place in range(1, 57_599, 77)
    ]
    whole = TimeFilter(START, START + timedelta(hours=4))

    counts = [await client.count_requests(time_filter=part) for part in whole.split(minutes=20)]

    assert sum(counts) == len(fake.stored_requests) == await client.count_requests(time_filter=whole)


async def test_a_stream_of_requests_ends(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Without a time filter the stream ends, although the service stores a request for each one read."""
    now = datetime.now(UTC) + timedelta(days=1)
    fake.stored_requests = [
        request(str(place), created_at=now + timedelta(seconds=place)) for place in range(20)
    ]

    found = []
    async for one in client.stream_requests(page_size=3):
        found.append(one["request_id"])
        place = len(fake.stored_requests)
        fake.stored_requests.append(request(str(place), created_at=now + timedelta(seconds=place)))

    assert found[:20] == [str(place) for place in range(20)]
    assert len(found) < 25


async def test_missing_requests_are_an_error(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The pages must contain as many requests as the service counts."""
    fake.stored_requests = [request(created_at=START + timedelta(seconds=place)) for place in range(5)]

    nine = Reply(200, {"data": "9", "error": None})
    fake.answers(lambda query: isinstance(query, RequestCountQuery), nine)

    with pytest.raises(UnexpectedResponse, match=r"counts 9 requests.*only 5"):
        [one async for one in client.stream_requests(time_filter=WEEK)]


async def test_a_service_that_cannot_count_is_read_all_the_same(
    fake: FakeHelicone, client: HeliconeClient
) -> None:
    """If the count fails, the stream returns the requests."""
    fake.stored_requests = [request(created_at=START + timedelta(seconds=place)) for place in range(1, 6)]
    fake.answers(lambda query: isinstance(query, RequestCountQuery), failure("Memory limit exceeded"))

    assert len([one async for one in client.stream_requests(time_filter=WEEK)]) == 5


async def test_slow_pages_are_halved_and_grow_again(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A page that times out is halved instead of retried; after some successes pages grow again."""
    fake.sessions = [made(number) for number in range(3000)]
    fake.traps = Traps(slow_above=300)

    found = [one async for one in client.stream_sessions(time_filter=WEEK)]

    limits = [body["limit"] for body in bodies(fake, "session/query")]
    assert len(found) == 3000
    assert limits[:4] == [1000, 500, 250, 250]
    assert 500 in limits[4:]


async def test_a_page_of_one_row_that_times_out_is_an_error(
    fake: FakeHelicone, client: HeliconeClient
) -> None:
    """A page of one row cannot be halved."""
    fake.otherwise(gateway_page(504))

    with pytest.raises(ServerError) as failed:
        await client.get_sessions(time_filter=WEEK, limit=4)
    assert [body["limit"] for body in bodies(fake, "session/query")] == [4, 2, 1, 1, 1, 1, 1]
    assert failed.value.attempts == 5


async def test_other_errors_are_not_halved(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A query that fails for another reason is sent once."""
    fake.otherwise(failure("Unknown identifier 'x'"))

    with pytest.raises(QueryFailed):
        await client.get_sessions(time_filter=WEEK)
    assert len(fake.requests) == 1


async def test_an_answer_off_the_contract_names_the_field(fake: FakeHelicone, client: HeliconeClient) -> None:
    """The error has the JSON path."""
    row = {"session_id": "a", "session_name": "b", "created_at": "2026-11-01 00:00:00", "total_cost": "many"}
    fake.otherwise(Reply(200, {"data": [row], "error": None}))

    with pytest.raises(UnexpectedResponse) as failed:
        await client.get_sessions(time_filter=WEEK)
    assert failed.value.path.startswith("$.data[0]")


async def test_leaving_a_stream_early_leaves_nothing_running(
    fake: FakeHelicone, client: HeliconeClient
) -> None:
    """A closed stream sends nothing more."""
    fake.sessions = [made(number) for number in range(2500)]
    before = asyncio.all_tasks()

    stream = client.stream_sessions(time_filter=WEEK)
    await anext(stream)
    await stream.aclose()

    assert len(bodies(fake, "session/query")) == 1
    assert not {task for task in asyncio.all_tasks() - before if "handle" not in repr(task).lower()}


async def test_a_stream_of_many_sessions_takes_little_memory(
    fake: FakeHelicone, client: HeliconeClient
) -> None:
    """A stream takes less than 500 bytes of memory for each session."""
    count = repeats(100_000)
    row = (
        '{"session_id":"%032d","session_name":"support","created_at":"%s","latest_request_created_at":'
        '"2026-11-07 00:00:00.000","total_cost":0.5,"total_requests":"2","prompt_tokens":200,'
        '"completion_tokens":100,"total_tokens":300,"avg_latency":800.5,"user_ids":["user-1"]}'
    )

    async def page(received: Any) -> Reply:
        offset = received.json.get("offset", 0)
        places = range(offset, min(offset + received.json["limit"], count))
        newest = START + timedelta(days=3)
        rows = [row % (place, str(newest - timedelta(seconds=place))[:19]) for place in places]
        fake.requests.clear()
        return Reply(200, f'{{"data":[{",".join(rows)}],"error":null}}')

    fake.otherwise(page)
    number = 0
    tracemalloc.start()
    try:
        async for _ in client.stream_sessions(time_filter=WEEK):
            number += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert number == count
    assert peak < 500 * count


async def test_a_server_that_ignores_times_is_an_error(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A stream does not read the same page forever."""
    rows = [request(str(place), created_at=START + timedelta(seconds=place)) for place in range(1, 4)]

    async def page(received: Any) -> Reply:
        is_count = received.path.endswith("count/query")
        return Reply(200, {"data": 100 if is_count else rows, "error": None})

    fake.otherwise(page)

    with pytest.raises(UnexpectedResponse, match="ignores conditions on the time"):
        [one async for one in client.stream_requests(time_filter=WEEK)]


async def test_each_page_is_a_query_for_hooks(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Hooks receive the query of each page and count, with its answer and the address of the attempt."""
    seen: list[tuple[str, int, str]] = []

    class Diary(Hooks):
        def query_begins(self, query: Any) -> dict[str, Any]:
            return {"query": query}

        def attempt_begins(self, token: dict[str, Any], _number: int, url: str) -> Any:
            token["url"] = url
            return token

        def query_ends(self, token: dict[str, Any], outcome: QueryOutcome) -> None:
            answer = outcome.answer if isinstance(outcome.answer, int) else len(outcome.answer)
            seen.append((type(token["query"]).__name__, answer, token["url"].removeprefix(fake.url)))

    fake.stored_requests = [request(created_at=START + timedelta(seconds=place)) for place in range(1, 4)]
    observed = client.with_options(hooks=Diary())

    assert len([one async for one in observed.stream_requests(time_filter=WEEK)]) == 3
    assert seen == [
        ("RequestCountQuery", 3, "/v1/request/count/query"),
        ("RequestsQuery", 3, "/v1/request/query-clickhouse"),
        ("RequestsQuery", 0, "/v1/request/query-clickhouse"),
    ]


async def test_changing_a_request_changes_no_other_stream(fake: FakeHelicone, client: HeliconeClient) -> None:
    """Two streams of the same query share responses, but have separate dicts."""
    fake.stored_requests = [request(created_at=START + timedelta(seconds=place)) for place in range(1, 4)]

    async def costs() -> list[float]:
        return [one.pop("cost") async for one in client.stream_requests(time_filter=WEEK)]

    with fake.hold() as held:
        streams = [asyncio.create_task(costs()) for _ in range(2)]
        await fake.arrived(1)
        held.release()
        assert await asyncio.gather(*streams) == [[0.125] * 3] * 2


async def test_odd_ids_and_names_are_told_apart(fake: FakeHelicone, client: HeliconeClient) -> None:
    """A session is its id and its name, whatever characters they hold."""
    odd = [
        ("a", "\0b"),
        ("a\0", "b"),
        ("a ", "b"),
        ("a", " b"),
        ("", ""),
        ("ö", "💸"),
        ("\ud800", "x"),
        ("1 a", "b"),
    ]
    row = SESSIONS.answer_to_wire([made(1)])[0]
    rows = [{**row, "session_id": one, "session_name": other} for one, other in odd]
    fake.will_answer(
        Reply(200, json.dumps({"data": rows, "error": None})), Reply(200, {"data": [], "error": None})
    )

    found = [(one.session_id, one.session_name) async for one in client.stream_sessions(time_filter=WEEK)]

    assert found == odd
