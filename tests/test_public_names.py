import importlib.resources
import subprocess
import sys
from importlib.metadata import version

import pytest

import helicone_sessions

NAMES = [
    "ALL",
    "NONE",
    "APIError",
    "Attempt",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectionFailed",
    "F",
    "Filter",
    "FilterError",
    "FilterSyntaxError",
    "FilterTypeError",
    "FilterValueError",
    "HeliconeClient",
    "HeliconeError",
    "HeliconeFilterWarning",
    "Histogram",
    "HistogramRow",
    "Hooks",
    "InvalidRequest",
    "MetricsOutcome",
    "MissingExtra",
    "PSize",
    "QueryFailed",
    "QueryOutcome",
    "RateLimit",
    "RateLimited",
    "RequestTimeout",
    "ServerError",
    "Session",
    "SessionAverages",
    "SessionCount",
    "SessionMetrics",
    "SessionMetricsQuery",
    "SessionName",
    "Sessions",
    "SyncReport",
    "TimeFilter",
    "TransportError",
    "UnexpectedResponse",
    "UnknownColumn",
    "UnknownOperator",
    "all_of",
    "any_of",
    "parse_filter",
    "sync",
]


def _imported_by(statement: str) -> set[str]:
    """The top-level modules that *statement* leaves in a fresh interpreter."""
    run = subprocess.run(
        [sys.executable, "-c", f"import sys\n{statement}\nprint(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_the_public_names_are_pinned() -> None:
    """A public name appears or disappears on purpose only."""
    assert NAMES == helicone_sessions.__all__


def test_the_public_names_are_sorted() -> None:
    """The list is sorted as linters sort it: constants, then classes, then functions."""
    kinds = [(not name.isupper() or len(name) == 1, name[0].islower(), name) for name in NAMES]

    assert sorted(kinds) == kinds


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there(name: str) -> None:
    """Each listed name can be imported from the package."""
    assert hasattr(helicone_sessions, name)


def test_a_star_import_brings_the_public_names_and_no_more() -> None:
    """`from helicone_sessions import *` is the list."""
    space: dict[str, object] = {}
    exec("from helicone_sessions import *", space)  # noqa: S102 - the only way to write it in a function

    assert set(NAMES) == space.keys() - {"__builtins__"}


def test_importing_the_package_imports_no_extra() -> None:
    """A fresh interpreter that imports the package loads neither an optional dependency nor aiohttp."""
    loaded = _imported_by("import helicone_sessions")

    assert "helicone_sessions" in loaded
    heavy = {
        "aiohttp",
        "asyncio",
        "chdb",
        "cyclopts",
        "filelock",
        "msgspec",
        "numpy",
        "opentelemetry",
        "pandas",
        "pyarrow",
        "rich",
    }
    assert set() == loaded & heavy


def test_all_names_can_be_imported_at_once() -> None:
    """A star import and dir() have what is loaded on demand as well; a name that is not there is an error."""
    loaded = _imported_by("from helicone_sessions import *; HeliconeClient, RateLimit, MetricsOutcome")

    assert "asyncio" in loaded
    assert set(helicone_sessions.__all__) <= set(dir(helicone_sessions))
    assert version("helicone-sessions") == helicone_sessions.__version__
    with pytest.raises(AttributeError, match="has no attribute 'Client'"):
        _ = helicone_sessions.Client  # type: ignore[attr-defined]


def test_type_checkers_are_told_that_the_package_is_typed() -> None:
    """The marker of PEP 561 is inside the package."""
    assert (importlib.resources.files(helicone_sessions) / "py.typed").is_file()
