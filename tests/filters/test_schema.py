"""The facts: they are the contract's."""

import ast
import inspect
import itertools
import re
from collections import Counter
from typing import Any

import pytest

from helicone_sessions.errors import FilterValueError
from helicone_sessions.filters.columns import Columns, F
from helicone_sessions.filters.parser import parse_filter
from helicone_sessions.filters.schema import ALIASES, ColumnFacts, Kind
from tests.filters.support import again, needs_contract, schemas
from tests.strategies import COLUMNS, PAIRS

KINDS = {
    "#/components/schemas/Partial_TextOperators_": Kind.TEXT,
    "#/components/schemas/Partial_NumberOperators_": Kind.NUMBER,
    "#/components/schemas/Partial_TimestampOperatorsTyped_": Kind.TIMESTAMP,
    "#/components/schemas/Partial_BooleanOperators_": Kind.BOOLEAN,
}


def test_there_are_37_and_10_columns() -> None:
    """The two tables have 37 and 10 columns."""
    tables = Counter(column.table for column in COLUMNS)
    assert {"request_response_rmt": 37, "sessions_request_response_rmt": 10} == tables


def test_there_are_248_pairs() -> None:
    """A column and an operator can be paired in 248 ways."""
    assert 248 == len(set(PAIRS))


def _operators(schema: dict[str, Any]) -> set[str]:
    name = schema.get("$ref", "").rpartition("/")[2]
    return set((schemas()[name] if name else schema)["properties"])


def _contract_facts(schema: dict[str, Any]) -> tuple[Kind, set[str]]:
    if "additionalProperties" in schema:
        return Kind.MAP, _operators(schema["additionalProperties"])
    return KINDS.get(schema.get("$ref", ""), Kind.KEY), _operators(schema)


@needs_contract
def test_facts_are_the_contracts() -> None:
    """Names, tables, kinds and operators are those of the OpenAPI page."""
    tables = schemas()["Pick_FilterLeaf.request_response_rmt-or-sessions_request_response_rmt_"]["properties"]
    contract = {
        (table, name): _contract_facts(schema)
        for table, target in tables.items()
        for name, schema in schemas()[target["$ref"].rpartition("/")[2]]["properties"].items()
    }
    assert contract == {(c.table, c.name): (c.kind, set(c.operators)) for c in COLUMNS}


@pytest.mark.parametrize("facts", COLUMNS, ids=lambda facts: facts.name)
def test_f_has_every_column(facts: ColumnFacts) -> None:
    """Every column is an attribute and an item of F, and knows its own facts and spelling."""
    column = getattr(F, facts.name.replace("-", "_"))
    assert column is F[facts.name]
    assert facts is column.facts
    assert "F." + facts.name.replace("-", "_") == repr(column)


def test_a_column_documents_itself() -> None:
    """In a notebook, `F.cost?` shows the meaning of the column and its unit, then the text of its class."""
    assert F.cost.__doc__.startswith("Price of the request, in dollars.\n\nA column of numbers")
    assert F.properties["env"].__doc__.startswith("Properties of the request by key")
    assert type(F.cost).__doc__.startswith("A column of numbers")


def test_dir_lists_the_columns() -> None:
    """dir(F) lists the columns and nothing else that is public."""
    names = {column.name.replace("-", "_") for column in COLUMNS} | set(ALIASES)
    assert names == {name for name in dir(F) if not name.startswith("_")}


@pytest.mark.parametrize(("name", "key"), ALIASES.items())
def test_aliases_are_properties(name: str, key: str) -> None:
    """The id and the name of a session are properties of its requests, in Python and in text."""
    assert f"F.properties['{key}']" == repr(getattr(F, name)) == repr(F[name])
    expected = F.properties[key] == "x"
    for text in (f'{name} == "x"', f'F.{name} == "x"', f'F["{name}"].eq("x")'):
        assert expected == parse_filter(text)


@pytest.mark.parametrize("facts", COLUMNS, ids=lambda facts: facts.name)
def test_columns_are_pickled(facts: ColumnFacts) -> None:
    """A pickled column is read back with the same facts, and spells itself the same."""
    column = again(F[facts.name])
    assert facts is column.facts
    assert repr(F[facts.name]) == repr(column)


def test_pickled_key_keeps_its_key() -> None:
    """A pickled column of one key is read back with its key, and F as itself."""
    assert "F.scores['quality']" == repr(again(F.scores["quality"]))
    assert F is again(F)


@pytest.mark.parametrize("facts", [c for c in COLUMNS if c.kind is Kind.NUMBER], ids=lambda facts: facts.name)
def test_numbers_have_units(facts: ColumnFacts) -> None:
    """Every number column names its unit."""
    assert F[facts.name].unit in {"milliseconds", "dollars", "code", "tokens", "requests"}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("COST", "'cost'"),
        ("Helicone-Session-Name", "'session_name'"),
        ("created_at", "'request_created_at'"),
        ("property", "'properties'"),
        ("propertes", "'properties' or 'property_key'"),
    ],
)
def test_what_is_called_otherwise_elsewhere(wrong: str, meant: str) -> None:
    """A name from elsewhere is answered with the one that works."""
    with pytest.raises(AttributeError, match=re.escape(f"Did you mean {meant}?")):
        getattr(F, wrong)


@pytest.mark.parametrize(
    ("wrong", "near"), [("cots", "cost"), ("modle", "model"), ("session_tags", "session_tag")]
)
def test_unknown_column_suggests_a_near_one(wrong: str, near: str) -> None:
    """A misspelt column is refused with the name that was probably meant."""
    with pytest.raises(AttributeError, match=f"Did you mean '{near}'"):
        getattr(F, wrong)
    with pytest.raises(FilterValueError, match=f"Did you mean '{near}'"):
        F[wrong]


def test_columns_cannot_be_replaced() -> None:
    """The columns of F cannot be set."""
    with pytest.raises(AttributeError):
        F.cost = F.latency  # type: ignore[misc]


def test_completion_shows_what_a_column_is() -> None:
    """The text that editors show for a column of F says what the table of facts says."""
    tree = ast.parse(inspect.getsource(Columns)).body[0]
    assert isinstance(tree, ast.ClassDef)
    shown = {
        one.targets[0].id: ast.literal_eval(text.value)
        for one, text in itertools.pairwise(tree.body)
        if isinstance(one, ast.Assign) and isinstance(one.targets[0], ast.Name) and isinstance(text, ast.Expr)
    }
    for facts in COLUMNS:
        is_named = facts.unit in (None, "code") or facts.unit in facts.about
        unit = "" if is_named else f", in {facts.unit}"
        assert f"{facts.about}{unit}.".casefold() == shown[facts.attribute].casefold()
