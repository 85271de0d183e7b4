"""A second oracle in plain Python: what the open-source server makes of a query's JSON.

It is written from what is known of that server and knows nothing of the engine, of SQL or of the column
table: filters come to it as JSON, rows as dicts under the table's column names. A condition is true, false
or, where null is compared, None, and stays so below "and" and "or", as in SQL.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.local.conftest import EPOCH, LEVELS, NO_ID, UUIDS, as_kept, expected
from tests.local.nasty_rows import FEEDBACK, Row
from tests.strategies import COMPARISONS

MISSING_COLUMNS = ("node_id", "job_id", "search_properties", "scores_column", "assets")
BOOLEANS = ("threat", "cache_enabled", "is_passthrough_billing")
TIMES = ("request_created_at", "response_created_at")
NUMBERS = ("latency", "time_to_first_token", "status", "prompt_tokens", "completion_tokens")
NUMBERS += ("prompt_cache_read_tokens", "prompt_cache_write_tokens", "total_tokens")
WORDS = ("null", "__empty__")


class Fails(Exception):
    """The query fails; the text is the number of ClickHouse's error."""


class ServiceOracle:
    """The server's answers about *rows*."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = as_kept(rows)
        self._tags: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            self._tags[_property(row, "Helicone-Session-Id")].update(row["session_tag"])

    def answer(self, body: dict[str, Any], *, include_unsessioned: bool = True) -> dict[str, Any]:
        """The answer to a request body, in the form of `Oracle.summary`.

        Raises:
            Fails: The query fails.
        """
        kept = self.requests(body.get("filter", "all"))
        if within := body.get("timeFilter"):
            start, end = (
                EPOCH + timedelta(seconds=within[name] // 1000)
                for name in ("startTimeUnixMs", "endTimeUnixMs")
            )
            kept = [row for row in kept if start < row["request_created_at"] < end]
        if name := body["nameContains"]:
            kept = [row for row in kept if _property(row, "Helicone-Session-Name") == name]
        if not include_unsessioned:
            kept = [row for row in kept if _property(row, "Helicone-Session-Id")]
        level = LEVELS[body.get("pSize")]
        return expected(kept, level, use_interquartile=body.get("useInterquartile", False))

    def requests(self, wire: Any) -> list[Row]:
        """The requests for which the filter is true.

        Raises:
            Fails: The query fails, if there were no requests at all, too.
        """
        for leaf in _leaves(wire):
            for condition in _conditions(leaf):
                _check(*condition)
        return [row for row in self.rows if self._holds(wire, row)]

    def _holds(self, wire: Any, row: Row) -> bool | None:
        if wire == "all":
            return True
        if "operator" in wire:
            sides = [self._holds(wire[side], row) for side in ("left", "right")]
            return _both(sides) if wire["operator"] == "and" else _either(sides)
        return _both([self._condition(*condition, row) for condition in _conditions(wire)])

    def _condition(self, name: str, key: str | None, word: str, constant: Any, row: Row) -> bool | None:
        if name == "session_tag":
            tags = self._tags[_property(row, "Helicone-Session-Id")]
            # No % is put around it, and "null" is null itself.
            return constant != "null" and any(_like(word, tag, constant) for tag in tags)
        if name == "scores":
            return key in row["scores"] and COMPARISONS[word](row["scores"][key], int(constant))
        if name == "cost":
            nano = int(Decimal(str(row["cost"])) * 10**9)
            return COMPARISONS[word](nano, _cost(constant))
        if name == "properties":
            return _contained(word, _property(row, str(key)), constant)
        found = _value(name, row)
        if name in NUMBERS:
            return None if found is None else COMPARISONS[word](found, _number(constant))
        if name in TIMES:
            moment = datetime.fromisoformat(constant).replace(microsecond=0)
            return None if found is None else COMPARISONS[word](found, moment)
        if isinstance(constant, bool):
            return None if found is None else found == constant
        return _text(name, word, found, constant)


def _leaves(wire: Any) -> Iterator[dict[str, Any]]:
    if wire == "all":
        return
    if "operator" not in wire:
        yield wire
        return
    yield from _leaves(wire["left"])
    yield from _leaves(wire["right"])


def _conditions(leaf: dict[str, Any]) -> Iterator[tuple[str, str | None, str, Any]]:
    """Of each table the first column and its first operator, if the server has a use for the column."""
    for columns in leaf.values():
        for name, below in list(columns.items())[:1]:
            if name == "property_key" or (name.startswith("session_") and name != "session_tag"):
                continue
            key, operators = None, below
            if name in ("properties", "search_properties", "scores"):
                if not below:
                    continue
                key, operators = next(iter(below.items()))
            for word, constant in list(operators.items())[:1]:
                yield name, key, word, constant


def _check(name: str, _key: str | None, word: str, constant: Any) -> None:
    is_pattern = word in ("like", "ilike", "contains", "not-contains")
    if name in MISSING_COLUMNS:
        raise Fails("no such column")
    if is_pattern and name in (*UUIDS, "scores"):
        raise Fails("43")
    if not isinstance(constant, str):
        _cost(constant) if name == "cost" else _number(constant)
    elif name == "scores" and not re.fullmatch(r"[+-]?\d+", constant):
        raise Fails("53")
    elif name in UUIDS and not re.fullmatch("[0-9A-Fa-f-]{36}|[0-9a-f]{32}|null|__empty__", constant):
        raise Fails("376")
    elif name not in ("scores", "properties"):
        _check_word(name, word, constant)
    # Within % and % a backslash at the end escapes the second.
    if is_pattern and (word in ("like", "ilike") or name == "session_tag") and _ends_in_escape(constant):
        raise Fails("25")


def _check_word(name: str, word: str, constant: str) -> None:
    if constant == "__empty__" and (word != "equals" or name == "session_tag"):
        raise Fails("47")
    if constant == "null" and word in ("contains", "not-contains") and name != "session_tag":
        raise Fails("70")


def _ends_in_escape(pattern: str) -> bool:
    return len(pattern.rstrip("\\")) % 2 != len(pattern) % 2


def _value(name: str, row: Row) -> Any:
    match name:
        case "total_tokens":
            parts = (row["prompt_tokens"], row["completion_tokens"])
            return None if None in parts else sum(parts)
        case "cached":
            return row["cache_reference_id"] != NO_ID
        case "helicone-score-feedback":
            # A missing score reads as 0; only 1 is true and only 0 is false.
            return {0: False, 1: True}.get(row["scores"].get(FEEDBACK, 0), "neither")
    return row[name]


def _property(row: Row, key: str) -> str:
    return str(row["properties"].get(key) or "")


def _number(constant: float) -> float:
    """A number as JavaScript writes it and ClickHouse reads it: whole ones have 32 bits."""
    written = Decimal(repr(float(constant)))
    if written.is_infinite() or abs(written) >= Decimal("1e21"):
        raise Fails("457")
    if written % 1:
        return constant
    return int.from_bytes((int(written) % 2**32).to_bytes(4, "big"), "big", signed=True)


def _cost(constant: float) -> float:
    billionths = constant * 1e9
    return _number(math.floor(billionths) if math.isfinite(billionths) else billionths)


def _text(name: str, word: str, found: str | None, constant: str) -> bool | None:
    if constant == "null":
        # Under other operators it is compared with null, which is neither true nor false.
        return {"equals": found is None, "not-equals": found is not None}.get(word)
    if found is None:
        return None
    if constant == "__empty__":
        return found == (NO_ID if name in UUIDS else "")
    if name in UUIDS:
        constant = str(UUID(constant))
    return _contained(word, found, constant)


def _contained(word: str, found: str, constant: str) -> bool:
    return _like(word, found, f"%{constant}%" if word in ("contains", "not-contains") else constant)


def _like(word: str, found: str, constant: str) -> bool:
    if word in ("equals", "not-equals"):
        return COMPARISONS[word](found, constant)
    wildcards = {"%": ".*", "_": "."}
    steps = re.findall(r"\\[\\%_]|.", constant, re.DOTALL)
    pattern = "".join(wildcards.get(step) or re.escape(step[-1]) for step in steps)
    flags = re.DOTALL if word == "like" else re.DOTALL | re.IGNORECASE
    return (re.fullmatch(pattern, found, flags) is not None) != (word == "not-contains")


def _both(sides: list[bool | None]) -> bool | None:
    return False if False in sides else None if None in sides else True


def _either(sides: list[bool | None]) -> bool | None:
    return True if True in sides else None if None in sides else False
