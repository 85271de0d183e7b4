"""The page in a browser: typing, running, reading and copying."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from helicone_sessions import ALL, F, HeliconeClient, SessionMetrics, TimeFilter, parse_filter
from helicone_sessions.filters.schema import COLUMNS, Kind
from helicone_sessions.local import LocalServer
from helicone_sessions.messages.converter import metrics_from
from helicone_sessions.messages.metrics import UNITS
from tests.local.chromium import FOUND, NAMES, axe_source, chromium

pytest.importorskip("chdb", reason="the extra `local` is not installed")
playwright = pytest.importorskip(
    "playwright.async_api", reason="the dependency group `browser` is not installed"
)

pytestmark = pytest.mark.skipif(FOUND is None, reason=f"there is no browser: {', '.join(NAMES)}")
on_one_loop = pytest.mark.asyncio(loop_scope="module")

KEY = "sk-local+of/the-page"
START = datetime(2026, 11, 1, tzinfo=UTC)
TEXT = '0.001 < cost < 2 and (model contains "b\\"\'$x" or latency >= 3)'
# The browser writes this for each response that is an error.
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
    ] + [{"request_created_at": START + timedelta(hours=2), "cost": 0.25, "model": "a"} for _ in range(2)]


def sessions_of(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sessions of rows with their figures; requests without an id are one."""
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        grouped.setdefault(row.get("session_id", ""), []).append(row)
    return [
        {
            "id": session_id,
            "cost": sum(row["cost"] for row in found),
            "seconds": (found[-1]["request_created_at"] - found[0]["request_created_at"]).total_seconds(),
            "requests": len(found),
        }
        for session_id, found in grouped.items()
    ]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """A server with seventeen sessions, and two requests without a session."""
    async with LocalServer(_rows(), api_key=KEY) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Any]:
    """A browser with an empty profile."""
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home")), "TZ": "Europe/Berlin"}
    async with chromium(env=environment) as launched:
        yield launched


@pytest.fixture
def opened(browser: Any, server: LocalServer) -> Open:
    """Opens the page; at its end it has contacted only the server, and has had no error."""

    @asynccontextmanager
    async def page_of(
        at: str = f"/#key={KEY}",
        of: str = server.url,
        *,
        refused: bool = False,
        zone: str | None = None,
        **options: Any,
    ) -> AsyncIterator[Any]:
        permissions = ["clipboard-read", "clipboard-write"]
        context = await browser.new_context(permissions=permissions, timezone_id=zone, **options)
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
        if "key=" in at:
            await settled(page)
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


async def settled(page: Any) -> None:
    """Wait until no query is running."""
    await playwright.expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    await playwright.expect(page.locator("#progress")).to_be_empty()


async def run_filter(page: Any, text: str = "") -> None:
    """Write a filter, press Enter and wait for the answer."""
    await page.locator("#filter").fill(text)
    await page.locator("#filter").press("Enter")
    await settled(page)


async def click_run(page: Any) -> None:
    """Run the query of the fields and wait for the answer."""
    await page.locator("#run").click()
    await settled(page)


async def open_settings(page: Any) -> None:
    await page.locator("#settings summary").click()


async def answer_of(server: LocalServer, *query: Any, **options: Any) -> SessionMetrics:
    """The answer that the client gets."""
    async with HeliconeClient(KEY, base_url=server.url, cautions="ignore") as client:
        return await client.get_metrics(*query, **options)


async def figures_in(page: Any) -> dict[str, float]:
    """The exact figures of the headline by name."""
    found: dict[str, float] = await page.evaluate(
        """() => Object.fromEntries([...document.querySelectorAll("#headline [data-figure]")].map((tile) =>
            [tile.dataset.figure, Number(tile.querySelector("data").value)]))"""
    )
    return found


def averages_of(metrics: SessionMetrics) -> dict[str, Any]:
    return {name: getattr(metrics.average, name) for name in UNITS}


async def bars_in(page: Any, metric: str) -> list[tuple[str, int]]:
    """The range and the number of sessions of each bar."""
    names = await page.locator(f"[data-metric={metric}] .column").evaluate_all(
        "all => all.map((one) => one.getAttribute('aria-label'))"
    )
    pairs = (name.rsplit(": ", 1) for name in names)
    return [(text, int(sessions.split()[0].replace(",", ""))) for text, sessions in pairs]


async def listed_in(page: Any) -> list[str]:
    """The first line of each listed session."""
    found: list[str] = await page.locator("#sessions tbody th > :first-child").all_text_contents()
    return found


@on_one_loop
async def test_the_page_opens_with_an_answer(opened: Open, server: LocalServer) -> None:
    """With the key of a link the page shows the metrics of all requests, without another step."""
    known = await answer_of(server, p_size="p95")
    async with opened() as page:
        figures = await figures_in(page)
        assert averages_of(known) == {name: figures[name] for name in UNITS}
        assert (18, pytest.approx(sum(row["cost"] for row in _rows()))) == (
            figures["Sessions"],
            figures["Total cost"],
        )
        await playwright.expect(page.locator("#access")).to_be_hidden()
        await playwright.expect(page.locator("#headline")).to_contain_text("122 requests")
        segments = await page.locator("#segments :is(tbody, tfoot) th").all_text_contents()
        assert ("All", {"a", "b\"'$x", "b\"'"}) == (segments.pop(), set(segments))
        assert 18 == len(await listed_in(page))


@on_one_loop
async def test_the_key_comes_by_the_address_and_leaves_it(opened: Open, server: LocalServer) -> None:
    """The page takes the key from a link, removes it from the address, and stores it nowhere."""
    async with opened(f"/#key={KEY}&by=provider") as page:
        assert f"{server.url}/#by=provider" == page.url
        assert [0, 0] == await page.evaluate("[localStorage.length, sessionStorage.length]")
        assert KEY not in await page.content()


@on_one_loop
async def test_the_key_is_entered_once(opened: Open) -> None:
    """Without a key the page asks for it alone; the field disappears once the key is accepted."""
    async with opened("/", refused=True) as page:
        key = page.get_by_label("API key")
        await playwright.expect(key).to_be_focused()
        await playwright.expect(page.locator("#query")).to_be_hidden()
        await key.fill("sk-wrong")
        await key.press("Enter")
        await playwright.expect(page.get_by_role("alert")).to_contain_text("not the server's key")
        await playwright.expect(key).to_have_value("")
        await key.fill(KEY)
        await key.press("Enter")
        await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(18)
        await playwright.expect(key).to_be_hidden()
        await page.get_by_role("button", name="Change key").click()
        await playwright.expect(key).to_be_focused()


@on_one_loop
async def test_a_key_with_a_space_is_not_sent(opened: Open) -> None:
    """A text that cannot be a key is refused before anything is sent."""
    async with opened("/") as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        for key, said in (("", "Enter the key first"), ("sk other", "no spaces")):
            await page.get_by_label("API key").fill(key)
            await page.get_by_label("API key").press("Enter")
            await text_of(page, "#access-problem", said)
        assert [] == asked


@on_one_loop
async def test_suggestions_are_shown_and_inserted(opened: Open) -> None:
    """While a word is typed, the columns that it can become are shown; keys and the mouse insert one."""
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


async def values_requested(page: playwright.Page) -> playwright.Route:
    """Type a condition whose values the page requests, and hold the request back."""
    held: asyncio.Queue[playwright.Route] = asyncio.Queue()
    await page.route("**/metrics/grid", held.put)
    await page.get_by_role("combobox", name="Filter").press_sequentially("model == ")
    return await held.get()


async def values_arrive(page: playwright.Page, request: playwright.Route) -> None:
    """Let the request for values through, and wait until the page has read the response."""
    async with page.expect_response("**/metrics/grid") as response:
        await request.continue_()
    await (await response.value).finished()
    # The page has read the response when it draws next.
    await page.evaluate("new Promise(requestAnimationFrame)")


@on_one_loop
@pytest.mark.parametrize("key", ["Escape", "Enter"])
async def test_values_that_arrive_late_do_not_open_a_dismissed_list(opened: Open, key: str) -> None:
    """After Escape or Enter, the list of suggestions stays closed until the reader types again."""
    async with opened() as page:
        box = page.get_by_role("combobox", name="Filter")
        options = page.locator("#options").get_by_role("option")
        request = await values_requested(page)
        await box.press(key)
        await values_arrive(page, request)
        await playwright.expect(options).to_have_count(0)
        await box.press_sequentially('"b')
        await playwright.expect(options).to_have_count(2)


@on_one_loop
async def test_values_that_arrive_late_keep_a_requested_list(opened: Open) -> None:
    """A list that the reader opened with Control+Space stays open, with its choice, when values arrive."""
    async with opened() as page:
        box = page.get_by_role("combobox", name="Filter")
        options = page.locator("#options").get_by_role("option")
        request = await values_requested(page)
        await box.fill("all ")
        await box.press("Control+Space")
        await playwright.expect(options).to_have_count(2)
        await box.press("ArrowDown")
        await box.press("ArrowDown")
        await values_arrive(page, request)
        await playwright.expect(options).to_have_count(2)
        await box.press("Enter")
        await playwright.expect(box).to_have_value("all or ")


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
async def test_suggestions_follow_the_grammar(opened: Open) -> None:
    """After each part of a filter, the words are suggested that the grammar allows there."""
    asked = {
        "country_code is not n": ["is not null"],
        "user_id is not n": [],
        "session_na": ["session_name", "session_session_name"],
        "session_name is not e": ["is not empty"],
        "cached == ": ["true", "false"],
        "cost between 1 ": ["and"],
        "cost between 1 and 2 ": ["and", "or"],
        "not (0.1 < prompt_cache_r": ["prompt_cache_read_tokens"],
        "threat and not cached ": ["and", "or", "==", "!=", "in (…)", "not in (…)", "is true", "is false"],
        "request_id != ": ['"…"'],
        "property_key ": ["=="],
        "status in (200, ": [],
        'user_id == "co': [],
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
        assert {"session_id", "session_name"} <= set(offered)
        plain = [name for name, facts in COLUMNS.items() if facts.kind is not Kind.MAP]
        assert [] == [name for name in plain if name not in offered]


@on_one_loop
async def test_values_of_the_data_are_suggested(opened: Open) -> None:
    """The values of a column are suggested after an operator, inside an open quote and in a list."""
    async with opened() as page:
        box = page.locator("#filter")
        options = page.locator("#options li b")
        await box.press_sequentially("model == ")
        await playwright.expect(options).to_have_text(['"a"', '"b\\"\'$x"', '"b\\"\'"', '"…"'])
        await box.press_sequentially('"b')
        await playwright.expect(options).to_have_count(2)
        await box.press("Enter")
        await playwright.expect(box).to_have_value(re.compile(r'model == "b\\"\'(\$x)?" '))
        await box.fill("")
        await box.press_sequentially("session_name in (")
        await box.press("Control+Space")
        await playwright.expect(options).to_have_text(['"chat"', '"search"'])
        await options.first.click()
        await playwright.expect(box).to_have_value('session_name in ("chat", ')


@on_one_loop
async def test_a_mistake_is_shown_while_it_is_typed(opened: Open) -> None:
    """An unknown column is reported at once with its position, and a button selects it."""
    async with opened() as page:
        box = page.locator("#filter")
        await box.press_sequentially('model == "😀" and cots > 1')
        said = await text_of(page, "#reading", "Did you mean 'cost'?")
        assert "line 1, column 18" in said
        assert "^~~~" in said
        assert "true" == await box.get_attribute("aria-invalid")
        await playwright.expect(page.locator("#copy")).to_be_disabled()
        await page.get_by_role("button", name="Go to the error").click()
        await playwright.expect(box).to_be_focused()
        assert "cots" == await box.evaluate("box => box.value.slice(box.selectionStart, box.selectionEnd)")
        await box.press_sequentially("cost")
        assert "cost gt 1 dollars" in await text_of(page, "#reading", "cost gt")
        assert "false" == await box.get_attribute("aria-invalid")


@on_one_loop
async def test_an_answer_that_was_overtaken_is_dropped(opened: Open) -> None:
    """The answer to an earlier text does not replace that to a later one."""
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
        await click_run(page)
        assert "first" not in await text_of(page, "#reading", "model equals 'second'")


@on_one_loop
async def test_the_means_are_those_of_the_client(opened: Open, server: LocalServer) -> None:
    """Means and cuts are the client's for the same query, rounded for reading."""
    options: dict[str, Any] = {"p_size": "p99", "use_interquartile": True, "name_contains": "chat"}
    known = await answer_of(server, parse_filter(TEXT), **options)
    async with opened() as page:
        await open_settings(page)
        await page.locator("#size").select_option("p99")
        await page.locator("#interquartile").check()
        await page.locator("#name").fill("chat")
        await run_filter(page, TEXT)
        figures = await figures_in(page)
        assert averages_of(known) == {name: figures[name] for name in UNITS}
        costs = page.locator("[data-figure=session_cost]")
        await playwright.expect(costs).to_contain_text(f"${known.average.session_cost:.2f}")
        await playwright.expect(costs).to_contain_text(f"p99 ${known.session_cost.quantile(0.99):.2f}")
        assert "near p99 and the mirrored quantile" in await text_of(page, "#cut")


@on_one_loop
@pytest.mark.parametrize("scale", ["equal", "log"])
async def test_bars_hold_whole_sessions_in_round_bins(opened: Open, scale: str) -> None:
    """Each session is in one bar, bars of requests have whole numbers, the last those beyond the cut."""
    rows = [
        {"request_created_at": START + timedelta(minutes=place), "cost": 0.01, "session_id": f"s{size}"}
        for size in (*range(1, 31), 100)
        for place in range(size)
    ]
    async with LocalServer(rows, api_key=KEY) as many, opened(of=many.url) as page:
        await page.locator("#scale").select_option(scale)
        await settled(page)
        counts, costs = await bars_in(page, "session_count"), await bars_in(page, "session_cost")
    starts = [int(text.split()[0]) for text, _ in counts]
    ends = [start - 1 for start in starts[1:]]
    sizes = [min(end, 30) - start + 1 for start, end in zip(starts, ends, strict=False)]
    assert sizes == [sessions for _, sessions in counts[:-1]]
    assert counts[-1] == (f"{starts[-1]} and more", 1)
    assert 31 == sum(sessions for _, sessions in costs)
    widths = {end - start for start, end in itertools.pairwise(starts)}
    assert (len(widths) == 1) == (scale == "equal")


CHECK_BINS = """(source) => {
    const { edgesOf, labelOf } = new Function(`${source}; return { edgesOf, labelOf };`)();
    const wrong = [];
    for (let place = 0; place < 20000; place += 1) {
        const unit = ["requests", "seconds", "dollars"][place % 3];
        const size = (digits) => 10 ** (Math.random() * digits);
        const whole = unit === "dollars" ? (value) => Math.round(value * 1e3) / 1e9 : Math.floor;
        const low = Math.random() < 0.3 ? Number(unit === "requests") : whole(size(7));
        const high = low + (Math.random() < 0.1 ? 0 : whole(size(8)));
        for (const scale of ["equal", "log"]) {
            const edges = edgesOf(unit, low, high, scale);
            const names = new Set(edges.slice(1).map((end, at) => labelOf(unit, edges[at], end)));
            const isRising = edges.every((edge, at) => at === 0 || edge > edges[at - 1]);
            const isWhole = unit !== "requests" || edges.every(Number.isInteger);
            const covers = edges[0] <= low && edges.at(-1) > high;
            const isShort = edges.length > 1 && edges.length <= 14 && names.size === edges.length - 1;
            if (!(isRising && isWhole && covers && isShort)) wrong.push([unit, scale, low, high, edges]);
        }
    }
    return wrong.slice(0, 3);
}"""


@on_one_loop
async def test_any_figures_have_bins(browser: Any) -> None:
    """Whatever the range, at most thirteen rising bins cover it, each with another name."""
    scripts = files("helicone_sessions.local.http.page")
    source = "".join(scripts.joinpath(name).read_text("utf-8") for name in ("numbers.js", "bins.js"))
    page = await browser.new_page()
    assert [] == await page.evaluate(CHECK_BINS, source)
    await page.close()


@on_one_loop
@pytest.mark.parametrize(
    ("metric", "figure"),
    [("session_cost", "cost"), ("session_duration", "seconds"), ("session_count", "requests")],
)
async def test_a_bar_lists_its_sessions(opened: Open, metric: str, figure: str) -> None:
    """A click or Enter on a bar lists as many sessions as the bar counts, with figures in its range."""
    figures = {session["id"]: session[figure] for session in sessions_of(_rows())}
    async with opened() as page:
        bars = page.locator(f"[data-metric={metric}] .column")
        seen: list[str] = []
        for place, (text, sessions) in enumerate(await bars_in(page, metric)):
            if not sessions:
                continue
            async with page.expect_response("**/metrics/sessions"):
                await bars.nth(place).press("Enter")
            await playwright.expect(page.locator("#sessions-note")).to_contain_text(text)
            await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(sessions)
            await playwright.expect(page.locator("#sessions-title")).to_be_focused()
            await playwright.expect(bars.nth(place)).to_have_attribute("aria-pressed", "true")
            found = [name.replace("(requests without a session id)", "") for name in await listed_in(page)]
            assert not seen or min(figures[name] for name in found) >= max(figures[name] for name in seen)
            seen += found
        assert sorted(seen) == sorted(figures)
        await page.get_by_role("button", name="Show all sessions").click()
        await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(18)


@on_one_loop
async def test_arrow_keys_move_between_bars(opened: Open) -> None:
    """A histogram is one stop of the Tab key, and arrows, Home and End move inside it."""
    async with opened() as page:
        bars = page.locator("[data-metric=session_cost] .column")
        last = await bars.count() - 1
        await bars.first.focus()
        for key, place in (("ArrowRight", 1), ("End", last), ("ArrowLeft", last - 1), ("Home", 0)):
            await page.keyboard.press(key)
            await playwright.expect(bars.nth(place)).to_be_focused()
        assert [0] + [-1] * last == await bars.evaluate_all("all => all.map((one) => one.tabIndex)")


@on_one_loop
async def test_requests_without_a_session_can_be_left_out(opened: Open) -> None:
    """The page says how many requests have no session id, and leaves them out of everything on request."""
    async with opened() as page:
        note = page.get_by_text("2 requests without a session id count as one session")
        await playwright.expect(note).to_be_visible()
        await playwright.expect(
            page.get_by_label("Without requests that have no session id (2 requests)")
        ).to_be_visible()
        await page.get_by_role("button", name="Leave them out").click()
        await settled(page)
        await playwright.expect(note).to_be_hidden()
        await playwright.expect(page.locator("#unsessioned")).to_have_text("(2 requests)")
        assert 17 == (await figures_in(page))["Sessions"]
        assert 17 == len(await listed_in(page))
        assert 17 == sum(sessions for _, sessions in await bars_in(page, "session_cost"))
        assert "17" == await page.locator("#segments tfoot td").nth(1).text_content()
        assert "~(F.properties['Helicone-Session-Id'] == '')" in await text_of(page, "#python")
        assert "--without-unsessioned" in await text_of(page, "#command")


@on_one_loop
async def test_sessions_are_sorted_by_a_column(opened: Open) -> None:
    """The head of a column sorts the list of sessions, and a second click turns the order around."""
    order = sorted(sessions_of(_rows()), key=lambda one: (one["requests"], one["id"]))
    async with opened() as page:
        head = page.get_by_role("columnheader", name="Requests").filter(has=page.locator("button"))
        for direction, sessions in (("descending", order[::-1]), ("ascending", order)):
            async with page.expect_response("**/metrics/sessions"):
                await head.get_by_role("button").click()
            await playwright.expect(head).to_have_attribute("aria-sort", direction)
            shown = await page.locator("#sessions td:nth-last-child(2)").all_text_contents()
            assert [str(one["requests"]) for one in sessions] == shown


@on_one_loop
async def test_more_sessions_are_shown_on_request(opened: Open) -> None:
    """The list begins with the most expensive sessions, and a button shows more."""
    rows = [{"request_created_at": START, "cost": n / 100, "session_id": f"s{n:02}"} for n in range(50)]
    async with LocalServer(rows, api_key=KEY) as many, opened(of=many.url) as page:
        assert [f"s{n:02}" for n in range(49, 29, -1)] == await listed_in(page)
        await text_of(page, "#sessions-note", "20 of 50 sessions")
        await page.get_by_role("button", name="Show more").click()
        await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(50)
        await playwright.expect(page.get_by_role("button", name="Show more")).to_be_hidden()


@on_one_loop
async def test_segments_have_all_figures(opened: Open, server: LocalServer) -> None:
    """Segments are rows with the figures of their queries, the most expensive first."""
    async with opened() as page:
        await page.locator("#by").select_option("session_name")
        await playwright.expect(page.locator("#segments tbody th").first).to_contain_text("chat")
        rows = await page.locator("#segments :is(tbody, tfoot) tr").evaluate_all(
            "all => all.map((row) => [row.querySelector('th').textContent,"
            " ...[...row.querySelectorAll('data')].map((one) => Number(one.value))])"
        )
        names = {"chat": F.session_name == "chat", "(empty)": F.session_name.is_empty(), "All": ALL}
        assert ["chat", "search", "(empty)", "All"] == [name for name, *_ in rows]
        for name, dollars, sessions, requests, mean, cut, mean_requests, seconds in rows:
            if name == "search":
                continue
            known = await answer_of(server, names[name], p_size="p95")
            assert [mean_requests, seconds, mean] == list(averages_of(known).values())
            assert (cut, requests) == (known.session_cost.quantile(0.95), round(sessions * mean_requests))
            assert dollars == pytest.approx(sessions * mean)


@on_one_loop
async def test_a_segment_narrows_the_filter(opened: Open) -> None:
    """A click on a segment adds its condition to the filter, whatever the signs in its value."""
    async with opened() as page:
        await run_filter(page, "latency >= 1 or cost > 0.05")
        await page.locator("#segments tbody button").filter(has_text="$x").click()
        await playwright.expect(page.locator("#filter")).to_have_value(
            '(latency >= 1 or cost > 0.05) and model == "b\\"\'$x"'
        )
        await settled(page)
        await playwright.expect(page.locator("#segments tbody tr")).to_have_count(1)


@on_one_loop
async def test_a_session_narrows_the_filter(opened: Open) -> None:
    """A click on a session shows that session alone."""
    async with opened() as page:
        await page.locator("#sessions tbody button").filter(has_text="s3").click()
        await playwright.expect(page.locator("#filter")).to_have_value('session_id == "s3"')
        await settled(page)
        assert ["s3"] == await listed_in(page)


@on_one_loop
async def test_a_property_gives_segments(opened: Open) -> None:
    """Segments can be the values of a property, whose key is entered."""
    async with opened() as page:
        await page.locator("#by").select_option("properties")
        await text_of(page, "#segments-problem", "Enter the key")
        await page.locator("#property").fill("Helicone-Session-Name")
        await page.locator("#property").press("Enter")
        await playwright.expect(page.locator("#segments tbody tr")).to_have_count(3)
        await page.locator("#segments tbody button").first.click()
        await playwright.expect(page.locator("#filter")).to_have_value(
            'properties["Helicone-Session-Name"] == "chat"'
        )


@on_one_loop
async def test_the_time_line_has_whole_periods_of_the_zone(opened: Open) -> None:
    """Columns are whole hours or days of the browser's zone, and a period that the time cuts is marked."""
    in_berlin = START.astimezone(ZoneInfo("Europe/Berlin"))
    async with opened() as page:
        await page.locator("#every").select_option("day")
        columns = page.locator("#timeline .column")
        await playwright.expect(columns).to_have_count(1)
        await playwright.expect(columns).to_have_attribute("aria-label", re.compile(r"^1 Nov: \$7\.\d\d$"))
        await page.locator("#quantity").select_option("requests")
        await playwright.expect(columns).to_have_attribute("aria-label", "1 Nov: 122")
        await page.locator("#every").select_option("hour")
        hours = {(in_berlin + timedelta(minutes=7 * number)).hour for number in range(120)}
        await playwright.expect(columns).to_have_count(len(hours))
        # The first hour has the requests at 0, 7, … and 56 minutes.
        await playwright.expect(columns.first).to_have_attribute("aria-label", "1 Nov, 01:00: 9")
        await page.locator("#time").select_option("between")
        await page.locator("#from").fill("2026-11-01T01:30:00")
        await page.locator("#to").fill("2026-11-01T04:00:00")
        await click_run(page)
        await playwright.expect(columns).to_have_count(3)
        await playwright.expect(columns.first).to_have_attribute("aria-label", re.compile("partial period"))
        await text_of(page, "#timeline", "only a part of the hour")


@on_one_loop
async def test_a_period_can_be_shown_alone(opened: Open) -> None:
    """Enter on a column of the time line shows its time alone, with every request of the period."""
    async with opened() as page:
        await page.locator("#every").select_option("hour")
        await playwright.expect(page.locator("#timeline .column")).not_to_have_count(1)
        await page.locator("#timeline .column").nth(7).press("Enter")
        await playwright.expect(page.locator("#from")).to_have_value("2026-11-01T08:00")
        await settled(page)
        # A request at 7:00 UTC is the first of the hour.
        await playwright.expect(page.locator("#headline")).to_contain_text("9 requests")


@on_one_loop
async def test_too_many_periods_are_refused(opened: Open) -> None:
    """A time line of thousands of columns is refused with the remedy, and the other parts stay."""
    async with opened() as page:
        await page.locator("#every").select_option("hour")
        await page.locator("#time").select_option("90")
        await click_run(page)
        rows = [{"request_created_at": datetime.now(UTC) - timedelta(days=1), "session_id": "s"}]
    async with LocalServer(rows, api_key=KEY) as recent, opened(of=recent.url) as page:
        await page.locator("#every").select_option("hour")
        await page.locator("#time").select_option("90")
        await click_run(page)
        assert "Choose longer periods" in await text_of(page, "#segments-problem", "more than 400 periods")
        assert ["s"] == await listed_in(page)


@on_one_loop
async def test_a_problem_of_the_breakdown_stays_there(opened: Open) -> None:
    """If only the breakdown fails, the page says why in its place and shows the rest."""
    async with opened(refused=True) as page:
        failure = {"data": None, "error": "model has more than 5 values"}
        await page.route("**/metrics/grid", lambda route: route.fulfill(status=500, json=failure))
        await page.locator("#top").select_option("50")
        await text_of(page, "#segments-problem", "The query failed: model has more than 5 values")
        await playwright.expect(page.locator("#segments")).to_be_empty()
        assert 18 == len(await listed_in(page))


@on_one_loop
async def test_the_state_is_in_the_address(opened: Open, server: LocalServer) -> None:
    """The address restores the query, the breakdown and the bar in every zone, and has no key."""
    async with opened() as page:
        await open_settings(page)
        await page.locator("#size").select_option("p50")
        await page.locator("#time").select_option("between")
        await page.locator("#from").fill("2026-11-01T02:00:00")
        await page.locator("#to").fill("2026-11-01T12:30:00")
        await page.locator("#by").select_option("session_name")
        await page.locator("#every").select_option("hour")
        await run_filter(page, TEXT)
        async with page.expect_response("**/metrics/sessions"):
            await page.locator("[data-metric=session_cost] .column").last.click()
        note = await text_of(page, "#sessions-note", "and more")
        address = page.url
    assert KEY not in address
    shared = address.replace("/#", f"/#key={KEY}&")
    async with opened(shared.removeprefix(server.url), zone="Asia/Kabul") as page:
        assert address == page.url
        await playwright.expect(page.locator("#filter")).to_have_value(TEXT)
        await playwright.expect(page.locator("#size")).to_have_value("p50")
        await playwright.expect(page.locator("#from")).to_have_value("2026-11-01T05:30")
        await playwright.expect(page.locator("#by")).to_have_value("session_name")
        await playwright.expect(page.locator("#every")).to_have_value("hour")
        await playwright.expect(page.locator("#sessions-note")).to_have_text(note)


@on_one_loop
async def test_the_back_button_returns_to_the_query_before(opened: Open) -> None:
    """Back and forward restore a query and run it again."""
    async with opened() as page:
        await run_filter(page, "latency >= 1")
        await run_filter(page, "latency >= 4")
        fewer = (await figures_in(page))["Total cost"]
        await page.go_back()
        await playwright.expect(page.locator("#filter")).to_have_value("latency >= 1")
        await settled(page)
        assert fewer < (await figures_in(page))["Total cost"]
        await page.go_forward()
        await playwright.expect(page.locator("#filter")).to_have_value("latency >= 4")
        await settled(page)
        assert fewer == (await figures_in(page))["Total cost"]


@on_one_loop
async def test_without_a_match_the_page_helps(opened: Open) -> None:
    """An empty answer names the next step, and for the cost of one request the column of whole sessions."""
    async with opened() as page:
        await run_filter(page, "latency > 100")
        await text_of(page, "#empty", "Try a longer time range or fewer conditions.")
        await run_filter(page, 'model == "a" and cost > 3')
        await text_of(page, "#empty", "For the cost of whole sessions use session_total_cost > 3.")
        await playwright.expect(page.locator("#found")).to_be_hidden()
        await run_filter(page, "session_total_cost > 0.4")
        await playwright.expect(page.locator("#empty")).to_be_hidden()
    async with LocalServer([], api_key=KEY) as empty, opened(of=empty.url) as page:
        await text_of(page, "#empty", "This server has no requests yet")


@on_one_loop
async def test_a_server_with_the_services_semantics_has_no_breakdown(opened: Open) -> None:
    """A server that reads filters as Helicone's does has no grids: the rest of the page works."""
    async with (
        LocalServer(_rows(), api_key=KEY, semantics="helicone") as service,
        opened(of=service.url) as page,
    ):
        assert 18 == (await figures_in(page))["Sessions"]
        assert 18 == len(await listed_in(page))
        await playwright.expect(page.locator("#breakdown")).to_be_hidden()


@on_one_loop
async def test_the_filter_is_shown_as_it_is_sent(opened: Open) -> None:
    """The JSON of the filter is what the package makes of the same text."""
    async with opened() as page:
        await run_filter(page, TEXT)
        assert parse_filter(TEXT).to_wire() == json.loads(await text_of(page, "#wire"))


async def copied(page: Any, name: str) -> str:
    await page.get_by_role("tab", name=name).click()
    await page.get_by_role("button", name="Copy").click()
    await playwright.expect(page.locator("#copied")).to_have_text("Copied.")
    text: str = await page.evaluate("navigator.clipboard.readText()")
    assert KEY not in text
    return text


async def run(*command: str) -> str:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "HELICONE_API_KEY": KEY, "PATH": path}
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
    await open_settings(page)
    await page.locator("#size").select_option("p99.9")
    await page.locator("#interquartile").check()
    await page.locator("#sessioned").check()
    await page.locator("#name").fill("chat")
    await run_filter(page, f"{TEXT} and request_created_at > 2026-10-01T00:00:00Z")
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
    """Pasted into a file, it prints the figures of the page."""
    async with opened() as page:
        options = await fill_everything(page)
        program = await copied(page, "Python")
        shown = await figures_in(page)
    known = await answer_of(server, options.pop("filter"), **options)
    assert averages_of(known) == {name: shown[name] for name in UNITS}
    assert known.session_count.total > 0
    lines = [str(known.average), *map(str, known.to_rows())]
    assert lines == (await run(sys.executable, "-c", program)).splitlines()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@on_one_loop
async def test_the_curl_that_is_copied_runs(opened: Open) -> None:
    """Pasted into a shell, it returns the figures of the page."""
    async with opened() as page:
        await fill_everything(page)
        command = await copied(page, "curl")
        shown = await figures_in(page)
    answer = json.loads(await run("/bin/sh", "-c", command))
    assert averages_of(metrics_from(answer["data"])) == {name: shown[name] for name in UNITS}


@on_one_loop
async def test_the_command_that_is_copied_runs(opened: Open) -> None:
    """Pasted into a shell, the command prints the figures of the page."""
    async with opened() as page:
        await fill_everything(page)
        command = await copied(page, "Command line")
        shown = await figures_in(page)
    assert "--without-unsessioned" in command
    rows = json.loads(await run("/bin/sh", "-c", f"{command.rstrip()} --output json"))
    assert {row["metric"]: row["average"] for row in rows} == {name: shown[name] for name in UNITS}


@on_one_loop
async def test_tabs_are_worked_with_arrows(opened: Open) -> None:
    """Arrow keys select the language of the code, and only its panel is shown."""
    async with opened() as page:
        await page.get_by_role("tab", name="Python").focus()
        for key, tab, panel in (
            ("ArrowRight", "Command line", "command"),
            ("End", "Filter as JSON", "wire"),
            ("ArrowRight", "Python", "python"),
        ):
            await page.keyboard.press(key)
            await playwright.expect(page.get_by_role("tab", name=tab)).to_be_focused()
            assert [panel] == await page.locator("[role=tabpanel]:visible").evaluate_all(
                "all => all.map((one) => one.id)"
            )


@on_one_loop
async def test_the_last_days_are_asked_for_up_to_now(opened: Open) -> None:
    """A number of days is sent as two instants, and stays a number of days in the code."""
    async with opened() as page:
        await page.locator("#time").select_option("7")
        async with page.expect_request("**/query") as made:
            await click_run(page)
        body = (await made.value).post_data_json
        times = body["timeFilter"]
        # The API excludes the start, so it is a millisecond earlier.
        length = timedelta(milliseconds=times["endTimeUnixMs"] - times["startTimeUnixMs"] - 1)
        assert timedelta(days=7) == length
        assert {"nameContains", "timezoneDifference", "pSize", "timeFilter"} == body.keys()
        assert "TimeFilter.last(days=7)" in await text_of(page, "#python")
        assert "--last 7d" in await text_of(page, "#command")


@on_one_loop
@pytest.mark.parametrize(
    ("zone", "said"),
    [("America/Bogota", "UTC−05:00"), ("Asia/Kabul", "UTC+04:30")],  # noqa: RUF001 - a minus
)
async def test_the_zone_of_the_times_is_shown(opened: Open, zone: str, said: str) -> None:
    """The page names the zone in which it shows and takes times."""
    async with opened(zone=zone) as page:
        assert f"{zone}, {said}" == await text_of(page, "#zone")


@on_one_loop
@pytest.mark.parametrize(
    ("start", "end", "said"),
    [
        ("2026-11-01T12:00:00", "2026-11-01T12:00:00", "The time range ends before it starts"),
        ("2026-11-02T12:00:00", "2026-11-01T12:00:00", "The time range ends before it starts"),
        ("", "2026-11-01T12:00:00", "The time range needs a start"),
    ],
)
async def test_a_time_without_length_is_not_asked_for(opened: Open, start: str, end: str, said: str) -> None:
    """A time that ends before it starts is refused before anything is sent."""
    async with opened() as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        await page.locator("#time").select_option("between")
        await page.locator("#from").fill(start)
        await page.locator("#to").fill(end)
        await page.locator("#run").click()
        await text_of(page, "#problem", said)
        await text_of(page, "#python", said)
        assert [] == asked
        await page.locator("#from").fill("2026-11-01T11:59:59")
        await playwright.expect(page.locator("#problem")).to_be_hidden()
        await click_run(page)


@on_one_loop
async def test_an_answer_to_an_earlier_query_is_marked(opened: Open) -> None:
    """When the query changes, the answer is marked as an earlier one's until the query runs."""
    async with opened() as page:
        await open_settings(page)
        note = page.get_by_text("The query changed.")
        await playwright.expect(note).to_be_hidden()
        for change in (page.locator("#name"), page.locator("#filter")):
            await change.fill("latency > 0")
            await playwright.expect(note).to_be_visible()
            await click_run(page)
            await playwright.expect(note).to_be_hidden()


@on_one_loop
async def test_a_change_during_a_query_marks_its_answer(opened: Open) -> None:
    """An answer to the query before a change is marked as such."""
    async with opened() as page:
        await open_settings(page)
        held: asyncio.Queue[Any] = asyncio.Queue()
        await page.route("**/query", held.put)
        for change in (page.locator("#name"), page.locator("#filter")):
            await page.locator("#run").click()
            route = await held.get()
            await change.fill("latency > 0")
            await route.continue_()
            await settled(page)
            await playwright.expect(page.get_by_text("The query changed.")).to_be_visible()


@on_one_loop
async def test_a_query_carries_the_key_and_no_cookie(opened: Open) -> None:
    """Cookies that other programs on this machine have set are not sent."""
    async with opened() as page:
        await page.context.add_cookies([{"name": "other", "value": "secret", "url": page.url}])
        async with page.expect_request("**/query") as made:
            await click_run(page)
        headers = await (await made.value).all_headers()
        assert f"Bearer {KEY}" == headers["authorization"]
        assert "cookie" not in headers


@on_one_loop
async def test_a_redirect_is_not_followed(opened: Open) -> None:
    """A redirect is not followed, so that no other server gets the key."""
    async with opened(refused=True) as page:
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url.removeprefix(page.url)))
        elsewhere = {"Location": f"{page.url}elsewhere"}
        await page.route("**/query", lambda route: route.fulfill(status=307, headers=elsewhere))
        await page.locator("#run").click()
        await text_of(page, "#problem", "The server does not respond")
        assert ["v1/session/metrics/query"] == asked


@on_one_loop
async def test_a_wrong_key_is_reported(opened: Open) -> None:
    """With a wrong key the page explains where the right one is, asks for it, and goes on with it."""
    async with opened("/#key=sk-wrong&filter=cost%20%3E%200.05", refused=True) as page:
        assert "The server prints its key" in await text_of(page, "#access-problem", "not the server's key")
        await page.locator("#key").fill(KEY)
        await page.locator("#key").press("Enter")
        await playwright.expect(page.locator("#sessions tbody tr")).not_to_have_count(0)
        assert "cost gt 0.05 dollars" in await text_of(page, "#reading", "cost")


@on_one_loop
async def test_a_filter_that_is_too_long_is_reported(opened: Open) -> None:
    """A filter that is too long for the server is reported, in the place of the code too."""
    async with opened(refused=True) as page:
        await page.locator("#filter").fill(f'model == "{"x" * 70_000}"')
        for place in ("#reading", "#python", "#wire"):
            assert "Make it shorter." in await text_of(page, place, "The filter is too long")
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
    """The code imports the names that it uses, and no words from the constants of a filter."""
    async with opened() as page:
        await page.locator("#filter").fill(text)
        program = await text_of(page, "#python", "import")
    assert f"import asyncio\n\nfrom helicone_sessions import {names}\n" in program


@on_one_loop
async def test_input_is_never_html(opened: Open) -> None:
    """Elements in a filter, a name or the data stay text, wherever they are shown."""
    evil = "<img src=x onerror=alert(1)>"
    names = ("model", "session_id", "session_name")
    rows = [{"request_created_at": START, **dict.fromkeys(names, evil)}]
    async with LocalServer(rows, api_key=KEY) as wild, opened(of=wild.url) as page:
        assert [evil] == await listed_in(page)
        assert evil in await text_of(page, "#segments", "img")
        await open_settings(page)
        await page.locator("#name").fill(evil)
        await page.locator("#filter").fill(f'model == "{evil}" and {evil}')
        assert evil in await text_of(page, "#reading", "onerror")
        await run_filter(page, f'model == "{evil}" or properties["{evil}"] == "</script><b>"')
        assert evil in await text_of(page, "#reading", "any of")
        assert evil in await text_of(page, "#python", evil)
        assert 0 == await page.locator("img, b, main script").count()


@on_one_loop
async def test_the_rate_limit_is_reported(opened: Open) -> None:
    """When the rate limit is reached, the page says when to try again, and keeps the answer before."""
    async with (
        # The page sends four requests: metrics, bars, breakdown and sessions.
        LocalServer(_rows(), api_key=KEY, rate_limit=4) as limited,
        opened(of=limited.url, refused=True) as page,
    ):
        await click_run(page)
        assert "Try again in" in await text_of(page, "#problem", "The rate limit is reached")
        assert 18 == len(await listed_in(page))


@on_one_loop
async def test_a_query_that_fails_is_reported(opened: Open) -> None:
    """When the engine refuses a query, the reason is shown, and the query can be run again."""
    async with opened(refused=True) as page:
        await page.locator("#filter").fill('node_id == "x"')
        await page.locator("#filter").press("Enter")
        assert "node_id" in await text_of(page, "#problem", "The query failed:")
        await page.get_by_role("button", name="Try again").click()
        await settled(page)
        await text_of(page, "#problem", "The query failed:")


@on_one_loop
async def test_a_query_can_be_stopped(opened: Open) -> None:
    """While a query runs, the button stops it; then it runs the query again."""
    async with opened() as page:
        held: asyncio.Queue[Any] = asyncio.Queue()
        await page.route("**/query", held.put)
        await page.get_by_role("button", name="Run", exact=True).click()
        await held.get()
        await playwright.expect(page.locator("#progress")).to_have_text("Running …")
        await page.get_by_role("button", name="Stop").click()
        await playwright.expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()
        await playwright.expect(page.locator("#trouble")).to_be_hidden()
        await page.unroute("**/query")
        await click_run(page)
        assert 18 == len(await listed_in(page))


@on_one_loop
async def test_the_page_outlives_its_server(opened: Open) -> None:
    """The page reports a server that is gone, and goes on when it is back."""
    first = LocalServer(_rows(), api_key=KEY)
    await first.start()
    url = first.url
    async with opened(of=url, refused=True) as page:
        try:
            await run_filter(page, "cost > 0.05")
        finally:
            await first.aclose()
        await page.locator("#run").click()
        await text_of(page, "#problem", "The server does not respond")
        async with LocalServer(_rows(), api_key=KEY, port=int(url.rpartition(":")[2])):
            await page.locator("#run").click()
            await playwright.expect(page.locator("#problem")).to_be_hidden()
            assert "cost gt 0.05 dollars" in await text_of(page, "#reading", "cost")


def overlapping(boxes: list[dict[str, float]]) -> list[tuple[int, int]]:
    """The pairs of boxes that overlap."""
    return [
        (one, other)
        for other in range(len(boxes))
        for one in range(other)
        if boxes[one]["left"] < boxes[other]["right"]
        and boxes[other]["left"] < boxes[one]["right"]
        and boxes[one]["top"] < boxes[other]["bottom"]
        and boxes[other]["top"] < boxes[one]["bottom"]
    ]


async def check_picture(page: Any, picture: str) -> None:
    """Check that bars can be seen and that texts are inside and do not overlap."""
    boxes_of = "all => all.map((one) => one.getBoundingClientRect())"
    [frame] = await page.locator(picture).evaluate_all(boxes_of)
    words = await page.locator(f"{picture} text").evaluate_all(boxes_of)
    bars = await page.locator(f"{picture} .bar").evaluate_all(boxes_of)
    assert [] == overlapping(words)
    outside = [box for box in words if box["left"] < frame["left"] - 1 or box["right"] > frame["right"] + 1]
    assert [] == outside
    assert min(box["width"] for box in bars) > 1


PICTURES = (*(f"figure[data-metric={metric}] svg" for metric in UNITS), "#timeline svg")


@on_one_loop
async def test_nothing_is_cut_off(opened: Open) -> None:
    """On a phone and on a desktop, light and dark, the page is never wider than its window."""
    async with opened() as page:
        await run_filter(page, TEXT)
        await page.locator("#rows summary").click()
        for width, scheme in itertools.product((320, 390, 1200), ("light", "dark")):
            await page.set_viewport_size({"width": width, "height": 800})
            await page.emulate_media(color_scheme=scheme)
            assert width >= await page.evaluate("document.documentElement.scrollWidth")
            for picture in PICTURES:
                await check_picture(page, picture)
            style = "body => [getComputedStyle(body).backgroundColor, getComputedStyle(body).color]"
            back, front = await page.locator("body").evaluate(style)
            assert (scheme == "light") == (int(back[4:].split(",")[0]) > 200)
            assert back != front


@on_one_loop
async def test_on_a_phone_the_answer_comes_into_view(opened: Open) -> None:
    """After Run the answer is on the screen and has the focus; after a mistake the filter has both."""
    phone = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
    async with opened(**phone) as page:
        await open_settings(page)
        await page.locator("#run").click()
        await settled(page)
        await playwright.expect(page.locator("#headline")).to_be_in_viewport()
        await playwright.expect(page.locator("#answer-title")).to_be_focused()
        await page.locator("#filter").fill("cots > 1")
        await text_of(page, "#reading", "Did you mean")
        await page.locator("#size").scroll_into_view_if_needed()
        await page.locator("#run").click()
        await playwright.expect(page.locator("#filter")).to_be_focused()
        await playwright.expect(page.locator("#filter")).to_be_in_viewport()


@on_one_loop
async def test_the_first_answer_takes_the_place_that_waits_for_it(opened: Open) -> None:
    """While the first query runs, its place is reserved, so that the headline does not move."""
    async with opened("/") as page:
        held: asyncio.Queue[Any] = asyncio.Queue()
        await page.route("**/query", held.put)
        await page.evaluate(f"location.hash = '#key={KEY}'")
        route = await held.get()
        box = "all => all.map((one) => [one.getBoundingClientRect().top, one.getBoundingClientRect().height])"
        before = await page.locator("#headline, #distribution-title").evaluate_all(box)
        await route.continue_()
        await settled(page)
        await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(18)
        assert before[0] == (await page.locator("#headline").evaluate_all(box))[0]


AXE = axe_source()


@pytest.mark.skipif(AXE is None, reason="axe-core is not installed: npm install axe-core")
@on_one_loop
@pytest.mark.parametrize("kind", ["light", "dark", "phone"])
async def test_axe_finds_no_serious_violation(opened: Open, kind: str) -> None:
    """axe-core finds no serious violation, from the field for the key to an open list of sessions."""
    viewport = {"width": 390, "height": 844} if kind == "phone" else {"width": 1280, "height": 800}
    scheme = "dark" if kind == "dark" else "light"

    async def check(page: Any) -> None:
        await page.evaluate(AXE)
        found = await page.evaluate("axe.run({resultTypes: ['violations']}).then((all) => all.violations)")
        serious = [(one["id"], one["nodes"]) for one in found if one["impact"] in ("serious", "critical")]
        assert [] == serious

    async with opened("/", viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as page:
        await check(page)
        await page.locator("#key").fill(KEY)
        await page.locator("#key").press("Enter")
        await playwright.expect(page.locator("#segments tbody tr")).to_have_count(3)
        await playwright.expect(page.locator("#sessions tbody tr")).to_have_count(18)
        await check(page)
        await page.locator("[data-metric=session_cost] .column").last.press("Enter")
        await playwright.expect(page.locator("#leave-bar")).to_be_visible()
        await page.locator("#rows summary").click()
        await open_settings(page)
        await check(page)
        await page.locator("#filter").fill('cost > 3 and helicone-score-feedback or model contains "zz"')
        await text_of(page, "#reading", "open-source server reads this filter differently")
        await check(page)
        await page.locator("#filter").press("Enter")
        await settled(page)
        await playwright.expect(page.locator("#empty")).to_be_visible()
        await page.locator("#filter").fill("cots > 1")
        await text_of(page, "#reading", "Did you mean")
        await check(page)


@on_one_loop
@pytest.mark.parametrize("costs", [[0.0], [0.01] * 30 + [9_000.0], [1e-9, 3e5]])
async def test_whatever_the_numbers_the_pictures_can_be_read(opened: Open, costs: list[float]) -> None:
    """With one session, equal ones, or a mean far beyond the cut, bars can be seen and no texts overlap."""
    rows = [
        {"request_created_at": START + timedelta(hours=place), "cost": cost, "session_id": f"s{place}"}
        for place, cost in enumerate(costs)
    ]
    async with LocalServer(rows, api_key=KEY, cost_unit="dollars") as odd, opened(of=odd.url) as page:
        for scale in ("auto", "equal", "log"):
            await page.locator("#scale").select_option(scale)
            await settled(page)
            for picture in PICTURES:
                await check_picture(page, picture)
            for metric in UNITS:
                assert len(rows) == sum(sessions for _, sessions in await bars_in(page, metric))
