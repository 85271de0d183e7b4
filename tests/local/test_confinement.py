"""`confine`: after it, neither the process nor a new thread reaches other files or any network."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has Landlock")

PROGRAM = """
import encodings.idna, errno, json, os, socket, sys, threading
from pathlib import Path
from helicone_sessions.local.sql.confinement import confine

inside, outside = map(Path, sys.argv[1:])
attempts = {
    "read inside": lambda: (inside / "data").read_text(),
    "list inside": lambda: os.listdir(inside),
    "write a file that is named": lambda: (inside / "lock").write_text("1"),
    "write inside": lambda: (inside / "data").write_text("1"),
    "create inside": lambda: (inside / "new").touch(),
    "delete inside": lambda: (inside / "data").unlink(),
    "link outside": lambda: (inside / "link").read_text(),
    "read outside": lambda: (outside / "data").read_text(),
    "list outside": lambda: os.listdir(outside),
    "write outside": lambda: (outside / "data").write_text("1"),
    "create outside": lambda: (outside / "new").mkdir(),
    "run a program": lambda: os.execv(sys.executable, [sys.executable, "-c", ""]),
    "TCP": lambda: socket.create_connection(("127.0.0.1", 9)),
    "UDP": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "a local socket": lambda: socket.socket(socket.AF_UNIX),
}

def attempt(results):
    for name, work in attempts.items():
        try:
            work()
        except PermissionError:
            results[name] = False
        else:
            results[name] = True

is_confined = confine(readable=[inside], writable=[inside / "lock"])
here, there = {}, {}
attempt(here)
thread = threading.Thread(target=attempt, args=[there])
thread.start()
thread.join()
print(json.dumps([is_confined, here, there]))
"""
POSSIBLE = {"read inside", "list inside", "write a file that is named"}


@pytest.mark.promise(name="D6")
def test_a_confined_process_reaches_what_is_named_and_nothing_else(tmp_path: Path) -> None:
    """It reads the directories and writes the files that are named; all else is denied, sockets too."""
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for directory in (inside, outside):
        directory.mkdir()
        (directory / "data").write_text("secret", encoding="utf-8")
    (inside / "lock").touch()
    (inside / "link").symlink_to(outside / "data")

    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, inside, outside],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    is_confined, *results = json.loads(done.stdout)

    assert is_confined
    for result in results:
        assert {name for name, is_possible in result.items() if is_possible} == POSSIBLE
