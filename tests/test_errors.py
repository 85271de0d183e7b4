import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from helicone_sessions import errors
from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    FilterError,
    FilterSyntaxError,
    FilterTypeError,
    FilterValueError,
    HeliconeError,
    InvalidRequest,
    MissingExtra,
    QueryFailed,
    RateLimited,
    RequestTimeout,
    ServerError,
    TransportError,
    UnexpectedResponse,
    UnknownColumn,
    UnknownOperator,
)

TREE = {
    HeliconeError: (Exception,),
    ConfigurationError: (HeliconeError, ValueError),
    MissingExtra: (ConfigurationError, ImportError),
    FilterError: (HeliconeError,),
    FilterTypeError: (FilterError, TypeError),
    UnknownOperator: (FilterTypeError, AttributeError),
    FilterValueError: (FilterError, ValueError),
    FilterSyntaxError: (FilterValueError,),
    UnknownColumn: (FilterValueError, AttributeError),
    TransportError: (HeliconeError,),
    RequestTimeout: (TransportError, TimeoutError),
    ConnectionFailed: (TransportError, ConnectionError),
    APIError: (HeliconeError,),
    AuthenticationError: (APIError,),
    InvalidRequest: (APIError,),
    RateLimited: (APIError,),
    QueryFailed: (APIError,),
    ServerError: (APIError,),
    UnexpectedResponse: (APIError,),
}

ANSWER = {"status": 418, "request_id": "req-1", "attempts": 3, "body_excerpt": "{"}

SAMPLES = [
    HeliconeError("plain"),
    ConfigurationError(argument="host", problem="must be a string, got 5", remedy="Pass a name"),
    MissingExtra("local", package="chdb", purpose="the engine"),
    FilterError("bad filter"),
    FilterTypeError("wrong type"),
    UnknownOperator("no such operator"),
    FilterValueError("wrong value"),
    FilterSyntaxError("line 2, column 3: what is this", line=2, column=3, offset=12),
    UnknownColumn("no such column"),
    TransportError("no answer", attempts=2),
    RequestTimeout("too slow", limit="timeout", seconds=1.5, attempts=5),
    ConnectionFailed("refused", attempts=4),
    APIError("teapot", **ANSWER),
    AuthenticationError("wrong key", **ANSWER),
    InvalidRequest("malformed", **ANSWER),
    RateLimited("slow down", retry_after=7.5, **ANSWER),
    QueryFailed("Invalid timezone difference", **ANSWER),
    ServerError("bad gateway", retry_after=2.0, **ANSWER),
    UnexpectedResponse("off", path="$.data.average", **ANSWER),
]

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{
        f"pickle protocol {number}": lambda error, number=number: pickle.loads(  # noqa: S301 - our own bytes
            pickle.dumps(error, protocol=number)
        )
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
}


def _name(value: object) -> str | None:
    if isinstance(value, type):
        return value.__name__
    return type(value).__name__ if isinstance(value, HeliconeError) else None


def test_the_tree_is_the_documented_one() -> None:
    """The module defines exactly the errors of the documented tree."""
    defined = {value for value in vars(errors).values() if isinstance(value, type)}

    assert set(TREE) == {kind for kind in defined if issubclass(kind, HeliconeError)}


def test_every_error_has_a_sample_here() -> None:
    """The samples that the tests below run over leave out no class."""
    assert list(TREE) == [type(error) for error in SAMPLES]


@pytest.mark.parametrize(("kind", "bases"), TREE.items(), ids=_name)
def test_each_class_derives_from_its_place_in_the_tree_and_the_closest_builtin(
    kind: type[HeliconeError], bases: tuple[type, ...]
) -> None:
    """An error can be caught under its own branch and under the builtin that users know."""
    assert bases == kind.__bases__


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("error", SAMPLES, ids=_name)
def test_an_error_crosses_processes_whole(error: HeliconeError, duplicate: Callable[[Any], Any]) -> None:
    """A pickled or copied error has the same type, text, arguments and attributes."""
    other = duplicate(error)

    assert error is not other
    assert type(error) is type(other)
    assert str(error) == str(other)
    assert error.args == other.args
    assert vars(error) == vars(other)
    assert repr(error) == repr(other)


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_notes_added_to_an_error_cross_processes_with_it(duplicate: Callable[[Any], Any]) -> None:
    """A note from add_note stays with a copy."""
    error = QueryFailed("off", status=500)
    error.add_note("query 7 of the batch")

    assert ["query 7 of the batch"] == duplicate(error).__notes__


def test_a_copy_can_be_raised_and_caught() -> None:
    """An unpickled error is a working exception of both of its families."""
    error = pickle.loads(pickle.dumps(RequestTimeout("slow", limit="timeout", seconds=1)))  # noqa: S301 - our own bytes

    with pytest.raises(TimeoutError) as caught:
        raise error
    assert error is caught.value
    assert isinstance(error, HeliconeError)


@pytest.mark.parametrize("error", SAMPLES, ids=_name)
def test_message_is_the_text_alone(error: HeliconeError) -> None:
    """The message leaves out what str() adds about status, request and attempts."""
    assert str(error.args[0]) == error.message
    assert str(error).startswith(error.message)


@pytest.mark.parametrize(
    ("expected", "error"),
    [
        ("no answer", TransportError("no answer")),
        ("no answer", TransportError("no answer", attempts=1)),
        ("no answer (after 2 attempts)", TransportError("no answer", attempts=2)),
        ("too slow", RequestTimeout("too slow", limit="timeout", seconds=1)),
        ("too slow (after 5 attempts)", RequestTimeout("too slow", limit="timeout", seconds=1, attempts=5)),
        ("refused (after 3 attempts)", ConnectionFailed("refused", attempts=3)),
        ("off (status 500)", APIError("off", status=500)),
        ("off (status 500)", APIError("off", status=500, request_id="", attempts=1)),
        ("off (status 500, request id r-1)", APIError("off", status=500, request_id="r-1")),
        ("off (status 500, after 2 attempts)", APIError("off", status=500, attempts=2)),
        (
            "off (status 429, request id r-1, after 5 attempts)",
            RateLimited("off", status=429, request_id="r-1", attempts=5, retry_after=3),
        ),
        ("off (status 200)", UnexpectedResponse("off", status=200, path="$.data")),
    ],
)
def test_str_tells_status_request_id_and_attempts(expected: str, error: HeliconeError) -> None:
    """The text of an error says what a support request needs, and nothing where there is nothing."""
    assert expected == str(error)


@pytest.mark.parametrize("kind", [kind for kind in TREE if issubclass(kind, TransportError)], ids=_name)
def test_attempts_set_later_are_shown(kind: type[TransportError]) -> None:
    """Facts from retries are set on the error after its creation."""
    limit = {"limit": "timeout", "seconds": 1.0} if kind is RequestTimeout else {}
    error = kind("no answer", **limit)
    error.attempts = 3

    assert "no answer (after 3 attempts)" == str(error)


@pytest.mark.parametrize("kind", [kind for kind in TREE if issubclass(kind, APIError)], ids=_name)
def test_an_answer_has_facts_with_defaults(kind: type[APIError]) -> None:
    """Only the status of an answer has to be known; the rest is absent, and one attempt was made."""
    error = kind("off", status=500)

    assert (500, None, 1, "") == (error.status, error.request_id, error.attempts, error.body_excerpt)


@pytest.mark.parametrize("kind", [RateLimited, ServerError], ids=_name)
@pytest.mark.parametrize("seconds", [None, 0.0, 7.5])
def test_retry_after_is_the_wait_asked_for(
    kind: type[RateLimited | ServerError], seconds: float | None
) -> None:
    """A refusal for a time says for how long, if the service did."""
    assert seconds == kind("later", status=503, retry_after=seconds).retry_after


def test_an_unexpected_answer_points_at_the_whole_by_default() -> None:
    """Without a closer place the JSON path is the root."""
    assert "$" == UnexpectedResponse("off", status=200).path


def test_a_timeout_names_its_limit() -> None:
    """A timeout says which argument set the limit, and how long it is."""
    error = RequestTimeout("too slow", limit="timeout", seconds=1.5)

    assert ("timeout", 1.5) == (error.limit, error.seconds)


@pytest.mark.parametrize("extra", ["local", "cli", "speed"])
def test_a_missing_extra_says_how_to_install_it(extra: str) -> None:
    """The message names the purpose, the package and the command that installs it."""
    error = MissingExtra(extra, package="some_package", purpose="the embedded engine")

    assert extra == error.extra
    assert isinstance(error, ImportError)
    assert isinstance(error, ConfigurationError)
    assert (
        "the embedded engine needs the package 'some_package', which is not installed;"
        f' install it with: python -m pip install "helicone-sessions[{extra}]"'
    ) == str(error)


def test_an_error_is_rendered_from_its_parts() -> None:
    """The message begins with the subject, and ends with what to do."""
    error = ConfigurationError(argument="host", problem="must be a string, got 5", remedy="Pass a name")

    assert "host must be a string, got 5. Pass a name" == str(error)
    assert ("host", None, None) == (error.argument, error.column, error.field)
    assert ("must be a string, got 5", "Pass a name") == (error.problem, error.remedy)
    assert "cost must be at least 0" == str(FilterValueError(column="cost", problem="must be at least 0"))


def test_parts_cross_processes() -> None:
    """A pickled error keeps its parts."""
    error = FilterValueError(column="cost", problem="must be at least 0", remedy="Use 0")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - the test's own bytes

    assert ("cost", "must be at least 0", "Use 0") == (again.column, again.problem, again.remedy)
