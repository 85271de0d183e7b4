"""Helpers for several tests of the filter language."""

import copy
import datetime as dt
import enum
import functools
import pickle
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, NONE, Filter, all_of, any_of

MOMENT = dt.datetime(2026, 11, 1, 12, 30, tzinfo=dt.UTC)
CONTRADICTION = {
    "left": {"request_response_rmt": {"status": {"lt": 0}}},
    "operator": "and",
    "right": {"request_response_rmt": {"status": {"gt": 0}}},
}
CONTRACT = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
needs_contract = pytest.mark.skipif(not CONTRACT.exists(), reason="the contract is not beside the repository")


class Model(enum.StrEnum):
    MINI = "gpt-mini"


class Code(enum.IntEnum):
    OK = 200


class Level(enum.Enum):
    HIGH = 5


class Flags(enum.IntFlag):
    ONE = 1
    TWO = 2


def read(source: str, **names: object) -> Any:
    """The value of *source*, where the names of the language are known."""
    known = {"F": F, "ALL": ALL, "NONE": NONE, "Filter": Filter, "all_of": all_of, "any_of": any_of}
    known |= {"datetime": dt, "Decimal": Decimal, "Fraction": Fraction, "MOMENT": MOMENT, **names}
    return eval(source, known)  # noqa: S307 - the tests' own text


def again(value: Any) -> Any:
    """*value* after a trip through pickle."""
    return pickle.loads(pickle.dumps(value))  # noqa: S301 - the tests' own bytes


def leaf(name: str, word: str, value: object, key: str | None = None) -> dict[str, Any]:
    """The leaf of the API that holds one condition."""
    condition = {word: value} if key is None else {key: {word: value}}
    return {F[name].facts.table: {name: condition}}


def branch(word: str, left: object, right: object) -> dict[str, Any]:
    """The branch of the API that joins two filters."""
    return {"left": left, "operator": word, "right": right}


@functools.cache
def schemas() -> dict[str, Any]:
    """The schemas of the contract."""
    import yaml

    found: dict[str, Any] = yaml.safe_load(CONTRACT.read_text())["components"]["schemas"]
    return found


@functools.cache
def strict_contract() -> Any:
    """The contract's filter, restricted to one column and one operator in a leaf, as its server reads it."""
    import jsonschema

    strict = copy.deepcopy(schemas())
    one_only = {"minProperties": 1, "maxProperties": 1}
    requests = strict["Partial_RequestResponseRMTToOperators_"]["properties"]
    inline = [schema for schema in requests.values() if "$ref" not in schema]
    named = [schema for name, schema in strict.items() if name.startswith(("Partial_", "Pick_"))]
    for schema in inline + named:
        schema |= {"additionalProperties": schema.get("additionalProperties", False), **one_only}
    strict["SessionFilterBranch"]["additionalProperties"] = False
    root = {"$ref": "#/components/schemas/SessionFilterNode", "components": {"schemas": strict}}
    return jsonschema.Draft202012Validator(root)
