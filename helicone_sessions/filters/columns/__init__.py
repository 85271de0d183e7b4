"""`F`, which has an attribute for each column of the API."""

import difflib
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn

from helicone_sessions.errors import UnknownColumn
from helicone_sessions.filters.columns.kinds import (
    BooleanColumn,
    MapColumn,
    NumberColumn,
    PropertyKeyColumn,
    ScoreColumn,
    TextColumn,
    TimestampColumn,
)
from helicone_sessions.filters.schema import ALIASES, COLUMNS
from helicone_sessions.masking import masked_repr


class Columns:
    """The class of `F`, which has an attribute for each column.

    >>> F.cost.unit
    'dollars'
    >>> F["helicone-score-feedback"]
    F.helicone_score_feedback
    """

    __slots__ = ()

    country_code = TextColumn("country_code")
    """Two-letter country code of the caller."""
    latency = NumberColumn("latency")
    """Time from request to complete response, in milliseconds."""
    cost = NumberColumn("cost")
    """Price of the request, in dollars."""
    provider = TextColumn("provider")
    """Provider of the model, such as OPENAI or ANTHROPIC."""
    time_to_first_token = NumberColumn("time_to_first_token")
    """Time from request to the first token, in milliseconds."""
    status = NumberColumn("status")
    """HTTP status of the response."""
    request_created_at = TimestampColumn("request_created_at")
    """Time of the request."""
    response_created_at = TimestampColumn("response_created_at")
    """Time of the complete response."""
    model = TextColumn("model")
    """Name of the model."""
    user_id = TextColumn("user_id")
    """User id set by the application."""
    organization_id = TextColumn("organization_id")
    """UUID of the organisation."""
    node_id = TextColumn("node_id")
    """Id of a node."""
    job_id = TextColumn("job_id")
    """Id of a job."""
    threat = BooleanColumn("threat")
    """The request was marked as a threat."""
    request_id = TextColumn("request_id")
    """UUID of the request."""
    prompt_tokens = NumberColumn("prompt_tokens")
    """Tokens sent."""
    completion_tokens = NumberColumn("completion_tokens")
    """Tokens received."""
    prompt_cache_read_tokens = NumberColumn("prompt_cache_read_tokens")
    """Tokens read from the provider's cache."""
    prompt_cache_write_tokens = NumberColumn("prompt_cache_write_tokens")
    """Tokens written to the provider's cache."""
    total_tokens = NumberColumn("total_tokens")
    """Tokens sent and received."""
    target_url = TextColumn("target_url")
    """Address that the request was forwarded to."""
    property_key = PropertyKeyColumn("property_key")
    """The request has a property of this name."""
    properties = MapColumn("properties", TextColumn)
    """Properties of the request by key, such as Helicone-Session-Id."""
    search_properties = MapColumn("search_properties", TextColumn)
    """Searchable properties by key."""
    scores = MapColumn("scores", ScoreColumn)
    """Scores of the request by key, as whole numbers."""
    scores_column = TextColumn("scores_column")
    """The map of scores as a whole."""
    request_body = TextColumn("request_body")
    """Text of the request."""
    response_body = TextColumn("response_body")
    """Text of the response."""
    cache_enabled = BooleanColumn("cache_enabled")
    """Helicone's cache was enabled for the request."""
    cache_reference_id = TextColumn("cache_reference_id")
    """UUID of the request whose response came from the cache."""
    cached = BooleanColumn("cached")
    """The response came from Helicone's cache."""
    assets = TextColumn("assets")
    """Ids of the assets of the request."""
    helicone_score_feedback = BooleanColumn("helicone-score-feedback")
    """The user's feedback, true if positive."""
    prompt_id = TextColumn("prompt_id")
    """Id of the prompt template."""
    prompt_version = TextColumn("prompt_version")
    """Version of the prompt template."""
    request_referrer = TextColumn("request_referrer")
    """Referrer of the request."""
    is_passthrough_billing = BooleanColumn("is_passthrough_billing")
    """The provider's bill was passed through."""
    session_session_id = TextColumn("session_session_id")
    """Id of the session."""
    session_session_name = TextColumn("session_session_name")
    """Name of the session."""
    session_total_cost = NumberColumn("session_total_cost")
    """Price of all requests of the session, in dollars."""
    session_total_tokens = NumberColumn("session_total_tokens")
    """Tokens sent and received in the session."""
    session_prompt_tokens = NumberColumn("session_prompt_tokens")
    """Tokens sent in the session."""
    session_completion_tokens = NumberColumn("session_completion_tokens")
    """Tokens received in the session."""
    session_total_requests = NumberColumn("session_total_requests")
    """Number of requests in the session."""
    session_created_at = TimestampColumn("session_created_at")
    """Time of the first request of the session."""
    session_latest_request_created_at = TimestampColumn("session_latest_request_created_at")
    """Time of the latest request of the session."""
    session_tag = TextColumn("session_tag")
    """Tag of the session."""

    session_id = TextColumn("properties", ALIASES["session_id"])
    """Id of the session, from the ``Helicone-Session-Id`` property."""
    session_name = TextColumn("properties", ALIASES["session_name"])
    """Name of the session, from the ``Helicone-Session-Name`` property."""

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise _unknown(name)
        return getattr(self, COLUMNS[name].attribute if name in COLUMNS else name)

    if not TYPE_CHECKING:  # so that type checkers report misspelt names

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__"):
                raise AttributeError(name)
            raise _unknown(name)

    __iter__: ClassVar[None] = None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in COLUMNS or name in ALIASES)

    def __repr__(self) -> str:
        return "F"

    def __reduce__(self) -> str:
        return "F"


def _unknown(name: object) -> UnknownColumn:
    word = str(name).casefold()
    near = difflib.get_close_matches(word, [column.attribute for column in COLUMNS.values()], n=2, cutoff=0.7)
    meant = _SYNONYMS.get(word) or " or ".join(map(repr, near))
    return UnknownColumn(
        problem=f"there is no column {masked_repr(name)}",
        remedy=f"Did you mean {meant}?" if meant else "dir(F) lists the columns",
    )


# Names from other APIs that are spelt like the wrong column.
_SYNONYMS: Final = {
    "helicone-session-id": "'session_id'",
    "helicone-session-name": "'session_name'",
    "created_at": "'request_created_at'",
    "property": "'properties'",
    "prop": "'properties'",
    "score": "'scores'",
    "tokens": "'total_tokens'",
    "user": "'user_id'",
    "tag": "'session_tag'",
    "feedback": "'helicone_score_feedback'",
    "country": "'country_code'",
    "duration": "'latency'",
}


F: Final = Columns()
