"""Commands that answer from files instead of the service."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run

pytest.importorskip("chdb", reason="the extra `local` is not installed")
pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")

ROW = {"request_created_at": "2026-11-01T12:00:00Z", "cost": 0.5, "session_id": "s"}


def test_files_are_read_with_the_options_of_serve(run: Run, tmp_path: Path) -> None:
    """Columns, times and costs of other data are mapped, and rejected rows are written to a file."""
    file, rejects = tmp_path / "own.csv", tmp_path / "bad.jsonl"
    file.write_text("created_at,cost_usd\n2026-11-01 12:00:00.123,0.5\nyesterday,1\n")
    done = run(
        None,
        "metrics",
        *("--data", str(file), "--map", "created_at=request_created_at", "--map", "cost_usd=cost"),
        *("--assume-time-zone", "UTC", "--rejects", str(rejects)),
    )

    assert (0, True) == (done.returncode, "$0.50" in done.stdout)
    assert f"1 rejected, written to {rejects}" in done.stderr
    assert "yesterday" in rejects.read_text()


def test_a_file_without_its_times_has_the_likely_column_named(run: Run, tmp_path: Path) -> None:
    """The error lists the columns that were found, and has the option that maps one."""
    file = tmp_path / "own.csv"
    file.write_text("created_at,cost_usd\n2026-11-01T12:00:00Z,0.5\n")
    done = run(None, "metrics", "--data", str(file))

    assert 2 == done.returncode
    assert "only 'created_at', 'cost_usd'. If 'created_at' is its time, map it with --map" in done.stderr


def test_requests_without_a_session_id_are_counted(run: Run, tmp_path: Path) -> None:
    """They count as one session in every mean, so a message has their number, unless they are left out."""
    file = tmp_path / "own.jsonl"
    rows = (ROW, ROW | {"session_id": None}, ROW | {"session_id": ""})
    file.write_text("\n".join(map(json.dumps, rows)))
    said = "requests without a session id count as one session (2 here)"

    assert said in run(None, "metrics", "--data", str(file)).stderr
    assert said in run(None, "metrics", "--data", str(file), "--by", "model").stderr
    assert said not in run(None, "metrics", "--data", str(file), "--without-unsessioned").stderr


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--data must contain rows, got {}", ("--data", "{}")),
        ("--rejects needs files to read. Add --data FILE", ("--rejects", "{}")),
    ],
)
def test_without_rows_there_are_no_metrics(
    run: Run, message: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    """The error names the file that is empty, or the option that lacks its files."""
    file = tmp_path / "empty.jsonl"
    file.touch()
    done = run(None, "metrics", *(each.format(file) for each in arguments))

    assert (2, True) == (done.returncode, message.format(file) in done.stderr)


def test_a_wrong_limit_on_costs_is_explained_in_tables_too(run: Run, tmp_path: Path) -> None:
    """`cost` is of one request; the message names the column of whole sessions."""
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(ROW))
    for segments in (("--percentile", "p95"), ("--by", "model")):
        done = run(None, "metrics", "cost > 300", "--data", str(file), *segments)
        assert "For the cost of whole sessions use 'session_total_cost > 300'" in done.stderr
