"""The command `filter`."""

import json
from pathlib import Path

import pytest

from helicone_sessions import F, Filter
from tests.cli.conftest import NOW, Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


def test_a_filter_becomes_the_json_of_the_api(run: Run) -> None:
    """Only the JSON goes to the standard output; the tree and the cautions go to the standard error."""
    done = run(None, "filter", "cost > 3 or threat")

    assert 0 == done.returncode
    assert (F.cost > 3) | F.threat == Filter.from_wire(json.loads(done.stdout))
    assert "any of\n  cost gt 3 dollars" in done.stderr
    assert "caution: cost > 3: a constant beyond 2.147483647" in done.stderr


@pytest.mark.parametrize(
    ("expected", "output"),
    [
        ("F.model.contains('gpt')", "python"),
        ('model contains "gpt"', "text"),
        ("model contains 'gpt'", "tree"),
        ('"contains": "gpt"', "json"),
    ],
)
def test_a_filter_is_shown_in_other_forms(run: Run, expected: str, output: str) -> None:
    """JSON of the API is taken as well as text."""
    wire = json.dumps(F.model.contains("gpt").to_wire())
    for text in ("model contains 'gpt'", wire):
        assert expected in run(None, "filter", text, "--output", output).stdout


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A file of three requests in two sessions, and one outside of sessions."""
    pytest.importorskip("chdb", reason="the extra `local` is not installed")
    rows = [
        {"model": "o3", "cost": 0.5, "session_id": "a"},
        {"model": "o3", "cost": 0.25, "session_id": "a"},
        {"model": "gpt-4o", "cost": 0.13, "session_id": "b"},
        {"model": "gpt-4o"},
    ]
    file = tmp_path / "requests.jsonl"
    file.write_text("".join(f"{json.dumps({**row, 'request_created_at': str(NOW)})}\n" for row in rows))
    return str(file)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    ("arguments", "counted"),
    [
        (("cost > 0.2",), "matches 2 of 4 requests, in 1 of 3 sessions, $0.75"),
        (("cost < 0.2",), "matches 2 of 4 requests, in 2 of 3 sessions, $0.13"),
        (("cost < 0.2", "--without-unsessioned"), "matches 1 of 3 requests, in 1 of 2 sessions, $0.13"),
        (("session_total_cost > 0.6",), "matches 2 of 4 requests, in 1 of 3 sessions, $0.75"),
        (("model == 'x'",), "matches 0 of 4 requests, in 0 of 3 sessions, $0.00"),
    ],
)
def test_the_requests_that_match_are_counted(
    run: Run, data: str, arguments: tuple[str, ...], counted: str
) -> None:
    """With data, a filter is counted beside its JSON; no server and no key are needed."""
    done = run(None, "filter", *arguments, "--data", data)

    assert 0 == done.returncode
    assert counted in done.stderr.splitlines()
    assert arguments[0].split()[0] in str(json.loads(done.stdout))


@pytest.mark.filterwarnings("always")
def test_what_the_data_lacks_is_cautioned_once(run: Run, data: str) -> None:
    """With data, conditions that match missing values are cautioned if the data has such requests."""
    lacks = "caution: cost < 0.2: requests without a cost are stored with cost 0"
    assert 1 == run(None, "filter", "cost < 0.2").stderr.count(lacks)
    assert 1 == run(None, "filter", "cost < 0.2", "--data", data).stderr.count(lacks)
    assert 1 == run(None, "metrics", "cost < 0.2", "--data", data).stderr.count(lacks)
    assert "caution" not in run(None, "metrics", "status == 200 and cost > 0.2", "--data", data).stderr
    done = run(None, "sessions", "request_body contains 'x'", "--data", data)
    assert "no request on this server has a value for request_body; copy bodies with" in done.stderr
