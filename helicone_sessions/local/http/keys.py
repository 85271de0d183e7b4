"""Who may ask: API keys, and the organisation that each one speaks for."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from helicone_sessions.errors import ConfigurationError

Organization = UUID | str

# What a client can send in a header, and no reader can mistake.
_SENDABLE: Final = re.compile(r"[!-~]+")


class MalformedToken(Exception):
    """The header is not ``Bearer`` and a key."""


class WrongKey(Exception):
    """There is no key, or nobody has it."""


class Keys:
    """The keys of a server.

    They are kept as digests beside the first one, which the server shows its owner.

    Args:
        given: One key, or an organisation for each of several keys; None makes one up.

    Raises:
        ConfigurationError: A key cannot be sent, or an organisation is no UUID.

    >>> Keys("sk-a").organization_of("Bearer sk-a") is None
    True
    """

    def __init__(self, given: str | Mapping[str, Organization] | None) -> None:
        named: dict[Any, UUID | None]
        if given is None:
            named = {f"sk-local-{secrets.token_urlsafe(24)}": None}
        elif isinstance(given, str):
            if not given:
                raise ConfigurationError("api_key is empty: give a key, or leave it out to have one made up")
            named = {given: None}
        elif not isinstance(given, Mapping):
            raise ConfigurationError(
                f"api_key is a text, or a mapping from keys to organisations, not a {type(given).__name__}"
            )
        else:
            named = {key: as_organization(organization) for key, organization in given.items()}
        if not named:
            raise ConfigurationError("api_key names no key: give at least one with its organisation")
        for key in named:
            if not isinstance(key, str) or not _SENDABLE.fullmatch(key):
                raise ConfigurationError("an api_key is text of visible ASCII characters without spaces")
        self.is_made_up = given is None
        self.first: str = next(iter(named))
        self._salt = secrets.token_bytes(32)
        self._digests = [(self._digest(key.encode()), organization) for key, organization in named.items()]

    @property
    def organizations(self) -> frozenset[UUID]:
        """The organisations that keys speak for; none where there is one key for whatever is served."""
        return frozenset(organization for _, organization in self._digests if organization is not None)

    def organization_of(self, authorization: str | None) -> UUID | None:
        """The organisation of the key in a header; None is the only one that is served.

        Raises:
            MalformedToken: The header is not ``Bearer`` and a key.
            WrongKey: There is no header, or nobody has its key.
        """
        if authorization is None:
            raise WrongKey
        words = authorization.split()
        if len(words) != 2 or words[0].lower() != "bearer":
            raise MalformedToken
        # A header may hold bytes that are no UTF-8.
        asked = self._digest(words[1].encode(errors="surrogateescape"))
        # All are compared, so that the time tells neither whether one matched nor which.
        matches = [found for found in self._digests if hmac.compare_digest(found[0], asked)]
        if not matches:
            raise WrongKey
        return matches[0][1]

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._salt).digest()


def as_organization(given: Organization) -> UUID:
    """The organisation as a UUID.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(given, UUID):
        return given
    try:
        return UUID(given)
    except (ValueError, AttributeError, TypeError):
        raise ConfigurationError(f"an organisation is a UUID, not {given!r}") from None
