"""Many queries at once: memory, the rate limit, faults, and the remains of a stream that ends early.

    python benchmarks/batch.py [--quick]

The client and the service run in separate processes. This process imports neither, because on Linux a
process inherits the peak of memory of its parent.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

from measure import Bar, is_quick, report
from service import FAULTS, running, stats
from workers import Worker

LIMIT: Final = 200
WINDOW: Final = 2.0
RETRIES: Final = 4


def client() -> Worker:
    return Worker("batches")


def memory(quick: bool) -> Iterator[Bar]:
    count = 10_000 if quick else 100_000
    with running() as url, client() as streaming, client() as gathering:
        streamed = streaming.ask(part="growth", url=url, warm=2000, count=count)
        yield Bar.of(f"{count} streamed: MB of memory grown", streamed["grew"], most=5)
        yield Bar.of("  % of the time until the first answer", streamed["first"] * 100, most=1)
        count = count // 5
        at_once = gathering.ask(part="growth", url=url, warm=2000, count=count, at_once=True)
        yield Bar.of(f"{count} gathered: MB of memory grown", at_once["grew"])
        yield Bar.of("  % of the time until the first answer", at_once["first"] * 100)


def limit(quick: bool) -> Iterator[Bar]:
    count = 600 if quick else 2000
    yield from limited(count, 1, most=1.03, most_rejected=0.5)
    yield from limited(count, 4, most=1.2)
    # A slow service has more requests in progress at the moment when the limit is reached.
    yield from limited(count, 1, latency=0.05)


def limited(
    count: int,
    processes: int,
    *,
    most: float | None = None,
    most_rejected: float | None = None,
    latency: float = 0.0,
) -> Iterator[Bar]:
    """So many queries by clients that share one budget, against the least time that the limit allows."""
    with (
        running(limit=LIMIT, window=WINDOW, latency=latency) as url,
        running(latency=latency) as unlimited,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(client()) for _ in range(processes)]
        batch, *_ = [each.ask(part="plain", url=unlimited, count=LIMIT) for each in clients]
        begun = time.perf_counter()
        for each in clients:
            each.tell(part="limited", url=url, count=count // processes)
        answers = sum(each.answer()["answers"] for each in clients)
        seconds = time.perf_counter() - begun
        said = stats(url)
    # All windows but the last one have to pass, and the last one's queries take as long as any.
    least = (count / LIMIT - 1) * WINDOW + batch
    kind = f"{processes} clients" if processes > 1 else "1 client"
    slow = f", {latency * 1000:g} ms each" if latency else ""
    yield Bar.of(f"{count} by {kind}{slow}: time over the least", seconds / least, most=most)
    yield Bar.of(
        "  % of the requests rejected", said["rejected"] / said["requests"] * 100, most=most_rejected
    )
    yield Bar.of("  queries lost", count - answers, most=0)


def faults(quick: bool) -> Iterator[Bar]:
    count = 400 if quick else 2000
    with running(echo=True, faults=0.15, stall=1.5) as url, client() as worker:
        begun = time.perf_counter()
        found = worker.ask(part="faulty", url=url, count=count, timeout=0.5, max_retries=RETRIES)
        seconds = time.perf_counter() - begun
        said = stats(url)
    ends = found["ends"]
    yield Bar.of(f"{count}, faults on 15 %: seconds", seconds)
    yield Bar.of("  queries that end in none or another error", lost(count, found), most=0)
    yield Bar.of("  wrong answers", ends.get("wrong answer", 0), most=0)
    # An attempt whose connection is dropped is repeated once.
    yield Bar.of("  requests for one query", max(said["attempts"].values()), most=2 * (RETRIES + 1))
    yield Bar.of("  kinds of faults not met", len(FAULTS) - len(said["faults"]), most=0)
    for end, number in sorted(ends.items()):
        yield Bar.of(f"  % that end in {end}", number / count * 100)


def lost(count: int, found: dict[str, Any]) -> int:
    return count - int(found["outcomes"]) + int(found["ends"].get("no HeliconeError", 0))


def closing(quick: bool) -> Iterator[Bar]:
    """Servers that close each connection after its answer; a lost query would end the part."""
    count = 500
    ratios: list[float] = []
    with running(closes="announced") as announced, running(closes="silent") as silent, client() as worker:
        for _ in range(3 if quick else 10):
            known, unknown = (
                worker.ask(part="plain", url=url, count=count, max_retries=0) for url in (announced, silent)
            )
            ratios.append(unknown / known)
    yield Bar.of("silently over announced, without retries: time", *ratios, most=2)


def endings(quick: bool) -> Iterator[Bar]:
    times = 200 if quick else 1000
    # Slow enough for requests to be in progress whenever it is ended.
    with running(latency=0.005) as url, client() as worker:
        left = worker.ask(part="ended", url=url, times=times, seed=1)
    yield Bar.of(f"{times} times ended early: tasks left", left["tasks"], most=0)
    yield Bar.of("  connections in use", left["connections"], most=0)


if __name__ == "__main__":
    quick = is_quick(__doc__)
    parts = {
        "Memory": memory,
        f"\nThe rate limit, {LIMIT} requests in {WINDOW:g} s": limit,
        "\nFaults": faults,
        "\nConnections closed after each answer": closing,
        "\nEnded by cancelling, break and exceptions": endings,
    }
    sys.exit(max([report(f"{title}:", list(part(quick))) for title, part in parts.items()]))
