"""The checks of `nox`; CONTRIBUTING.md describes each session."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.10.14"
nox.options.default_venv_backend = "uv|virtualenv"
# Every session brings its environment up to date, so an old one is as good as a new one.
nox.options.reuse_venv = "yes"

PYPROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
EXTRAS = ("local", "cli", "speed", "frames", "plot", "otel")
# Dependency groups of which the versions and hashes are written down.
LOCKS, LOCKED = "requirements", ("nox", "build", "lint", "checkers")
# Releases of Pyodide on npm; the number before the first dot is the version of Python.
PYODIDES = ("314", "315.0.0-alpha.2")
DIST = tempfile.TemporaryDirectory(prefix="helicone-sessions-")


def offer_pythons_of_pyenv() -> None:
    # Its shims are found first, and refuse every version that is not activated.
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [str(path) for version in PYTHONS for path in root.glob(f"versions/{version}.*/bin")]
    os.environ["PATH"] = os.pathsep.join([*found, os.environ["PATH"]])


offer_pythons_of_pyenv()
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
FOUND = [version for version in PYTHONS if version == RUNNING or shutil.which(f"python{version}")]
NEWEST = FOUND[-1] if FOUND else PYTHONS[-1]
# A missing Python is skipped and not downloaded, but a run without any test would be green for nothing.
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = not FOUND
# The oldest Python has the lowest versions of all else; those between are for `nox -s tests`.
nox.options.sessions = ["lint", "typing", f"tests-{NEWEST}", "minimums", "docs"]


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def install_locked(session: nox.Session, name: str) -> None:
    """The tools of a dependency group, in the versions and with the hashes that `lock` wrote."""
    session.install("--require-hashes", "--requirement", f"{LOCKS}/{name}.txt")


def install_wheel(session: nox.Session, *requirements: str, extras: tuple[str, ...] = EXTRAS) -> None:
    (wheel,) = Path(DIST.name).glob("*.whl")
    # pip keeps a wheel that is there already if the new one has the same version.
    session.install("--force-reinstall", "--no-deps", str(wheel))
    # Compiling what is installed takes longer than all the rest, and most of it is never imported.
    session.install("--no-compile", f"{wheel}[{','.join(extras)}]", *requirements)


# Many tests wait for other processes, so two workers for each core keep all cores busy.
ON_ALL_CORES = ("-n", str(2 * (os.cpu_count() or 1)), "--dist", "worksteal")
EVERYTHING = (*ON_ALL_CORES, "--doctest-modules", "--pyargs", "tests", "helicone_sessions")
# The client and the filters: these tests need no engine and no browser.
WITHOUT_ENGINE = (*ON_ALL_CORES, "tests/filters", "tests/messages", "tests/transport", "tests/test_errors.py")


def run_tests(session: nox.Session, *python: str, default: tuple[str, ...] = EVERYTHING) -> None:
    # Without the safe path Python would import the package from the directory that it is started in.
    session.env.update(PYTHONSAFEPATH="1", HELICONE_SESSIONS_TEST_WHEEL="1")
    session.run(*python, "-m", "pytest", *(session.posargs or default))


@nox.session(default=False)
def wheel(session: nox.Session) -> None:
    """Build the wheel that the other sessions install."""
    install_locked(session, "build")
    session.run("python", "-m", "hatchling", "build", "-t", "wheel", "-d", DIST.name, silent=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format, the layers, the English, and the security of the workflows."""
    install_locked(session, "lint")
    run_linters(session)


def run_linters(session: nox.Session) -> None:
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("lint-imports")
    session.run("codespell")
    session.run("python", ".ci/prose.py")
    session.run("zizmor", "--offline", "--quiet", "--persona=pedantic", ".github")


@nox.session(requires=["wheel"], default=False)
def quick(session: nox.Session) -> None:
    """Lint, and test the client and the filters on the running Python: a first look in under two minutes."""
    install_locked(session, "lint")
    run_linters(session)
    install_wheel(session, *group("tests"), extras=("cli", "speed"))
    run_tests(session, "python", default=WITHOUT_ENGINE)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build the source archive and the wheel in dist/; `-- TAG` checks first that TAG can be released."""
    for tag in session.posargs:
        check_release(session, tag)
    install_locked(session, "build")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "hatchling", "build", "-d", "dist")


def check_release(session: nox.Session, tag: str) -> None:
    project = PYPROJECT["project"]
    if tag != f"v{project['version']}":
        session.error(f"tag {tag} does not match version {project['version']} in pyproject.toml")
    if placeholders := [name for name, url in project["urls"].items() if ".example/" in url]:
        session.error(f"[project.urls] still has placeholders: {', '.join(placeholders)}")


@nox.session(requires=["wheel"])
def typing(session: nox.Session) -> None:
    """Check the types, strictly, and what type checkers accept and reject."""
    install_locked(session, "checkers")
    install_wheel(session, *group("typing"))
    session.run("mypy")
    session.run("mypy", "examples")
    # Code of the filter language that both have to accept or reject.
    session.run("mypy", "tests/typing/accepted.py", "tests/typing/rejected.py")
    session.run("basedpyright", "--pythonpath", str(Path(session.bin) / "python"))


@nox.session(python=PYTHONS, requires=["wheel"])
def tests(session: nox.Session) -> None:
    """Run the tests and doctests on the built wheel; arguments after -- go to pytest."""
    # The contract's OpenAPI text says the same on every Python, and so do FastAPI and a browser.
    groups = ("contract", "examples", "browser", "pictures") if session.python == NEWEST else ()
    once = [line for name in groups for line in group(name)]
    install_wheel(session, *group("tests"), *once)
    run_tests(session, "python")


@nox.session(python=NEWEST, requires=["wheel"], default=False)
def full(session: nox.Session) -> None:
    """Run the tests with four times the random examples and repetitions, and their longer forms."""
    install_wheel(session, *group("tests"), *group("contract"), *group("browser"))
    session.env["HELICONE_SESSIONS_FULL"] = "1"
    run_tests(session, "python")


@nox.session(python=NEWEST, requires=["wheel"], default=False)
def coverage(session: nox.Session) -> None:
    """Measure which lines and branches the tests reach; it takes twice their time."""
    install_wheel(session, *group("tests"))
    session.env["HELICONE_SESSIONS_FULL"] = "1"
    session.run("coverage", "erase")
    run_tests(session, "coverage", "run")
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session(python=PYTHONS[0], requires=["wheel"])
def minimums(session: nox.Session) -> None:
    """Run the tests, except those marked `once`, with the lowest versions that pyproject.toml allows."""
    project = PYPROJECT["project"]
    direct = [*project["dependencies"]]
    for extra in EXTRAS:
        direct += project["optional-dependencies"][extra]
    install_wheel(session, *group("tests"), *(line.replace(">=", "==") for line in direct))
    run_tests(session, "python", default=(*EVERYTHING, "-m", "not once"))


@nox.session(requires=["wheel"], default=False)
@nox.parametrize("release", PYODIDES, ids=[release.partition(".")[0] for release in PYODIDES])
def pyodide(session: nox.Session, release: str) -> None:
    """Run the tests of filters, messages and display on Python 3.14 and 3.15, in Pyodide on Node.js.

    It downloads Pyodide and the packages.
    """
    if not (shutil.which("node") and shutil.which("npm")):
        session.skip("node and npm are not installed")
    npm, site = session.create_tmp(), f"{session.create_tmp()}/site"
    session.run("npm", "install", "--silent", "--prefix", npm, f"pyodide@{release}", external=True)
    session.install("pip")
    (wheel,) = Path(DIST.name).glob("*.whl")
    version = f"{release[0]}.{release[1:3]}"
    pure = ("--platform", "any", "--only-binary", ":all:", "--python-version", version)
    packages = (str(wheel), "hypothesis", "pytest", "pytest-asyncio", "rich", "tzdata")
    session.run("python", "-m", "pip", "install", "--quiet", "--upgrade", "--target", site, *pure, *packages)
    # Deeply nested filters need a large stack, on which no JSON is too deep. There are no threads.
    node = f"exec node --stack-size=60000 tests/pyodide.mjs {npm}/node_modules/pyodide {site}"
    tests = ("-k", "not threads and not (deep and (shown or words or contract))", "-p", "no:cacheprovider")
    chosen = session.posargs or ("tests/filters", "tests/messages", "tests/display")
    session.run("bash", "-c", f'ulimit -s 65500; {node} "$@"', "pyodide", *tests, *chosen, external=True)


@nox.session(default=False)
def lock(session: nox.Session) -> None:
    """Update the locked versions of the tools and the hashes of their files; needs the network."""
    session.install("uv")
    for name in LOCKED:
        compile_requirements(session, f"{LOCKS}/{name}.txt", "--group", name, "--universal")


@nox.session(default=False)
def audit(session: nox.Session) -> None:
    """Look up known vulnerabilities of the tools and of all dependencies; needs the network."""
    session.install("pip-audit", "uv")
    installed = f"{session.create_tmp()}/installed.txt"
    compile_requirements(session, installed, "pyproject.toml", "--all-extras")
    listed = [installed, *(f"{LOCKS}/{name}.txt" for name in LOCKED)]
    for name in listed:
        # Strict: what cannot be looked up is a failure, and not passed over.
        session.run("pip-audit", "--strict", "--require-hashes", "--disable-pip", "--requirement", name)


def compile_requirements(session: nox.Session, file: str, *what: str) -> None:
    how = ("--generate-hashes", "--upgrade", "--quiet", "--python-version", PYTHONS[0], "--output-file", file)
    # The head of the file tells it; and neither a setting nor an index of this machine gets into the file.
    told = ("--custom-compile-command", "nox -s lock", "--no-config", "--no-emit-index-url")
    session.run("uv", "pip", "compile", *what, *how, *told, silent=True)


@nox.session(requires=["wheel"])
def docs(session: nox.Session) -> None:
    """Build the documentation and run its examples; a warning is an error."""
    install_wheel(session, *group("docs"))
    for builder in ("html", "doctest"):
        out = f"docs/_build/{builder}"
        session.run("sphinx-build", "-W", "--keep-going", "-q", "-b", builder, "docs", out)


@nox.session(requires=["wheel"], default=False)
def links(session: nox.Session) -> None:
    """Check that the links of the documentation lead somewhere; needs the network."""
    install_wheel(session, *group("docs"))
    session.run("sphinx-build", "-q", "-b", "linkcheck", "docs", "docs/_build/linkcheck")


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def fuzz(session: nox.Session) -> None:
    """Read 200,000 random expressions, and all strings of up to three operands, as a reader would."""
    install_wheel(session, *group("tests"))
    session.env["HELICONE_SESSIONS_FUZZ"] = "200000"
    run_tests(session, "python", default=("tests/filters/test_fuzz.py",))


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def mutations(session: nox.Session) -> None:
    """Load 9,000 files with changed bytes through ClickHouse and through Python, and compare."""
    install_wheel(session, *group("tests"))
    session.env["HELICONE_SESSIONS_MUTATIONS"] = "3000"
    run_tests(session, "python", default=("tests/local/test_both_ways.py",))


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def contract(session: nox.Session) -> None:
    """Ask the server for ten minutes what schemathesis makes of the contract's OpenAPI text."""
    install_wheel(session, *group("tests"), *group("contract"))
    session.env["HELICONE_SESSIONS_CONTRACT"] = "600"
    run_tests(session, "python", default=("tests/local/test_schemathesis.py",))


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def kills(session: nox.Session) -> None:
    """Kill a sync of 200,000 requests twenty times, and compare the store with the account."""
    install_wheel(session, *group("tests"))
    session.env["HELICONE_SESSIONS_SYNC_REQUESTS"] = "200000"
    run_tests(session, "python", default=("tests/local/test_syncing.py", "-k", "kills"))


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def benchmarks(session: nox.Session) -> None:
    """Measure what filters, queries and batches cost, as ratios; a bar that does not hold is an error."""
    install_wheel(session, "orjson")
    missed = []
    for script in ("filters", "imports", "decoding", "client", "batch"):
        try:
            session.run("python", f"benchmarks/{script}.py", *session.posargs)
        except nox.command.CommandFailed:
            missed.append(script)
    if missed:
        session.error(f"bars that do not hold: {', '.join(missed)}")


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def engine(session: nox.Session) -> None:
    """Measure the engine on ten million requests, against the service's six queries and DuckDB.

    Before that, how long one request holds up the server, and how long a grid takes.
    """
    install_wheel(session, "duckdb", "matplotlib")
    session.run("python", "benchmarks/heartbeat.py", *session.posargs)
    session.run("python", "benchmarks/grid.py", *session.posargs)
    session.run("python", "benchmarks/engine.py", *session.posargs)


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def loading(session: nox.Session) -> None:
    """Measure how long files take to load, against DuckDB, and the peak of memory."""
    install_wheel(session, "duckdb")
    session.run("python", "benchmarks/loading.py", *session.posargs)


@nox.session(python=PYTHONS[0], requires=["wheel"], default=False)
def peers(session: nox.Session) -> None:
    """Generate other clients from an OpenAPI text, and measure them beside this one: -- --spec FILE."""
    install_wheel(session)
    session.run("python", "benchmarks/peers.py", *session.posargs)
