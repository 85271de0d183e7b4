"""The command line, ``helicone-sessions`` (extra ``cli``).

Answers go to the standard output, everything else to the standard error. Exit codes: 0 done, 1 the service,
the network or the output failed, 2 the command or a filter cannot be run as given, 3 the key is refused, 4
the rate limit is reached, 5 some figures of a table have no answer, 130 interrupted.
"""

import os
import sys
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING

from helicone_sessions.cli.help import EXIT_CODES, OVERVIEW, epilogue
from helicone_sessions.cli.wording import in_words_of_the_command, usage_error, what_next
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
    "filter": "filter:filter_",
    "serve": "serve:serve",
}
# What a shell reports of a command that was interrupted.
_INTERRUPTED = 130


def main() -> None:
    """Run the command that the arguments name."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - where there is none, to the end
    if isinstance(sys.stdout, TextIOWrapper):
        _write_what_can_be_read(sys.stdout)
    try:
        _run(sys.argv[1:])
    except HeliconeError as error:
        _fail(in_words_of_the_command(error) + what_next(error), _code_of(error))
    except BrokenPipeError:
        # Who read the pipe has what it wanted, as `head` has.
        _give_up_output()
        raise SystemExit(1) from None
    except OSError as error:
        _give_up_output()
        _fail(f"{error.filename or 'the output'} cannot be written: {error.strerror}", 1)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)


def _write_what_can_be_read(output: TextIOWrapper) -> None:
    """A terminal gets a ? for a character that it has not; a file or a pipe gets all of them, as UTF-8."""
    output.reconfigure(encoding=None if output.isatty() else "utf-8", errors="replace")


def _run(arguments: list[str]) -> None:
    app = _app(whole=not {*_COMMANDS}.intersection(arguments[:1]))
    from cyclopts import CycloptsError  # noqa: PLC0415 - it is an extra

    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(usage_error(error), 2)
    finally:
        # Here, and not at the end of the process, it can be told that it failed.
        sys.stdout.flush()


def _code_of(error: HeliconeError) -> int:
    kinds = {ConfigurationError: 2, FilterError: 2, AuthenticationError: 3, RateLimited: 4}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), 1)


def _give_up_output() -> None:
    """Nothing more goes to the standard output, nor is complained about at the end of the process."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"helicone-sessions: {message}\n")
    raise SystemExit(code)


def _shown(default: object) -> str | None:
    """A default as the help shows it; nothing where an option is off without it."""
    return None if default is None or default is False or default == "" else str(default)


def _app(*, whole: bool) -> "App":
    """The commands; the *whole* of them is imported for the help that lists them."""
    try:
        import rich  # noqa: F401, PLC0415 - they are an extra
        from cyclopts import App, Parameter  # noqa: PLC0415
    except ImportError as error:
        raise MissingExtra("cli", package=error.name or "cyclopts", purpose="the command line") from error
    app = App(
        name="helicone-sessions",
        help=OVERVIEW,
        help_epilogue=EXIT_CODES,
        # Without it each option would have a twin that does nothing, as --no-live.
        default_parameter=Parameter(negative="", show_default=_shown),
        suppress_keyboard_interrupt=False,
    )
    # Imported when it is named, so that one command needs no more than its own extra.
    for name, function in _COMMANDS.items():
        app.command(f"helicone_sessions.cli.{function}", name=name, help_epilogue=epilogue(name))
        if whole:
            app[name]
    app.register_install_completion_command(name="install-completion")
    return app
