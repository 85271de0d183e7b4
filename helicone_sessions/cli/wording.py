"""What errors say, for somebody who has a command line: options and variables in place of arguments."""

import os
import re
import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from helicone_sessions.errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConnectionFailed,
    FilterError,
    HeliconeError,
    RateLimited,
    RequestTimeout,
)

if TYPE_CHECKING:
    from cyclopts import CycloptsError

# What arguments are called here, where it is not their name with dashes.
_NAMES: Final = {
    "api_key": "HELICONE_API_KEY",
    "base_url": "HELICONE_BASE_URL",
    "organization_id": "--organization",
}
# An error without parts begins with the argument that is wrong.
ARGUMENTS: Final = (
    "api_key",
    "base_url",
    "max_concurrency",
    "time_zone",
    "timeout",
)
_ARGUMENT: Final = re.compile(rf"^({'|'.join(ARGUMENTS)})(?=:| is | goes | holds )")
_OTHER_ARGUMENT: Final = re.compile(r"`(\w+)`")
# The rest of what it advises.
ADVICE: Final = tuple(
    (re.compile(pattern), words)
    for pattern, words in (
        (
            r"pass api_key=, or set HELICONE_API_KEY (\(.*\))",
            r"export HELICONE_API_KEY=sk-helicone-... \1; helicone-sessions demo needs none",
        ),
        (r"the key goes into api_key", "the key goes into HELICONE_API_KEY"),
        (r"like https://api.helicone.ai, and this is none", "that begins with https://, or http://"),
    )
)
# What other commands call these options.
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


def in_words_of_the_command(error: Exception, names: Mapping[str, str] | None = None) -> str:
    """The text of an error with its advice, for somebody who has options and no arguments.

    Args:
        error: What the client, a filter or the engine said.
        names: What arguments are called, where it is not what all commands call them.

    >>> in_words_of_the_command(ConfigurationError(argument="rate_limit", problem="must be above 0, got 0"))
    '--rate-limit must be above 0, got 0'
    >>> in_words_of_the_command(ConfigurationError("base_url goes without /v1"))
    'HELICONE_BASE_URL goes without /v1'
    """
    known = {**_NAMES, **(names or {})}
    if isinstance(error, HeliconeError) and error.problem:
        return _from_parts(error, known)
    parts = [str(error), *getattr(error, "__notes__", ())]
    if isinstance(error, ConfigurationError):
        for pattern, words in ADVICE:
            words = words.replace("{api_key}", known["api_key"])  # noqa: PLW2901 - its blanks filled
            parts = [pattern.sub(words, part) for part in parts]
    parts = [_ARGUMENT.sub(lambda found: option(found[1], known), part) for part in parts]
    return ("\n  " if isinstance(error, FilterError) else "; ").join(parts)


def _from_parts(error: HeliconeError, names: Mapping[str, str]) -> str:
    subject = option(error.argument, names) if error.argument else error.column or error.field
    text = " ".join(str(part) for part in (subject, error.problem) if part)
    if error.remedy:
        text += f". {error.remedy}"
    # The package puts the names of other arguments in backticks.
    return _OTHER_ARGUMENT.sub(lambda found: option(found[1], names), text)


def option(argument: str, names: Mapping[str, str]) -> str:
    """What an argument is called on the command line.

    >>> option("max_concurrency", {})
    '--max-concurrency'
    """
    return names.get(argument) or "--" + argument.replace("_", "-")


def what_next(error: Exception) -> str:
    """What to do about a failure, to stand after its text; empty where that says it itself."""
    if isinstance(error, AuthenticationError):
        return "; is HELICONE_API_KEY the key of this service?"
    if isinstance(error, RateLimited):
        return "; try again in a minute, or ask for less"
    if isinstance(error, APIError) and error.status == 404:
        return "; HELICONE_BASE_URL is the address alone, without a path, as http://127.0.0.1:8585"
    if isinstance(error, RequestTimeout):
        return "; ask for a shorter time, or again later"
    if isinstance(error, ConnectionFailed):
        if os.environ.get("HELICONE_BASE_URL"):
            return "; is HELICONE_BASE_URL right, and does a server run there?"
        return "; is this machine on the network? `helicone-sessions demo` needs none"
    return ""


def usage_error(error: "CycloptsError") -> str:
    """What is wrong with a command line that cannot be read, and what to type next."""
    command = shlex.join(["helicone-sessions", *(error.command_chain or ())])
    return f"{_wrong(error)}\n  {command} --help lists what there is, with examples"


def _wrong(error: "CycloptsError") -> str:
    from cyclopts.exceptions import (  # noqa: PLC0415 - it is an extra
        CoercionError,
        MissingArgumentError,
        UnknownOptionError,
        UnusedCliTokensError,
    )

    command = " ".join(error.command_chain or ())
    if isinstance(error, UnusedCliTokensError):
        return _too_many(command, list(error.unused_tokens or ()), error.root_input_tokens or [])
    if isinstance(error, UnknownOptionError):
        name = (error.token.keyword or error.token.value).partition("=")[0]
        if name in ("--api-key", "--key"):
            return f"there is no {name}: others would see it; export HELICONE_API_KEY=sk-helicone-..."
        if (known := _ELSEWHERE.get(name)) and known in (
            each for argument in error.argument_collection for each in argument.names
        ):
            return f"there is no {name}; did you mean {known}?"
    if isinstance(error, CoercionError) and error.token and error.target_type in _NUMBERS:
        return f"{error.token.keyword} is {_NUMBERS[error.target_type]}, not {error.token.value!r}"
    if isinstance(error, MissingArgumentError) and error.argument:
        if error.argument.name.startswith("-"):
            return f"{error.argument.name} needs a value after it"
        return f"there is no filter: write helicone-sessions {command} 'cost > 0.1'"
    said = str(error).rstrip(".")
    return said[:1].lower() + said[1:]


def _too_many(command: str, unused: list[str], tokens: list[str]) -> str:
    """Words that nothing takes: mostly a filter that the shell has cut, or a file without its option."""
    if command in ("metrics", "filter"):
        first = tokens.index(unused[0]) - 1 if unused[0] in tokens else -1
        whole = " ".join([*(tokens[first : first + 1] if first > 0 else ()), *unused])
        # In cmd.exe ' is no quote, and comes through.
        quoted = f'"{whole}"'.replace("'", "") if whole.startswith("'") else shlex.quote(whole)
        return f"a filter is one argument: write it in quotes, {quoted}"
    if command == "serve":
        return f"{unused[0]!r} stands without an option: write --data {shlex.quote(unused[0])}"
    return f"{command} takes nothing but options, and not {shlex.join(unused)}"
