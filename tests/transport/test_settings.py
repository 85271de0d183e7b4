import copy
import pickle
import traceback
from typing import Any

import pytest
from yarl import URL

from helicone_sessions import ConfigurationError, HeliconeClient
from helicone_sessions.transport.endpoint import ApiKey, Settings, resolve
from tests.parts import parts

KEY = "sk-helicone-example-key"
US, EU = "https://api.helicone.ai", "https://eu.api.helicone.ai"
LOCAL = "http://localhost:8585"
ENVIRONMENT = {
    "HELICONE_API_KEY": "sk-from-the-environment",
    "HELICONE_BASE_URL": "https://environment.example",
}


def settings(environment: dict[str, str] | None = None, **arguments: Any) -> Settings:
    given = {"api_key": KEY, "region": None, "base_url": None, **arguments}
    return resolve(**given, environment=environment or {})


@pytest.mark.parametrize(
    ("expected", "argument", "environment"),
    [
        (KEY, KEY, {}),
        (KEY, KEY, ENVIRONMENT),
        ("sk-from-the-environment", None, ENVIRONMENT),
        ("pk-anything_else.=+/~!", "pk-anything_else.=+/~!", {}),
    ],
)
def test_the_key_comes_from_the_argument_then_from_the_environment(
    expected: str, argument: str | None, environment: dict[str, str]
) -> None:
    """An argument overrides HELICONE_API_KEY."""
    assert expected == settings(environment, api_key=argument).api_key.reveal()


@pytest.mark.parametrize(
    ("expected", "arguments", "environment"),
    [
        (US, {}, {}),
        (US, {}, {"HELICONE_BASE_URL": ""}),
        (US, {"region": "us"}, {}),
        (EU, {"region": "eu"}, {}),
        (EU, {"region": "eu"}, ENVIRONMENT),
        (US, {"region": "us"}, ENVIRONMENT),
        ("https://environment.example", {}, ENVIRONMENT),
        (LOCAL, {"base_url": LOCAL}, {}),
        (LOCAL, {"base_url": LOCAL}, ENVIRONMENT),
        (LOCAL, {"base_url": URL(LOCAL)}, ENVIRONMENT),
        ("https://example.org/helicone", {"base_url": "https://example.org/helicone"}, {}),
        ("http://[::1]:8585", {"base_url": "http://[::1]:8585"}, {}),
        ("https://example.org/v1/helicone", {"base_url": "https://example.org/v1/helicone"}, {}),
        ("https://example.org/v1session", {"base_url": "https://example.org/v1session"}, {}),
    ],
)
def test_the_address_comes_from_the_arguments_then_from_the_environment(
    expected: str, arguments: dict[str, Any], environment: dict[str, str]
) -> None:
    """A region or an address overrides HELICONE_BASE_URL, and that overrides the US region."""
    assert URL(expected) == settings(environment, **arguments).base_url


def test_a_client_reads_the_environment_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, the environment of the process provides key and address."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    assert "HeliconeClient(base_url='https://environment.example', api_key='***')" == repr(HeliconeClient())


@pytest.mark.parametrize("base_url", [LOCAL, URL(LOCAL), US])
@pytest.mark.parametrize("region", ["us", "eu"])
def test_region_and_address_exclude_each_other(region: str, base_url: Any) -> None:
    """Both together are ambiguous, so they are rejected."""
    with pytest.raises(ConfigurationError, check=parts(argument="region")):
        settings(region=region, base_url=base_url)


@pytest.mark.parametrize("region", ["US", "asia", "", 5])
def test_a_region_is_us_or_eu(region: Any) -> None:
    """Any other region is rejected with the list of regions."""
    with pytest.raises(ConfigurationError, check=parts(argument="region")):
        settings(region=region)


SECRET = "sk-helicone-oops"

BAD_KEYS = [
    ("api_key is missing.*HELICONE_API_KEY", None),
    ("api_key is missing", ""),
    ("api_key must be a string, .*bytes", SECRET.encode()),
    ("api_key must be a string, .*int", 5),
    ("api_key must be a string, .*list", [SECRET]),
    ('api_key must not begin with "Bearer "', f"Bearer {SECRET}"),
    ('api_key must not begin with "Bearer "', f"bearer {SECRET}"),
    ("api_key must not be in quotes", f'"{SECRET}"'),
    ("api_key must not be in quotes", f"'{SECRET}'"),
    ("api_key must not be in quotes", f"`{SECRET}`"),
    ("api_key must not be in quotes", f'{SECRET}"'),
    ("api_key must not be in quotes", '"'),
    ("api_key contains whitespace", f"{SECRET}\n"),
    ("api_key contains whitespace", f" {SECRET}"),
    ("api_key contains whitespace", f"{SECRET} x"),
    ("api_key contains whitespace", f"{SECRET}\x00"),
    ("api_key contains whitespace", f"{SECRET}\x7f"),
    ("api_key contains whitespace", f"{SECRET}é"),
    ("api_key contains whitespace", f"{SECRET}\r\nX-Other: 1"),
]
BAD_ADDRESSES = [
    ("base_url must be an http", ""),
    ("base_url must be an http", SECRET),
    ("base_url must be an http", "localhost:8585"),
    ("base_url must be an http", "/v1"),
    ("base_url must be an http", "ftp://example.org"),
    ("base_url must be an http", "https://"),
    ("base_url must be an http", "http://[::1"),
    ("base_url must be an http", "http://example.org:99999999"),
    ("base_url must be an http", 8585),
    ("base_url must be an http", URL("/v1")),
    ("base_url must have no user, password", f"https://{SECRET}@example.org"),
    ("base_url must have no user", f"https://user:{SECRET}@example.org"),
    ("base_url must have no user", f"https://:{SECRET}@example.org"),
    ("base_url must have no user", f"https://example.org/?key={SECRET}"),
    ("base_url must have no user", f"https://example.org/#{SECRET}"),
    ("base_url must not end with '/v1'", f"https://example.org/{SECRET}/v1"),
    ("base_url must not end with '/v1/'", "https://api.helicone.ai/v1/"),
    ("base_url must not end with '/v1//'", "https://api.helicone.ai/v1//"),
    ("base_url must not end with '/v1/session'", "https://api.helicone.ai/v1/session"),
    ("base_url must not end with '/v1/session/metrics/query'", f"{US}/v1/session/metrics/query"),
    ("base_url must not end with '/v1/session/metrics/query/'", f"{LOCAL}/v1/session/metrics/query/"),
    ("base_url must not end with '/v1/request/query-clickhouse'", f"{US}/v1/request/query-clickhouse"),
    ("base_url must be an http", f"ftp://{SECRET}@example.org"),
    ("base_url must be an http", f"https://:{SECRET}@"),
    ("base_url must be an http", f"http://{SECRET}@example.org:99999999"),
    ("base_url must be an http", f"helicone://[{SECRET}"),
    ("base_url must be an http", SECRET.encode()),
]


def all_text_of(error: BaseException) -> str:
    return "\n".join([str(error), repr(error), repr(vars(error)), *traceback.format_exception(error)])


@pytest.mark.promise(name="K5")
@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        *((message, {"api_key": key}) for message, key in BAD_KEYS),
        *((message, {"base_url": address}) for message, address in BAD_ADDRESSES),
        ("region must be", {"region": SECRET}),
    ],
)
def test_a_bad_value_is_refused_without_showing_a_key(message: str, arguments: dict[str, Any]) -> None:
    """The message says what is expected; it does not repeat a key, whether in its place or a wrong one."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        settings(**arguments)
    assert SECRET not in all_text_of(caught.value)


@pytest.mark.parametrize(
    ("message", "environment"),
    [
        ("api_key is missing", {}),
        ("api_key is missing", {"HELICONE_API_KEY": ""}),
        ("api_key contains whitespace", {"HELICONE_API_KEY": f"{SECRET}\n"}),
        ("base_url must be an http", {**ENVIRONMENT, "HELICONE_BASE_URL": SECRET}),
        (
            "base_url must have no user",
            {**ENVIRONMENT, "HELICONE_BASE_URL": f"https://{SECRET}@example.org"},
        ),
    ],
)
def test_bad_values_of_the_environment_are_refused_alike(message: str, environment: dict[str, str]) -> None:
    """The environment follows the same rules as the arguments."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        settings(environment, api_key=None)
    assert SECRET not in all_text_of(caught.value)


# The key


@pytest.mark.parametrize(
    "show", [repr, str, "{}".format, "{!r}".format, "%s".__mod__, lambda key: repr([key])]
)
def test_a_key_shows_itself_as_stars(show: Any) -> None:
    """No conversion of a key to text reveals it."""
    assert KEY not in show(ApiKey(KEY))
    assert "***" in show(ApiKey(KEY))


def test_settings_show_no_key() -> None:
    """The repr of an object with a key is masked too."""
    assert "Settings(base_url=URL('https://api.helicone.ai'), api_key=ApiKey('***'))" == repr(settings())


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", [ApiKey(KEY), settings()], ids=["key", "settings"])
def test_a_key_is_not_pickled(thing: object, protocol: int) -> None:
    """A key does not reach another process by accident."""
    with pytest.raises(TypeError, match="an API key is not pickled"):
        pickle.dumps(thing, protocol=protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_a_key_is_not_copied(duplicate: Any) -> None:
    """A single object holds the key."""
    with pytest.raises(TypeError, match="an API key is not pickled"):
        duplicate(ApiKey(KEY))


def test_a_key_has_no_attributes_to_dump() -> None:
    """vars() of a key is an error, so that no dump of an object graph finds it there."""
    with pytest.raises(TypeError):
        vars(ApiKey(KEY))
