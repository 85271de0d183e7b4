"""The command ``helicone-sessions`` (extra ``cli``).

Results are written to standard output, and everything else to standard error. `_EXIT_CODES` lists the exit
codes.
"""

import os
import sys
import warnings
from contextlib import suppress
from importlib.metadata import metadata
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from helicone_sessions.cli.error_text import caution_text, error_text, say, usage_error
from helicone_sessions.errors import (
    AuthenticationError,
    ConfigurationError,
    FilterError,
    HeliconeError,
    HeliconeFilterWarning,
    MissingExtra,
    RateLimited,
)
from helicone_sessions.filters.cautions import Caution
from helicone_sessions.filters.schema import COLUMNS

if TYPE_CHECKING:
    from cyclopts import App

_COMMANDS = {
    "demo": "demo:demo",
    "metrics": "metrics:metrics",
    "sessions": "sessions:sessions",
    "sync": "sync:sync",
    "sql": "sql:sql",
    "filter": "filter:filter_",
    "serve": "serve:serve",
    "rebuild": "rebuild:rebuild",
}
# The exit code that shells report for a command ended by SIGINT.
_INTERRUPTED = 130

_OVERVIEW: Final = """Session metrics from Helicone: the requests, length and cost of sessions.

`helicone-sessions demo` shows metrics of sample data; it needs no account.

`helicone-sessions metrics 'cost > 0.1 and model contains "gpt"' --last 7d` queries your account, with
the key in HELICONE_API_KEY.

`helicone-sessions sessions --last 7d` lists the most expensive sessions.

`helicone-sessions sync --path helicone-data` copies your requests to this machine.

`helicone-sessions filter 'cost > 0.1'` shows the JSON of a filter, and sends nothing.

`helicone-sessions serve --data requests.jsonl` answers from your own data.

`helicone-sessions sql 'SELECT count() FROM requests' --path helicone-data` runs SQL on a store.
"""
_EXIT_CODES: Final = """Exit codes: 0 done, 1 the service, the network or the output failed, 2 the command
cannot run as given, 3 the service rejects the key, 4 the rate limit is reached, 5 some queries of a table
failed, 6 a --fail-if condition holds, 130 interrupted.
"""
_EXAMPLES: Final = {
    "demo": """\
helicone-sessions demo
helicone-sessions demo --days 7 --model gpt-4o --model claude-opus-4
helicone-sessions demo --live --model gpt-4o
""",
    "metrics": """\
helicone-sessions metrics 'cost > 0.1 and model contains "gpt"' --last 7d
helicone-sessions metrics --from 2026-11-01 --to 2026-11-08 --p-size p95
helicone-sessions metrics --last 7d --every 1d --by model=gpt-4o,claude-opus-4
helicone-sessions metrics --last 30d --by model --top 10
helicone-sessions metrics --last 7d --compare previous
helicone-sessions metrics --last 1d --fail-if 'dollars_total > 100'
helicone-sessions metrics --last 7d --by 'slow:latency > 5000' --output csv
helicone-sessions metrics --last 4w --every 1w --output html > report.html
""",
    "sessions": """\
helicone-sessions sessions --last 7d
helicone-sessions sessions 'model contains "gpt"' --last 7d --sort -total_cost --limit 20
helicone-sessions sessions 'session_total_cost > 3' --last 30d --output csv
helicone-sessions sessions --last 1d --sort -duration --data requests.jsonl
""",
    "sync": """\
helicone-sessions sync --path helicone-data
helicone-sessions sync --path helicone-data --since 90d
helicone-sessions sync --path helicone-data --every 15m
""",
    "sql": """\
helicone-sessions sql --path helicone-data 'SELECT count() FROM requests'
helicone-sessions sql --path helicone-data --output csv \\
    'SELECT model, sum(cost) AS dollars FROM requests GROUP BY model ORDER BY dollars DESC'
helicone-sessions sql --path helicone-data --limit 0 --output parquet 'SELECT * FROM requests' > all.parquet
""",
    "filter": """\
helicone-sessions filter 'cost > 0.1 and model contains "gpt"'
helicone-sessions filter 'status in (500, 502) or threat' --output tree
helicone-sessions filter 'properties["env"] == "prod" and not cached'
helicone-sessions filter 'request_created_at >= 2026-11-01T00:00:00Z'
""",
    "serve": """\
helicone-sessions serve --sample
helicone-sessions serve --data requests.jsonl
helicone-sessions serve --data november.csv --path helicone-data --port 8585
helicone-sessions serve --data requests.jsonl --rejects bad.jsonl
""",
    "rebuild": """\
helicone-sessions rebuild --path helicone-data
""",
}
_PAGES: Final = {
    "demo": "tutorial",
    "metrics": "cli",
    "sessions": "cli",
    "sync": "how-to/export",
    "sql": "sql",
    "filter": "filters",
    "serve": "engine",
    "rebuild": "store",
}
_MORE: Final = {
    "filter": "Columns: " + ", ".join(COLUMNS) + ".",
    "serve": "Each row of the data is one request. Only `request_created_at` is required; other columns are"
    " `cost`, `latency`, `model`, `status`, `session_id`, `session_name` and `properties`.",
}


def main() -> None:
    """Run the command given on the command line."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 - it stays open to the end
    if isinstance(sys.stdout, TextIOWrapper):
        # A terminal shows ? for characters that it does not support. Files and pipes get all characters, as
        # UTF-8.
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="replace")
    warnings.showwarning = _show_warning
    arguments = sys.argv[1:]
    command = "".join({*_COMMANDS}.intersection(arguments[:1]))
    try:
        _run(arguments, command)
    except HeliconeError as error:
        _fail(error_text(error, command), _code_of(error))
    except BrokenPipeError:
        # The reader has closed the pipe, as `head` does when it has enough lines.
        _give_up_output()
        raise SystemExit(1) from None
    except OSError as error:
        _give_up_output()
        _fail(f"{error.filename or 'the output'} cannot be written: {error.strerror}", 1)
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)


def _show_warning(message: Warning | str, *_where: Any, **_more: Any) -> None:
    """Write a warning to standard error; in cautions, conditions are shown as filter text."""
    found = message.args[0] if isinstance(message, HeliconeFilterWarning) else message
    if isinstance(found, Caution):
        found = f"caution: {caution_text(found)}"
    say(str(found))


def _run(arguments: list[str], command: str) -> None:
    app = _app(command)
    from cyclopts import CycloptsError

    try:
        app(arguments, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        _fail(usage_error(error), 2)
    finally:
        # Flush now, because an error at the end of the process could not be reported.
        sys.stdout.flush()


def _code_of(error: HeliconeError) -> int:
    kinds = {ConfigurationError: 2, FilterError: 2, AuthenticationError: 3, RateLimited: 4}
    return next((code for kind, code in kinds.items() if isinstance(error, kind)), 1)


def _give_up_output() -> None:
    """Discard the rest of the output, so that Python does not report an error at the end of the process."""
    with suppress(OSError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def _fail(message: str, code: int) -> None:
    say(message)
    raise SystemExit(code)


def _shown(default: object) -> str | None:
    """Return a default as the help shows it, or None if the option is off by default."""
    return None if default is None or default is False or default == "" else str(default)


def _epilogue(command: str) -> str:
    """Return the text that follows the options in a command's help, as Markdown."""
    examples = f"Examples:\n\n```text\n{_EXAMPLES[command]}```"
    parts = (examples, _MORE.get(command), _EXIT_CODES, _documentation(_PAGES[command]))
    return "\n\n".join(part for part in parts if part)


def _documentation(page: str) -> str | None:
    """Return the URL of a page in the documentation of this version; None if the metadata has no URL."""
    package = metadata("helicone-sessions")
    addresses = dict(line.split(", ", 1) for line in package.get_all("Project-URL", []))
    address = addresses.get("Documentation")
    return address and f"Documentation: {address}/en/v{package['Version']}/{page}.html"


def _app(command: str) -> "App":
    """Create the app. Import all commands only if *command* is empty, for the overview of all commands."""
    try:
        import rich  # noqa: F401 - an extra
        from cyclopts import App, Parameter
    except ImportError as error:
        raise MissingExtra("cli", package=error.name or "cyclopts", purpose="the command line") from error
    app = App(
        name="helicone-sessions",
        help=_OVERVIEW,
        help_epilogue=_EXIT_CODES,
        # Otherwise each flag would also have a negative form such as --no-live.
        default_parameter=Parameter(negative="", show_default=_shown),
        suppress_keyboard_interrupt=False,
    )
    # Commands are imported on use, so that each requires only the extras it uses.
    for name, function in _COMMANDS.items():
        app.command(f"helicone_sessions.cli.{function}", name=name, help_epilogue=_epilogue(name))
        if not command:
            app[name]
    # The command writes only the file given by --output.
    app.register_install_completion_command(name="install-completion", add_to_startup=False)
    return app
