"""Runs a part of a program, as pages show it: it finds the public names, a `client` and some `queries`."""

import ast
import asyncio
import inspect
import sys
from pathlib import Path

import helicone_sessions
from helicone_sessions import F, HeliconeClient
from helicone_sessions.local import LocalServer


async def main(file: str, text: str) -> None:
    """Run *text*, which may wait at its top level."""
    part = compile(text, file, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with HeliconeClient() as client:
        space = {name: getattr(helicone_sessions, name) for name in helicone_sessions.__all__}
        queries = {name: F.model == name for name in ("gpt-4o", "claude-sonnet-4")}
        space |= {"LocalServer": LocalServer, "client": client, "queries": queries, "__name__": "__main__"}
        running = eval(part, space)  # noqa: S307 - the project's own pages
        if inspect.iscoroutine(running):
            await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[1]).read_text(encoding="utf-8")))
