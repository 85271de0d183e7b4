"""A second oracle in plain Python: the open-source server's reading of a query's JSON.

It is written from what is known of that server and knows nothing of the engine, of SQL or of the column
table: filters come to it as JSON, rows as dicts under the table's column names. A condition is true, false
or, where null is compared, None, and stays so below "and" and "or", as in SQL.

Some conditions fail before ClickHouse reads a row. Others fail when they are evaluated, and ClickHouse leaves
out what cannot change the result. Then the query fails for sure only if the condition matters.
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

MISSING_COLUMNS = ("node_id", "job_id", "search_properties", "assets", "total_tokens")
# Of several columns in a leaf the first of these is read.
READ_FIRST = ("property_key", "properties", "search_properties", "scores", "cached", "cost")
BOOLEANS = ("threat", "cache_enabled", "is_passthrough_billing")
TIMES = ("request_created_at", "response_created_at")
NUMBERS = ("latency", "time_to_first_token", "status", "prompt_tokens", "completion_tokens")
NUMBERS += ("prompt_cache_read_tokens", "prompt_cache_write_tokens")
WORDS = ("null", "__empty__")
MAPS = ("properties", "search_properties", "scores", "property_key")
PATTERNS = ("like", "ilike", "contains", "not-contains")


class Fails(Exception):
    """The query fails; the text is the number of ClickHouse's error."""


class MayFail(Exception):
    """The query fails, or it is answered so."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


class ServiceOracle:
    """The server's answers about *rows*."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = as_kept(rows)
        self._tags: dict[str, set[str]] = defaultdict(set)
        for row in self.rows:
            self._tags[_property(row, "Helicone-Session-Id")].update(row["session_tag"])
        # The assumed result of a failing condition.
        self._assumed = False

    def answer(self, body: dict[str, Any], *, include_unsessioned: bool = True) -> dict[str, Any]:
        """The answer to a request body, in the form of `Oracle.summary`.

        Raises:
            Fails: The query fails.
            MayFail: It may fail.
        """
        rows = list(self._within(body))
        if not include_unsessioned:
            rows = [row for row in rows if _property(row, "Helicone-Session-Id")]
        try:
            kept, may_fail = self._kept(rows, body.get("filter", "all")), False
        except MayFail as may:
            kept, may_fail = may.answer, True
        level = LEVELS[body.get("pSize")]
        answer = expected(kept, level, use_interquartile=body.get("useInterquartile", False))
        if may_fail:
            raise MayFail(answer)
        return answer

    def sessions(self, wire: Any) -> list[tuple[str, str, int]]:
        """The id, the name and the number of requests of each listed session, in any order.

        Raises:
            Fails: The query fails.
            MayFail: It may fail.
        """
        having = list(_grouped_conditions(wire))
        for _, condition in having:
            if condition is not None:
                _check_types(*condition)
        rows = [row for row in self.rows if "Helicone-Session-Id" in row["properties"]]
        try:
            kept, may_fail = self._kept(rows, wire), False
        except MayFail as may:
            kept, may_fail = may.answer, True
        groups = defaultdict(list)
        for row in kept:
            groups[_property(row, "Helicone-Session-Id"), _property(row, "Helicone-Session-Name")].append(row)
        found = [
            (*key, len(group)) for key, group in groups.items() if _group_holds(wire, _totals(*key, group))
        ]
        if may_fail or any(condition and _fails_on_rows(*condition) for _, condition in having):
            raise MayFail(found)
        return found

    def _kept(self, rows: list[Row], wire: Any) -> list[Row]:
        """The rows for which a filter is true."""
        conditions = [condition for leaf in _leaves(wire) for condition in _conditions(leaf)]
        for condition in conditions:
            _check_types(*condition)
        outcomes = []
        for self._assumed in (True, False):
            outcomes.append([row for row in rows if self._holds(wire, row)])
        if not any(_fails_on_rows(*condition) for condition in conditions):
            return outcomes[0]
        if outcomes[0] == outcomes[1]:
            raise MayFail(outcomes[0])
        raise Fails("on rows")

    def _within(self, body: dict[str, Any]) -> Iterator[Row]:
        """The requests of the time and the name."""
        within, name = body.get("timeFilter"), body["nameContains"]
        ends = [EPOCH + timedelta(seconds=each // 1000) for each in within.values()] if within else []
        for row in self.rows:
            is_in_time = not ends or ends[0] < row["request_created_at"] < ends[1]
            if is_in_time and (not name or _property(row, "Helicone-Session-Name") == name):
                yield row

    def _holds(self, wire: Any, row: Row) -> bool | None:
        if wire == "all":
            return True
        if "operator" in wire:
            sides = [self._holds(wire[side], row) for side in ("left", "right")]
            return _both(sides) if wire["operator"] == "and" else _either(sides)
        return _both([self._condition(*condition, row) for condition in _conditions(wire)])

    def _condition(self, name: str, key: str | None, word: str, constant: Any, row: Row) -> bool | None:
        if name == "session_tag":
            return self._tagged(word, constant, row)
        if _fails_on_rows(name, key, word, constant):
            # Nulls are not compared at all.
            return None if name in row and row[name] is None else self._assumed
        if name in MAPS or name == "scores_column":
            return _of_map(name, key, word, constant, row)
        if name == "cost":
            nano = int(Decimal(str(row["cost"])) * 10**9)
            return COMPARISONS[word](nano, _cost(constant))
        found = _value(name, row)
        if name in NUMBERS:
            return None if found is None else COMPARISONS[word](found, _number(constant))
        if name in TIMES:
            moment = datetime.fromisoformat(constant).replace(microsecond=0)
            return None if found is None else COMPARISONS[word](found, moment)
        if isinstance(constant, bool):
            return None if found is None else found == constant
        return _text(name, word, found, constant)

    def _tagged(self, word: str, constant: str, row: Row) -> bool:
        if any(self._tags.values()) and _fails_on_rows("session_tag", None, word, constant):
            return self._assumed
        # No % is put around it, and "null" is null itself.
        tags = self._tags[_property(row, "Helicone-Session-Id")]
        return constant != "null" and any(_like(word, tag, constant) for tag in tags)


def _leaves(wire: Any) -> Iterator[dict[str, Any]]:
    if wire == "all":
        return
    if "operator" not in wire:
        yield wire
        return
    yield from _leaves(wire["left"])
    yield from _leaves(wire["right"])


def _conditions(leaf: dict[str, Any]) -> Iterator[tuple[str, str | None, str, Any]]:
    """The conditions on requests that the server reads of a leaf."""
    return (condition for condition in _read(leaf) if not _is_grouped(condition[0]))


def _is_grouped(name: str) -> bool:
    return name.startswith("session_") and name != "session_tag"


def _grouped_conditions(wire: Any) -> Iterator[tuple[bool, Any]]:
    """For each condition whether it is on groups, and then itself; one after a map's fails."""
    is_shifted = False
    for leaf in _leaves(wire):
        for condition in _read(leaf):
            is_shifted |= condition[0] in ("properties", "search_properties", "scores")
            if _is_grouped(condition[0]):
                if is_shifted:
                    raise Fails("456")
                yield True, condition
            else:
                yield False, None


def _totals(session_id: str, name: str, rows: list[Row]) -> dict[str, Any]:
    """The columns of a group of requests; a sum of nothing but nulls is null."""
    moments = [row["request_created_at"] for row in rows]
    sent, received = (
        sum(known) if (known := [row[column] for row in rows if row[column] is not None]) else None
        for column in ("prompt_tokens", "completion_tokens")
    )
    return {
        "session_session_id": session_id,
        "session_session_name": name,
        "session_total_cost": sum(int(Decimal(str(row["cost"])) * 10**9) for row in rows) / 10**9,
        "session_total_requests": len(rows),
        "session_prompt_tokens": sent,
        "session_completion_tokens": received,
        "session_total_tokens": None if sent is None or received is None else sent + received,
        "session_created_at": min(moments),
        "session_latest_request_created_at": max(moments),
    }


def _group_holds(wire: Any, group: dict[str, Any]) -> bool | None:
    """Whether a group fulfils the conditions on groups; all others are true."""
    if wire == "all":
        return True
    if "operator" in wire:
        sides = [_group_holds(wire[side], group) for side in ("left", "right")]
        return _both(sides) if wire["operator"] == "and" else _either(sides)
    return _both([_of_group(*condition, group) for condition in _read(wire)])


def _of_group(name: str, _key: str | None, word: str, constant: Any, group: dict[str, Any]) -> bool | None:
    if not _is_grouped(name):
        return True
    found = group[name]
    if isinstance(found, str):
        return False if _fails_on_rows(name, None, word, constant) else _text(name, word, found, constant)
    if found is None:
        return None
    if isinstance(found, datetime):
        return COMPARISONS[word](found, datetime.fromisoformat(constant).replace(microsecond=0))
    return COMPARISONS[word](found, _number(constant))


def _read(leaf: dict[str, Any]) -> Iterator[tuple[str, str | None, str, Any]]:
    """Of each table one column and its first operator."""
    for columns in leaf.values():
        name = next((name for name in READ_FIRST if name in columns), next(iter(columns)))
        key, operators = None, columns[name]
        if name in ("properties", "search_properties", "scores"):
            key, operators = next(iter(operators.items()))
        word, constant = next(iter(operators.items()))
        yield name, key, word, constant


def _check_types(name: str, _key: str | None, word: str, constant: Any) -> None:
    """The reason of a failure before any row is read."""
    is_word = isinstance(constant, str) and constant in WORDS and name not in MAPS
    if name in MISSING_COLUMNS:
        raise Fails("47")
    if is_word and constant == "__empty__" and (word != "equals" or name == "session_tag"):
        raise Fails("47")
    if is_word and word in ("contains", "not-contains") and name != "session_tag":
        raise Fails("70")
    if word in PATTERNS and name in (*UUIDS, "scores", "scores_column") and not is_word:
        raise Fails("43")
    if not isinstance(constant, str):
        _cost(constant) if name == "cost" else _number(constant)


def _fails_on_rows(name: str, _key: str | None, word: str, constant: Any) -> bool:
    """Whether a condition fails if ClickHouse evaluates it."""
    if not isinstance(constant, str) or (constant in WORDS and name not in MAPS):
        return False
    if name == "scores":
        # An index over the values refuses every equality.
        return word == "equals" or not re.fullmatch(r"[+-]?\d+", constant)
    if name == "scores_column":
        return True
    if name in UUIDS:
        return not re.fullmatch("[0-9A-Fa-f-]{36}|[0-9a-f]{32}", constant)
    # Within % and % a backslash at the end escapes the second.
    takes_pattern = word in ("like", "ilike") or (name == "session_tag" and word in PATTERNS)
    return takes_pattern and _ends_in_escape(constant)


def _ends_in_escape(pattern: str) -> bool:
    return len(pattern.rstrip("\\")) % 2 != len(pattern) % 2


def _of_map(name: str, key: str | None, word: str, constant: str, row: Row) -> bool | None:
    match name:
        case "property_key":
            return constant in row["properties"]
        case "scores":
            return key in row["scores"] and COMPARISONS[word](row["scores"][key], int(constant))
        case "scores_column":
            # The words only: no other text can be compared with a map.
            return {"equals": constant == "__empty__" and not row["scores"], "not-equals": True}.get(word)
    return _contained(word, _property(row, str(key)), constant)


def _value(name: str, row: Row) -> Any:
    match name:
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
    if abs(written) >= Decimal("1e21"):
        raise Fails("457")
    if written % 1:
        return constant
    return int.from_bytes((int(written) % 2**32).to_bytes(4, "big"), "big", signed=True)


def _cost(constant: float) -> float:
    billionths = constant * 1e9
    return _number(math.floor(billionths)) if math.isfinite(billionths) else billionths


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
