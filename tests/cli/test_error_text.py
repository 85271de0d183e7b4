"""Errors on the command line: options and environment variables in place of Python's arguments."""

from typing import Any

import pytest

from helicone_sessions import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    FilterTypeError,
    HeliconeClient,
    HeliconeError,
    RateLimited,
    RequestTimeout,
)
from helicone_sessions.cli.error_text import error_text


@pytest.mark.parametrize(
    ("expected", "argument", "command"),
    [
        ("HELICONE_API_KEY", "api_key", "metrics"),
        ("HELICONE_SESSIONS_SERVER_KEY", "api_key", "serve"),
        ("HELICONE_BASE_URL", "base_url", "demo"),
        ("--host", "host", "serve"),
        ("--max-concurrency", "max_concurrency", "metrics"),
        ("--from", "begin", "metrics"),
        ("--to", "end", "metrics"),
        ("--organization", "organization_id", "serve"),
        ("--max-memory", "limits.memory", "serve"),
        ("--max-seconds", "limits.seconds", "serve"),
    ],
)
@pytest.mark.parametrize("kind", [ConfigurationError, FilterTypeError])
def test_an_argument_becomes_its_option_or_variable(
    expected: str, argument: str, command: str, kind: type[HeliconeError]
) -> None:
    """The text begins with the option, and continues with the problem."""
    text = error_text(kind(argument=argument, problem="must be else, got 5"), command)
    assert text.startswith(f"{expected} must be else, got 5")


def test_other_arguments_in_backticks_become_options() -> None:
    """A problem and a remedy can name other arguments."""
    error = ConfigurationError(
        argument="clickhouse", problem="excludes `path`", remedy="Leave out `organization_id`"
    )
    assert "--clickhouse excludes --path. Leave out --organization" == error_text(error, "serve")


def test_an_error_without_an_argument_is_shown_as_it_is() -> None:
    """Its notes follow on separate lines."""
    error = ConfigurationError("the engine has stopped")
    error.add_note("start it again")
    assert "the engine has stopped\n  start it again" == error_text(error, "serve")


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"api_key": "two words"},
        {"api_key": "Bearer sk-a"},
        {"api_key": "sk-a", "base_url": "helicone"},
        {"api_key": "sk-a", "base_url": "http://sk-a@127.0.0.1:9"},
        {"api_key": "sk-a", "base_url": "http://127.0.0.1:9/v1"},
        {"api_key": "sk-a", "timeout": 0},
        {"api_key": "sk-a", "max_concurrency": 0},
    ],
    ids=str,
)
def test_errors_of_the_client_name_no_argument(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each argument that the commands pass to the client has an option or a variable."""
    for name in ("HELICONE_API_KEY", "HELICONE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigurationError) as caught:
        HeliconeClient(**options)
    text = error_text(caught.value, "metrics")
    assert text.startswith(("HELICONE_", "--"))
    assert not any(word in text for word in ("api_key", "base_url", "max_concurrency", "`api", "session="))


@pytest.mark.parametrize(
    ("advice", "error"),
    [
        ("HELICONE_API_KEY", AuthenticationError("Unauthorized", status=401)),
        ("fewer queries", RateLimited("Too many requests", status=429)),
        ("without a path", APIError("not found", status=404)),
        ("shorter time", RequestTimeout("no response", limit="timeout", seconds=60.0)),
        ("helicone-sessions demo", ConnectionFailed("no connection")),
        ("", APIError("bad gateway", status=502)),
    ],
)
def test_failures_of_a_query_have_advice(
    advice: str, error: HeliconeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text of the error is followed by what to do, if anything helps."""
    monkeypatch.delenv("HELICONE_BASE_URL", raising=False)
    text = error_text(error, "metrics")
    assert text.startswith(str(error))
    assert advice in text.removeprefix(str(error))
    assert bool(advice) == (text != str(error))
