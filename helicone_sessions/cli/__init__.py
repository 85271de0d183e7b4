"""The command line, ``helicone-sessions`` (extra ``cli``).

Answers go to the standard output, everything else to the standard error. Exit codes: 0 done, 1 the service
or the network failed, 2 the command cannot be run as given.
"""

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING

from helicone_sessions.errors import ConfigurationError, HeliconeError, MissingExtra

if TYPE_CHECKING:
    from cyclopts import App

# What a shell reports of a command that was interrupted.
_INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name."""
    # A terminal or a pipe of another encoding gets a ? for a block, not an error.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        _app()()
    except ConfigurationError as error:
        _fail(str(error), 2)
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
        help="Session metrics from Helicone.",
        # Without it each option would have a twin that does nothing, as --no-live.
        default_parameter=Parameter(negative=""),
    )
    app.command("helicone_sessions.cli.demo:demo", name="demo")
    app.command("helicone_sessions.cli.serve:serve", name="serve")
    return app
