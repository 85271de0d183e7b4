"""Where the service is and which key opens it: from arguments, then from the environment."""

import hashlib
import ipaddress
import os
import urllib.request
from collections.abc import Mapping
from typing import Final, Literal, NoReturn, get_args

import attrs
from yarl import URL

from helicone_sessions.errors import ConfigurationError

Region = Literal["us", "eu"]

_SALT: Final = os.urandom(16)
_REGIONS: Final[dict[str, str]] = {"us": "https://api.helicone.ai", "eu": "https://eu.api.helicone.ai"}


class ApiKey:
    """An API key that no repr, message or pickle shows."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def reveal(self) -> str:
        """The key itself, for the one header that carries it."""
        return self._key

    def __repr__(self) -> str:
        return "ApiKey('***')"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an API key is not pickled; make the client where it is used")


@attrs.frozen
class Settings:
    """The address of the service, the key for it, and the proxy on the way to it."""

    base_url: URL
    api_key: ApiKey
    proxy: URL | None = attrs.field(default=None, repr=False)

    @property
    def account(self) -> bytes:
        """The same for clients that use the same key of the same service, and no key itself."""
        return hashlib.blake2b(
            f"{self.base_url} {self.api_key.reveal()}".encode(), digest_size=16, key=_SALT
        ).digest()

    def masked(self, text: str) -> str:
        """*text* without the key and without the password of the proxy."""
        proxy = self.proxy or URL()
        secrets = [self.api_key.reveal(), proxy.password, proxy.raw_password]
        for secret in filter(None, secrets):
            text = text.replace(secret, "***")
        return text


def resolve(
    api_key: str | None,
    region: str | None,
    base_url: str | URL | None,
    environment: Mapping[str, str] = os.environ,
    *,
    looks_for_proxy: bool = True,
) -> Settings:
    """The settings that the arguments name, and for those not given the environment.

    Raises:
        ConfigurationError: There is no key, or what is given cannot be used.
    """
    if region is not None and base_url is not None:
        raise ConfigurationError("give region or base_url, not both: a region stands for an address")
    if region is not None and region not in get_args(Region):
        raise ConfigurationError("region is 'us' or 'eu', not another text")
    if region is None and base_url is None:
        base_url = environment.get("HELICONE_BASE_URL") or _REGIONS["us"]
    url = _address(_REGIONS[region] if region else base_url)
    return Settings(url, _key(api_key, environment), _proxy(url) if looks_for_proxy else None)


def _key(api_key: object, environment: Mapping[str, str]) -> ApiKey:
    key = environment.get("HELICONE_API_KEY") if api_key is None else api_key
    if not isinstance(key, (str, type(None))):
        raise ConfigurationError(f"api_key is text, not {type(key).__name__}")
    if not key:
        raise ConfigurationError(
            "there is no API key: pass api_key=, or set HELICONE_API_KEY"
            " (keys are made on Helicone's settings page)"
        )
    if key.lower().startswith("bearer "):
        raise ConfigurationError('api_key is the key alone, without "Bearer " before it')
    if not key.isascii() or any(not "!" <= character <= "~" for character in key):
        raise ConfigurationError(
            "api_key holds white space or characters that no key has; was it copied whole?"
        )
    return ApiKey(key)


def _address(value: object) -> URL:
    try:
        url = URL(value) if isinstance(value, str) else value
    except ValueError:
        url = None
    if not isinstance(url, URL) or url.scheme not in ("http", "https") or not url.host:
        # What is no address may be a key in the wrong place, or hold one: it is not quoted.
        raise ConfigurationError("base_url is an address like https://api.helicone.ai, and this is none")
    if url.user or url.password or url.query_string or url.fragment:
        raise ConfigurationError(
            "base_url is a plain address without user, password, ? or #; the key goes into api_key"
        )
    if url.path.rstrip("/").endswith("/v1"):
        raise ConfigurationError("base_url goes without /v1: the path of the endpoint is added to it")
    return url


def _proxy(url: URL) -> URL | None:
    """The proxy that the environment names for *url*; there is none on the way to this machine itself.

    aiohttp's ``trust_env`` looks it up for each request, which costs more than the request.
    """
    host = url.host or ""
    if host == "localhost" or _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    proxies = urllib.request.getproxies()
    value = proxies.get(url.scheme) or proxies.get("all")
    if not value:
        return None
    try:
        proxy = URL(value if "://" in value else f"http://{value}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # It may hold a password: it is not quoted.
        raise ConfigurationError(
            f"the proxy that the environment names for {url.scheme} addresses is no http:// address, and"
            f" another cannot be used: name {host} in NO_PROXY, or pass session= with a connector that can"
        )
    return proxy


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
