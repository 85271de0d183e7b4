"""The proxy in the environment, and the places that receive its password."""

import base64
import logging
import pickle
import traceback
import urllib.request
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import attrs
import pytest
from aiohttp import web
from aiohttp.test_utils import RawTestServer, unused_port
from yarl import URL

from helicone_sessions import (
    APIError,
    ConfigurationError,
    ConnectionFailed,
    HeliconeClient,
    HeliconeError,
    SessionMetricsQuery,
)
from helicone_sessions.clock import replaced
from helicone_sessions.messages.codec import encode
from helicone_sessions.messages.converter import converter
from helicone_sessions.testing import VirtualClock, metrics
from tests.parts import parts

KEY = "sk-helicone-example-key"
PASSWORD = "open-sesame"
# One that an address holds in another spelling than it is meant.
ODD_PASSWORD = "p@ss:/word%1"
ODD_SPELLING = "p%40ss%3A%2Fword%251"
NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUEST_METHOD")
PATH = "/v1/session/metrics/query"
FAR, FAR_SAFELY = "http://service.test", "https://service.test"


@attrs.frozen
class Passed:
    """A request as a proxy received it."""

    method: str
    target: str
    headers: Any


class Proxy:
    """A proxy that answers instead of the service."""

    def __init__(self) -> None:
        self.seen: list[Passed] = []
        self.status = 200
        self.is_broken = False
        self._server = RawTestServer(self._answer)

    async def start(self) -> None:
        await self._server.start_server()

    async def end(self) -> None:
        await self._server.close()

    def url(self, user: str = "") -> str:
        """Its address, with a user and a password."""
        return f"http://{user}{'@' if user else ''}127.0.0.1:{self._server.port}"

    @property
    def targets(self) -> list[str]:
        """The requests it received."""
        return [passed.target for passed in self.seen]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(Passed(request.method, request.raw_path, request.headers))
        if self.is_broken and request.transport is not None:
            request.transport.close()
        if self.status != 200:
            return web.Response(status=self.status, text="the proxy says no")
        body = encode({"data": converter.unstructure(metrics(cost=7.0)), "error": None})
        return web.Response(body=body, content_type="application/json")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An environment without proxies, and a function to set some."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)

    def put(**named: str) -> None:
        for name, value in named.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.fixture
async def proxy() -> AsyncIterator[Proxy]:
    """A proxy on loopback."""
    proxy = Proxy()
    await proxy.start()
    yield proxy
    await proxy.end()


async def ask(url: str, **options: Any) -> float | None:
    """The number in the answer to a client of *url*."""
    async with HeliconeClient(KEY, base_url=url, **{"max_retries": 0, "timeout": 5, **options}) as client:
        return (await client.get_metrics()).average.session_cost


# Which way a request goes


@pytest.mark.promise(name="C4")
@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
async def test_a_request_goes_through_the_proxy_of_the_environment(
    environment: Callable[..., None], proxy: Proxy, name: str
) -> None:
    """The proxy receives the whole address, with the client's own key."""
    environment(**{name: proxy.url()})

    assert 7.0 == await ask(FAR)
    assert [f"{FAR}{PATH}"] == proxy.targets
    assert ("POST", "service.test", f"Bearer {KEY}") == (
        proxy.seen[0].method,
        proxy.seen[0].headers["Host"],
        proxy.seen[0].headers["Authorization"],
    )
    assert "Proxy-Authorization" not in proxy.seen[0].headers


async def test_a_proxy_without_a_scheme_is_an_http_proxy(
    environment: Callable[..., None], proxy: Proxy
) -> None:
    """Many environments hold only host and port."""
    environment(HTTP_PROXY=proxy.url().removeprefix("http://"))

    assert 7.0 == await ask(FAR)
    assert [f"{FAR}{PATH}"] == proxy.targets


@pytest.mark.promise(name="C4")
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
async def test_a_safe_address_is_reached_by_a_tunnel(
    environment: Callable[..., None], proxy: Proxy, name: str
) -> None:
    """For a request over TLS, the proxy sees the destination, but neither the key nor the query."""
    environment(**{name: proxy.url()})
    proxy.status = 502
    with pytest.raises(ConnectionFailed, match=r"the proxy refused .* with status 502"):
        await ask(FAR_SAFELY)

    assert [("CONNECT", "service.test:443")] == [(passed.method, passed.target) for passed in proxy.seen]
    assert "Authorization" not in proxy.seen[0].headers
    assert KEY not in repr(proxy.seen)


@pytest.mark.parametrize(
    ("through", "named"),
    [
        (True, {"HTTP_PROXY": "here"}),
        (False, {"HTTPS_PROXY": "here"}),
        (True, {"HTTP_PROXY": "here", "ALL_PROXY": "elsewhere"}),
        (True, {"HTTP_PROXY": "here", "NO_PROXY": "example.org"}),
        (True, {"HTTP_PROXY": "here", "NO_PROXY": "vice.test"}),
        (True, {"HTTP_PROXY": "here", "NO_PROXY": ""}),
        (False, {"HTTP_PROXY": "here", "NO_PROXY": "*"}),
        (False, {"HTTP_PROXY": "here", "NO_PROXY": "service.test"}),
        (False, {"HTTP_PROXY": "here", "NO_PROXY": "example.org, SERVICE.test"}),
        (False, {"HTTP_PROXY": "here", "no_proxy": ".test"}),
        (False, {"ALL_PROXY": "here", "NO_PROXY": "test"}),
        (False, {"HTTP_PROXY": ""}),
        (False, {}),
    ],
    ids=str,
)
async def test_the_environment_says_what_goes_through_it(
    environment: Callable[..., None],
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    through: bool,
    named: dict[str, str],
) -> None:
    """The most specific variable counts, and NO_PROXY lists hosts without a proxy."""

    async def no_address(*_args: object, **_options: object) -> Any:
        raise OSError("there is no such host")

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", no_address)
    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", no_address)
    places = {"here": proxy.url(), "elsewhere": "http://127.0.0.1:9"}
    environment(**{name: places.get(value, value) for name, value in named.items()})
    if through:
        assert 7.0 == await ask(FAR)
    else:
        with pytest.raises(ConnectionFailed):
            await ask(FAR)

    assert ([f"{FAR}{PATH}"] if through else []) == proxy.targets


@pytest.mark.promise(name="C4")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY"])
async def test_this_machine_is_reached_without_a_proxy(
    environment: Callable[..., None], proxy: Proxy, service: Any, name: str, host: str
) -> None:
    """Loopback addresses use no proxy, because it could not lead back."""
    environment(**{name: proxy.url()})
    await ask(service.url.replace("127.0.0.1", host))

    assert (1, []) == (len(service.requests), proxy.seen)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "[::1]", "localhost", "LOCALHOST"])
def test_this_machine_has_many_names(environment: Callable[..., None], host: str) -> None:
    """An unusable proxy does not matter for loopback addresses, however they are written."""
    environment(ALL_PROXY="socks5://proxy.example:1080")

    assert "api_key='***'" in repr(HeliconeClient(KEY, base_url=f"http://{host}:8585"))


async def test_a_client_keeps_the_proxy_that_it_was_made_with(
    environment: Callable[..., None], proxy: Proxy
) -> None:
    """Changes of the environment apply to clients created after them."""
    environment(HTTP_PROXY=proxy.url())
    async with HeliconeClient(KEY, base_url=FAR, max_retries=0) as client:
        environment(HTTP_PROXY="http://127.0.0.1:9", NO_PROXY="*")
        await client.get_metrics()
        await client.with_options(timeout=5).get_metrics()

    assert 2 == len(proxy.seen)


async def test_the_environment_is_read_once_for_a_client(
    environment: Callable[..., None], proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy is looked up once per client, because that takes longer than a request."""
    environment(HTTP_PROXY=proxy.url())
    looked: list[None] = []
    plain = urllib.request.getproxies

    def getproxies() -> dict[str, str]:
        looked.append(None)
        return plain()

    monkeypatch.setattr(urllib.request, "getproxies", getproxies)
    async with HeliconeClient(KEY, base_url=FAR) as client:
        made = len(looked)
        await client.get_metrics()
        await client.get_metrics_many([SessionMetricsQuery(name_contains=str(name)) for name in range(10)])
        await client.with_options(timeout=5).get_metrics()

    assert (1, 1, 12) == (made, len(looked), len(proxy.seen))


async def test_a_session_of_ones_own_goes_its_own_way(
    environment: Callable[..., None], proxy: Proxy, service: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller's session gets no proxy from the environment."""
    environment(HTTP_PROXY=proxy.url())
    given: list[Any] = []
    plain = aiohttp.ClientSession._request

    async def request(session: Any, method: str, _url: Any, **options: Any) -> Any:
        given.append(options.get("proxy"))
        near = URL(service.url) / PATH.removeprefix("/")
        return await plain(session, method, near, **options)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", request)
    async with aiohttp.ClientSession() as session:
        await ask(FAR, session=session)

    assert ([None], 1, []) == (given, len(service.requests), proxy.seen)


async def test_a_session_of_ones_own_may_have_a_proxy(proxy: Proxy) -> None:
    """A caller's session with a proxy is used unchanged."""
    async with aiohttp.ClientSession(proxy=proxy.url()) as session:
        assert 7.0 == await ask(FAR, session=session)

    assert [f"{FAR}{PATH}"] == proxy.targets


# The password


@pytest.mark.promise(name="C5")
@pytest.mark.parametrize(
    ("password", "spelling"),
    [(PASSWORD, PASSWORD), (ODD_PASSWORD, ODD_SPELLING)],
    ids=["plain", "escaped"],
)
async def test_user_and_password_are_told_the_proxy(
    environment: Callable[..., None], proxy: Proxy, password: str, spelling: str
) -> None:
    """User and password in the proxy's address are sent to it decoded, and to nobody behind it."""
    environment(HTTP_PROXY=proxy.url(f"aladdin:{spelling}"))
    await ask(FAR)
    (passed,) = proxy.seen
    kind, _, words = passed.headers["Proxy-Authorization"].partition(" ")

    assert ("Basic", f"aladdin:{password}") == (kind, base64.b64decode(words).decode())
    assert f"Bearer {KEY}" == passed.headers["Authorization"]


def everything_of(error: BaseException) -> str:
    """Everything that a log could show of an error and its causes."""
    chain: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in chain:
            chain.append(one)
            waiting += [one.__cause__, one.__context__]
    shown = [show(one) for one in chain for show in (repr, str)]
    return "\n".join([*shown, *(repr(vars(one)) for one in chain), *traceback.format_exception(error)])


@pytest.mark.promise(name="C5")
@pytest.mark.parametrize("url", [FAR, FAR_SAFELY])
@pytest.mark.parametrize("fault", ["refuses", "closes", "is not there", "has no name"])
@pytest.mark.parametrize("spelling", [PASSWORD, ODD_SPELLING], ids=["plain", "escaped"])
async def test_the_password_is_in_no_error_and_no_log(
    environment: Callable[..., None],
    proxy: Proxy,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    spelling: str,
    fault: str,
    url: str,
) -> None:
    """Whatever a proxy does, its password is neither shown nor kept, in any spelling."""

    async def no_address(*_args: object, **_options: object) -> Any:
        raise OSError("there is no such host")

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", no_address)
    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", no_address)
    caplog.set_level(logging.DEBUG)
    address = proxy.url(f"aladdin:{spelling}")
    if fault == "refuses":
        proxy.status = 407
    elif fault == "closes":
        proxy.is_broken = True
    elif fault == "is not there":
        address = f"http://aladdin:{spelling}@127.0.0.1:{unused_port()}"
    else:
        address = f"http://aladdin:{spelling}@proxy.test:3128"
    environment(ALL_PROXY=address)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with HeliconeClient(KEY, base_url=url, max_retries=0, timeout=5) as client:
            with pytest.raises((ConnectionFailed, APIError)) as raised:
                await client.get_metrics()
    secrets = [PASSWORD, ODD_PASSWORD, ODD_SPELLING]
    secrets += [base64.b64encode(f"aladdin:{word}".encode()).decode() for word in (PASSWORD, ODD_PASSWORD)]
    shown = [
        everything_of(raised.value),
        repr(pickle.dumps(raised.value)),
        repr([(vars(record), record.getMessage()) for record in caplog.records]),
        repr([str(warning.message) for warning in caught]),
        repr(client),
        repr(vars(client)),
    ]

    assert [] == [secret for secret in secrets for text in shown if secret in text]
    assert [] == [KEY for text in shown if KEY in text]


@pytest.mark.parametrize(("attempts", "status"), [(1, 407), (1, 403), (1, 404), (4, 502), (4, 503)])
async def test_a_proxy_that_refuses_a_tunnel_is_named(
    environment: Callable[..., None], proxy: Proxy, attempts: int, status: int
) -> None:
    """A refusal by the proxy's rules is lasting; one caused by its network is transient."""
    environment(HTTPS_PROXY=proxy.url(f"aladdin:{PASSWORD}"))
    proxy.status = status
    with replaced(VirtualClock()), pytest.raises(ConnectionFailed) as caught:
        await ask(FAR_SAFELY, max_retries=3)

    assert f"the proxy refused the connection to {FAR_SAFELY} with status {status}" in str(caught.value)
    assert (attempts, attempts, attempts == 1) == (
        caught.value.attempts,
        len(proxy.seen),
        caught.value.is_lasting,
    )
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))


async def test_a_proxy_that_cannot_be_reached_is_named(environment: Callable[..., None]) -> None:
    """The error does not blame the address of the service."""
    environment(HTTP_PROXY=f"http://127.0.0.1:{unused_port()}")
    with pytest.raises(ConnectionFailed, match="the connection to the proxy on the way to"):
        await ask(FAR)


async def test_a_proxy_whose_host_cannot_be_looked_up_is_named(environment: Callable[..., None]) -> None:
    """The error names the proxy without its password."""
    environment(HTTP_PROXY=f"http://aladdin:{PASSWORD}@a..b:8080")
    with pytest.raises(ConfigurationError, check=parts(argument="proxy")):
        await ask(FAR)


async def test_a_proxy_that_refuses_is_told(environment: Callable[..., None], proxy: Proxy) -> None:
    """A proxy that requires a password causes an error with its status, without a retry."""
    environment(HTTP_PROXY=proxy.url())
    proxy.status = 407
    with pytest.raises(APIError, match="the proxy requires a user and a password") as caught:
        await ask(FAR, max_retries=3)

    assert (407, 1) == (caught.value.status, len(proxy.seen))


@pytest.mark.parametrize(
    "address",
    [
        "socks5://aladdin:open-sesame@proxy.example:1080",
        "socks4://proxy.example:1080",
        "socks5h://aladdin:open-sesame@proxy.example",
        "ftp://aladdin:open-sesame@proxy.example",
        "http://",
        "http://aladdin:open-sesame@",
        "http://aladdin:open-sesame@[::1",
        "http://aladdin:open-sesame@proxy.example:99999999",
        "http://aladdin:open-sesame@proxy.example:port",
    ],
)
@pytest.mark.parametrize(
    ("name", "url"), [("HTTP_PROXY", FAR), ("HTTPS_PROXY", FAR_SAFELY), ("ALL_PROXY", FAR)]
)
def test_a_proxy_that_cannot_be_used_is_refused(
    environment: Callable[..., None], name: str, url: str, address: str
) -> None:
    """Another kind of proxy is an error at the creation of the client, with remedies, without the address."""
    environment(**{name: address})
    with pytest.raises(ConfigurationError, check=parts(argument="proxy")) as caught:
        HeliconeClient(KEY, base_url=url)

    assert "Add service.test to NO_PROXY, or pass a session" in str(caught.value)
    assert PASSWORD not in everything_of(caught.value)
    assert "proxy.example" not in everything_of(caught.value)
    assert isinstance(caught.value, HeliconeError)


@pytest.mark.parametrize(
    ("environment_of", "options"),
    [
        ({"ALL_PROXY": "socks5://proxy.example:1080", "NO_PROXY": "service.test"}, {}),
        ({"HTTPS_PROXY": "socks5://proxy.example:1080"}, {}),
        ({"HTTP_PROXY": "http://proxy.example:3128", "ALL_PROXY": "socks5://proxy.example:1080"}, {}),
    ],
    ids=str,
)
def test_a_proxy_that_is_not_used_is_no_matter(
    environment: Callable[..., None], environment_of: dict[str, str], options: dict[str, Any]
) -> None:
    """Only the proxy for the service has to be usable."""
    environment(**environment_of)

    assert "service.test" in repr(HeliconeClient(KEY, base_url=FAR, **options))


async def test_a_session_of_ones_own_makes_any_proxy_no_matter(environment: Callable[..., None]) -> None:
    """The remedy in the message, a session with its own connector, works."""
    environment(ALL_PROXY="socks5://proxy.example:1080")
    async with aiohttp.ClientSession() as session:
        assert "service.test" in repr(HeliconeClient(KEY, base_url=FAR, session=session))
