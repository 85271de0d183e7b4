"""The cost of filters from source to bytes, and its growth with the number of conditions.

    python benchmarks/filters.py

A ratio compares two things that run by turns; it is the median of many rounds.
"""

import operator
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import partial, reduce
from typing import Any

import orjson
from measure import Bar, compare, report

from helicone_sessions import F, Filter, all_of, any_of, parse_filter

# Four kinds of conditions in turn, as the API accepts them and as they are written here.
WIRE = (
    '{{"request_response_rmt": {{"cost": {{"gt": {0}.5}}}}}}',
    '{{"request_response_rmt": {{"model": {{"contains": "gpt{0}"}}}}}}',
    '{{"request_response_rmt": {{"properties": {{"env": {{"equals": "p{0}"}}}}}}}}',
    '{{"request_response_rmt": {{"status": {{"equals": {0}}}}}}}',
)
SOURCE = ("F.cost > {0}.5", 'F.model.contains("gpt{0}")', 'F.properties["env"] == "p{0}"', "F.status == {0}")


def function_of(expression: str) -> Callable[[], Any]:
    """A function that evaluates *expression*, compiled once."""
    space: dict[str, Any] = {"F": F, "all_of": all_of}
    exec(f"def made(): return {expression}", space)  # noqa: S102 - the expression is ours
    return space["made"]  # type: ignore[no-any-return]


def dict_literal(count: int) -> Callable[[], Any]:
    """The body of a filter of so many conditions as one literal: the floor."""

    def text(first: int, last: int) -> str:
        if last - first == 1:
            return WIRE[first % 4].format(first)
        middle = (first + last) // 2
        return f'{{"left": {text(first, middle)}, "operator": "and", "right": {text(middle, last)}}}'

    return function_of(text(0, count))


def expression(count: int) -> Callable[[], Filter]:
    """The same filter in the language."""
    return function_of(f"all_of({', '.join(SOURCE[place % 4].format(place) for place in range(count))})")


def to_bytes() -> Iterator[Bar]:
    for count, most, times in ((1, None, 2000), (10, 3.0, 500), (1000, 4.0, 10)):
        literal, build = dict_literal(count), expression(count)
        # No part of a filter is kept compiled, so one is as good as many.
        yield compare(
            f"{count} conditions, filter to bytes",
            partial(compiled, build()),
            lambda literal=literal: orjson.dumps(literal()),
            most=most,
            times=(times, times),
        )
        yield compare(
            f"{count} conditions, source to bytes",
            lambda build=build: orjson.dumps(build().to_wire()),
            lambda literal=literal: orjson.dumps(literal()),
            times=(times, times),
        )


def whole() -> Iterator[Bar]:
    """All that a query does with a usual filter: build it, check it, look for cautions, encode it."""
    literal = function_of(f'{{"left": {WIRE[3].format(1)}, "operator": "and", "right": {WIRE[1].format(2)}}}')
    build = function_of(f"({SOURCE[3].format(1)}) & {SOURCE[1].format(2)}")

    def checked() -> bytes:
        filter_ = build()
        filter_.cautions()
        return compiled(filter_)

    yield compare(
        "2 conditions, source to bytes with cautions",
        checked,
        lambda: orjson.dumps(literal()),
        most=14.0,
        times=(2000, 2000),
    )


def nested_to_bytes() -> Iterator[Bar]:
    """The same for filters that are more than one list; the literal is what they compile to."""
    parts = [function_of(SOURCE[place % 4].format(place))() for place in range(10)]
    shapes = {
        "10 conditions, or of five pairs": any_of(*map(operator.and_, parts[::2], parts[1::2])),
        "10 conditions, each negated": all_of(*map(operator.invert, parts)),
        "10 conditions, negated as a whole": ~all_of(*parts),
    }
    for name, filter_ in shapes.items():
        literal = function_of(repr(filter_.to_wire()))
        yield compare(
            name,
            partial(compiled, filter_),
            lambda literal=literal: orjson.dumps(literal()),
            times=(500, 500),
        )


def compiled(filter_: Filter) -> bytes:
    return orjson.dumps(filter_.to_wire())


def leaves(count: int) -> list[Filter]:
    return [F.model == f"model {place}" for place in range(count)]


def alternating(count: int) -> Filter:
    """As deep as it can get: & and | by turns."""
    filter_ = F.cost > 0
    for place, leaf in enumerate(leaves(count - 1)):
        filter_ = filter_ & leaf if place % 2 else filter_ | leaf
    return filter_


def works(count: int) -> dict[str, Callable[[], object]]:
    """All that can be done with a filter of so many conditions."""
    parts = leaves(count)
    wide, other = any_of(*parts), any_of(*leaves(count))
    # Joined one by one; the largest that nesting allows to be sent is by far less deep.
    chain = reduce(operator.or_, parts)
    deep, deep_too = alternating(count), alternating(count)
    text, wire = str(wide), wide.to_wire()
    return {
        "built by any_of": lambda: any_of(*leaves(count)),
        "built one by one with |": lambda: reduce(operator.or_, leaves(count)),
        "built with & and | by turns": lambda: alternating(count),
        "negated and compiled": (~any_of(*parts)).to_wire,
        "compiled, joined by any_of": lambda: any_of(*parts).to_wire(),
        "compiled, joined one by one": lambda: reduce(operator.or_, parts).to_wire(),
        "read from the API's JSON": lambda: Filter.from_wire(wire),
        "repr": wide.__repr__,
        "repr, & and | by turns": deep.__repr__,
        "str": wide.__str__,
        "str, & and | by turns": deep.__str__,
        "parse_filter": lambda: parse_filter(text),
        "explain": wide.explain,
        "cautions": wide.cautions,
        "compared": lambda: wide == other,
        "compared, & and | by turns": lambda: deep == deep_too,
        "hashed": lambda: hash(wide),
        "hashed, joined one by one": lambda: hash(chain),
        "pickled and back": lambda: pickle.loads(pickle.dumps(wide)),  # noqa: S301 - our own bytes
        "pickled and back, & and | by turns": lambda: pickle.loads(pickle.dumps(deep)),  # noqa: S301
    }


def growth() -> Iterator[Bar]:
    # Ten different filters against one of ten times the size, with all results kept until the end, so that
    # both go through the same amount of memory.
    small, large = [works(1000) for _ in range(10)], works(10_000)
    for name, work in large.items():
        bar = compare(name, work, partial(one_after_another, [each[name] for each in small]), rounds=7)
        # Cautions of plain filters are so quick that what is seen is the processor's cache.
        most = None if name == "cautions" else 12
        yield Bar(name, bar.ratio * 10, bar.low * 10, bar.high * 10, most)


def one_after_another(works: list[Callable[[], object]]) -> list[object]:
    return [work() for work in works]


if __name__ == "__main__":
    code = report(
        "From a filter to bytes, against a dict literal and orjson:",
        [*to_bytes(), *whole(), *nested_to_bytes()],
    )
    sys.exit(report("\n10,000 conditions against 1,000:", list(growth())) or code)
