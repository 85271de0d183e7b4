"""The processor time of a query in the client, against aiohttp and orjson by hand.

    python benchmarks/client.py [--quick]

The service sends recorded answers of the open-source server, in its own order of keys; then the same in other
forms, and the one answer that this benchmark used before, whose keys are in the order of this package.

Every contestant is a process (see `contestants`), and so is the service. They take turns, with the floor
before and after each, and the figure is the median of the ratios to these two.
"""

import sys
from collections.abc import Iterator, Sequence
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
        name: Its label.
        module: The module of `contestants`.
        most: The limit of its cost at concurrency 64, in floors.
        hidden: Modules that it cannot import.
    """

    name: str
    module: str
    most: float | None = None
    hidden: tuple[str, ...] = ()


# orjson is the floor's, not ours; it is hidden so that the process has what a plain installation has.
WITHOUT: Final = ("orjson", "msgspec")
FLOOR: Final = Contestant("floor: aiohttp and orjson by hand, µs", "floor")
OTHERS: Final = (
    Contestant("the floor once more: what is noise", "floor"),
    Contestant("msgspec Structs by hand", "msgspec_structs"),
    Contestant("naive: json= and .json()", "naive"),
    Contestant("cattrs and json by hand", "cattrs_json"),
    Contestant("stream_metrics, with the extra speed", "streamed", most=1.20),
    Contestant("get_metrics, with the extra speed", "one_by_one"),
    Contestant("stream_metrics, without", "streamed", most=1.55, hidden=WITHOUT),
    Contestant("get_metrics, without", "one_by_one", hidden=WITHOUT),
)
OURS: Final = tuple(each for each in OTHERS if each.module == "streamed")
# Answers in other forms, measured without a bar.
FORMS: Final = {
    "shuffled": "shuffled keys",
    "spaced": "white space",
    "new-field": "a new field",
    "our-order": "the former answer: thirty bars, keys in our order",
}


Figures = dict[str, list[float]]


def generation(
    url: str, concurrency: int, rounds: int, others: Sequence[Contestant], figures: Figures
) -> None:
    """Add the floor's microseconds and the others' ratios of so many rounds."""
    with ExitStack() as stack:
        floor, *workers = [
            stack.enter_context(Worker(f"contestants.{each.module}", url, concurrency, hidden=each.hidden))
            for each in (FLOOR, *others)
        ]
        for worker in (floor, *workers):
            worker.ask(first=0, count=COUNT * 2)
        for place in range(2, rounds + 2):
            command = {"first": place * COUNT, "count": COUNT}
            before = floor.ask(**command)
            for each, worker in zip(others, workers, strict=True):
                spent, after = worker.ask(**command), floor.ask(**command)
                figures[each.name].append(spent * 2 / (before + after))
                figures[FLOOR.name].append(after / COUNT * 1e6)
                before = after


def measured(
    form: str, concurrency: int, others: Sequence[Contestant], rounds: int, times: int, limit: int = 0
) -> Figures:
    """The floor's microseconds and the others' ratios, with answers of this form."""
    figures: Figures = {each.name: [] for each in (FLOOR, *others)}
    with running(form=form, limit=limit) as url:
        for _ in range(times):
            generation(url, concurrency, rounds, others, figures)
    return figures


def bars(concurrency: int, *, quick: bool) -> Iterator[Bar]:
    # Twice as many where a bar has to hold.
    rounds = (6 if quick else 12) // (1 if concurrency == 64 else 2)
    figures = measured("recorded", concurrency, OTHERS, rounds, 2 if quick else GENERATIONS)
    for each in (FLOOR, *OTHERS):
        yield Bar.of(each.name, *figures[each.name], most=each.most if concurrency == 64 else None)


def bars_of_forms(*, quick: bool) -> Iterator[Bar]:
    for form, name in FORMS.items():
        figures = measured(form, 64, OURS, 6 if quick else 12, 1 if quick else 2)
        yield from bars_of_ours(name, figures)
    # The hosted service sends the headers of its rate limit, which only the client reads.
    figures = measured("recorded", 64, OURS, 6 if quick else 12, 1 if quick else 2, limit=10_000_000)
    yield from bars_of_ours("headers of a rate limit", figures)


def bars_of_ours(name: str, figures: Figures) -> Iterator[Bar]:
    for each in OURS:
        yield Bar.of(f"{name}{', without' if each.hidden else ''}", *figures[each.name])


if __name__ == "__main__":
    quick = is_quick(__doc__)
    code = report("Processor time per query, 64 at once:", list(bars(64, quick=quick)))
    report("\nAnswers in other forms, stream_metrics against the floor:", list(bars_of_forms(quick=quick)))
    sys.exit(report("\nOne after another:", list(bars(1, quick=quick))) or code)
