"""The address and key of the service, from arguments or the environment."""

import hashlib
import ipaddress
import os
import re
import urllib.request
from collections.abc import Mapping
from typing import Final, Literal, NoReturn, get_args

import attrs
from yarl import URL

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.masking import masked_repr, masked_text

Region = Literal["us", "eu"]

_SALT: Final = os.urandom(16)
_REGIONS: Final[dict[str, str]] = {"us": "https://api.helicone.ai", "eu": "https://eu.api.helicone.ai"}
# Also matches the path of a complete endpoint, which users may copy from the API documentation.
_ENDPOINT: Final = re.compile(r"/v1/*$|/v1/+(?:session|request)(?:/.*)?$")


class ApiKey:
    """An API key that does not appear in reprs, messages or pickles."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def reveal(self) -> str:
        """Return the key itself, for the request header."""
        return self._key

    def __repr__(self) -> str:
        return "ApiKey('***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; create the client where it is used")


@attrs.frozen
class Settings:
    """The address of the service, the API key and the proxy."""

    base_url: URL
    api_key: ApiKey
    proxy: URL | None = attrs.field(default=None, repr=False)

    @property
    def account(self) -> bytes:
        """Identifies the key and the service without revealing the key."""
        return hashlib.blake2b(
            f"{self.base_url} {self.api_key.reveal()}".encode(), digest_size=16, key=_SALT
        ).digest()

    def masked(self, text: str) -> str:
        """Mask the API key and the password of the proxy in *text*."""
        proxy = self.proxy or URL()
        return masked_text(text, self.api_key.reveal(), proxy.password or "", proxy.raw_password or "")


def resolve(
    api_key: str | None,
    region: str | None,
    base_url: str | URL | None,
    environment: Mapping[str, str] = os.environ,
    *,
    looks_for_proxy: bool = True,
) -> Settings:
    """Read the settings from the arguments or, where these are omitted, from the environment.

    Raises:
        ConfigurationError: There is no key, or an argument is invalid.
    """
    if region is not None and base_url is not None:
        raise ConfigurationError(
            argument="region", problem="cannot be combined with `base_url`", remedy="Leave out one of them"
        )
    if region is not None and region not in get_args(Region):
        # Do not quote the value: it may be a key that was passed by mistake.
        raise ConfigurationError(argument="region", problem="must be 'us' or 'eu'")
    if region is None and base_url is None:
        base_url = environment.get("HELICONE_BASE_URL") or _REGIONS["us"]
    url = _address(_REGIONS[region] if region else base_url)
    return Settings(url, _key(api_key, environment), _proxy(url) if looks_for_proxy else None)


def _key(api_key: object, environment: Mapping[str, str]) -> ApiKey:
    key = environment.get("HELICONE_API_KEY") if api_key is None else api_key
    if not isinstance(key, (str, type(None))):
        raise ConfigurationError(
            argument="api_key", problem=f"must be a string, got a value of type {type(key).__name__}"
        )
    if not key:
        raise ConfigurationError(
            argument="api_key",
            problem="is missing",
            remedy="Pass it, or set HELICONE_API_KEY, with a key from Helicone's settings page",
        )
    if key.lower().startswith("bearer "):
        raise ConfigurationError(argument="api_key", problem='must not begin with "Bearer "')
    if key[0] in "\"'`" or key[-1] in "\"'`":
        raise ConfigurationError(
            argument="api_key",
            problem="must not be in quotes",
            remedy="`docker run --env-file` and compose lists keep quotes: remove them there",
        )
    if not key.isascii() or any(not "!" <= character <= "~" for character in key):
        raise ConfigurationError(
            argument="api_key",
            problem="contains whitespace or characters that no key has",
            remedy="Check that it was copied completely",
        )
    return ApiKey(key)


def _address(value: object) -> URL:
    url = _url_of(value) if isinstance(value, str) else value
    if not isinstance(url, URL) or url.scheme not in ("http", "https") or not url.raw_host:
        # Do not quote the value: it may be a key that was passed by mistake.
        raise ConfigurationError(
            argument="base_url",
            problem="must be an http(s) URL",
            remedy="Use an address such as https://api.helicone.ai",
        )
    if url.user or url.password or url.query_string or url.fragment:
        raise ConfigurationError(
            argument="base_url",
            problem="must have no user, password, query or fragment",
            remedy="Pass the key as `api_key`",
        )
    if endpoint := _ENDPOINT.search(url.path):
        raise ConfigurationError(
            argument="base_url",
            problem=f"must not end with {masked_repr(endpoint[0])}",
            remedy="The client adds the path of each endpoint",
        )
    _check_host(url, "base_url")
    return url


def _url_of(text: str) -> URL:
    """Parse *text* as a URL; return an empty URL if it is not one."""
    try:
        return URL(text)
    except ValueError:
        return URL()


def _check_host(url: URL, argument: str) -> None:
    """Check that the host can be encoded; otherwise aiohttp would raise UnicodeError at the first query."""
    host = url.raw_host or ""
    try:
        host.encode("idna")
        host.encode().decode("idna")
    except UnicodeError:
        raise ConfigurationError(
            argument=argument,
            problem=f"has a host that cannot be looked up, got {masked_repr(host)}",
            remedy="Check its spelling; between dots there are 1 to 63 characters",
        ) from None


def _proxy(url: URL) -> URL | None:
    """Return the proxy that the environment sets for *url*, or None.

    Loopback addresses have no proxy. With ``trust_env``, aiohttp would look up the proxy for each request,
    which takes longer than the request itself.
    """
    host = url.host or ""
    if host == "localhost" or _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    value = proxies.get(url.scheme) or proxies.get("all")
    if not value:
        return None
    proxy = _url_of(value if "://" in value else f"http://{value}")
    if proxy.scheme not in ("http", "https") or not proxy.raw_host:
        # Do not quote the value: it may contain a password.
        raise ConfigurationError(
            argument="proxy",
            problem=f"must be an http:// address in the environment variables for {url.scheme} addresses",
            remedy=f"Add {host} to NO_PROXY, or pass a session with a connector for that proxy",
        )
    _check_host(proxy, "proxy")
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
