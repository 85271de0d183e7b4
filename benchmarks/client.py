"""What a query costs the client's processor, against aiohttp and orjson by hand.

    python benchmarks/client.py [--quick]

Every contestant is a process of its own (see `contestants`), and so is the service. They do their rounds by
turns, the floor before and after each, and the median of the ratios to these two is told.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Final

import attrs
from measure import Bar, is_quick, report
from service import running
from workers import Worker

# The share of the machine that a process gets by chance, as in which of its objects share a cache line,
# stays with it as long as it lives: so every few rounds all of them are started anew.
GENERATIONS: Final = 4
# Short rounds, for a busy machine is another one a second later.
COUNT: Final = 400


@attrs.frozen
class Contestant:
    """A row of the table.

    Args:
        name: What it says.
        module: The module of `contestants`.
        most: What it may cost at concurrency 64, in floors.
        hidden: What it has to do without.
    """

    name: str
    module: str
    most: float | None = None
    hidden: tuple[str, ...] = ()


FLOOR: Final = Contestant("floor: aiohttp and orjson by hand, µs", "floor")
OTHERS: Final = (
    Contestant("the floor once more: what is noise", "floor"),
    Contestant("msgspec Structs by hand", "msgspec_structs"),
    Contestant("naive: json= and .json()", "naive"),
    Contestant("cattrs and json by hand", "cattrs_json"),
    Contestant("stream_metrics, with the extra speed", "streamed", most=1.10),
    Contestant("get_metrics, with the extra speed", "one_by_one"),
    Contestant("stream_metrics, without", "streamed", most=1.30, hidden=("orjson", "msgspec")),
    Contestant("get_metrics, without", "one_by_one", hidden=("orjson", "msgspec")),
)


Figures = dict[str, list[float]]


def generation(url: str, concurrency: int, rounds: int, figures: Figures) -> None:
    """Add the floor's microseconds and the others' ratios of so many rounds."""
    with ExitStack() as stack:
        floor, *workers = [
            stack.enter_context(Worker(f"contestants.{each.module}", url, concurrency, hidden=each.hidden))
            for each in (FLOOR, *OTHERS)
        ]
        for worker in (floor, *workers):
            worker.ask(first=0, count=COUNT * 2)
        for place in range(2, rounds + 2):
            command = {"first": place * COUNT, "count": COUNT}
            before = floor.ask(**command)
            for each, worker in zip(OTHERS, workers, strict=True):
                spent, after = worker.ask(**command), floor.ask(**command)
                figures[each.name].append(spent * 2 / (before + after))
                figures[FLOOR.name].append(after / COUNT * 1e6)
                before = after


def bars(concurrency: int, *, quick: bool) -> Iterator[Bar]:
    rounds = 6 if quick else 12
    figures: Figures = {each.name: [] for each in (FLOOR, *OTHERS)}
    with running() as url:
        for _ in range(2 if quick else GENERATIONS):
            # Twice as many where a bar has to hold.
            generation(url, concurrency, rounds if concurrency == 64 else rounds // 2, figures)
    for each in (FLOOR, *OTHERS):
        yield Bar.of(each.name, *figures[each.name], most=each.most if concurrency == 64 else None)


if __name__ == "__main__":
    quick = is_quick(__doc__)
    code = report("Processor time per query, 64 at once:", list(bars(64, quick=quick)))
    sys.exit(report("\nOne after another:", list(bars(1, quick=quick))) or code)
