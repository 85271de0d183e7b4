"""Every column under every operator of the contract, from `F` through the client to the engine."""

import copy
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import jsonschema
import pytest
import pytest_asyncio
import yaml

from helicone_sessions import HeliconeClient, QueryFailed, SessionMetricsQuery
from helicone_sessions.filters.schema import COLUMNS, ColumnFacts, Kind
from helicone_sessions.messages import protocol

pytest.importorskip("chdb", reason="the extra `local` is not installed")

CONTRACT = Path(__file__).parents[2].parent / "shared" / "openapi.yaml"
PAIRS = [(name, word) for name, column in COLUMNS.items() for word in column.operators]
NOT_KEPT = {"node_id", "job_id", "search_properties", "scores_column"}
# All requests of a server are of one organisation, so no condition on it can divide them.
UNDIVIDED = {"organization_id"}
ORGANIZATION = "0a1b2c3d-0000-4000-8000-00000000beef"
START = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)
TEXTS = ["Alpha", "alphabet", "beta_1", "", "Alpha", "100%"]


def _row(number: int) -> dict[str, Any]:
    text = TEXTS[number % len(TEXTS)]
    # Null where the table has nulls, else empty; every sixth row says nothing.
    maybe_text, maybe_number = (None, None) if number % 6 == 5 else (text, number % 4)
    made = START + timedelta(seconds=number, milliseconds=number)
    return {
        "request_id": str(UUID(int=(number + 1) << 100 | 0xABCDEF)),
        "organization_id": ORGANIZATION,
        "request_created_at": made,
        "response_created_at": None if number % 6 == 5 else made + timedelta(seconds=2),
        # Powers of two: a sum of them tells which requests were counted.
        "cost": Decimal(2**number).scaleb(-9),
        "status": maybe_number,
        **dict.fromkeys(("latency", "time_to_first_token"), maybe_number),
        **dict.fromkeys(("prompt_tokens", "completion_tokens"), maybe_number),
        **dict.fromkeys(("prompt_cache_read_tokens", "prompt_cache_write_tokens"), maybe_number),
        **dict.fromkeys(("model", "provider", "user_id", "target_url", "country_code"), maybe_text),
        **dict.fromkeys(("request_body", "response_body", "request_referrer"), maybe_text),
        **dict.fromkeys(("prompt_id", "prompt_version"), maybe_text),
        "threat": {0: True, 1: False}.get(number % 3),
        "cache_enabled": number % 2 == 0,
        "is_passthrough_billing": number % 3 == 0,
        "cache_reference_id": str(UUID(int=2 << 100 | 0xABCDEF)) if number % 3 == 0 else None,
        "properties": {"Helicone-Session-Id": text, "Helicone-Session-Name": TEXTS[number % 4]}
        | ({"env": text} if maybe_text is not None else {}),
        "scores": {"quality": 4 * 10 ** (number % 2)}
        if number % 3
        else {"helicone-score-feedback": number % 2},
        "assets": [text, f"asset-{number}"] if number % 4 else [],
        "session_tag": [text] if text else None,
    }


ROWS = [_row(number) for number in range(20)]
CONSTANTS: dict[Kind, dict[str, Any]] = {
    Kind.TEXT: {
        "equals": "Alpha",
        "not-equals": "Alpha",
        "like": "Al%",
        "ilike": "a_P%",
        "contains": "LPHA",
        "not-contains": "a_1",
    },
    Kind.NUMBER: dict.fromkeys(("equals", "not-equals", "gt", "gte", "lt", "lte"), 2),
    Kind.BOOLEAN: {"equals": True},
    Kind.KEY: {"equals": "env"},
}
CONSTANTS[Kind.MAP] = CONSTANTS[Kind.TEXT]
OF_UUIDS = {
    "equals": str(UUID(int=2 << 100 | 0xABCDEF)).upper(),
    "not-equals": UUID(int=2 << 100 | 0xABCDEF).hex,
    "like": "00000020%",
    "ilike": "00000020%ABCDEF",
    "contains": "20-0000-0000-0000-000000ABC",
    "not-contains": "20-0000-0000-0000-000000ABC",
}
OF_SCORES = {
    "equals": "4",
    "not-equals": "4",
    "like": "4_",
    "ilike": "4_",
    "contains": "0",
    "not-contains": "0",
}


def _constant(column: ColumnFacts, word: str) -> Any:
    if column.name == "cost":
        return 2**9 / 1e9
    if column.name == "session_total_cost":
        # That of the session without an id.
        return (2**3 + 2**9 + 2**15) / 1e9
    if column.name in ("session_total_requests", "session_prompt_tokens", "session_completion_tokens"):
        return 4
    if column.name == "session_total_tokens":
        return 8
    if column.kind is Kind.TIMESTAMP:
        place = {"session_created_at": 2, "session_latest_request_created_at": 15}.get(column.name, 9)
        name = "response_created_at" if column.name == "response_created_at" else "request_created_at"
        return ROWS[place][name]
    if column.name in ("request_id", "organization_id", "cache_reference_id"):
        return OF_UUIDS[word]
    return (OF_SCORES if column.name == "scores" else CONSTANTS[column.kind])[word]


def _tree(name: str, word: str) -> tuple[Any, ...]:
    column = COLUMNS[name]
    key = {"scores": ("quality",)}.get(name, ("env",)) if column.kind is Kind.MAP else ()
    return name, word, _constant(column, word), *key


@pytest.fixture(scope="module")
def contract() -> jsonschema.Draft202012Validator:
    """The contract's body, in which an object has the fields it names and no others."""
    if not CONTRACT.exists():
        pytest.skip("the contract is not beside the repository")
    schemas = copy.deepcopy(yaml.safe_load(CONTRACT.read_text())["components"]["schemas"])
    waiting: list[Any] = list(schemas.values())
    while waiting:
        schema = waiting.pop()
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
        waiting.extend(schema.get("properties", {}).values())
    root = {"$ref": "#/components/schemas/SessionMetricsQueryParams", "components": {"schemas": schemas}}
    return jsonschema.Draft202012Validator(root)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client(serve: Any) -> AsyncIterator[HeliconeClient]:
    """A client of a server that holds `ROWS`."""
    async with serve(ROWS) as client:
        yield client.with_options(cautions="ignore")


def test_there_are_248_pairs() -> None:
    """The contract has 248 pairs of a column and an operator."""
    assert 248 == len(PAIRS)


@pytest.mark.parametrize(("name", "word"), PAIRS)
def test_body_is_the_contracts(contract: Any, oracle: Any, name: str, word: str) -> None:
    """A condition is sent as one leaf of the contract, with nothing in it that the contract does not name."""
    query = SessionMetricsQuery(oracle.built(_tree(name, word)))
    body = json.loads(protocol.request(query))
    contract.validate(body)
    assert {COLUMNS[name].table: {name}} == {table: set(leaf) for table, leaf in body["filter"].items()}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "word"), [pair for pair in PAIRS if pair[0] not in NOT_KEPT])
async def test_condition_is_answered(client: HeliconeClient, oracle: Any, name: str, word: str) -> None:
    """A condition selects the requests for which it is true: some, and not all."""
    tree, known = _tree(name, word), oracle(ROWS)
    if name not in UNDIVIDED:
        assert 0 < len(known.requests(tree)) < len(ROWS)
    assert known.answer(tree) == oracle.summary(await client.get_metrics(oracle.built(tree)))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("name", "word"), [pair for pair in PAIRS if pair[0] in NOT_KEPT])
async def test_condition_is_refused(client: HeliconeClient, oracle: Any, name: str, word: str) -> None:
    """A condition on a column that Helicone's table lacks fails with an error that names the column."""
    with pytest.raises(QueryFailed, match=f"^{name} cannot be filtered on here: "):
        await client.get_metrics(oracle.built(_tree(name, word)))
