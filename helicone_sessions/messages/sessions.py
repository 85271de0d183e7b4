"""Answers about sessions: `Session`, `Sessions`, `SessionCount` and `SessionName`."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final, overload

import attrs

from helicone_sessions.display import html
from helicone_sessions.display.numbers import column_numbers, number
from helicone_sessions.messages.metrics import AsDict
from helicone_sessions.messages.tabular import Row, Tabular, json_text


@attrs.frozen
class Session(AsDict):
    """One session, with totals over its requests *that match the query*, not over all its requests.

    Args:
        session_id: The ``Helicone-Session-Id`` property.
        session_name: The ``Helicone-Session-Name`` property; "" if it is missing. An id that occurs with two
            names counts as two sessions.
        created_at: The time of the first request, in UTC.
        latest_request_created_at: The time of the latest request, in UTC.
        total_cost: The cost of the requests in dollars.
        total_requests: The number of requests.
        prompt_tokens: The number of tokens sent.
        completion_tokens: The number of tokens received.
        total_tokens: The number of tokens sent and received; 0 if the service does not know one of the two
            numbers.
        avg_latency: The average latency of a request in milliseconds; 0 if no request has a latency.
        user_ids: The users of the requests; empty if the server is too old to list them.

    >>> from helicone_sessions.testing import session
    >>> one = session(total_cost=0.5, duration=90)
    >>> one.duration, one.total_cost / one.total_requests
    (datetime.timedelta(seconds=90), 0.25)
    """

    session_id: str
    session_name: str
    created_at: datetime
    latest_request_created_at: datetime
    total_cost: float
    total_requests: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    avg_latency: float | None
    user_ids: tuple[str, ...] = ()

    @property
    def duration(self) -> timedelta:
        """The time from the first request to the latest one.

        >>> from helicone_sessions.testing import session
        >>> session(duration=90).duration.total_seconds()
        90.0
        """
        return self.latest_request_created_at - self.created_at

    def to_dict(self) -> dict[str, Any]:
        """The session as strings and numbers, for ``json.dumps``. Times are in ISO 8601 format.

        >>> from helicone_sessions.testing import session
        >>> session().to_dict()["created_at"]
        '2026-11-01T12:00:00+00:00'
        """
        return {name: _plain(value) for name, value in _fields(self).items()}


_MOST_SHOWN: Final = 50
_HEADS: Final = ("name", "first request", "seconds", "dollars", "requests", "tokens")
_FIELDS: Final = {
    "session_id": "the property Helicone-Session-Id",
    "session_name": "the property Helicone-Session-Name",
    "created_at": "time of the first request",
    "latest_request_created_at": "time of the latest request",
    "total_cost": "dollars",
    "total_requests": "requests",
    "prompt_tokens": "tokens sent",
    "completion_tokens": "tokens received",
    "total_tokens": "tokens sent and received",
    "avg_latency": "milliseconds per request",
    "user_ids": "users of the requests",
}


def _fields(session: Session) -> dict[str, Any]:
    return {name: getattr(session, name) for name in _FIELDS}


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return list(value) if isinstance(value, tuple) else value


@attrs.frozen(repr=False)
class Sessions(Tabular, Sequence[Session]):
    """A sequence of `Session`, in the requested order.

    Args:
        sessions: The sessions.

    >>> from helicone_sessions.testing import session
    >>> found = Sessions((session("a", total_cost=2.0), session("b", total_cost=1.0)))
    >>> found[0].session_id, sum(one.total_cost for one in found), found
    ('a', 3.0, <Sessions: 2>)
    """

    sessions: tuple[Session, ...]

    columns: ClassVar[Mapping[str, str]] = {**_FIELDS, "duration": "seconds, first request to latest"}
    column_types: ClassVar[Mapping[str, type]] = {
        **dict.fromkeys(("created_at", "latest_request_created_at"), datetime),
        **dict.fromkeys(("total_cost", "avg_latency", "duration"), float),
        **dict.fromkeys(("total_requests", "prompt_tokens", "completion_tokens", "total_tokens"), int),
    }

    def __repr__(self) -> str:
        return f"<Sessions: {len(self.sessions):,}>"

    @overload
    def __getitem__(self, index: int) -> Session: ...
    @overload
    def __getitem__(self, index: slice) -> "Sessions": ...
    def __getitem__(self, index: int | slice) -> "Session | Sessions":
        return Sessions(self.sessions[index]) if isinstance(index, slice) else self.sessions[index]

    def __len__(self) -> int:
        return len(self.sessions)

    def __iter__(self) -> Iterator[Session]:
        return iter(self.sessions)

    def to_rows(self) -> list[Row]:
        """A dict for each session, with the keys of `columns`. ``user_ids`` becomes text, joined with ", ".

        >>> from helicone_sessions.testing import session
        >>> Sessions((session(duration=90),)).to_rows()[0]["duration"]
        90.0
        """
        return [
            {
                **_fields(one),
                "user_ids": ", ".join(one.user_ids),
                "duration": one.duration.total_seconds(),
            }
            for one in self.sessions
        ]

    def to_dict(self) -> dict[str, Any]:
        """The sessions as dicts, lists, strings and numbers, for ``json.dumps``.

        >>> Sessions(()).to_dict()
        {'sessions': []}
        """
        return {"sessions": [one.to_dict() for one in self.sessions]}

    def to_json(self) -> str:
        """The sessions as a JSON array of objects. Times are in ISO 8601 format.

        >>> Sessions(()).to_json()
        '[]'
        """
        return json_text([one.to_dict() for one in self.sessions])

    def _repr_html_(self) -> str:
        shown = self.sessions[:_MOST_SHOWN]
        dollars = column_numbers([one.total_cost for one in shown], "dollars")
        rows = [
            (
                one.session_id,
                [
                    html.Cell(text)
                    for text in (
                        one.session_name,
                        f"{one.created_at:%Y-%m-%d %H:%M:%S}",
                        number(one.duration.total_seconds(), "seconds"),
                        cost,
                        f"{one.total_requests:,}",
                        f"{one.total_tokens:,}",
                    )
                ],
            )
            for one, cost in zip(shown, dollars, strict=True)
        ]
        more = len(self.sessions) - len(shown)
        note = "Times in UTC." + (f" {more:,} more sessions are not shown." if more else "")
        return html.table(f"{len(self.sessions):,} sessions", _HEADS, rows, note)


@attrs.frozen
class SessionCount(AsDict):
    """The number of matching sessions, with totals and averages that are 0 if no session matches.

    Servers from before September 2025 return only the number. The other fields are then None.

    Args:
        count: The number of sessions.
        total_cost: The cost of all matching requests in dollars. Other requests of the sessions are not
            included.
        avg_cost: The average cost of a session in dollars.
        avg_latency: The total latency of the requests in a session, averaged over the sessions, in
            milliseconds.
        avg_requests: The average number of requests in a session.

    >>> SessionCount(4, total_cost=2.0, avg_cost=0.5, avg_latency=900.0, avg_requests=3.0).avg_cost
    0.5
    """

    count: int
    total_cost: float | None = None
    avg_cost: float | None = None
    avg_latency: float | None = None
    avg_requests: float | None = None


@attrs.frozen
class SessionName(AsDict):
    """A session name, with statistics about the sessions of this name.

    Args:
        name: The ``Helicone-Session-Name`` property.
        created_at: The time of the first request, in UTC.
        last_used: The time of the latest request, in UTC.
        avg_latency: The average latency of a request in milliseconds.
        session_count: The number of sessions.

    >>> import datetime as dt
    >>> day = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    >>> SessionName("support", day, day, avg_latency=800.0, session_count=4).to_dict()["last_used"]
    '2026-11-01T00:00:00+00:00'
    """

    name: str
    created_at: datetime
    last_used: datetime
    avg_latency: float | None
    session_count: int

    def to_dict(self) -> dict[str, Any]:
        """The name and its statistics as strings and numbers, for ``json.dumps``.

        Times are in ISO 8601 format.
        """
        # attrs has no type for "an instance of any attrs class".
        return attrs.asdict(self, value_serializer=lambda _value, _field, part: _plain(part))
