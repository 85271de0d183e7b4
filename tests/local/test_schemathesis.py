"""The server against the contract's OpenAPI text: whatever schemathesis makes of it is answered properly.

By itself this takes some hundred requests, the same ones at each run. With ``HELICONE_SESSIONS_CONTRACT``
set to a number of seconds it goes on with new ones for that long (``nox -s contract``).
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from helicone_sessions.local import LocalServer

pytest.importorskip("chdb", reason="the extra `local` is not installed")
schemathesis = pytest.importorskip("schemathesis", reason="the dependency group `contract` is not installed")

CONTRACT = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
SECONDS = float(os.environ.get("HELICONE_SESSIONS_CONTRACT", "0"))
PATH = "/v1/session/metrics/query"
KEY = "sk-local-of-the-contract"
# After that many seconds a request counts as hanging.
PATIENCE = 60

pytestmark = pytest.mark.skipif(not CONTRACT.exists(), reason="the contract is not beside the repository")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """The address of a server in another thread, because schemathesis blocks."""
    rows = [
        {"request_created_at": "2026-11-01T12:00:00Z", "cost": number, "session_id": f"s{number}"}
        for number in range(3)
    ]
    started, ended = threading.Event(), threading.Event()
    addresses: list[str] = []

    async def serve() -> None:
        async with LocalServer(rows, api_key=KEY) as server:
            addresses.append(server.url)
            started.set()
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(60)
    yield addresses[0]
    ended.set()
    thread.join()


def is_documented(status: int, answer: Any) -> bool:
    """Whether it is the contract's answer, its failure, or a refusal with its reason."""
    if status in (200, 500):
        return answer.keys() == {"data", "error"} and (answer["error"] is None) == (status == 200)
    return 400 <= status < 500 and answer.keys() == {"error"}


@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_every_answer_is_a_documented_one(url: str, mode: str) -> None:
    """Bodies that follow the contract, and bodies that do not, get answers that it knows, and in time."""
    operation = schemathesis.openapi.from_path(CONTRACT)[PATH]["POST"]
    cases = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    statuses: set[int] = set()

    @given(case=cases)
    @settings(
        max_examples=500 if SECONDS else 60,
        derandomize=not SECONDS,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def check(case: Any) -> None:
        # Whatever it does to the key is another matter.
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {KEY}"}
        answer = case.call(base_url=url, timeout=PATIENCE)
        statuses.add(answer.status_code)
        assert is_documented(answer.status_code, answer.json()), (answer.status_code, answer.text[:500])

    until = time.monotonic() + SECONDS / 2
    check()
    while time.monotonic() < until:
        check()
    assert (200 if mode == "positive" else 400) in statuses
