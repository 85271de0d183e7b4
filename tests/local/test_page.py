"""The page over plain HTTP: the document, its policy, and how the server reads a filter for it."""

import base64
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import aiohttp
import pytest
import pytest_asyncio

from helicone_sessions import F, PSize, parse_filter
from helicone_sessions.filters.schema import ALIASES, COLUMNS
from helicone_sessions.filters.tokens import OPERATORS_OF
from helicone_sessions.local import LocalServer
from helicone_sessions.local.http.page import document
from helicone_sessions.messages.grid_query import GroupBy
from helicone_sessions.messages.metrics import UNITS

pytest.importorskip("chdb", reason="the extra `local` is not installed")

KEY = "sk-local-of-the-page"
READ = "/v1/filter"
TOO_LONG = 70_000
on_one_loop = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[LocalServer]:
    """A server that answers one query in each window of its rate limit."""
    rows = [{"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5, "session_id": "s"}]
    async with LocalServer(rows, api_key=KEY, rate_limit=1) as server:
        yield server


class Parts(HTMLParser):
    """The elements of a page, and the texts of its styles and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.attributes.append((tag, given))
        self._inside = given.get("type") or tag

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def handle_endtag(self, _tag: str) -> None:
        self._inside = ""


@pytest.fixture(scope="module")
def parts() -> Parts:
    """The parts of the page."""
    return Parts(document()[0])


@pytest.fixture(scope="module")
def facts(parts: Parts) -> Any:
    """The facts about the API that the page has."""
    return json.loads(parts.texts["application/json"])


async def read(server: LocalServer, **options: Any) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with (
        aiohttp.ClientSession(server.url) as session,
        session.post(READ, **{"headers": headers, **options}) as answer,
    ):
        text = await answer.text()
        return answer.status, json.loads(text) if "json" in answer.content_type else text


def digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


# The document


@pytest.mark.promise(name="S10")
@on_one_loop
async def test_the_page_needs_no_key_and_is_not_kept(server: LocalServer) -> None:
    """A browser gets the page without a key, as HTML that no cache keeps and no frame shows."""
    async with aiohttp.ClientSession(server.url) as session, session.get("/") as answer:
        text = await answer.text()
    assert (200, "text/html", "utf-8") == (answer.status, answer.content_type, answer.charset)
    assert document()[0] == text
    headers = {
        "Cache-Control": "no-store",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }
    assert headers == {name: answer.headers[name] for name in headers}


@pytest.mark.promise(name="S10")
def test_nothing_but_the_own_script_and_style_may_run(parts: Parts) -> None:
    """The policy allows the one script and the one style of the page by their hashes, and its own server."""
    policy = dict(line.split(" ", 1) for line in document()[1]["Content-Security-Policy"].split("; "))
    assert {
        "default-src": "'none'",
        "script-src": digest(parts.texts["module"]),
        "style-src": digest(parts.texts["style"]),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    } == policy


def test_the_page_is_in_one_piece(parts: Parts) -> None:
    """The page names no other resource, and no attribute holds a handler or a style."""
    for tag, given in parts.attributes:
        assert not given.keys() & {"src", "style", "action", "srcset"}, tag
        assert not [name for name in given if name.startswith("on")], tag
        assert (given.get("href") or "data:").startswith("data:"), tag
    assert "url(" not in parts.texts["style"]
    assert "@import" not in parts.texts["style"]


@pytest.mark.promise(name="S10")
def test_no_text_is_read_as_html(parts: Parts) -> None:
    """The script uses no function that reads text as HTML or as a script, and no storage."""
    words = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\("
    assert [] == re.findall(words, parts.texts["module"])
    assert "localStorage" not in parts.texts["module"]
    assert "sessionStorage" not in parts.texts["module"]


def test_the_key_is_not_shown(parts: Parts) -> None:
    """The field for the key shows dots."""
    [key] = [given for _, given in parts.attributes if given.get("id") == "key"]
    assert "password" == key["type"]


def test_the_facts_cannot_end_their_element(parts: Parts, facts: Any) -> None:
    """No facts contain a character that could begin or end an element."""
    assert "<" not in parts.texts["application/json"]
    assert [column["name"] for column in facts["columns"] if "<" in column["operators"]]


def test_every_control_has_a_name(parts: Parts) -> None:
    """Each field has a label, each id is unique, and every reference to an id has a target."""
    ids = [given["id"] for _, given in parts.attributes if "id" in given]
    labelled = [given.get("for") for tag, given in parts.attributes if tag == "label"]
    fields = [given["id"] for tag, given in parts.attributes if tag in ("input", "select", "textarea")]
    assert len(set(ids)) == len(ids)
    assert sorted(fields) == sorted(labelled)  # type: ignore[type-var]
    for _, given in parts.attributes:
        for name in ("aria-describedby", "aria-controls", "aria-labelledby"):
            assert set((given.get(name) or "").split()) <= set(ids)


def test_the_facts_are_those_of_the_package(facts: Any) -> None:
    """The page completes the columns, operators and cuts that the package has, and no others."""
    assert list(COLUMNS) == [column["name"] for column in facts["columns"]]
    for column in facts["columns"]:
        known = COLUMNS[column["name"]]
        assert (known.about, known.unit) == (column["about"], column["unit"])
        left_out = set(OPERATORS_OF[known.kind]) - set(column["operators"])
        # Operators without a meaning for a column are not offered: a score is never empty.
        assert left_out <= {"is null", "is empty"}
    assert list(get_args(PSize)) == facts["sizes"]
    assert UNITS == facts["units"]


def test_every_operator_that_is_offered_can_be_read(facts: Any) -> None:
    """The page offers only operators that the filter language has for a column."""
    values = {"number": "4", "timestamp": "2026-11-01T00:00:00Z", "boolean": "true"}
    for column in facts["columns"]:
        name = f'{column["name"]}["k"]' if column["kind"] == "map" else column["name"]
        value = values.get(column["takes"], '"a"')
        for operator in column["operators"]:
            behind = {"in": f"({value})", "between": f"{value} and {value}", "is": ""}
            word = operator.split()[0] if operator.startswith("is ") else operator.split()[-1]
            parse_filter(f"{name} {operator} {behind.get(word, value)}")


def test_names_of_sessions_are_suggested_like_columns(facts: Any) -> None:
    """The aliases of the session properties have the operators with which the filter language reads them."""
    assert ALIASES == {alias["name"]: alias["key"] for alias in facts["aliases"]}
    for alias in facts["aliases"]:
        for operator in alias["operators"]:
            constant = "" if operator.startswith("is ") else '("a")' if operator.endswith("in") else '"a"'
            written = parse_filter(f"{alias['name']} {operator} {constant}")
            assert parse_filter(f"properties[{json.dumps(alias['key'])}] {operator} {constant}") == written


def test_segments_are_by_columns_that_grids_take(facts: Any) -> None:
    """The page offers columns whose values can be segments, but no ids of requests and no bodies."""
    assert {"model", "status", "threat"} <= set(facts["groupable"])
    assert not {"request_id", "request_body", "properties"} & set(facts["groupable"])
    for name in facts["groupable"]:
        assert GroupBy(name).column == name


def test_the_condition_on_sessions_leaves_out_requests_without_an_id(facts: Any) -> None:
    """The checkbox adds the condition that the session id is not empty, as JSON and as Python."""
    known = ~F.session_id.is_empty()
    assert known.to_wire() == facts["sessioned"]["wire"]
    assert known == eval(facts["sessioned"]["python"], {"F": F})  # noqa: S307 - the page pastes it


@pytest.mark.skipif(
    os.environ.get("HELICONE_SESSIONS_TEST_WHEEL") != "1", reason="the package was not installed by nox"
)
def test_the_wheel_holds_the_page() -> None:
    """The installed package has all parts of the page."""
    kinds = {
        Path(str(path)).suffix for path in metadata.files("helicone-sessions") or [] if "page" in str(path)
    }
    assert {".py", ".html", ".css", ".js"} <= kinds


# Reading a filter


@on_one_loop
async def test_a_filter_is_read(server: LocalServer) -> None:
    """A text is answered with its JSON, its meaning, its Python and its cautions in filter text."""
    text = 'cost > 3 and model contains "gpt"'
    known = parse_filter(text)
    status, answer = await read(server, json={"text": text})
    assert 200 == status
    assert known.to_wire() == answer["wire"]
    assert (known.explain(), repr(known)) == (answer["explain"], answer["python"])
    assert [caution.remedy for caution in known.cautions()] == [one["remedy"] for one in answer["cautions"]]
    assert ["cost > 3"] == [caution["condition"] for caution in answer["cautions"]]
    assert known == eval(answer["python"], {"F": F})  # noqa: S307 - it is pasted into Python


@on_one_loop
async def test_a_mistake_is_answered_with_its_position(server: LocalServer) -> None:
    """A mistake is answered with the message of `parse_filter` and the position in characters."""
    status, answer = await read(server, json={"text": 'model == "😀" and\n modle == "x"'})
    assert 200 == status
    assert "there is no column 'modle'. Did you mean 'model'?" in answer["error"]
    assert {"offset": 18, "line": 2, "column": 2} == answer["position"]


@on_one_loop
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('not model like "a%b"', "the opposite of"),
        ("(cost > 1 or threat and " * 2000 + "threat" + ")" * 2000, "levels deep"),
        ('model == "\ud800"', "half of a surrogate pair"),
    ],
)
async def test_a_filter_that_cannot_be_sent_is_a_mistake_too(
    server: LocalServer, text: str, said: str
) -> None:
    """A filter that the API cannot express is answered with the reason."""
    status, answer = await read(server, json={"text": text})
    assert 200 == status
    assert said in answer["error"]


@on_one_loop
@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON"),
        (b'{"text": 1}', 400, "must be an object like"),
        (b"[]", 400, "must be an object like"),
        (json.dumps({"text": "x" * TOO_LONG}).encode(), 413, "64 KB"),
    ],
)
async def test_a_body_without_a_text_is_refused(
    server: LocalServer, body: bytes, status: int, said: str
) -> None:
    """A body that is not an object with a text of bounded length is refused with the reason."""
    found, answer = await read(server, data=body)
    assert status == found
    assert said in answer["error"]


@pytest.mark.promise(name="S3")
@on_one_loop
@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 401), ({"Authorization": "Bearer sk-other"}, 401), ({"Authorization": KEY}, 400)],
)
async def test_a_filter_is_read_with_the_key_only(
    server: LocalServer, headers: dict[str, str], status: int
) -> None:
    """Without the key no text is read."""
    assert status == (await read(server, json={"text": "threat"}, headers=headers))[0]


@on_one_loop
async def test_reading_takes_nothing_from_the_rate_limit(server: LocalServer) -> None:
    """Reading a filter does not count against the rate limit."""
    statuses = [(await read(server, json={"text": "threat"}))[0] for _ in range(3)]
    query = {"nameContains": "", "timezoneDifference": 0}
    async with (
        aiohttp.ClientSession(server.url, headers={"Authorization": f"Bearer {KEY}"}) as session,
        session.post("/v1/session/metrics/query", json=query) as first,
        session.post("/v1/session/metrics/query", json=query) as second,
    ):
        assert [200, 200, 200, 200, 429] == [*statuses, first.status, second.status]


@pytest.mark.promise(name="S3")
@on_one_loop
async def test_a_reading_leaves_no_text_in_the_log(
    server: LocalServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has a line for each filter that was read, without its text and without the key."""
    with caplog.at_level("INFO", "helicone_sessions"):
        await read(server, json={"text": 'user_id == "somebody"'})
        await read(server, json={"text": 'user_id == "somebody'})
    assert "path=/v1/filter status=200" in caplog.text
    assert "outcome=answered" in caplog.text
    assert "somebody" not in caplog.text
    assert KEY not in caplog.text
