"""What stands in the help beside the options: what to type, the exit codes, where to read on."""

from typing import Final

from helicone_sessions.filters.schema import COLUMNS

OVERVIEW: Final = """Session metrics from Helicone: how many requests, how long and how costly sessions are.

`helicone-sessions demo` shows what the answers look like; it needs no account.

`helicone-sessions metrics 'cost > 0.1 and model contains "gpt"' --last 7d` asks, with the key in
HELICONE_API_KEY.

`helicone-sessions filter 'cost > 0.1'` shows what a filter becomes; nothing is asked.

`helicone-sessions serve --data requests.jsonl` answers from your own data.
"""

EXIT_CODES: Final = """Exit codes: 0 done, 1 the service, the network or the output failed, 2 the command
cannot be run as given, 3 the key is refused, 4 the rate limit is reached, 5 some figures have no answer,
130 interrupted.
"""

_READ_ON: Final = "Read on in docs/{page}.md of the source."

_EXAMPLES: Final = {
    "demo": """\
helicone-sessions demo
helicone-sessions demo --days 7 --model gpt-4o --model claude-opus-4
helicone-sessions demo --live --model gpt-4o
""",
    "metrics": """\
helicone-sessions metrics 'cost > 0.1 and model contains "gpt"' --last 7d
helicone-sessions metrics --from 2026-11-01 --to 2026-11-08 --p-size p95
helicone-sessions metrics --last 7d --every 1d --by model=gpt-4o,claude-opus-4
helicone-sessions metrics --last 7d --by 'slow:latency > 5000' --output csv
helicone-sessions metrics --last 4w --every 1w --output html > report.html
""",
    "filter": """\
helicone-sessions filter 'cost > 0.1 and model contains "gpt"'
helicone-sessions filter 'status in (500, 502) or threat' --output tree
helicone-sessions filter 'properties["env"] == "prod" and not cached'
helicone-sessions filter 'request_created_at >= 2026-11-01T00:00:00Z'
""",
    "serve": """\
helicone-sessions serve --sample
helicone-sessions serve --data requests.jsonl
helicone-sessions serve --data november.csv --path helicone-data --port 8585
helicone-sessions serve --data requests.jsonl --rejects bad.jsonl
""",
}
_PAGES: Final = {"demo": "tutorial", "metrics": "cli", "filter": "filters", "serve": "engine"}
_MORE: Final = {
    "filter": "Columns: " + ", ".join(COLUMNS) + ".",
    "serve": "A row of the data is one request; what has to be there is `request_created_at`, and all else"
    " may be left out: `cost`, `latency`, `model`, `status`, `session_id`, `session_name`, `properties`.",
}


def epilogue(command: str) -> str:
    """What ends the help of a command, in Markdown.

    >>> "helicone-sessions demo --days 7" in epilogue("demo")
    True
    """
    parts = (f"Examples:\n\n```text\n{_EXAMPLES[command]}```", _MORE.get(command, ""), EXIT_CODES)
    return "\n\n".join(filter(None, (*parts, _READ_ON.format(page=_PAGES[command]))))
