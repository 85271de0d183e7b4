"""The command `filter`."""

import json

import pytest

from helicone_sessions import F, Filter
from tests.cli.conftest import Run

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
