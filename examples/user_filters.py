"""Filters from users, which cannot reach the data of others.

    export HELICONE_API_KEY=sk-helicone-...
    python user_filters.py pro text 'cost > 0.1 and model contains "gpt"'
    python user_filters.py pro form model=gpt-4o min_cost=0.1

The first argument is the customer who is logged in: their requests have the
property `plan` with that value (use your own property). The rest is the
customer's filter. The exit code is 2 for an invalid filter, or if nobody is
logged in, and 1 if the query fails. The output is for the customer; the reason
of a failure is logged.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from helicone_sessions import (
    F,
    Filter,
    FilterError,
    HeliconeClient,
    HeliconeError,
    TimeFilter,
    all_of,
    parse_filter,
)

log = logging.getLogger(__name__)

LONGEST = 2_000  # characters; parse_filter itself takes a million

# The columns that a text may name.
READABLE = {
    "model",
    "cost",
    "latency",
    "status",
    "request_created_at",
    "properties",
    "cached",
}
# The form decides about which column each field is, not the user.
FIELDS: Mapping[str, Callable[[str], Filter]] = {
    "model": F.model.eq,
    "name": F.properties["Helicone-Session-Name"].contains,
    "min_cost": lambda text: F.cost >= float(text),
    "status": lambda text: F.status.is_in(
        [int(number) for number in text.split(",")]
    ),
}


def from_text(text: str) -> Filter:
    """A filter from a search box.

    The text is not evaluated and never becomes part of a statement: it becomes
    a tree of conditions, or an error that shows the position.
    """
    if len(text) > LONGEST:
        raise ValueError(
            f"the filter has {len(text)} characters; {LONGEST} are the most"
        )
    wish = parse_filter(text)
    if others := columns(wish.to_wire()) - READABLE:
        raise ValueError(
            f"{named(others)} cannot be used; only {named(READABLE)}"
        )
    return wish


def named(columns: Iterable[str]) -> str:
    """The names of columns for a message."""
    return ", ".join(sorted(columns))


def columns(wire: Any) -> set[str]:
    """The columns of a filter, from the JSON that is sent."""
    if wire == "all":
        return set()
    if "operator" in wire:
        return columns(wire["left"]) | columns(wire["right"])
    return {column for table in wire.values() for column in table}


def fields(words: Iterable[str]) -> dict[str, str]:
    """The fields of a form, from the arguments."""
    if wrong := [word for word in words if "=" not in word]:
        raise ValueError(f"{wrong[0]!r} has no value; write it as model=gpt-4o")
    return dict(word.split("=", 1) for word in words)


def from_form(fields: Mapping[str, str]) -> Filter:
    """A filter from all fields; an empty field is no condition."""
    if unknown := fields.keys() - FIELDS.keys():
        there = ", ".join(FIELDS)
        raise ValueError(
            f"there is no field {named(unknown)}; there are {there}"
        )
    return all_of(
        *(from_field(name, text) for name, text in fields.items() if text)
    )


def from_field(name: str, text: str) -> Filter:
    """The condition of a field, with its name in errors."""
    try:
        return FIELDS[name](text)
    except ValueError as error:  # of float() and int(), or a FilterValueError
        raise ValueError(f"{name}: {text!r} cannot be used: {error}") from error


def within(plan: str, wish: Filter) -> Filter:
    """The filter, limited to the customer's own requests.

    Filters are joined as trees, so no `or`, quote or parenthesis can change
    that.
    """
    if not plan:
        raise PermissionError("nobody is logged in")
    return (F.properties["plan"] == plan) & wish


async def show(asked: Filter) -> None:
    """Query, and print the result for the user."""
    for caution in asked.cautions():
        print("note:", caution)
    # The user sees the cautions, so they need not be logged.
    async with HeliconeClient(cautions="ignore") as client:
        metrics = await client.get_metrics(
            asked, time_filter=TimeFilter.last(days=30)
        )
    print("asked:", asked)
    print("dollars a session:", metrics.average.session_cost)


def main() -> int:
    """Read the filter, and query."""
    parser = argparse.ArgumentParser(
        description="Query with a customer's filter."
    )
    parser.add_argument("plan", help="the customer")
    parser.add_argument("kind", choices=("text", "form"))
    parser.add_argument(
        "wish", nargs="*", help="a filter, or name=value for each field"
    )
    given = parser.parse_args()
    try:
        if given.kind == "form":
            wish = from_form(fields(given.wish))
        else:
            wish = from_text(" ".join(given.wish))
        asked = within(given.plan, wish)
    except (FilterError, ValueError, PermissionError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        asyncio.run(show(asked))
    except HeliconeError as error:
        log.warning("no answer: %s: %s", type(error).__name__, error)
        print("there is no answer now, try again later", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
