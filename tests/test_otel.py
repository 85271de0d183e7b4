"""The spans of OpenTelemetry: which exist, their content, and what they never contain."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.metadata import version
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import SpanKind, StatusCode

from helicone_sessions import (
    NONE,
    Attempt,
    F,
    Filter,
    HeliconeClient,
    HeliconeError,
    Hooks,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    SessionMetricsQuery,
)
from helicone_sessions.clock import replaced
from helicone_sessions.otel import OpenTelemetryHooks
from helicone_sessions.testing import (
    FakeHelicone,
    Fault,
    RecordedRequest,
    Reply,
    VirtualClock,
    failure,
    gateway_page,
    metrics,
)

pytestmark = pytest.mark.virtual_time

KEY = "sk-helicone-example-key"
QUERY, ATTEMPT = "helicone_sessions.query", "POST"


class Spans:
    """A provider, and the spans that have ended."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler)
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.tracer = self.provider.get_tracer("the application")

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self._memory.get_finished_spans() if span.name == name]

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self._memory.get_finished_spans())

    @property
    def text(self) -> str:
        """All that is exported."""
        return json.dumps([json.loads(span.to_json()) for span in self.all])


def of(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def is_child(span: ReadableSpan, parent: Any) -> bool:
    context = parent.get_span_context()
    return span.parent is not None and (span.parent.span_id, span.context.trace_id) == (
        context.span_id,
        context.trace_id,
    )


def named(*names: str) -> list[SessionMetricsQuery]:
    return [SessionMetricsQuery(name_contains=name) for name in names]


@pytest.fixture
def spans() -> Iterator[Spans]:
    spans = Spans()
    yield spans
    spans.provider.shutdown()
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def server(clock: VirtualClock) -> AsyncIterator[FakeHelicone]:
    async with FakeHelicone(api_key=KEY, clock=clock) as server:
        yield server


Make = Callable[..., HeliconeClient]


@pytest.fixture
async def make_client(server: FakeHelicone, spans: Spans) -> AsyncIterator[Make]:
    made = []

    def make(*, record_filter: bool = False, **options: Any) -> HeliconeClient:
        given = {
            "base_url": server.url,
            "hooks": OpenTelemetryHooks(spans.provider, record_filter=record_filter),
            **options,
        }
        with replaced(server.clock):
            client = HeliconeClient(KEY, **given)
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


# Their content


async def test_a_query_is_one_span_with_its_attempt_inside(
    make_client: Make, server: FakeHelicone, spans: Spans
) -> None:
    """A query that is answered at once has a span, and a client's span of HTTP in it."""
    await make_client().get_metrics()

    attempt, query = spans.all
    assert (QUERY, SpanKind.INTERNAL, None) == (query.name, query.kind, query.parent)
    assert {
        "helicone_sessions.attempts": 1,
        "helicone_sessions.shared": False,
        "helicone_sessions.queued": 0,
        "helicone_sessions.waited": 0,
    } == of(query)
    assert (ATTEMPT, SpanKind.CLIENT) == (attempt.name, attempt.kind)
    assert is_child(attempt, query)
    assert {
        "http.request.method": "POST",
        "server.address": "127.0.0.1",
        "server.port": int(server.url.rpartition(":")[2]),
        "url.full": f"{server.url}/v1/session/metrics/query",
        "http.response.status_code": 200,
        "helicone_sessions.waited": 0,
    } == of(attempt)
    assert {StatusCode.UNSET} == {span.status.status_code for span in spans.all}


async def test_spans_say_which_library_made_them(make_client: Make, spans: Spans) -> None:
    """The scope is the package with its version, and the schema is that of the conventions."""
    await make_client().get_metrics()

    for span in spans.all:
        scope = span.instrumentation_scope
        assert scope is not None
        assert ("helicone_sessions", version("helicone-sessions")) == (scope.name, scope.version)
        assert (scope.schema_url or "").startswith("https://opentelemetry.io/schemas/1.")


async def test_each_attempt_is_a_span_and_says_that_it_is_one_more(
    make_client: Make, server: FakeHelicone, spans: Spans, clock: VirtualClock
) -> None:
    """Attempts after the first are counted by http.request.resend_count; a query that succeeds is fine."""
    server.will_answer(gateway_page(502), Fault.TRUNCATE)
    await make_client().get_metrics()

    (query,) = spans.named(QUERY)
    attempts = spans.named(ATTEMPT)
    assert all(is_child(attempt, query) for attempt in attempts)
    assert [None, 1, 2] == [of(attempt).get("http.request.resend_count") for attempt in attempts]
    assert [502, None, 200] == [of(attempt).get("http.response.status_code") for attempt in attempts]
    assert ["502", "ConnectionFailed", None] == [of(attempt).get("error.type") for attempt in attempts]
    errors = [attempt.status.status_code is StatusCode.ERROR for attempt in attempts]
    assert [True, True, False] == errors
    assert (3, StatusCode.UNSET) == (of(query)["helicone_sessions.attempts"], query.status.status_code)
    assert "error.type" not in of(query)
    assert of(query)["helicone_sessions.waited"] == pytest.approx(sum(clock.slept))


@pytest.mark.parametrize(
    ("answer", "kind", "of_attempt"),
    [
        (failure("Invalid filter"), QueryFailed, "500"),
        (Reply(200, {"data": None, "error": "Invalid filter"}), QueryFailed, "QueryFailed"),
        (Reply(429, "", {"Retry-After": "3601"}), RateLimited, "429"),
        (gateway_page(503), ServerError, "503"),
        (Fault.STALL, RequestTimeout, "RequestTimeout"),
    ],
    ids=str,
)
async def test_a_query_that_fails_says_why_by_a_name(
    make_client: Make,
    server: FakeHelicone,
    spans: Spans,
    answer: Any,
    kind: type[HeliconeError],
    of_attempt: str,
) -> None:
    """The query has the class of its error, an attempt the status where that tells; neither has its text."""
    server.otherwise(answer)
    with pytest.raises(kind):
        await make_client(max_retries=0, timeout=5).get_metrics()

    attempt, query = spans.all
    assert (of_attempt, kind.__name__) == (of(attempt)["error.type"], of(query)["error.type"])
    for span in spans.all:
        assert (StatusCode.ERROR, None) == (span.status.status_code, span.status.description)
        assert () == span.events


async def test_the_wait_for_a_slot_is_inside_the_query_and_outside_the_attempt(
    make_client: Make, server: FakeHelicone, spans: Spans, clock: VirtualClock
) -> None:
    """A query that was queued says so in seconds."""

    async def slow(_request: RecordedRequest) -> Any:
        clock.advance(5)
        return metrics()

    server.otherwise(slow)
    client = make_client(max_concurrency=1)
    await asyncio.gather(*map(client.get_metrics, named("1", "2")))

    assert [0, 5] == [of(span)["helicone_sessions.queued"] for span in spans.named(QUERY)]


async def test_shared_queries_have_spans_and_one_has_the_attempt(
    make_client: Make, server: FakeHelicone, spans: Spans
) -> None:
    """Those who wait for another's request say that they share it."""
    held = server.hold()
    client = make_client()
    asked = [asyncio.ensure_future(client.get_metrics()) for _ in range(3)]
    await server.arrived(1)
    held.release()
    await asyncio.gather(*asked)

    (attempt,) = spans.named(ATTEMPT)
    shared = {span.context.span_id: of(span)["helicone_sessions.shared"] for span in spans.named(QUERY)}
    assert [False, True, True] == sorted(shared.values())
    assert attempt.parent is not None
    assert not shared[attempt.parent.span_id]


async def test_a_query_without_a_request_has_a_span_without_attempts(make_client: Make, spans: Spans) -> None:
    """A filter that matches nothing is answered without a request."""
    await make_client().get_metrics(NONE)

    (query,) = spans.all
    assert (QUERY, 0) == (query.name, of(query)["helicone_sessions.attempts"])


# Which is inside which


async def ask(client: HeliconeClient, queries: list[SessionMetricsQuery]) -> None:
    for query in queries:
        await client.get_metrics(query)


async def ask_many(client: HeliconeClient, queries: list[SessionMetricsQuery]) -> None:
    await client.get_metrics_many(queries)


async def ask_stream(client: HeliconeClient, queries: list[SessionMetricsQuery]) -> None:
    async with client.stream_metrics(queries) as outcomes:
        async for _ in outcomes:
            pass


@pytest.mark.parametrize("way", [ask, ask_many, ask_stream])
async def test_the_span_of_the_caller_is_around_all_queries(
    make_client: Make, spans: Spans, way: Callable[..., Any]
) -> None:
    """Queries are children of the span in which they are asked, also those of batches and streams."""
    with spans.tracer.start_as_current_span("report") as report:
        await way(make_client(max_concurrency=3), named(*"abcdefg"))
        assert trace.get_current_span() is report

    queries = spans.named(QUERY)
    assert 7 == len(queries)
    assert all(is_child(query, report) for query in queries)


async def test_queries_at_the_same_time_are_not_mixed_up(
    make_client: Make, server: FakeHelicone, spans: Spans
) -> None:
    """Each of many queries has its own attempts, and each of two callers its own queries."""
    names = [str(number) for number in range(30)]
    server.will_answer(*[gateway_page()] * 10)
    client = make_client(max_concurrency=8, max_retries=20)

    async def caller(name: str, queries: list[SessionMetricsQuery]) -> Any:
        with spans.tracer.start_as_current_span(name) as own:
            await client.get_metrics_many(queries)
        return own

    first, second = await asyncio.gather(
        caller("first", named(*names[:20])), caller("second", named(*names[20:]))
    )
    queries = {span.context.span_id: span for span in spans.named(QUERY)}
    assert [20, 10] == [sum(is_child(span, one) for span in queries.values()) for one in (first, second)]
    counts = dict.fromkeys(queries, 0)
    for attempt in spans.named(ATTEMPT):
        assert attempt.parent is not None
        # Each attempt of one query is one more.
        assert of(attempt).get("http.request.resend_count", 0) == counts[attempt.parent.span_id]
        counts[attempt.parent.span_id] += 1
    assert counts == {key: of(span)["helicone_sessions.attempts"] for key, span in queries.items()}
    assert 40 == sum(counts.values())


async def test_what_happens_in_an_attempt_is_inside_it(make_client: Make, spans: Spans) -> None:
    """While an attempt runs its span is the current one, so that spans of others nest."""

    class Other(Hooks):
        def attempt_begins(self, _token: object, _number: int, _url: str) -> Any:
            return spans.tracer.start_span("of another library")

        def attempt_ends(self, token: Any, _attempt: Attempt) -> None:
            token.end()

    await make_client(hooks=[OpenTelemetryHooks(spans.provider), Other()]).get_metrics()

    (attempt,), (other,) = spans.named(ATTEMPT), spans.named("of another library")
    assert is_child(other, attempt)


# How they end


async def test_cancelling_ends_the_spans(make_client: Make, server: FakeHelicone, spans: Spans) -> None:
    """A query that is cancelled ends with its attempt, and both say so."""
    server.hold()
    asked = asyncio.ensure_future(make_client().get_metrics())
    await server.arrived(1)
    asked.cancel()
    await asyncio.wait([asked])

    assert [ATTEMPT, QUERY] == [span.name for span in spans.all]
    assert {"CancelledError"} == {of(span)["error.type"] for span in spans.all}
    assert {StatusCode.ERROR} == {span.status.status_code for span in spans.all}


async def test_the_deadline_ends_the_spans(make_client: Make, server: FakeHelicone, spans: Spans) -> None:
    """A query that has no time left ends with its timeout."""
    server.otherwise(Fault.STALL)
    with pytest.raises(RequestTimeout):
        await make_client(deadline=5, max_retries=0).get_metrics()

    assert {"RequestTimeout"} == {of(span)["error.type"] for span in spans.all}
    assert 2 == len(spans.all)


async def test_leaving_a_stream_early_ends_the_spans(
    make_client: Make, server: FakeHelicone, spans: Spans
) -> None:
    """After the block of a stream every span that began has ended."""
    server.hold("2")
    begun: list[object] = []

    class Count(Hooks):
        def query_begins(self, query: SessionMetricsQuery) -> None:
            begun.append(query)

    client = make_client(hooks=[OpenTelemetryHooks(spans.provider), Count()], max_concurrency=2)
    async with client.stream_metrics(named("1", "2", "3", "4")) as outcomes:
        async for _ in outcomes:
            await server.until(lambda: server.open == 1)
            break

    assert len(begun) == len(spans.named(QUERY))
    assert "CancelledError" in {of(span).get("error.type") for span in spans.named(QUERY)}


async def test_a_query_that_nobody_finishes_ends_its_spans(
    make_client: Make, server: FakeHelicone, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a coroutine that is closed elsewhere the spans end too, and nothing is complained about."""
    server.hold()
    client = make_client()

    async def drive() -> Any:
        asking = client.get_metrics()
        # Its first step, as a task would make it, and no other.
        asking.send(None)
        return asking

    asking = await asyncio.ensure_future(drive())
    asking.close()

    assert {"GeneratorExit"} == {of(span)["error.type"] for span in spans.all}
    assert [ATTEMPT, QUERY] == [span.name for span in spans.all]
    assert "" == caplog.text


# What is never in them

SECRETS = {
    "the key": KEY,
    "a value": "jane@example.org",
    "a property key": "Patient-Name",
    "a session name": "merger with Initech",
    "a number of the filter": "0.123456",
    "a number of the answer": "98765.4321",
    "the text of an error": "Unknown column",
    "the class that quotes it": "Traceback",
    "the path of the time filter": "timeFilter",
}


def everything_private() -> SessionMetricsQuery:
    private = (F.user_id == SECRETS["a value"]) & (F.properties[SECRETS["a property key"]] == "x")
    return SessionMetricsQuery(private & (F.cost > 0.123456), name_contains=SECRETS["a session name"])


TELLING: dict[str, Any] = {
    "an answer": metrics(cost=98765.4321),
    "a failure": failure(f"Unknown column of {SECRETS['a value']} in {SECRETS['a property key']}"),
    "an echo": Reply(400, {"error": f"Unknown column {KEY} {SECRETS['a session name']} 0.123456"}),
    "a redirect": Reply(302, "", {"Location": f"https://example.org/{KEY}"}),
    "HTML": Reply(200, f"<p>Unknown column {SECRETS['a value']}</p>"),
    "a drop": Fault.DROP,
    "no HTTP": Fault.NOT_HTTP,
    "silence": Fault.STALL,
}


@pytest.mark.promise(name="L5")
@pytest.mark.parametrize("answer", TELLING.values(), ids=TELLING)
async def test_nothing_private_is_in_a_span(
    make_client: Make, server: FakeHelicone, spans: Spans, answer: Any
) -> None:
    """No key, no part of the query, no answer and no text of an error is exported, whatever happens."""
    server.otherwise(answer)
    client = make_client(timeout=5, max_retries=1)
    await client.get_metrics_many([everything_private()], return_errors=True)

    assert 2 <= len(spans.all)
    assert [] == [what for what, secret in SECRETS.items() if secret in spans.text]


async def test_a_key_in_the_address_is_masked(make_client: Make, server: FakeHelicone, spans: Spans) -> None:
    """Some users put the key into the path of their gateway; no span shows it there."""
    with pytest.raises(HeliconeError):
        await make_client(base_url=f"{server.url}/{KEY}").get_metrics()

    assert f"{server.url}/***/v1/session/metrics/query" == of(spans.named(ATTEMPT)[0])["url.full"]
    assert KEY not in spans.text


@pytest.mark.promise(name="L5")
async def test_the_filter_is_recorded_where_that_is_wanted(make_client: Make, spans: Spans) -> None:
    """With record_filter the text of the filter, and nothing else that is asked, is on the query's span."""
    client = make_client(record_filter=True)
    await client.get_metrics(F.latency > 500, name_contains="checkout")
    await client.get_metrics()

    recorded = [of(span)["helicone_sessions.filter"] for span in spans.named(QUERY)]
    assert ["latency > 500", "all"] == recorded
    assert "latency" not in str([of(span) for span in spans.named(ATTEMPT)])
    assert "checkout" not in spans.text


async def test_queries_that_are_not_sampled_leave_nothing(
    make_client: Make, server: FakeHelicone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the provider samples nothing, queries run as ever, and the filter is not even written out."""
    written: list[Filter] = []

    def write(self: Filter) -> str:
        written.append(self)
        return ""

    monkeypatch.setattr(Filter, "__str__", write)
    none = Spans(ALWAYS_OFF)
    hooks = OpenTelemetryHooks(none.provider, record_filter=True)
    await make_client(hooks=hooks).get_metrics(F.latency > 500)

    assert ([], [], 1) == (none.all, written, len(server.requests))


async def test_without_a_provider_nothing_is_made(make_client: Make, server: FakeHelicone) -> None:
    """The global provider of an application that set none makes no spans, and queries run as ever."""
    await make_client(hooks=OpenTelemetryHooks()).get_metrics()

    assert 1 == len(server.requests)


async def test_no_trace_is_sent_to_the_service(make_client: Make, server: FakeHelicone) -> None:
    """The requests are the same as without hooks: no header tells the service of the caller's trace."""
    await make_client().get_metrics()
    await make_client(hooks=None).get_metrics()

    with_hooks, without = (dict(request.headers) for request in server.requests)
    assert with_hooks == without


# The extra


def test_without_the_extra_the_error_says_what_to_install() -> None:
    """Where opentelemetry-api is not installed, importing the module names the extra; the core needs none."""
    program = """
import sys
sys.modules["opentelemetry"] = None
from helicone_sessions import HeliconeClient, Hooks, MissingExtra
HeliconeClient("sk-helicone-example", hooks=Hooks())
try:
    import helicone_sessions.otel
except MissingExtra as error:
    print(isinstance(error, ImportError), error)
"""
    run = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)

    assert run.stdout.startswith("True helicone_sessions.otel needs the package 'opentelemetry-api'")
    assert '"helicone-sessions[otel]"' in run.stdout
