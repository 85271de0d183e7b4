"""The checked arguments of a `LocalServer`, including its API keys."""

import hashlib
import hmac
import math
import os
import re
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, get_args
from uuid import UUID

import attrs

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.drivers import Limits
from helicone_sessions.local.query.engine import Semantics
from helicone_sessions.local.storage.fields import RowOptions
from helicone_sessions.local.storage.readers import Data
from helicone_sessions.masking import masked_repr

Organization = UUID | str
_Path = str | os.PathLike[str]
_Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]

# The characters that a header can carry unchanged.
_SENDABLE: Final = re.compile(r"[!-~]+")


def _must_be(expected: str, is_valid: Callable[[Any], bool], remedy: str | None = None) -> _Check:
    def check(_config: Any, field: "attrs.Attribute[Any]", value: Any) -> None:
        if not is_valid(value):
            raise ConfigurationError(
                argument=field.name, problem=f"must be {expected}, got {masked_repr(value)}", remedy=remedy
            )

    return check


def _whole_number(least: int, most: float = math.inf) -> _Check:
    bounds = f"{least} or more" if most == math.inf else f"between {least} and {most}"
    return _must_be(
        f"a whole number, {bounds}",
        lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most,
    )


def _seconds(*, above_zero: bool) -> _Check:
    return _must_be(
        "a number of seconds above 0" if above_zero else "a number of seconds, 0 or more",
        lambda value: (
            isinstance(value, (int, float))
            and not isinstance(value, bool)
            and 0 <= value < math.inf
            and (value > 0 or not above_zero)
        ),
    )


_optional = attrs.validators.optional
_flag: _Check = _must_be("True or False", lambda value: isinstance(value, bool))
_path: _Check = _must_be(
    "a path",
    lambda value: value is None or (isinstance(value, (str, os.PathLike)) and bool(os.fspath(value))),
)


def organization_uuid(value: UUID | str) -> UUID:
    """Convert the id of an organisation to a UUID.

    Raises:
        ConfigurationError: *value* is not a UUID.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(
            argument="organization_id",
            problem=f"must be a UUID, got {masked_repr(value)}",
            remedy="Pass the id of the organisation",
        ) from None


# The class has no repr, because a repr would reveal the data and the password in a URL.
@attrs.frozen(kw_only=True, eq=False, repr=False)
class ServerConfig:
    """The arguments of `LocalServer`, which documents them. The API keys are in `Keys`."""

    data: Data
    path: _Path | None = attrs.field(validator=_path)
    accept_loss: bool = attrs.field(validator=_flag)
    clickhouse: str | None = attrs.field(
        validator=_must_be("a URL", lambda value: value is None or isinstance(value, str))
    )
    organization_id: UUID | None = attrs.field(converter=attrs.converters.optional(organization_uuid))
    host: str = attrs.field(validator=_must_be("a string", lambda value: isinstance(value, str)))
    port: int = attrs.field(validator=_whole_number(0, 65_535))
    semantics: Semantics = attrs.field(
        validator=_must_be("'contract' or 'helicone'", lambda value: value in get_args(Semantics))
    )
    include_unsessioned: bool = attrs.field(validator=_flag)
    rejects: _Path | None = attrs.field(validator=_path)
    row_options: RowOptions
    on_progress: Callable[..., None] | None = attrs.field(validator=_optional(_must_be("callable", callable)))
    rate_limit: int | None = attrs.field(validator=_optional(_whole_number(1)))
    rate_limit_window: float = attrs.field(validator=_seconds(above_zero=True))
    max_concurrency: int | None = attrs.field(validator=_optional(_whole_number(1)))
    max_queued: int = attrs.field(validator=_whole_number(0))
    limits: Limits | None = attrs.field(
        validator=_must_be(
            "Limits",
            lambda value: value is None or isinstance(value, Limits),
            "Pass Limits(seconds=60), for example",
        )
    )
    patience: float = attrs.field(validator=_seconds(above_zero=True))
    grace: float = attrs.field(validator=_seconds(above_zero=False))
    in_thread: bool = attrs.field(validator=_flag)

    def __attrs_post_init__(self) -> None:
        has_data = not (isinstance(self.data, tuple) and not self.data)
        if self.clickhouse is not None and (self.path is not None or has_data):
            raise ConfigurationError(
                argument="clickhouse",
                problem="cannot be combined with `data` or `path`",
                remedy="Load the data with ClickHouse's own tools, or leave out `clickhouse`",
            )

    @property
    def threads(self) -> int:
        """The maximum number of queries that run at once."""
        return self.max_concurrency or min(4, (os.cpu_count() or 1) + 1)


class MalformedToken(Exception):
    """The authorization header does not consist of ``Bearer`` and a key."""


class WrongKey(Exception):
    """The key is missing or unknown."""


class Keys:
    """The API keys of a server. Keys are compared by digest.

    Args:
        given: One key, or a mapping from keys to organisations; None generates a key.

    Raises:
        ConfigurationError: A key cannot be sent in a header, or an organisation is not a UUID.

    >>> Keys("sk-a").organization_of("Bearer sk-a") is None
    True
    """

    def __init__(self, given: str | Mapping[str, Organization] | None) -> None:
        self.is_random = given is None
        named = _organizations_by_key(f"sk-local-{secrets.token_urlsafe(24)}" if given is None else given)
        self.secrets = tuple(named)
        self._salt = secrets.token_bytes(32)
        self._digests = [(self._digest(key.encode()), organization) for key, organization in named.items()]

    @property
    def first(self) -> str:
        """The first key, which `LocalServer.api_key` returns."""
        return self.secrets[0]

    @property
    def organizations(self) -> frozenset[UUID]:
        """The organisations of the keys; empty if there is only one key, without an organisation."""
        return frozenset(organization for _, organization in self._digests if organization is not None)

    def organization_of(self, authorization: str | None) -> UUID | None:
        """The organisation of the key in a header; None if the key has no organisation.

        Raises:
            MalformedToken: The header does not consist of ``Bearer`` and a key.
            WrongKey: The header is missing, or its key is unknown.
        """
        if authorization is None:
            raise WrongKey
        words = authorization.split()
        if len(words) != 2 or words[0].lower() != "bearer":
            raise MalformedToken
        # A header may contain bytes that are not UTF-8.
        digest = self._digest(words[1].encode(errors="surrogateescape"))
        # Every key is compared, so that the response time does not reveal whether a key matches, or which.
        matches = [found for found in self._digests if hmac.compare_digest(found[0], digest)]
        if not matches:
            raise WrongKey
        return matches[0][1]

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt).digest()


def _organizations_by_key(given: str | Mapping[str, Organization]) -> dict[str, UUID | None]:
    if not isinstance(given, (str, Mapping)):
        raise _bad_key(f"must be a string or a mapping of keys to organisations, got {type(given).__name__}")
    if not given:
        raise _bad_key("is empty", "Pass a key, or omit it for a random one")
    named: Mapping[Any, Organization | None] = {given: None} if isinstance(given, str) else given
    if not all(isinstance(key, str) and _SENDABLE.fullmatch(key) for key in named):
        raise _bad_key(
            "holds a character that cannot be sent in a header",
            "Use visible ASCII characters without spaces",
        )
    try:
        return {key: None if one is None else organization_uuid(one) for key, one in named.items()}
    except ConfigurationError:
        # The error is raised outside this block, so that it does not chain one that may contain the key.
        pass
    raise _bad_key("must map each key to the UUID of its organisation", "Write {key: organisation}")


def _bad_key(problem: str, remedy: str | None = None) -> ConfigurationError:
    return ConfigurationError(argument="api_key", problem=problem, remedy=remedy)
