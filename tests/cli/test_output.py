"""The output of commands: pipes, terminals and full disks."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import F, Filter
from helicone_sessions.testing import FakeHelicone
from tests.cli.conftest import Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


def test_bars_are_drawn_where_there_are_no_block_characters() -> None:
    """On a terminal that shows ASCII alone they are not question marks."""
    from rich.console import Console

    from helicone_sessions.display.terminal import Bar

    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    Console(file=shown, width=40).print(Bar(0.5))
    assert b"#" * 20 == shown.buffer.getvalue().strip()


class Output(io.TextIOWrapper):
    """A standard output in a western encoding, to a terminal or not."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(), encoding="cp1252", newline="")
        self._terminal = terminal

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._terminal

    def written(self) -> bytes:
        """All that was written."""
        self.flush()
        buffer: Any = self.buffer
        written: bytes = buffer.getvalue()
        return written


@pytest.fixture
def shown(run: Run, service: FakeHelicone, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bytes]:
    """The bytes that a command writes to such an output."""

    def shown(*arguments: str, terminal: bool) -> bytes:
        output = Output(terminal=terminal)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", output)
            assert 0 == run(service, *arguments, NO_COLOR="1", TERM="xterm").returncode
        return output.written()

    return shown


@pytest.mark.parametrize("output", ["json", "csv", "html"])
def test_a_pipe_gets_every_character_whatever_the_locale(shown: Callable[..., bytes], output: str) -> None:
    """As UTF-8: a filter or a table with question marks in it would be another one."""
    by = ("metrics", "--by", "日本 é: cost > 1", "--output", output)
    text = shown(*by, terminal=False).decode()
    assert "日本 é" in text


def test_a_pipe_gets_the_filter_that_was_written(shown: Callable[..., bytes]) -> None:
    """Its JSON is read back as the same."""
    wire = json.loads(shown("filter", 'model == "日本 é"', terminal=False))
    assert Filter.from_wire(wire) == (F.model == "日本 é")


def test_a_terminal_gets_what_it_can_show(shown: Callable[..., bytes]) -> None:
    """In its own encoding: a question mark for what it has not, and bars of ASCII."""
    assert "?? é".encode("cp1252") in shown("filter", 'model == "日本 é"', terminal=True)
    assert b"###" in shown("metrics", terminal=True)
    assert "███".encode() in shown("metrics", terminal=False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
@pytest.mark.parametrize("arguments", [("filter", "cost > 1"), ("filter", "--help"), ("--version",)])
def test_output_that_cannot_be_written_is_an_error(arguments: tuple[str, ...]) -> None:
    """A full disk is reported in one line, with code 1."""
    command = [sys.executable, "-m", "helicone_sessions", *arguments]
    with open("/dev/full", "w") as full:  # noqa: PTH123 - a device
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert 1 == done.returncode
    assert done.stderr.endswith("helicone-sessions: the output cannot be written: No space left on device\n")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
@pytest.mark.parametrize("arguments", [("filter", "cost > 1"), ("--help",)])
def test_a_pipe_that_is_read_no_more_ends_the_command_quietly(arguments: tuple[str, ...]) -> None:
    """As with `head`, there is no message."""
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "helicone_sessions", *arguments]
    with os.fdopen(writes, "w") as pipe:
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True, check=False)
    assert 1 == done.returncode
    assert "Error" not in done.stderr
    assert "Exception" not in done.stderr
