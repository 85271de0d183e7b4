"""The process that runs users' statements: ``python -m helicone_sessions.local.sql.worker STORE MEMORY``.

The process first opens the store with write access, to complete any interrupted load. Then the process
restarts itself, because Landlock does not confine threads that are already running, and opens the store as a
read-only user. Each request is a line of JSON on standard input. Each response is a line with a kind and a
length, followed by a JSON document of that length.
"""

import asyncio
import json
import os
import queue
import re
import resource
import sys
import sysconfig
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

from helicone_sessions.errors import ConfigurationError
from helicone_sessions.local.dataset import opened_store
from helicone_sessions.local.drivers.chdb_process import Connection, Hold, hold, load_chdb
from helicone_sessions.local.drivers.directory_lock import ENGINE_LOCK, LOCK_FILE, StoreInUse
from helicone_sessions.local.sql.confinement import confine
from helicone_sessions.local.storage.fields import REQUEST_COLUMNS
from helicone_sessions.local.storage.table import OWN_DATABASE, REQUESTS_TABLE
from helicone_sessions.masking import masked_text

_MODULE: Final = "helicone_sessions.local.sql.worker"
_HERE: Final = Path(__file__).parent
# The process writes only two files: the lock, and the file with its process id.
_LARGEST_FILE: Final = 1024 * 1024
# The address space beyond the limit for statements, which ClickHouse enforces. It covers memory that
# ClickHouse does not count, and about 2 GiB of addresses that chDB reserves but does not use.
_SPARE_ADDRESSES: Final = 6 * 1024**3
_LARGEST_RESULT: Final = 256 * 1024 * 1024
_LONGEST_ERROR: Final = 400
_SYNTAX_ERROR: Final = 62

_CODE: Final = re.compile(r"\bCode: (\d+)\. ")
_COST: Final = "cost / 1e9 AS cost"
_COLUMNS: Final = ", ".join(
    [*(_COST if name == "cost" else name for name in REQUEST_COLUMNS), "session_id", "session_name"]
)
_REQUESTS: Final = f"SELECT {_COLUMNS} FROM {OWN_DATABASE}.{REQUESTS_TABLE}"


def main(path: str, memory: str, step: str = "complete") -> None:
    """Run statements on the store in *path* until standard input is closed."""
    output = os.fdopen(os.dup(1), "wb")
    # The original standard output carries only responses.
    os.dup2(2, 1)
    # chDB reads config.xml in the working directory.
    os.chdir(_HERE)
    try:
        if step == "complete":
            asyncio.run(_complete(path))
            os.dup2(output.fileno(), 1)
            os.execv(sys.executable, [sys.executable, "-P", "-m", _MODULE, path, memory, "serve"])  # noqa: S606
        held, is_confined = _opened(Path(path), int(memory) if memory else None)
    except Exception as error:  # noqa: BLE001 - the caller gets it
        _respond(output, "refused", json.dumps(_parts(error)).encode())
        return
    _respond(output, "ready", json.dumps({"is_confined": is_confined}).encode())
    for request in _requests():
        _respond(output, *_answer(held, request))


def _parts(error: Exception) -> dict[str, str | None]:
    if not isinstance(error, ConfigurationError):
        return {"argument": "path", "problem": f"cannot be opened: {_shortened(str(error))}"}
    remedy = error.remedy
    if isinstance(error, StoreInUse):
        remedy = "Stop that process, run the statement, and restart the process"
    return {"argument": error.argument, "problem": error.problem or str(error), "remedy": remedy}


async def _complete(path: str) -> None:
    async with opened_store(path):
        pass


def _opened(directory: Path, memory: int | None) -> tuple[Hold, bool]:
    connect = load_chdb()
    written = [directory / LOCK_FILE, directory / ENGINE_LOCK]
    for file in written:
        file.touch()
    # chDB imports further modules when it connects.
    code = {Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    is_confined = confine(readable=[directory, _HERE, *code], writable=written)
    resource.setrlimit(resource.RLIMIT_FSIZE, (_LARGEST_FILE, _LARGEST_FILE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory + _SPARE_ADDRESSES,) * 2)
    return hold(directory, lambda where: connect(f"{where}?config-file=engine.xml")), is_confined


def _requests() -> Any:
    """Yield the requests. When standard input is closed, the process exits, even during a statement."""
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            waiting.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        yield json.loads(waiting.get())


def _answer(held: Hold, request: dict[str, Any]) -> tuple[str, bytes]:
    # After an error, a connection may return rows of the failed statement in the next result.
    connection = held.connect()
    try:
        # In the default database, an unknown table name would be read as a file name.
        connection.query(f"USE {OWN_DATABASE}")
        settings = {"max_result_bytes": _LARGEST_RESULT, **request["settings"], "readonly": 1}
        listed = ", ".join(f"{name} = {value}" for name, value in settings.items())
        connection.query(f"SET {listed}")
        return "result", _selected(connection, request["text"], request["limit"])
    except Exception as error:  # noqa: BLE001 - the caller gets it
        return "error", json.dumps({"problem": _shortened(str(error)), "code": _code(error)}).encode()
    finally:
        connection.close()


def _selected(connection: Connection, text: str, limit: int | None) -> bytes:
    # A text that ClickHouse parses as a single statement cannot close the parentheses around it. Inside
    # parentheses, ClickHouse's grammar allows only SELECT, without FORMAT and INTO OUTFILE.
    parsed = connection.query(
        "SELECT formatQuery(unhex({text:String}))", "JSONCompact", params={"text": text.encode().hex()}
    )
    (statement,) = json.loads(parsed.bytes())["data"][0]
    end = "" if limit is None else f" LIMIT {limit + 1}"
    try:
        wrapped = f"WITH requests AS ({_REQUESTS}) SELECT * FROM (\n{statement}\n){end}"
        return bytes(connection.query(wrapped, "JSONCompact").bytes())
    except Exception as error:
        if _code(error) == _SYNTAX_ERROR:
            raise ValueError("it must be one SELECT, without FORMAT and INTO OUTFILE") from error
        raise


def _code(error: Exception) -> int | None:
    found = _CODE.findall(str(error))
    return int(found[-1]) if found else None


def _shortened(text: str) -> str:
    # The innermost of several nested errors is the cause. The scope would repeat the statement.
    cause = text.rpartition("Exception: ")[2] if "Exception: " in text else text
    for tail in (": In scope ", " In scope ", ". Expected one of", ", Stack trace", " (version "):
        cause = cause.partition(tail)[0]
    return masked_text(cause.strip().rstrip("."), most=_LONGEST_ERROR)


def _respond(output: BinaryIO, kind: str, body: bytes) -> None:
    output.write(b"%s %d\n%s" % (kind.encode(), len(body), body))
    output.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
