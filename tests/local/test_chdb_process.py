"""The embedded engine and processes: one directory for one process, none after a fork, and no late exit."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import ConfigurationError, MissingExtra
from helicone_sessions.local.drivers import chdb_process
from helicone_sessions.local.drivers.chdb import ChdbDriver
from helicone_sessions.local.drivers.directory_lock import LOCK_FILE

pytest.importorskip("chdb", reason="the extra `local` is not installed")

PATIENCE = 60.0
HEAD = """
import asyncio, json, os, pathlib, sys
from helicone_sessions import ConfigurationError
from helicone_sessions.local.drivers import DriverError, Limits, Statement
from helicone_sessions.local.drivers.chdb import ChdbDriver

ONE = Statement("SELECT 1")
ENDLESS = Statement("SELECT sum(cityHash64(number)) FROM numbers(1000000000000000)")

async def refusal(awaitable):
    try:
        return f"not refused: {await awaitable}"
    except ConfigurationError as error:
        return str(error)

def say(value):
    print(json.dumps(value), flush=True)
"""


@contextmanager
def _process(script: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HEAD + script, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def _said(script: str, *arguments: str | Path) -> list[Any]:
    """The output of *script*, which must succeed."""
    with _process(script, *arguments) as process:
        said, _ = process.communicate(timeout=PATIENCE)
        assert 0 == process.returncode
    return [json.loads(line) for line in said.splitlines()]


KEEP_OPEN = """
async def main():
    driver = ChdbDriver(sys.argv[1])
    await driver.open()
    await driver.execute("CREATE TABLE IF NOT EXISTS kept (a Int8) ENGINE = MergeTree ORDER BY a")
    await driver.insert("kept", b'{"a": 1}')
    say(os.getpid())
    sys.stdin.read()

asyncio.run(main())
"""
OPEN = """
async def main():
    driver = ChdbDriver(sys.argv[1])
    refused = await refusal(driver.open())
    say(refused)
    if refused == "not refused: None":
        say((await driver.query(Statement("SELECT count() FROM kept"))).rows)
        await driver.aclose()

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="chDB has no wheels for Windows")
def test_directory_of_another_process(tmp_path: Path) -> None:
    """A directory that another process has open is refused, naming it, and free once that is killed."""
    data = tmp_path / "new" / "data"
    with _process(KEEP_OPEN, data) as other:
        assert other.stdout is not None
        number = json.loads(other.stdout.readline())
        (refused,) = _said(OPEN, data)
        assert f"'{data}' is open in another process ({number})" in refused
        other.send_signal(signal.SIGKILL)
        other.wait(PATIENCE)
    assert ["not refused: None", [[1]]] == _said(OPEN, data)


CHDB_ITSELF = """
import chdb
connection = chdb.connect(sys.argv[1])
say("open")
sys.stdin.read()
"""


def test_directory_of_another_chdb(tmp_path: Path) -> None:
    """A directory that chDB has open elsewhere without this package is refused with the same words."""
    with _process(CHDB_ITSELF, tmp_path / "data") as other:
        assert other.stdout is not None
        assert '"open"\n' == other.stdout.readline()
        (refused,) = _said(OPEN, tmp_path / "data")
    assert "is open in another process" in refused


BAD_DIRECTORIES = """
base = pathlib.Path(sys.argv[1])
(base / "file").write_text("")
(base / "photos").mkdir()
(base / "photos" / "cat.jpg").write_text("")

async def main():
    for path in ("file", "file/below", "photos", "what?", "new\\nline"):
        say(await refusal(ChdbDriver(base / path).open()))
    say(await refusal(ChdbDriver("").open()))
    say(await refusal(ChdbDriver("/proc/nothing").open()))
    driver = ChdbDriver(base / "quo'te % & é")
    await driver.open()
    say((await driver.query(ONE)).rows)
    await driver.aclose()
    say(sorted(path.name for path in base.iterdir()))

asyncio.run(main())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="uses /proc")
def test_bad_directories(tmp_path: Path) -> None:
    """A path that cannot hold data is refused with the reason, and nothing is made of it."""
    *said, good, names = _said(BAD_DIRECTORIES, tmp_path)
    expected = [
        "is a file",
        "cannot be created: Not a directory",
        "holds other files (for example 'cat.jpg')",
        "question marks",
        "unprintable characters",
        "is empty",
        "cannot be created: No such file or directory",
    ]
    assert [True] * len(expected) == [part in text for part, text in zip(expected, said, strict=True)], said
    assert [[1]] == good
    assert ["file", "photos", "quo'te % & é"] == names


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_is_not_ours(tmp_path: Path) -> None:
    """A directory that cannot be written to is refused."""
    (tmp_path / "data").mkdir(mode=0o500)
    (refused,) = _said(OPEN, tmp_path / "data")
    assert "cannot be written to: Permission denied" in refused


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX rights")
@pytest.mark.promise(name="S11")
async def test_rights(tmp_path: Path) -> None:
    """Only its owner can read a directory of data; one that exists keeps its rights unless it is empty."""
    (tmp_path / "empty").mkdir(mode=0o755)
    for name in ("new", "empty"):
        driver = ChdbDriver(tmp_path / name)
        await driver.open()
        await driver.aclose()
        assert 0o700 == (tmp_path / name).stat().st_mode & 0o777
        assert 0o600 == (tmp_path / name / LOCK_FILE).stat().st_mode & 0o777
        (tmp_path / name).chmod(0o750)
        await driver.open()
        await driver.aclose()
        assert 0o750 == (tmp_path / name).stat().st_mode & 0o777


@pytest.mark.promise(name="S11")
async def test_lock_that_is_a_link(tmp_path: Path) -> None:
    """The lock is not taken through a link, whose target stays as it is."""
    other = tmp_path / "other"
    other.write_text("precious")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / LOCK_FILE).symlink_to(other)
    with pytest.raises(ConfigurationError, match="it is a symbolic link"):
        await ChdbDriver(tmp_path / "data").open()
    assert "precious" == other.read_text()


async def test_reason_of_a_failed_start(tmp_path: Path) -> None:
    """If the engine does not start, the error has the engine's own reason and not that of a taken lock."""
    driver = ChdbDriver(tmp_path)
    await driver.open()
    await driver.execute("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
    await driver.aclose()
    (definition,) = await asyncio.to_thread(lambda: list(tmp_path.glob("**/kept.sql")))
    definition.write_text("garbage")
    with pytest.raises(ConfigurationError, match=r"does not start: Syntax error .*kept\.sql") as caught:
        await driver.open()
    assert "another process" not in str(caught.value)


HOLD_WITHOUT_US = """
import chdb
connection = chdb.connect(sys.argv[1])
say("open")
sys.stdin.read()
"""


async def test_directory_that_chdb_itself_has_open(tmp_path: Path) -> None:
    """A program that uses chDB without this package holds chDB's lock."""
    with _process(HOLD_WITHOUT_US, tmp_path) as process:
        assert process.stdout is not None
        assert '"open"\n' == process.stdout.readline()
        with pytest.raises(ConfigurationError, match="is open in another process"):
            await ChdbDriver(tmp_path).open()


ONE_PATH = """
async def main():
    first, second = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    drivers = [ChdbDriver(first), ChdbDriver(f"{first}/../{first.name}"), ChdbDriver(first)]
    for driver in drivers:
        await driver.open()
    say(await refusal(ChdbDriver(second).open()))
    say(await refusal(ChdbDriver().open()))
    await drivers[0].execute("CREATE TABLE kept (a Int8) ENGINE = MergeTree ORDER BY a")
    for driver in drivers[:2]:
        await driver.aclose()
    await drivers[2].insert("kept", b'{"a": 1}')
    say(await refusal(ChdbDriver(second).open()))
    await drivers[2].aclose()
    for path in (second, None, first):
        driver = ChdbDriver(path)
        await driver.open()
        say((await driver.query(ONE)).rows)
        if path is None:
            say(await refusal(ChdbDriver(first).open()))
        if path == first:
            say((await driver.query(Statement("SELECT a FROM kept"))).rows)
        await driver.aclose()

    import chdb
    connection = chdb.connect(str(second))
    say(await refusal(ChdbDriver(first).open()))

asyncio.run(main())
"""


def test_one_directory_for_a_process(tmp_path: Path) -> None:
    """A process has one directory or memory, for as many drivers as share it, and another after the last."""
    first, second = tmp_path / "first", tmp_path / "second"
    beside, memory, still, one, two, file, three, kept, foreign = _said(ONE_PATH, first, second)
    assert f"cannot be the directory '{second}'" in beside
    assert f"has the directory '{first}' open" in beside
    assert "cannot be data in memory" in memory
    assert f"has the directory '{first}' open" in memory
    assert beside == still
    assert f"cannot be the directory '{first}'" in file
    assert "has data in memory open" in file
    assert [[[1]]] * 4 == [one, two, three, kept]
    assert "chDB is in use in this process with other data" in foreign


FORK = """
import multiprocessing

async def refused():
    say([await refusal(work) for work in (
        driver.query(ONE), driver.execute("SELECT 1"), driver.insert("a", b""), driver.open(),
        ChdbDriver().open(),
    )])
    await driver.aclose()
    await driver.aclose()

async def main():
    await driver.open()
    say((await driver.query(ONE)).rows)

async def end():
    say((await driver.query(ONE)).rows)
    await driver.aclose()

driver = ChdbDriver()
if sys.argv[1] == "opened":
    asyncio.run(main())
child = multiprocessing.get_context("fork").Process(target=lambda: asyncio.run(refused()))
child.start()
child.join(30)
say(child.exitcode)
child.kill()
if sys.argv[1] == "opened":
    asyncio.run(end())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.parametrize("when", ["opened", "imported"])
def test_forked_process(when: str) -> None:
    """A child forked from a process with the engine gets an error that names spawn; its parent continues."""
    said = _said(FORK, when)
    refused, code = [*said[1:3]] if when == "opened" else said
    assert 5 == len(refused)
    assert all("forked" in text and "get_context('spawn')" in text for text in refused)
    assert 0 == code
    if when == "opened":
        assert [[[1]], [[1]]] == [said[0], said[-1]]


FORKED_LOCK = """
import signal

async def main():
    driver = ChdbDriver(sys.argv[1])
    await driver.open()
    child = os.fork()
    if child == 0:
        os.close(1)
        os.read(0, 1)
        os._exit(0)
    say(child)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_forked_process_holds_no_directory(tmp_path: Path) -> None:
    """A child that outlives its parent does not keep the parent's directory locked."""
    with _process(FORKED_LOCK, tmp_path / "data") as parent:
        assert parent.stdout is not None
        assert parent.stdin is not None
        assert 0 < json.loads(parent.stdout.readline())
        parent.wait(PATIENCE)
        with _process(OPEN, tmp_path / "data") as other:
            assert other.stdout is not None
            refused = json.loads(other.stdout.readline())
        parent.stdin.close()
    assert "not refused: None" == refused


EXIT = """
async def main():
    driver = ChdbDriver()
    await driver.open()
    task = asyncio.create_task(driver.query(ENDLESS, Limits(seconds=None)))
    running = Statement("SELECT count() FROM system.processes WHERE query LIKE '%10000000000000%'")
    while [[2]] != (await driver.query(running)).rows:
        pass
    if sys.argv[1] == "cancelled":
        task.cancel()
        await asyncio.wait([task])
        say(task.cancelled())
    if sys.argv[1] == "failed":
        sys.exit(3)
    return task

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("how", "said", "code"), [("cancelled", "true\n", 0), ("failed", "", 3), ("left", "", 0)]
)
def test_exit_does_not_wait(how: str, said: str, code: int) -> None:
    """A process exits as it would, without waiting for a query that nobody waits for and without a crash."""
    with _process(EXIT, how) as process:
        assert (said, "") == (process.communicate(timeout=PATIENCE)[0], "")
        assert code == process.returncode


class Anchor:
    """A connection that refuses statements, and closes or does not."""

    def __init__(self, *, closes: bool) -> None:
        self._closes = closes
        self.is_closed = False

    def query(self, *_: object, **__: object) -> None:
        raise RuntimeError("not a word")

    def close(self) -> None:
        if not self._closes:
            raise RuntimeError("it does not close")
        self.is_closed = True


async def test_an_engine_that_takes_no_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that fails at its first statement closes every connection and lets go of the directory."""
    made: list[Anchor] = []

    def connect(_where: str) -> Anchor:
        made.append(Anchor(closes=True))
        return made[-1]

    monkeypatch.setattr(chdb_process._process, "opened", None)
    monkeypatch.setattr("helicone_sessions.local.drivers.chdb.load_chdb", lambda: connect)
    with pytest.raises(RuntimeError, match="not a word"):
        await ChdbDriver(tmp_path / "a").open()
    assert [True, True] == [each.is_closed for each in made]
    chdb_process.hold(tmp_path / "b", lambda _: Anchor(closes=True)).release()


def test_a_share_whose_connection_does_not_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the engine is given back even if its connection fails to close: the directory is free."""
    monkeypatch.setattr(chdb_process._process, "opened", None)
    held = chdb_process.hold(tmp_path / "a", lambda _: Anchor(closes=False))
    with pytest.raises(RuntimeError, match="it does not close"):
        held.release()
    # A process has one directory open, so that nothing but this one could be opened else.
    chdb_process.hold(tmp_path / "b", lambda _: Anchor(closes=True)).release()


@pytest.mark.parametrize(
    ("platform", "host", "expected"),
    [
        ("linux", "x86_64-pc-linux-gnu", None),
        ("win32", None, "no build for Windows"),
        ("linux", "x86_64-alpine-linux-musl", "no build for musl (Alpine Linux)"),
    ],
)
def test_missing_extra(
    monkeypatch: pytest.MonkeyPatch, platform: str, host: str | None, expected: str | None
) -> None:
    """Without chDB the error names the extra, and the platform if it cannot be installed there."""
    monkeypatch.setitem(sys.modules, "chdb", None)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr("sysconfig.get_config_var", lambda _: host)
    with pytest.raises(MissingExtra, match=r"helicone-sessions\[local\]") as caught:
        ChdbDriver()
    notes = getattr(caught.value, "__notes__", [])
    assert [] == notes if expected is None else expected in notes[0]


@pytest.mark.parametrize(
    "files",
    [["__init__.py"], ["__init__.py", "_chdb.abi3.so", "libpybind11nonlimitedapi_chdb_3.10.so"]],
)
def test_python_without_a_build_of_chdb(tmp_path: Path, files: list[str]) -> None:
    """Where importing chDB would end the interpreter, the extra is reported as missing instead."""
    (tmp_path / "chdb").mkdir()
    for name in files:
        (tmp_path / "chdb" / name).write_text("import os\nos._exit(3)\n")
    script = """
sys.path.insert(0, sys.argv[1])
from helicone_sessions import ConfigurationError, MissingExtra
from helicone_sessions.local import LocalServer

async def main():
    try:
        await LocalServer().start()
    except MissingExtra as error:
        say([error.extra, *error.__notes__])

asyncio.run(main())
"""
    ((extra, note),) = _said(script, tmp_path)
    assert "local" == extra
    assert f"no build for Python {sys.version_info.major}.{sys.version_info.minor}" in note


CRASH = """
import ctypes, faulthandler, threading

def crash():
    {crash}

async def main():
    {before}
    driver = ChdbDriver()
    await driver.open()
    await driver.query(ONE)
    say("open")
    sys.stdin.readline()
    {thread}
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("before", "thread", "crash", "number"),
    [
        ("pass", "crash()", "ctypes.string_at(0)", signal.SIGSEGV),
        ("pass", "crash()", "os.abort()", signal.SIGABRT),
        ("pass", "threading.Thread(target=crash).start()", "ctypes.string_at(0)", signal.SIGSEGV),
        ("import chdb", "crash()", "os.abort()", signal.SIGABRT),
        ("faulthandler.enable()", "crash()", "ctypes.string_at(0)", signal.SIGSEGV),
    ],
)
def test_a_crash_ends_the_process(before: str, thread: str, crash: str, number: int) -> None:
    """A fatal signal ends a process with the engine at once, so that a supervisor can start it anew."""
    script = CRASH.format(before=before, thread=thread, crash=crash)
    command = [sys.executable, "-c", HEAD + script]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert '"open"\n' == process.stdout.readline()
        _, errors = process.communicate("crash\n", timeout=PATIENCE)
    assert -number == process.returncode
    assert ("Fatal Python error" in errors) == ("faulthandler" in before)
