"""Rows that are hard to read right, and the constants to ask for them."""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

Row = dict[str, Any]

START = datetime(2026, 10, 31, 23, 59, 30, tzinfo=UTC)
ORGANIZATION = str(UUID(int=0xABCDEF))
FEEDBACK = "helicone-score-feedback"
# Letters are ASCII or have no case, so that Python and ClickHouse agree on what "in capitals or not" means.
TEXTS = [
    *("", "a", "A", "ab", "aB", "abab", "b", "GPT-4o", "gpt-4o-mini", "null", "NULL", "__empty__"),
    *("a%b", "a_b", "a\\b", "%", "_", "\\", "\\\\", "\\%", "\\N", "100%", "%%", "a\\%b", "\\a"),
    *("'", '"', "`", "O'Brien", "'; DROP TABLE tags; --", "{x:String}", "{p0:String}", "$1", "/* */", "--"),
    *("\n", "a\nb", "a\n", "\t", "a\tb", "\r\n", "\0", "a\0b", "\b\f", " ", " a "),
    *("😀", "a😀b", "日本", "日", "\u200b", "\ufeffa", "\U0010ffff"),
]
PIECES = ["%", "_", r"\%", r"\_", r"\\", "\\a", "a", "B", "b", "gpt", "\n", "\0", "😀", "'", "日", "."]
KEYS = ["env", "a'b", "a\\b", "\n", "😀", "a\0b", "{x:String}", "%"]
SESSIONS = ["", "s1", "S1", "s'2", "s\\3", "s\n4", "s%5", "😀", "\0", "{x:String}"]
NAMES = ["", "chat", "Chat", "cha%", "a_b", "a\\b", "日本", "'", "a\nb"]
TAGS = ["vip", "VIP", "a%b", "beta\\", "'", "日本", "a\tb"]
COUNTS = [0, 1, 2, 3, 5, 8, 100, 2**31, 2**53]
STATUSES = [200, 429, 500, -3, 0]
NANODOLLARS = [0, 1, 2, 10**8, 3 * 10**8, 10**9, 123_456_789, 10**13]
NUMBERS = [*COUNTS, 2.0, 0.5, 2.5, 9.3e18, 1e19, 1e300, 5e-324]
DOLLARS = [*(nano / 1e9 for nano in NANODOLLARS), 0.30000000000000004, 1.5e-9, 5e-10, 1e-10, 1e300, 5e-324]
# Nothing is drawn in this column: it divides the rows, so that one query can ask many things.
PART, PARTS = "prompt_version", 16


def uuid_of(number: int) -> str:
    return str(UUID(int=(number * 0x9E3779B97F4A7C15F39CC0605CEDC834) % 2**128))


def _tag(text: str, properties: dict[str, Any]) -> list[str]:
    """A tag is one of a session, so a request without one has none."""
    return [text] if properties.get("Helicone-Session-Id") else []


def rows_of(chance: random.Random, count: int) -> list[Row]:
    """Nasty rows: nulls, missing keys, odd texts; sessions without an id, of two names, of one request."""

    def maybe(choices: list[Any]) -> Any:
        return chance.choice(choices) if chance.random() < 0.8 else None

    def some(of: dict[str, Any], share: float) -> dict[str, Any]:
        return {key: value for key, value in of.items() if chance.random() < share}

    def request(number: int) -> Row:
        session = chance.choice(SESSIONS) if chance.random() < 0.6 else f"t{chance.randrange(80)}"
        properties = some({key: chance.choice(TEXTS) for key in KEYS}, 0.4)
        properties |= some({"Helicone-Session-Id": session}, 0.9)
        properties |= some({"Helicone-Session-Name": chance.choice(NAMES)}, 0.8)
        seconds, milliseconds = chance.randrange(0, 60, 5), chance.choice([0, 1, 499, 500, 999])
        made = START + timedelta(seconds=seconds, milliseconds=milliseconds)
        return {
            "request_id": uuid_of(number + 1),
            "organization_id": ORGANIZATION,
            "request_created_at": made,
            "response_created_at": made + timedelta(milliseconds=700) if chance.random() < 0.7 else None,
            "latency": maybe(COUNTS),
            "time_to_first_token": maybe(COUNTS),
            "prompt_tokens": maybe(COUNTS[:-1]),
            "completion_tokens": maybe(COUNTS[:-1]),
            "prompt_cache_read_tokens": maybe(COUNTS),
            "prompt_cache_write_tokens": maybe(COUNTS),
            "status": chance.choice(STATUSES),
            "cost": Decimal(chance.choice(NANODOLLARS)).scaleb(-9),
            **{name: maybe(TEXTS) for name in ("model", "provider", "user_id", "target_url", "country_code")},
            **{
                name: maybe(TEXTS)
                for name in ("request_body", "response_body", "request_referrer", "prompt_id")
            },
            "threat": maybe([True, False]),
            "cache_enabled": maybe([True, False]),
            "is_passthrough_billing": maybe([True, False]),
            "cache_reference_id": maybe([uuid_of(1), uuid_of(2), str(UUID(int=0))]),
            "properties": properties,
            "scores": some({key: chance.choice([0, 1, 2, 10, -5]) for key in (*KEYS, FEEDBACK)}, 0.4),
            "assets": chance.sample(TEXTS, chance.choice([0, 0, 1, 2, 3])),
            "session_tag": _tag(chance.choice(TAGS), properties) if chance.random() < 0.1 else None,
            PART: f"part {number % PARTS}",
        }

    return [request(number) for number in range(count)]


ROWS = rows_of(random.Random(20261101), 400)  # noqa: S311 - to be the same everywhere is its purpose
