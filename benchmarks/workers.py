"""Processes that do a round of work on command: what one imports, keeps and collects is not another's."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class Worker:
    """A Python process that runs a module beside this one, which calls `obey`.

    Args:
        module: Its name.
        arguments: Its ``sys.argv``.
        hidden: Modules that it cannot import, as if they were not installed.
    """

    def __init__(self, module: str, *arguments: object, hidden: Iterable[str] = ()) -> None:
        self._hiding = tempfile.TemporaryDirectory()
        for name in hidden:
            text = f"raise ModuleNotFoundError('hidden', name={name!r})\n"
            Path(self._hiding.name, f"{name}.py").write_text(text, encoding="utf-8")
        places = [self._hiding.name, str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(  # noqa: S603 - our own
            # The package is the installed one, whatever directory this is started in.
            [sys.executable, "-P", "-m", module, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It ends when there are no more commands, unless it hangs.
        try:
            self._process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._hiding.cleanup()

    def ask(self, **command: Any) -> Any:
        """Have a round done, and wait for what comes of it."""
        self.tell(**command)
        return self.answer()

    def tell(self, **command: Any) -> None:
        """Have a round begun."""
        assert self._process.stdin  # noqa: S101 - for type checkers
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Wait for what came of it."""
        assert self._process.stdout  # noqa: S101 - for type checkers
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(map(str, self._process.args))} ended before its time")  # type: ignore[arg-type]
        return json.loads(line)


async def obey(work: Callable[..., Awaitable[Any]]) -> None:
    """In the worker: do *work* for each command, until there are no more.

    Between commands the event loop stands still, as it is the others' turn.
    """
    for line in sys.stdin:
        print(json.dumps(await work(**json.loads(line))), flush=True)
