"""Writes the messages of the commands; errors name options instead of Python arguments."""

import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    ConnectionFailed,
    FilterSyntaxError,
    HeliconeError,
    RateLimited,
    RequestTimeout,
)
from helicone_sessions.filters.cautions import Caution
from helicone_sessions.filters.parser import as_filter_text

if TYPE_CHECKING:
    from cyclopts import CycloptsError
    from cyclopts.exceptions import CoercionError, UnknownOptionError

# Arguments whose option has another name. The others use their name with dashes.
_OPTIONS: Final = {
    "api_key": "HELICONE_API_KEY",
    "base_url": "HELICONE_BASE_URL",
    "begin": "--from",
    "columns": "--map",
    "end": "--to",
    "limits.memory": "--max-memory",
    "limits.seconds": "--max-seconds",
    "organization_id": "--organization",
    "proxy": "the proxy in the environment",
}
_OPTIONS_OF: Final[Mapping[str, Mapping[str, str]]] = {"serve": {"api_key": "HELICONE_SESSIONS_SERVER_KEY"}}
# Remedies by option. They replace remedies that apply only to Python.
_REMEDIES: Final = {
    "HELICONE_API_KEY": "Run `export HELICONE_API_KEY=sk-helicone-...` with a key from Helicone's settings"
    " page; `helicone-sessions demo` needs none",
    "HELICONE_BASE_URL": "Set it to an address such as https://api.helicone.ai",
    "the proxy in the environment": "Add the host of the service to NO_PROXY, or use an http:// address",
}
# In the parts of an error, other arguments are in backticks.
_OTHER_ARGUMENT: Final = re.compile(r"`(\w+)`")
# The options of other programs, with the names of ours.
_ELSEWHERE: Final = {
    "--since": "--from",
    "--start": "--from",
    "--until": "--to",
    "--end": "--to",
    "--tz": "--time-zone",
    "--format": "--output",
    "--group-by": "--by",
    "--file": "--data",
}
_NUMBERS: Final = {int: "a whole number", float: "a number"}


def say(text: str) -> None:
    """Write a line to standard error, as a message of this command."""
    sys.stderr.write(f"helicone-sessions: {text}\n")
    sys.stderr.flush()


def error_text(error: HeliconeError, command: str = "") -> str:
    """Return the text of an error, followed by what to do next.

    Args:
        error: The error.
        command: The command that raised it.

    >>> from helicone_sessions import ConfigurationError
    >>> error = ConfigurationError(argument="rate_limit", problem="must be above 0, got 0")
    >>> error_text(error, "serve")
    '--rate-limit must be above 0, got 0'
    """
    parts = [_in_options(error, command), *getattr(error, "__notes__", ())]
    if advice := _advice(error):
        parts[0] = f"{parts[0]}. {advice}"
    return "\n  ".join(parts)


def _in_options(error: HeliconeError, command: str) -> str:
    # Keep the message of a syntax error, because it shows the position in the text.
    if error.problem is None or isinstance(error, FilterSyntaxError):
        return str(error)
    options = {**_OPTIONS, **_OPTIONS_OF.get(command, {})}

    def option(argument: str) -> str:
        return options.get(argument) or "--" + argument.replace("_", "-")

    subject = option(error.argument) if error.argument else str(error.column or error.field or "")
    remedy = _REMEDIES.get(subject, error.remedy)
    text = f"{error.problem}. {remedy}" if remedy else error.problem
    return f"{subject} {_OTHER_ARGUMENT.sub(lambda found: option(found[1]), text)}".lstrip()


def caution_text(caution: Caution) -> str:
    """Return the text of a caution, with the condition as filter text.

    >>> from helicone_sessions import F
    >>> caution_text((F.cost > 3).cautions()[0])[:28]
    'cost > 3: a constant beyond '
    """
    return f"{as_filter_text(caution.condition)}: {caution.reason}; {caution.remedy}"


def _advice(error: HeliconeError) -> str:
    if isinstance(error, AuthenticationError):
        return "Check that HELICONE_API_KEY is a key of this service"
    if isinstance(error, RateLimited):
        return "Try again in a few minutes, or run fewer queries"
    if isinstance(error, APIError) and error.status == 404:
        return "HELICONE_BASE_URL must be an address without a path, such as http://127.0.0.1:8585"
    if isinstance(error, RequestTimeout):
        return "Query a shorter time range, or try again later"
    if isinstance(error, ConnectionFailed):
        if os.environ.get("HELICONE_BASE_URL"):
            return "Check HELICONE_BASE_URL, and that a server is running there"
        return "Check the network; `helicone-sessions demo` needs none"
    return ""


def usage_error(error: "CycloptsError") -> str:
    """Return the text of a usage error, with the command that shows the help."""
    command = shlex.join(["helicone-sessions", *_command(error)])
    return f"{_usage_problem(error)}\n  {command} --help shows the usage and examples"


def _command(error: "CycloptsError") -> Sequence[str]:
    return error.command_chain or ()


def _usage_problem(error: "CycloptsError") -> str:
    from cyclopts.exceptions import (
        CoercionError,
        MissingArgumentError,
        UnknownOptionError,
        UnusedCliTokensError,
    )

    command = " ".join(_command(error))
    if isinstance(error, UnusedCliTokensError):
        return _unused_words(command, list(error.unused_tokens or ()), error.root_input_tokens or [])
    if isinstance(error, UnknownOptionError) and (problem := _unknown_option(error)):
        return problem
    if isinstance(error, CoercionError) and (problem := _no_number(error)):
        return problem
    if isinstance(error, MissingArgumentError) and error.argument:
        return _missing(error.argument.name, command)
    text = str(error).rstrip(".")
    return text[:1].lower() + text[1:]


def _unknown_option(error: "UnknownOptionError") -> str | None:
    name = (error.token.keyword or error.token.value).partition("=")[0]
    if name in ("--api-key", "--key"):
        return f"there is no {name}, because others would see it; export HELICONE_API_KEY=sk-helicone-..."
    known = _ELSEWHERE.get(name)
    if known in {each for argument in error.argument_collection for each in argument.names}:
        return f"there is no {name}; did you mean {known}?"
    return None


def _no_number(error: "CoercionError") -> str | None:
    if error.token is None or error.target_type not in _NUMBERS:
        return None
    return f"{error.token.keyword} must be {_NUMBERS[error.target_type]}, got {error.token.value!r}"


def _missing(argument: str, command: str) -> str:
    if argument.startswith("-"):
        return f"{argument} needs a value after it"
    if command == "sql":
        return "there is no statement: write helicone-sessions sql 'SELECT count() FROM requests'"
    return f"there is no filter: write helicone-sessions {command} 'cost > 0.1'"


def _unused_words(command: str, unused: list[str], tokens: list[str]) -> str:
    """Return the error for words that belong to no option, such as an unquoted filter or a file name."""
    if command in ("metrics", "filter", "sql"):
        first = tokens.index(unused[0]) - 1 if unused[0] in tokens else -1
        whole = " ".join([*(tokens[first : first + 1] if first > 0 else ()), *unused])
        # cmd.exe does not treat ' as a quote and passes it on to the command.
        quoted = f'"{whole}"'.replace("'", "") if whole.startswith("'") else shlex.quote(whole)
        kind = "statement" if command == "sql" else "filter"
        return f"a {kind} is one argument: write it in quotes, {quoted}"
    if command == "serve":
        return f"{unused[0]!r} has no option before it: write --data {shlex.quote(unused[0])}"
    return f"{command} takes options only, got {shlex.join(unused)}"
