"""API keys, and the organisation that each one belongs to."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.server_config import organization_uuid

Organization = UUID | str

# A client can send these in a header unchanged.
_SENDABLE: Final = re.compile(r"[!-~]+")


class MalformedToken(Exception):
    """The header is not ``Bearer`` and a key."""


class WrongKey(Exception):
    """The key is missing or unknown."""


class Keys:
    """The keys of a server.

    They are compared as digests.

    Args:
        given: One key, or an organisation for each of several keys; None generates one.

    Raises:
        ConfigurationError: A key cannot be sent, or an organisation is no UUID.

    >>> Keys("sk-a").organization_of("Bearer sk-a") is None
    True
    """

    def __init__(self, given: str | Mapping[str, Organization] | None) -> None:
        named = _organizations_by_key(given)
        self.is_random = given is None
        self.secrets = tuple(named)
        self._salt = secrets.token_bytes(32)
        self._digests = [(self._digest(key.encode()), organization) for key, organization in named.items()]

    @property
    def first(self) -> str:
        """The key that the server shows its owner."""
        return self.secrets[0]

    @property
    def organizations(self) -> frozenset[UUID]:
        """The organisations that keys speak for; none where there is one key for whatever is served."""
        return frozenset(organization for _, organization in self._digests if organization is not None)

    def organization_of(self, authorization: str | None) -> UUID | None:
        """The organisation of the key in a header; None is the only one that is served.

        Raises:
            MalformedToken: The header is not ``Bearer`` and a key.
            WrongKey: The header is missing, or its key is unknown.
        """
        if authorization is None:
            raise WrongKey
        words = authorization.split()
        if len(words) != 2 or words[0].lower() != "bearer":
            raise MalformedToken
        # A header may hold bytes that are no UTF-8.
        digest = self._digest(words[1].encode(errors="surrogateescape"))
        # All are compared, so that the time reveals neither whether one matched nor which.
        matches = [found for found in self._digests if hmac.compare_digest(found[0], digest)]
        if not matches:
            raise WrongKey
        return matches[0][1]

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt).digest()


def _organizations_by_key(given: str | Mapping[str, Organization] | None) -> dict[str, UUID | None]:
    if given is None:
        return {f"sk-local-{secrets.token_urlsafe(24)}": None}
    if not isinstance(given, (str, Mapping)):
        raise _bad_key(f"must be a string or a mapping of keys to organisations, got {type(given).__name__}")
    if not given:
        raise _bad_key("is empty", "Pass a key, or omit it for a random one")
    named: Mapping[Any, Organization | None] = {given: None} if isinstance(given, str) else given
    for key in named:
        if not isinstance(key, str) or not _SENDABLE.fullmatch(key):
            raise _bad_key(
                "holds a character that cannot be sent in a header",
                "Use visible ASCII characters without spaces",
            )
    try:
        return {key: None if one is None else organization_uuid(one) for key, one in named.items()}
    except ConfigurationError:
        # Raised outside, because the value may be the key.
        pass
    raise _bad_key("must map each key to the UUID of its organisation", "Write {key: organisation}")


def _bad_key(problem: str, remedy: str | None = None) -> ConfigurationError:
    return ConfigurationError(argument="api_key", problem=problem, remedy=remedy)
