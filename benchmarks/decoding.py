"""The cost of decoding an answer in different forms: the best of many passes.

    python benchmarks/decoding.py [--quick]

The answers are recorded ones of the open-source server. The order of their keys, white space and a new
field are compared with the form that the server sends.
"""

import sys
from collections.abc import Iterator
from typing import Final

from measure import Bar, is_quick, report
from workers import Worker

FLOOR: Final = "recorded"
OTHERS: Final = {
    "shuffled": ("  with shuffled keys, over that", 1.10),
    "spaced": ("  with white space", 1.10),
    "new-field": ("  with a new field", None),
}


def bars(*hidden: str, quick: bool) -> Iterator[Bar]:
    rounds, times = (20, 10) if quick else (100, 20)
    with Worker("decoders", hidden=hidden) as worker:
        best = dict.fromkeys((FLOOR, *OTHERS), float("inf"))
        for _ in range(rounds):
            # By turns, so that each form meets the machine's best moments.
            for form in best:
                best[form] = min(best[form], worker.ask(form=form, times=times))
    yield Bar.of("µs per recorded answer", best[FLOOR] * 1e6)
    for form, (name, most) in OTHERS.items():
        yield Bar.of(name, best[form] / best[FLOOR], most=most)


if __name__ == "__main__":
    quick = is_quick(__doc__)
    code = report("Decoding, with the extra speed:", list(bars(quick=quick)))
    sys.exit(report("\nWithout:", list(bars("msgspec", "orjson", quick=quick))) or code)
