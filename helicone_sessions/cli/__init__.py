"""The command line, ``helicone-sessions`` (extra ``cli``).

Answers go to the standard output, everything else to the standard error. Exit codes: 0 done, 1 the service
or the network failed, 2 the command or a filter cannot be run as given, 3 the key is refused, 4 the rate
limit is reached, 5 some figures of a table have no answer.
"""

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from helicone_sessions.errors import (
    AuthenticationError,
    ConfigurationError,
    FilterError,
    HeliconeError,
    MissingExtra,
    RateLimited,
)

if TYPE_CHECKING:
    from cyclopts import App

_COMMANDS = {
    "demo": "demo:demo",
    "metrics": "metrics:metrics",
    "filter": "filters:filter_",
    "serve": "serve:serve",
}
_HELP = """Session metrics from Helicone: how many requests, how long and how costly sessions are.

`helicone-sessions demo` shows what the answers look like; it needs no account.

`helicone-sessions metrics 'cost > 0.1 and model contains "gpt"' --last 7d` asks, with the key in
HELICONE_API_KEY.

`helicone-sessions filter TEXT` shows what a filter becomes; nothing is asked.

`helicone-sessions serve --data requests.jsonl` answers from your own data.
"""
# What a shell reports of a command that was interrupted.
_INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name."""
    # A terminal or a pipe of another encoding gets a ? for a block, not an error.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        _app()(sys.argv[1:])
    except (ConfigurationError, FilterError) as error:
        _fail(str(error), 2)
    except AuthenticationError as error:
        _fail(f"{error}; is HELICONE_API_KEY the key of this service?", 3)
    except RateLimited as error:
        _fail(f"{error}; try again in a minute, or ask for less", 4)
    except HeliconeError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"helicone-sessions: {message}\n")
    raise SystemExit(code)


def _app() -> "App":
    try:
        import rich  # noqa: F401, PLC0415 - they are an extra
        from cyclopts import App, Parameter  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("cli", package=error.name or "cyclopts", purpose="the command line") from error
    app = App(
        name="helicone-sessions",
        help=_HELP,
        # Without it each option would have a twin that does nothing, as --no-live.
        default_parameter=Parameter(negative=""),
    )
    # Imported when it is named, so that one command needs no more than its own extra.
    for name, function in _COMMANDS.items():
        app.command(f"helicone_sessions.cli.{function}", name=name)
    app.register_install_completion_command(name="install-completion")
    return app
