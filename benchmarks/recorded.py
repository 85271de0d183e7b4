"""Answers of the open-source server as it sent them, and the same answers in other forms."""

import gzip
import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).parents[1] / "tests" / "data" / "real_server_answers.jsonl.gz"
AVERAGES: Final = {"session_count": 4.25, "session_duration": 12.5, "session_cost": 0.0567}


def recorded() -> list[Any]:
    """The successful answers, whose keys are in the server's own order."""
    with gzip.open(FILE, "rt", encoding="utf-8") as lines:
        found = [each for each in map(json.loads, lines) if each["kind"] == "answer"]
    return [each["answer"] for each in found if each["status"] == 200]


def compact(answer: Any) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def shuffled(value: Any, chance: random.Random) -> Any:
    """*value* with the fields of each of its objects in a random order."""
    if isinstance(value, dict):
        names = chance.sample(list(value), len(value))
        return {name: shuffled(value[name], chance) for name in names}
    return [shuffled(item, chance) for item in value] if isinstance(value, list) else value


def with_shuffled_keys() -> list[bytes]:
    chance = random.Random(1)  # noqa: S311 - no secret
    return [compact(shuffled(each, chance)) for each in recorded()]


def with_new_field(answer: Any) -> Any:
    """*answer* with a field that no version of the contract knows."""
    return {**answer, "data": {"currency": "USD", **answer["data"]}}


def in_our_order() -> Any:
    """The answer of earlier benchmarks: thirty bars, and the keys in the order that this package writes."""

    def rows(width: float) -> list[dict[str, Any]]:
        borders = [f"{(place + 1) * width:.4f}" for place in range(11)]
        return [
            {"range_start": start, "range_end": end, "value": 1000.25 + place}
            for place, (start, end) in enumerate(pairwise(borders))
        ]

    data = {"session_count": rows(12.5), "session_duration": rows(175.0), "session_cost": rows(0.0123)}
    average = {name: [{"average": value}] for name, value in AVERAGES.items()}
    return {"data": {**data, "average": average}, "error": None}


FORMS: Final[dict[str, Callable[[], list[bytes]]]] = {
    "recorded": lambda: list(map(compact, recorded())),
    # Generated clients refuse the average null, which the server sends where no session matched.
    "with-sessions": lambda: [body for body in map(compact, recorded()) if b'"average":null' not in body],
    "shuffled": with_shuffled_keys,
    "spaced": lambda: [json.dumps(each).encode() for each in recorded()],
    "new-field": lambda: [compact(with_new_field(each)) for each in recorded()],
    "our-order": lambda: [compact(in_our_order())],
}
