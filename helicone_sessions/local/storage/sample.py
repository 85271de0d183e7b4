"""Generates thirty days of sample requests, which are the same on every machine.

Four kinds of sessions use four models. One model costs several times as much as the others. Research sessions
are much longer than other sessions. On one day, a provider has an outage: requests fail, are retried, and
take five times as long.
"""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import attrs

DAYS: Final = 30
BAD_DAY: Final = 19
_SEED: Final = 20_261_101


@attrs.frozen
class _Model:
    name: str
    provider: str
    dollars_in: float
    dollars_out: float
    tokens_a_second: float


@attrs.frozen
class _Work:
    name: str
    sessions_a_day: float
    requests: float
    spread: float
    pause: float
    prompt: float
    completion: float
    models: tuple[tuple[_Model, float], ...]


# The prices are in dollars per million tokens.
_GPT = _Model("gpt-4o", "OPENAI", 2.5, 10.0, 90)
_MINI = _Model("gpt-4o-mini", "OPENAI", 0.15, 0.6, 120)
_SONNET = _Model("claude-sonnet-4", "ANTHROPIC", 3.0, 15.0, 70)
_OPUS = _Model("claude-opus-4", "ANTHROPIC", 15.0, 75.0, 40)

_WORKS: Final = (
    _Work("support-chat", 60, 3.2, 0.5, 45, 900, 180, ((_MINI, 0.6), (_GPT, 0.3), (_SONNET, 0.1))),
    _Work("summarise-page", 45, 1.0, 0.2, 5, 3500, 320, ((_MINI, 0.7), (_GPT, 0.2), (_SONNET, 0.1))),
    _Work("code-review", 14, 5.5, 0.6, 60, 5200, 700, ((_SONNET, 0.5), (_GPT, 0.3), (_OPUS, 0.2))),
    _Work("research-agent", 4, 22.0, 0.7, 75, 7800, 950, ((_OPUS, 0.4), (_SONNET, 0.4), (_GPT, 0.2))),
)
_COUNTRIES: Final = (("US", 0.45), ("DE", 0.2), ("GB", 0.15), ("IN", 0.12), ("BR", 0.08))
_PLANS: Final = (("free", 0.6), ("team", 0.3), ("enterprise", 0.1))


def sample_rows(end: datetime | None = None) -> Iterator[dict[str, Any]]:
    """Generate the rows of the sample, session by session.

    Args:
        end: The end of the thirty days. By default, it is the last midnight in UTC, so the last day is
            yesterday.
    """
    chance = random.Random(_SEED)  # noqa: S311 - to be the same on every machine is its purpose
    end = end or datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = end - timedelta(days=DAYS)
    number = 0
    for day in range(DAYS):
        midnight = start + timedelta(days=day)
        # Every week of the sample has two quiet days. They do not depend on the calendar.
        share = 0.45 if day % 7 in (5, 6) else 1.0
        for work in _WORKS:
            for _ in range(_poisson(chance, work.sessions_a_day * share * (1 + day / 100))):
                number += 1
                yield from _session(chance, work, number, midnight, is_bad=day == BAD_DAY)


def _session(
    chance: random.Random, work: _Work, number: int, midnight: datetime, *, is_bad: bool
) -> Iterator[dict[str, Any]]:
    model = _pick(chance, work.models)
    user = min(int(chance.paretovariate(1.1)), 400)
    plan = _pick(chance, _PLANS)
    common: dict[str, Any] = {
        "model": model.name,
        "provider": model.provider,
        "user_id": f"user-{user:03}",
        "country_code": _pick(chance, _COUNTRIES),
        "target_url": f"https://api.{model.provider.lower()}.com/v1/chat/completions",
        "prompt_id": work.name,
        "properties": {
            "Helicone-Session-Id": f"{work.name}-{number:05}",
            "Helicone-Session-Name": work.name,
            "plan": plan,
        },
    }
    if plan == "enterprise":
        common["session_tag"] = "priority"
    # On a working day, most sessions are in the afternoon and few are at night.
    moment = midnight + timedelta(hours=min(max(chance.gauss(14, 3.2), 0.0), 22.0))
    last = midnight + timedelta(days=1)
    context = work.prompt * chance.lognormvariate(0, 0.35)
    for step in range(max(1, round(work.requests * chance.lognormvariate(0, work.spread)))):
        fails = is_bad and model.provider == "ANTHROPIC" and chance.random() < 0.3
        for status in (529, 200) if fails else (200,):
            row = _request(chance, work, model, context, status, is_slow=is_bad)
            if moment < last:
                yield {
                    **common,
                    **row,
                    "request_id": str(UUID(int=chance.getrandbits(128), version=4)),
                    **_times(moment, row),
                }
            moment += timedelta(milliseconds=row["latency"] + 1000 * chance.expovariate(1 / work.pause))
        # Each request of a conversation includes all earlier messages.
        context += work.completion * (1 + step % 3)


def _request(
    chance: random.Random, work: _Work, model: _Model, context: float, status: int, *, is_slow: bool
) -> dict[str, Any]:
    prompt = max(20, round(context * chance.lognormvariate(0, 0.1)))
    completion = max(1, round(work.completion * chance.lognormvariate(0, 0.5)))
    slowness = 5.0 if is_slow else 1.0
    first_token = round((180 + prompt / 40) * chance.lognormvariate(0, 0.3) * slowness)
    if status != 200:
        return {"status": status, "latency": first_token, "prompt_tokens": prompt, "cost": 0.0}
    dollars = (prompt * model.dollars_in + completion * model.dollars_out) / 1e6
    return {
        "status": status,
        "latency": first_token + round(completion / model.tokens_a_second * 1000 * slowness),
        "time_to_first_token": first_token,
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cost": round(dollars, 9),
        **(
            {"scores": {"helicone-score-feedback": int(chance.random() < 0.85)}}
            if chance.random() < 0.1
            else {}
        ),
    }


def _times(moment: datetime, row: dict[str, Any]) -> dict[str, datetime]:
    return {
        "request_created_at": moment,
        "response_created_at": moment + timedelta(milliseconds=row["latency"]),
    }


def _pick(chance: random.Random, choices: tuple[tuple[Any, float], ...]) -> Any:
    return chance.choices([item for item, _ in choices], [weight for _, weight in choices])[0]


def _poisson(chance: random.Random, mean: float) -> int:
    """Draw a Poisson-distributed number with Knuth's method."""
    limit, product, count = math.exp(-mean), chance.random(), 0
    while product > limit:
        product *= chance.random()
        count += 1
    return count
