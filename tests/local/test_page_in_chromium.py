"""The page in a browser: what people type, see and copy."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from helicone_sessions import HeliconeClient, SessionMetrics, SessionMetricsQuery, TimeFilter, parse_filter
from helicone_sessions.display.numbers import number
from helicone_sessions.filters.schema import COLUMNS, Kind
from helicone_sessions.local import LocalServer
from helicone_sessions.messages.converter import metrics_from
from helicone_sessions.messages.metrics import UNITS
from tests.local.chromium import FOUND, NAMES, chromium

pytest.importorskip("chdb", reason="the extra `local` is not installed")
playwright = pytest.importorskip(
    "playwright.async_api", reason="the dependency group `browser` is not installed"
)

pytestmark = pytest.mark.skipif(FOUND is None, reason=f"there is no browser: {', '.join(NAMES)}")
on_one_loop = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-local+of/the-page"
START = datetime(2026, 11, 1, tzinfo=UTC)
TEXT = '0.001 < cost < 2 and (model contains "b\\"\'$x" or latency >= 3)'
# What a browser itself says of an answer that is an error.
OF_THE_BROWSER = "Failed to load resource"
Open = Callable[..., AbstractAsyncContextManager[Any]]


def _rows() -> list[dict[str, Any]]:
    return [
        {
            "request_created_at": START + timedelta(minutes=7 * number),
            "cost": (number % 11 + 1) / 100,
            "latency": number % 5,
            "model": ("a", "b\"'$x", "b\"'")[number % 3],
            "session_id": f"s{number % 17}",
            "session_name": "chat" if number % 17 < 9 else "search",
        }
        for number in range(120)
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """A server with seventeen sessions."""
    async with LocalServer(_rows(), api_key=KEY) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A browser with an empty profile of its own."""
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home")), "TZ": "Europe/Berlin"}
    async with chromium(env=environment) as launched:
        yield launched


@pytest.fixture
def opened(browser: Any, server: LocalServer) -> Open:
    """Opens the page; at its end it has asked nobody but the server, and nothing went wrong in it."""

    @asynccontextmanager
    async def page_of(
        at: str = f"/#key={KEY}", of: str = server.url, *, refused: bool = False, zone: str | None = None
    ) -> AsyncIterator[Any]:
        permissions = ["clipboard-read", "clipboard-write"]
        context = await browser.new_context(permissions=permissions, timezone_id=zone)
        page = await context.new_page()
        asked: list[str] = []
        wrong: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "console",
            lambda said: None if refused and OF_THE_BROWSER in said.text else wrong.append(said.text),
        )
        await page.goto(of + at)
        yield page
        await context.close()
        assert [] == wrong
        assert [] == [url for url in asked if not url.startswith((f"{of}/", "data:"))]
        assert [] == [url for url in asked if KEY in url]

    return page_of


async def text_of(page: Any, selector: str, holds: str = "") -> str:
    """The text of an element, once it holds something."""
    element = page.locator(selector)
    await playwright.expect(element).to_contain_text(holds or "")
    return str(await element.text_content())


async def ask(page: Any, text: str = "") -> None:
    """Write a filter and press Enter; the answer is there afterwards."""
    await page.locator("#filter").fill(text)
    await page.locator("#filter").press("Enter")
    await playwright.expect(page.locator("#pictures figure")).to_have_count(3)
    await playwright.expect(page.locator("#progress")).to_be_empty()


async def ask_again(page: Any) -> None:
    """Ask what is written there already."""
    async with page.expect_response("**/query"):
        await page.locator("#ask").click()
    await playwright.expect(page.locator("#progress")).to_be_empty()


async def answer_of(server: LocalServer, *query: Any, **options: Any) -> SessionMetrics:
    """What the client is answered."""
    async with HeliconeClient(KEY, base_url=server.url, cautions="ignore") as client:
        return await client.get_metrics(*query, **options)


async def shown_in(page: Any) -> dict[str, Any]:
    """The numbers of the page: averages, and the rows of the tables."""
    found: dict[str, Any] = await page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("figure")].map((figure) => {
            const name = figure.dataset.metric;
            const rows = [...document.querySelectorAll(`table[data-metric=${name}] tbody tr`)];
            const numbers = (row) => [...row.querySelectorAll("data")].map((cell) => Number(cell.value));
            const mean = figure.querySelector("data").value;
            return [name, [mean === "" ? null : Number(mean), rows.map((row) => numbers(row).slice(0, 3))]];
        }))"""
    )
    return found


def numbers_of(metrics: SessionMetrics) -> dict[str, Any]:
    """The same of an answer."""
    return {
        name: [
            getattr(metrics.average, name),
            [[row.range_start, row.range_end, row.value] for row in getattr(metrics, name)],
        ]
        for name in UNITS
    }


@on_one_loop
async def test_the_key_comes_by_the_address_and_leaves_it(opened: Open, server: LocalServer) -> None:
    """A link with the key needs no more typing; the address loses the key, and no storage gets it."""
    async with opened() as page:
        assert f"{server.url}/" == page.url
        assert await page.locator("#key").input_value() == KEY
        assert [0, 0] == await page.evaluate("[localStorage.length, sessionStorage.length]")
        await ask(page)
        await page.evaluate("location.hash = '#key=sk%20other'")
        await playwright.expect(page.locator("#key")).to_have_value("sk other")
        assert f"{server.url}/" == page.url


@on_one_loop
async def test_what_may_stand_there_is_shown_and_put_in(opened: Open) -> None:
    """While a word is typed the columns that it may become are shown; keys and the mouse put one in."""
    async with opened() as page:
        box = page.get_by_role("combobox", name="Filter")
        options = page.locator("#options").get_by_role("option")
        await box.press_sequentially("mod")
        await playwright.expect(options.first).to_contain_text("name of the model")
        assert "true" == await box.get_attribute("aria-expanded")
        assert await box.get_attribute("aria-activedescendant") == await options.first.get_attribute("id")
        await box.press("Tab")
        await playwright.expect(box).to_have_value("model ")
        await playwright.expect(options.filter(has_text="not contains")).to_have_count(1)
        await box.press_sequentially("not c")
        await box.press("Enter")
        await playwright.expect(box).to_have_value("model not contains ")
        await box.press_sequentially('"x" and lat')
        await box.press("Escape")
        await playwright.expect(options).to_have_count(0)
        assert "false" == await box.get_attribute("aria-expanded")
        await box.press("Control+Space")
        await options.filter(has_text="latency").click()
        await playwright.expect(box).to_have_value('model not contains "x" and latency ')
        await playwright.expect(page.locator("#hint")).to_contain_text("in milliseconds")


@on_one_loop
async def test_a_key_of_a_map_is_put_into_its_brackets(opened: Open) -> None:
    """A map is completed with its brackets and quotes, and the caret between them."""
    async with opened() as page:
        box = page.locator("#filter")
        await box.press_sequentially("properties")
        await box.press("Enter")
        await box.press_sequentially("env")
        await playwright.expect(box).to_have_value('properties["env"] ')


@on_one_loop
async def test_only_what_may_stand_there_is_offered(opened: Open) -> None:
    """Behind each piece of a filter the words are offered that its grammar lets follow."""
    asked = {
        "user_id is not n": ["is not null"],
        "cached == ": ["true", "false"],
        "cost between 1 ": ["and"],
        "cost between 1 and 2 ": ["and", "or"],
        "not (0.1 < prompt_cache_r": ["prompt_cache_read_tokens"],
        "threat and not cached ": ["and", "or", "==", "!=", "in (…)", "not in (…)", "is true", "is false"],
        "request_id != ": ['"…"'],
        "property_key ": ["=="],
        "status in (200, ": [],
        'model == "co': [],
        '{"': [],
        "nothing of the kind ": [],
        'scores["quality"] is ': [],
        "all ": ["and", "or"],
    }
    async with opened() as page:
        box = page.locator("#filter")
        found = {}
        for text in asked:
            await box.fill(text)
            await box.press("Control+Space")
            found[text] = await page.locator("#options li b").all_text_contents()
        assert asked == found
        await box.fill("")
        await box.press("Control+Space")
        offered = await page.locator("#options li b").all_text_contents()
        plain = [name for name, facts in COLUMNS.items() if facts.kind is not Kind.MAP]
        assert [] == [name for name in plain if name not in offered]


@on_one_loop
async def test_a_mistake_is_shown_while_it_is_typed(opened: Open) -> None:
    """A column that there is not is told at once, with its place, which a button goes to."""
    async with opened() as page:
        box = page.locator("#filter")
        await box.press_sequentially('model == "😀" and cots > 1')
        said = await text_of(page, "#reading", "Did you mean 'cost'?")
        assert "line 1, column 18" in said
        assert "^~~~" in said
        assert "true" == await box.get_attribute("aria-invalid")
        await playwright.expect(page.locator("[data-copies=python]")).to_be_disabled()
        await page.get_by_role("button", name="Go there").click()
        await playwright.expect(box).to_be_focused()
        assert "cots" == await box.evaluate("box => box.value.slice(box.selectionStart, box.selectionEnd)")
        await box.press_sequentially("cost")
        assert "cost gt 1 dollars" in await text_of(page, "#reading", "cost gt")
        assert "false" == await box.get_attribute("aria-invalid")


@on_one_loop
async def test_an_answer_that_was_overtaken_is_dropped(opened: Open) -> None:
    """When a reading arrives after a later one was begun, it is not shown."""
    async with opened() as page:
        held: asyncio.Queue[Any] = asyncio.Queue()

        async def hold(route: Any) -> None:
            await held.put(route)

        await page.route("**/v1/filter", hold)
        await page.locator("#filter").fill('model == "first"')
        first = await held.get()
        await page.locator("#filter").fill('model == "second"')
        await (await held.get()).continue_()
        await text_of(page, "#reading", "model equals 'second'")
        # The browser may have given it up already.
        with contextlib.suppress(playwright.Error):
            await first.fulfill(json={"wire": "all", "explain": "first", "python": "ALL", "cautions": []})
        await page.unroute("**/v1/filter")
        await ask_again(page)
        assert "first" not in await text_of(page, "#reading", "model equals 'second'")


@on_one_loop
async def test_the_answer_is_that_of_the_client(opened: Open, server: LocalServer) -> None:
    """Averages and bars are the client's for the same query, and the areas of the bars are the sessions."""
    options: dict[str, Any] = {"p_size": "p99", "use_interquartile": True, "name_contains": "chat"}
    known = await answer_of(server, parse_filter(TEXT), **options)
    async with opened() as page:
        await page.locator("#size").select_option("p99")
        await page.locator("#interquartile").check()
        await page.locator("#name").fill("chat")
        await ask(page, TEXT)
        assert numbers_of(known) == await shown_in(page)
        means = [number(getattr(known.average, name), unit) for name, unit in UNITS.items()]
        assert means == await page.locator("figure .mean:not(path)").all_text_contents()
        assert "at p99 and its mirror" in await text_of(page, "#cut")
        assert f"{known.session_cost.total:.0f} by dollars" in await text_of(page, "#summary")
        bars = page.locator("figure[data-metric=session_cost] rect")
        sizes = "bars => bars.map(({width, height}) => width.baseVal.value * height.baseVal.value)"
        areas = await bars.evaluate_all(sizes)
    scale = sum(areas) / known.session_cost.total
    assert [pytest.approx(row.value * scale) for row in known.session_cost] == areas


@on_one_loop
async def test_large_numbers_in_tables_have_commas(opened: Open) -> None:
    """How dense the sessions are is written in the form of all other numbers."""
    rows = [
        {"request_created_at": START, "cost": place / 10_000, "session_id": str(place)}
        for place in range(400)
    ]
    async with LocalServer(rows, api_key=KEY) as crowded, opened(of=crowded.url) as page:
        await ask(page)
        known = await answer_of(crowded)
        cells = page.locator("table[data-metric=session_cost] td:last-child")
        densities = [row.value / (row.range_end - row.range_start) for row in known.session_cost]
        assert min(densities) > 1000
        assert [number(each, "sessions") for each in densities] == await cells.all_text_contents()


@on_one_loop
async def test_the_filter_is_shown_as_it_is_sent(opened: Open) -> None:
    """The JSON of the filter is what the package makes of the same text."""
    async with opened() as page:
        await ask(page, TEXT)
        assert parse_filter(TEXT).to_wire() == json.loads(await text_of(page, "#wire"))


async def copied(page: Any, name: str) -> str:
    await page.locator(f"[data-copies={name}]").click()
    await playwright.expect(page.locator("#copied")).to_have_text("Copied.")
    text: str = await page.evaluate("navigator.clipboard.readText()")
    assert KEY not in text
    return text


async def run(*command: str) -> str:
    environment = {**os.environ, "HELICONE_API_KEY": KEY}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe, env=environment)
    out, error = await process.communicate()
    assert b"" == error
    return out.decode()


async def fill_everything(page: Any) -> dict[str, Any]:
    """Use every field of the page; the same for the client."""
    await page.locator("#time").select_option("between")
    # In Berlin, where the browser is.
    await page.locator("#from").fill("2026-11-01T02:00:00")
    await page.locator("#to").fill("2026-11-01T12:30:00")
    await page.locator("#size").select_option("p99.9")
    await page.locator("#interquartile").check()
    await page.locator("#name").fill("chat")
    await ask(page, f"{TEXT} and request_created_at > 2026-10-01T00:00:00Z")
    between = TimeFilter(START + timedelta(hours=1), START + timedelta(hours=11, minutes=30))
    return {
        "time_filter": between,
        "p_size": "p99.9",
        "use_interquartile": True,
        "name_contains": "chat",
        "filter": parse_filter(TEXT),
    }


@on_one_loop
async def test_the_python_that_is_copied_runs(opened: Open, server: LocalServer) -> None:
    """Pasted into a file, it prints the numbers that the page shows."""
    async with opened() as page:
        options = await fill_everything(page)
        program = await copied(page, "python")
        shown = await shown_in(page)
    known = await answer_of(server, options.pop("filter"), **options)
    assert numbers_of(known) == shown
    assert known.session_count.total > 0
    lines = [str(known.average), *map(str, known.to_rows())]
    assert lines == (await run(sys.executable, "-c", program)).splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@on_one_loop
async def test_the_curl_that_is_copied_runs(opened: Open) -> None:
    """Pasted into a shell, it is answered with the numbers that the page shows."""
    async with opened() as page:
        await fill_everything(page)
        command = await copied(page, "curl")
        shown = await shown_in(page)
    answer = json.loads(await run("/bin/sh", "-c", command))
    assert shown == numbers_of(metrics_from(answer["data"]))


@on_one_loop
async def test_the_last_days_are_asked_for_up_to_now(opened: Open) -> None:
    """A choice of days is sent as two instants that lie so far apart, and stays days in Python."""
    async with opened() as page:
        await page.locator("#time").select_option("7")
        async with page.expect_request("**/query") as made:
            await ask(page)
        body = (await made.value).post_data_json
        times = body["timeFilter"]
        assert timedelta(days=7) == timedelta(milliseconds=times["endTimeUnixMs"] - times["startTimeUnixMs"])
        assert {"nameContains", "timezoneDifference", "timeFilter"} == body.keys()
        assert "TimeFilter.last(days=7)" in await text_of(page, "#python")
        assert "No session matches." in await text_of(page, "#summary")


@on_one_loop
@pytest.mark.parametrize(
    ("zone", "minutes", "said"),
    [("America/Bogota", 300, "UTC−05:00"), ("Asia/Kabul", -270, "UTC+04:30")],  # noqa: RUF001 - a minus
)
async def test_the_zone_is_minutes_west_of_utc(opened: Open, zone: str, minutes: int, said: str) -> None:
    """The difference to UTC is sent and copied as the package counts it: positive in the west."""
    assert minutes == SessionMetricsQuery(timezone_difference=ZoneInfo(zone)).timezone_difference
    async with opened(zone=zone) as page:
        async with page.expect_request("**/query") as made:
            await ask(page)
        assert minutes == (await made.value).post_data_json["timezoneDifference"]
        assert f"timezone_difference={minutes}," in await text_of(page, "#python")
        assert f"{zone}, {said}" == await text_of(page, "#zone")


@on_one_loop
@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-11-01T12:00:00", "2026-11-01T12:00:00", "a time that does not lie after the first one"),
        ("2026-11-02T12:00:00", "2026-11-01T12:00:00", "a time that does not lie after the first one"),
        ("", "2026-11-01T12:00:00", "Say after which time"),
    ],
)
async def test_a_time_without_length_is_not_asked_for(opened: Open, start: str, end: str, said: str) -> None:
    """Where the time does not end after its beginning, the page says so and the server is not asked."""
    async with opened() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.locator("#time").select_option("between")
        await page.locator("#from").fill(start)
        await page.locator("#to").fill(end)
        await page.locator("#ask").click()
        await text_of(page, "#problem", said)
        await text_of(page, "#python", said)
        assert [] == asked
        await page.locator("#from").fill("2026-11-01T11:59:59")
        await playwright.expect(page.locator("#problem")).to_be_hidden()
        await ask(page)


@on_one_loop
async def test_an_answer_to_an_earlier_question_is_marked(opened: Open) -> None:
    """When the question is changed, the answer says that it is an earlier one's, until it is asked again."""
    async with opened() as page:
        note = page.get_by_text("The question was changed since")
        await ask(page)
        await playwright.expect(note).to_be_hidden()
        for change in (page.locator("#name"), page.locator("#filter")):
            await change.fill("latency > 0")
            await playwright.expect(note).to_be_visible()
            await playwright.expect(page.locator("#answer")).to_have_class("old")
            await ask_again(page)
            await playwright.expect(note).to_be_hidden()
            await playwright.expect(page.locator("#answer")).not_to_have_class("old")


@on_one_loop
async def test_a_change_while_the_answer_is_waited_for_makes_it_old(opened: Open) -> None:
    """An answer to the question before a change is shown as such, the first one too."""
    async with opened() as page:
        held: asyncio.Queue[Any] = asyncio.Queue()
        await page.route("**/query", held.put)
        for change in (page.locator("#name"), page.locator("#filter")):
            await page.locator("#ask").click()
            route = await held.get()
            await change.fill("latency > 0")
            await route.continue_()
            await playwright.expect(page.locator("#progress")).to_be_empty()
            await playwright.expect(page.get_by_text("The question was changed since")).to_be_visible()
            await playwright.expect(page.locator("#answer")).to_have_class("old")


@on_one_loop
async def test_a_question_carries_the_key_and_no_cookie(opened: Open) -> None:
    """Cookies that other programs on this machine have set are not sent."""
    async with opened() as page:
        await page.context.add_cookies([{"name": "other", "value": "secret", "url": page.url}])
        async with page.expect_request("**/query") as made:
            await ask(page)
        headers = await (await made.value).all_headers()
        assert f"Bearer {KEY}" == headers["authorization"]
        assert "cookie" not in headers


@on_one_loop
async def test_a_question_is_sent_nowhere_else(opened: Open) -> None:
    """An answer that points elsewhere is not followed, so that nobody else gets the key."""
    async with opened(refused=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(page.url)))
        elsewhere = {"Location": f"{page.url}elsewhere"}
        await page.route("**/query", lambda route: route.fulfill(status=307, headers=elsewhere))
        await page.locator("#ask").click()
        await text_of(page, "#problem", "The server does not answer")
        assert ["v1/session/metrics/query"] == asked


@on_one_loop
async def test_a_wrong_key_is_said(opened: Open) -> None:
    """With another key the page says that it is the wrong one and where the right one is."""
    async with opened("/#key=sk-wrong", refused=True) as page:
        await page.locator("#ask").click()
        assert "where it was started" in await text_of(page, "#problem", "not the server's key")
        await page.locator("#key").fill(KEY)
        await ask(page, "cost > 0")


@on_one_loop
async def test_without_a_key_nothing_is_asked(opened: Open) -> None:
    """Without a key the page asks for it, and the server is not asked."""
    async with opened("/") as page:
        await page.locator("#filter").fill("threat")
        assert "Give the key first" in await text_of(page, "#reading", "key")
        assert "Give the key first" in await text_of(page, "#python", "key")
        await page.locator("#ask").click()
        assert "Give the key first" in await text_of(page, "#problem", "key")


@on_one_loop
async def test_a_filter_that_is_too_long_is_said(opened: Open) -> None:
    """Where the server does not take a filter for its length, the texts say so too, until it is shorter."""
    async with opened(refused=True) as page:
        await page.locator("#filter").fill(f'model == "{"x" * 70_000}"')
        for place in ("#reading", "#python", "#wire"):
            assert "Make the filter shorter." in await text_of(page, place, "That is too long")
        await page.locator("#filter").fill('model == "x"')
        await text_of(page, "#python", "F.model == 'x'")


@on_one_loop
@pytest.mark.parametrize(
    ("text", "names"),
    [
        ('model == "F TimeFilter" and user_id == "it\'s datetime.x"', "F, HeliconeClient"),
        ('properties["NONE ALL"] == "a\\"TimeFilter"', "F, HeliconeClient"),
        ("all", "ALL, HeliconeClient"),
    ],
)
async def test_python_imports_what_it_names(opened: Open, text: str, names: str) -> None:
    """What stands in the texts of a filter is imported for no reason, and so it is not."""
    async with opened() as page:
        await page.locator("#filter").fill(text)
        program = await text_of(page, "#python", "import")
    assert f"import asyncio\n\nfrom helicone_sessions import {names}\n" in program


@on_one_loop
async def test_what_people_type_is_never_html(opened: Open) -> None:
    """Elements in a filter, a name or a key stay text, wherever they are shown."""
    evil = "<img src=x onerror=alert(1)>"
    async with opened() as page:
        await page.locator("#name").fill(evil)
        await page.locator("#filter").fill(f'model == "{evil}" and {evil}')
        assert evil in await text_of(page, "#reading", "onerror")
        await ask(page, f'model == "{evil}" or properties["{evil}"] == "</script><b>"')
        assert evil in await text_of(page, "#reading", "any of")
        assert evil in await text_of(page, "#python", evil)
        assert 0 == await page.locator("img, b, main script").count()


@on_one_loop
async def test_the_limit_of_requests_is_said(opened: Open) -> None:
    """When the rate limit is used up, the page says when to try again."""
    async with (
        LocalServer(_rows(), api_key=KEY, rate_limit=1) as limited,
        opened(of=limited.url, refused=True) as page,
    ):
        await ask(page)
        await page.locator("#ask").click()
        assert "try again in" in await text_of(page, "#problem", "The rate limit")


@on_one_loop
async def test_a_query_that_fails_is_said(opened: Open) -> None:
    """When the engine refuses a query, its reason is shown."""
    async with opened(refused=True) as page:
        await page.locator("#filter").fill('node_id == "x"')
        await page.locator("#filter").press("Enter")
        assert "node_id" in await text_of(page, "#problem", "The query failed:")


@on_one_loop
async def test_a_question_can_be_stopped(opened: Open) -> None:
    """While an answer is waited for, the button stops that, and then asks again."""
    async with opened() as page:
        held: asyncio.Queue[Any] = asyncio.Queue()
        await page.route("**/query", held.put)
        await page.get_by_role("button", name="Ask").click()
        await held.get()
        await page.get_by_role("button", name="Stop").click()
        await playwright.expect(page.get_by_role("button", name="Ask")).to_be_visible()
        await playwright.expect(page.locator("#problem, #answer")).to_have_count(2)
        await playwright.expect(page.locator("#problem:visible, #answer:visible")).to_have_count(0)
        await page.unroute("**/query")
        await ask(page)


@on_one_loop
async def test_the_page_outlives_its_server(opened: Open) -> None:
    """While the server is gone the page says so; when it is back, the same page goes on."""
    first = LocalServer(_rows(), api_key=KEY)
    await first.start()
    url = first.url
    async with opened(of=url, refused=True) as page:
        try:
            await ask(page, "cost > 0.05")
        finally:
            await first.aclose()
        await page.locator("#ask").click()
        await text_of(page, "#problem", "The server does not answer")
        async with LocalServer(_rows(), api_key=KEY, port=int(url.rpartition(":")[2])):
            await page.locator("#ask").click()
            await playwright.expect(page.locator("#problem")).to_be_hidden()
            assert "cost gt 0.05 dollars" in await text_of(page, "#reading", "cost")


def overlapping(boxes: list[dict[str, float]]) -> list[tuple[int, int]]:
    """Which of the boxes lie over one another."""
    return [
        (one, other)
        for other in range(len(boxes))
        for one in range(other)
        if boxes[one]["left"] < boxes[other]["right"]
        and boxes[other]["left"] < boxes[one]["right"]
        and boxes[one]["top"] < boxes[other]["bottom"]
        and boxes[other]["top"] < boxes[one]["bottom"]
    ]


async def check_picture(page: Any, metric: str) -> None:
    """See that the bars of a picture can be seen and its words read."""
    boxes_of = "all => all.map((one) => one.getBoundingClientRect())"
    picture = page.locator(f"figure[data-metric={metric}] svg")
    [frame] = await picture.evaluate_all(boxes_of)
    words = await picture.locator("text").evaluate_all(boxes_of)
    bars = await picture.locator("rect").evaluate_all(boxes_of)
    assert [] == overlapping(words)
    assert all(frame["left"] <= box["left"] and box["right"] <= frame["right"] for box in words)
    assert min(box["width"] for box in bars) > 1


@on_one_loop
async def test_nothing_is_cut_off(opened: Open) -> None:
    """On a telephone and on a desk, by day and by night, the page is never wider than its window."""
    async with opened() as page:
        await ask(page, TEXT)
        await page.locator("#rows summary").click()
        for width, scheme in itertools.product((320, 1200), ("light", "dark")):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(color_scheme=scheme)
            assert width >= await page.evaluate("document.documentElement.scrollWidth")
            for metric in UNITS:
                await check_picture(page, metric)
            style = "body => [getComputedStyle(body).backgroundColor, getComputedStyle(body).color]"
            back, front = await page.locator("body").evaluate(style)
            assert (scheme == "light") == ("255, 255, 255" in back)
            assert back != front


@on_one_loop
@pytest.mark.parametrize("costs", [[0.0], [0.01] * 30 + [9_000.0], [1e-9, 3e5]])
async def test_whatever_the_numbers_the_pictures_can_be_read(opened: Open, costs: list[float]) -> None:
    """One session, equal ones or a mean far beyond the cut: bars are seen, and no words lie over others."""
    rows = [
        {"request_created_at": START + timedelta(hours=place), "cost": cost, "session_id": f"s{place}"}
        for place, cost in enumerate(costs)
    ]
    async with LocalServer(rows, api_key=KEY) as odd, opened(of=odd.url) as page:
        await ask(page)
        for metric in UNITS:
            await check_picture(page, metric)
