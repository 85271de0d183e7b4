"""The command `metrics`."""

import csv
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from helicone_sessions import F, Filter, SessionMetrics
from helicone_sessions.cli.arguments import segments
from helicone_sessions.testing import FakeHelicone, failure, metrics
from tests.cli.conftest import KEY, Done, Run

pytest.importorskip("cyclopts", reason="the extra `cli` is not installed")
pytest.importorskip("rich", reason="the extra `cli` is not installed")


FROM = ("metrics", "--from")


def test_an_answer_is_shown_as_a_table_with_histograms(run: Run, service: FakeHelicone) -> None:
    """The averages, the three histograms, and where they are cut."""
    done = run(service, "metrics", 'cost > 0.1 and model contains "gpt"', "--last", "7d", "--p-size", "p95")

    assert 0 == done.returncode
    for text in ("$0.25", "Requests per session", "Dollars per session", "█", "Cut at p95"):
        assert text in done.stdout
    (request,) = service.requests
    assert (F.cost > 0.1) & F.model.contains("gpt") == Filter.from_wire(request.json["filter"])
    time = request.json["timeFilter"]
    assert 1 >= abs(7 * 86_400_000 - (time["endTimeUnixMs"] - time["startTimeUnixMs"]))


def test_segments_and_windows_make_a_table(run: Run, service: FakeHelicone) -> None:
    """A line for each day, a column for each model, and the totals."""
    done = run(
        service,
        *("metrics", "--by", "model=gpt-4o,claude-sonnet-4", "--by", "slow:latency > 5000", "--every", "1d"),
        *("--from", "2026-10-24", "--to", "2026-10-27", "--time-zone", "Europe/Berlin"),
    )

    assert (0, 9 + 3 + 3 + 1) == (done.returncode, len(service.requests))
    assert "Dollars per session, mean" in done.stdout
    for text in ("gpt-4o", "claude-", "slow", "2026-10-24", "2026-10-25", "2026-10-26"):
        assert text in done.stdout
    lengths = {
        (request.json["timeFilter"]["endTimeUnixMs"] - request.json["timeFilter"]["startTimeUnixMs"])
        // 3_600_000
        for request in service.requests
    }
    assert {24, 25, 73} == lengths


def test_json_and_csv_are_read_back(run: Run, service: FakeHelicone) -> None:
    """The standard output holds the data and nothing else."""
    one = run(service, "metrics", "--output", "json")
    assert metrics(cost=0.25, duration=90.0, count=3.0, sessions=12).to_rows() == json.loads(one.stdout)

    days = ("metrics", "--from", "2026-11-01", "--to", "2026-11-04", "--every", "1d")
    lines = json.loads(run(service, *days, "--output", "json").stdout)
    assert [("2026-11-01T00:00:00+00:00", 0.25)] == [(row["start"], row["dollars_mean"]) for row in lines][:1]
    assert 3 == len(lines)
    rows = list(csv.DictReader(io.StringIO(run(service, *days, "--output", "csv").stdout)))
    assert ["0.25"] * 3 == [row["dollars_mean"] for row in rows]
    page = run(service, *days, "--output", "html", "--quantity", "seconds_mean").stdout
    assert page.startswith('<!doctype html>\n<meta charset="utf-8">')
    assert ".to_rows()" not in page
    assert "Cut at p95" in run(service, "metrics", "--output", "html", "--p-size", "p95").stdout
    assert "Seconds from a session" in page


@pytest.mark.parametrize("arguments", [(), ("--by", "model=a,b"), ("--by", "model=a,b", "--kind", "heatmap")])
def test_a_picture_is_drawn(
    run: Run, service: FakeHelicone, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Beside what goes to the standard output."""
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / "report.svg"
    done = run(service, "metrics", *arguments, "--plot", str(path))

    assert (0, "") == (done.returncode, done.stderr)
    assert "<svg" in path.read_text(encoding="utf-8")


def test_the_values_of_a_segment_fit_its_column(run: Run, service: FakeHelicone) -> None:
    """Text, numbers, properties, and values that look like numbers."""
    by = (
        "--by",
        "status=200,500",
        "--by",
        "model=4,true",
        "--by",
        'properties["a=b"]=x',
        "--by",
        "cached=false",
    )
    run(service, "metrics", *by, "--output", "csv")
    sent = {Filter.from_wire(request.json["filter"]) for request in service.requests}
    texts = {F.model == "4", F.model == "true", F.properties["a=b"] == "x"}
    assert {F.status == 200, F.status == 500, F.cached == False, *texts} == sent  # noqa: E712 - a filter


def test_what_has_no_answer_is_named_and_the_rest_is_shown(run: Run, service: FakeHelicone) -> None:
    """With a separate exit code."""
    service.answers(F.model == "b", failure("no such luck"))
    done = run(service, "metrics", "--by", "model=a,b")

    assert 5 == done.returncode
    assert "failed" in done.stdout
    assert "$0.25" in done.stdout
    assert "b, all time: no such luck" in done.stderr


def test_a_total_that_fails_is_named(run: Run, service: FakeHelicone) -> None:
    """By its segment or period, or as the total of all."""
    service.otherwise(failure("no such luck"))
    done = run(
        service, "metrics", "--from", "2026-11-01", "--to", "2026-11-03", "--every", "1d", "--by", "model=a"
    )

    for name in ("a, 2026-11-01", "a, total", "2026-11-01, total", "total"):
        assert f"helicone-sessions: {name}: no such luck" in done.stderr


def test_periods_up_to_now_cause_no_caution(run: Run, service: FakeHelicone) -> None:
    """Their ends are whole seconds, because the service drops fractions."""
    assert "" == run(service, "metrics", "--last", "1h", "--every", "30m").stderr


@pytest.mark.parametrize(
    ("code", "message", "arguments"),
    [
        (2, "line 1, column 7: expected a constant after '>'", ("metrics", "cost >")),
        (2, "--last must be a length such as 90m, 12h, 7d or 2w, got 'week'", ("metrics", "--last", "week")),
        (2, "--last must be a length", ("metrics", "--last", "0d")),
        (2, "--from must be a date or a time such as 2026-11-01", ("metrics", "--from", "yesterday")),
        (2, "--to needs a start. Add --from", ("metrics", "--to", "2026-11-01")),
        (
            2,
            "--last ends now. Leave it out",
            ("metrics", "--last", "1d", "--from", "2026-11-01"),
        ),
        (2, "--every needs a time range. Add --last 7d", ("metrics", "--every", "1d")),
        (2, "--by must be a column with values", ("metrics", "--by", "request_created_at")),
        (2, "--by has two segments of the name 'a'", ("metrics", "--by", "model=a,a")),
        (
            2,
            ".png, .svg or .pdf file, got 'report.doc'",
            ("metrics", "--plot", "report.doc"),
        ),
        (2, "--plot must be in an existing directory", ("metrics", "--plot", "/no/such/place/report.png")),
        (
            2,
            "--from must be before --to 2026-11-01, got 2026-11-02",
            (*FROM, "2026-11-02", "--to", "2026-11-01"),
        ),
        (2, "--from must be before now, got 9000-01-01", (*FROM, "9000-01-01")),
        (2, "--last is too long, got 999999w", ("metrics", "--last", "999999w")),
        (2, "--timeout must be a number of seconds above 0", ("metrics", "--timeout", "0")),
        (2, "--timeout must be a number, got 'soon'", ("metrics", "--timeout", "soon")),
        (2, "--max-concurrency must be a whole number of at least 1", ("metrics", "--max-concurrency", "0")),
        (
            2,
            "name of a known time zone, got 'Mars'",
            ("metrics", "--last", "1d", "--time-zone", "Mars"),
        ),
        (2, "in --by modle=a", ("metrics", "--by", "modle=a")),
        (
            2,
            "--by must be a column with values",
            ("metrics", "--by", 'model == "gpt-4o"'),
        ),
        (
            2,
            "--by has an empty value, got model=gpt,",
            ("metrics", "--by", "model=gpt,"),
        ),
        (2, "has an empty value", ("metrics", "--by", 'model=""')),
        (2, "--by has an open quote before 'a'", ("metrics", "--by", 'model="a,b')),
        (2, "or a name with a filter such as 'slow:", ("metrics", "--by", "status=200 or cost > 1")),
        (2, "or a name with a filter such as 'slow:", ("metrics", "--by", "cost > 1 or model=a")),
        (2, "or a name with a filter such as 'slow:", ("metrics", "--by", "latency >= 5")),
        (2, "--quantity needs a table. Add --by or --every", ("metrics", "--quantity", "seconds_mean")),
        (2, "--kind needs a picture. Add --plot report.png", ("metrics", "--kind", "heatmap")),
        (2, "--last needs a value after it", ("metrics", "--last")),
        (2, "did you mean --from?", ("metrics", "--since", "2026-11-01")),
        (2, "write it in quotes, 'cost > 3'", ("metrics", "cost", ">", "3")),
        (
            2,
            "write it in quotes, 'model contains gpt'",
            ("metrics", "--last", "1d", "model", "contains", "gpt"),
        ),
        (2, "write the whole filter in quotes", ("metrics", "cost")),
        (2, 'write it in quotes, "cost > 3"', ("metrics", "'cost", ">", "3'")),
        (2, 'the shell passed the quotes on: cmd.exe understands " only', ("metrics", "'cost > 3'")),
        (2, "helicone-sessions filter --help lists the columns", ("metrics", "modle == 'a'")),
        (2, "write helicone-sessions filter 'cost > 0.1'", ("filter",)),
        (2, "helicone-sessions filter --help shows", ("filter", "cost > 1", "--output", "yaml")),
        (2, 'Did you mean "metrics"?', ("metric",)),
        (2, "helicone-sessions --help shows", ("metric",)),
        (2, "demo takes options only, got 7", ("demo", "7")),
        (2, "--p-size", ("metrics", "--p-size", "p96")),
        (
            2,
            "there is no --api-key, because others would see it; export HELICONE_API_KEY",
            ("metrics", "--api-key", "sk-1"),
        ),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_asked(
    run: Run, service: FakeHelicone, code: int, message: str, arguments: tuple[str, ...]
) -> None:
    """The message names what is missing; the key is never an argument."""
    done = run(service, *arguments)

    assert (code, "", []) == (done.returncode, done.stdout, service.requests)
    assert message in " ".join(done.stderr.split())


def test_kinds_of_failure_have_codes_of_their_own(run: Run, service: FakeHelicone) -> None:
    """1: the service failed, 3: the key is rejected; both messages say what to do or quote the service."""
    service.otherwise(failure("no such luck"))
    assert (1, True) == _code_and("no such luck", run(service, "metrics"))
    refused = run(service, "metrics", HELICONE_API_KEY="sk-other")
    assert (3, True) == _code_and("Check that HELICONE_API_KEY is a key of this service", refused)


@pytest.mark.parametrize(
    ("environment", "code", "message"),
    [
        (
            {},
            2,
            "HELICONE_API_KEY is missing. Run `export HELICONE_API_KEY=sk-helicone-...`",
        ),
        ({"HELICONE_API_KEY": "two words"}, 2, "HELICONE_API_KEY contains whitespace"),
        (
            {"HELICONE_API_KEY": KEY, "HELICONE_BASE_URL": "localhost"},
            2,
            "HELICONE_BASE_URL must be an http(s) URL",
        ),
        (
            {"HELICONE_API_KEY": KEY, "HELICONE_BASE_URL": "http://127.0.0.1:9/v1"},
            2,
            "HELICONE_BASE_URL must not end with '/v1'",
        ),
        (
            {"HELICONE_API_KEY": KEY, "HELICONE_BASE_URL": "http://127.0.0.1:1"},
            1,
            "Check HELICONE_BASE_URL",
        ),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_environment_names_the_variable(
    run: Run, environment: dict[str, str], code: int, message: str
) -> None:
    """And no argument of Python."""
    done = run(None, "metrics", **environment)

    assert (code, "") == (done.returncode, done.stdout)
    assert message in done.stderr
    assert "api_key" not in done.stderr
    assert "base_url" not in done.stderr


def test_an_address_with_a_path_is_told_so(run: Run, service: FakeHelicone) -> None:
    """A status of 404 is mostly that."""
    done = run(None, "metrics", HELICONE_API_KEY=KEY, HELICONE_BASE_URL=f"{service.url}/else")

    assert (1, True) == _code_and("HELICONE_BASE_URL must be an address without a path", done)


def _code_and(text: str, done: Done) -> tuple[int, bool]:
    return done.returncode, text in done.stderr


def test_no_colour_is_used_where_none_is_wanted(run: Run, service: FakeHelicone) -> None:
    """NO_COLOR is obeyed on what claims to be a terminal, and a pipe gets no escape at all."""
    assert "\x1b" not in run(service, "metrics").stdout
    forced = run(service, "metrics", FORCE_COLOR="1", NO_COLOR="1").stdout
    assert "\x1b[36m" not in forced


def test_no_figure_is_cut_in_a_narrow_terminal(run: Run, service: FakeHelicone) -> None:
    """A table that is too wide breaks into blocks of columns."""
    done = run(service, "metrics", "--by", "model=" + ",".join("abcdefgh"), COLUMNS="30")
    assert 18 == done.stdout.count("$0.25")
    assert 30 >= max(map(len, done.stdout.splitlines()))


def test_a_picture_that_cannot_be_drawn_leaves_the_table(
    run: Run, service: FakeHelicone, tmp_path: Path
) -> None:
    """The metrics are shown before their picture fails."""
    pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
    path = tmp_path / "report.png"
    path.symlink_to(tmp_path / "nowhere" / "report.png")
    done = run(service, "metrics", "--plot", str(path))
    assert (1, True) == (done.returncode, "$0.25" in done.stdout)
    assert f"{path} cannot be written: No such file or directory" in done.stderr


def test_values_of_a_segment_may_have_quotes(run: Run, service: FakeHelicone) -> None:
    """As they have in a filter."""
    done = run(service, "metrics", "--by", "model=\"gpt-4o\",'o3'", "--output", "json")
    assert ["gpt-4o", "o3"] == [row["segment"] for row in json.loads(done.stdout)]


@pytest.mark.parametrize(
    ("text", "column", "values"),
    [
        ('model="a,b", c', F.model, ["a,b", "c"]),
        ("model='a,b' ,\"c\"", F.model, ["a,b", "c"]),
        ("user_id=o'brien,5\" disk", F.user_id, ["o'brien", '5" disk']),
        ('properties["q"]=a=b,c', F.properties["q"], ["a=b", "c"]),
        ("properties['a]=,b'] = x=y", F.properties["a]=,b"], ["x=y"]),
    ],
)
def test_only_commas_and_equals_signs_outside_quotes_part(text: str, column: Any, values: list[str]) -> None:
    """The column ends at its first =, and a quoted value may hold commas."""
    assert {value: column == value for value in values} == segments([text])


def test_no_session_says_what_to_ask_for(run: Run, service: FakeHelicone) -> None:
    """In place of three empty histograms."""
    service.otherwise(SessionMetrics.empty())
    done = run(service, "metrics")
    assert "No session matches" in done.stdout
    assert "Try a longer time range" in done.stderr
    assert "Requests per session" not in done.stdout


def test_a_cost_that_no_request_has_suggests_the_cost_of_sessions(run: Run, service: FakeHelicone) -> None:
    """The metrics of the service ignore conditions on sessions; the command that lists them does not."""
    service.otherwise(SessionMetrics.empty())
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        done = run(service, "metrics", "cost > 3 and status == 200")

    assert "caution: cost > 3: " in done.stderr
    assert "helicone-sessions sessions 'session_total_cost > 3'" in done.stderr


def test_thousands_of_queries_are_announced(run: Run, service: FakeHelicone) -> None:
    """Their number and the time at the free tier's rate limit come before the first query."""
    hours = ("--from", "2026-10-01", "--to", "2026-11-12", "--every", "1h")
    done = run(service, "metrics", *hours, "--output", "csv")

    assert (0, 1008) == (done.returncode, len(service.requests))
    assert "1,008 queries, about 5 minutes" in done.stderr


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("", 130), ("n", 130)])
def test_a_terminal_is_asked_before_thousands_of_queries(
    run: Run, service: FakeHelicone, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    """Only a yes runs them; --yes skips the question."""
    hours = ("--from", "2026-10-01", "--to", "2026-11-12", "--every", "1h", "--output", "csv")
    monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))

    assert code == run(service, "metrics", *hours).returncode
    assert (1008 if answer == "y" else 0) == len(service.requests)
    assert 0 == run(service, "metrics", *hours, "--yes").returncode


class Terminal(io.StringIO):
    """A standard input that is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_column_alone_makes_a_segment_of_each_value(run: Run, service: FakeHelicone) -> None:
    """The service has no list of values, so they are those of recent requests, and the output says so."""
    done = run(service, "metrics", "--by", "model", "--last", "1d")

    assert 0 == done.returncode
    for text in ("gpt-4o", "o3", "total", "values in up to 10,000 requests"):
        assert text in done.stdout
    assert "--by needs a time" in run(service, "metrics", "--by", "model").stderr
    one = run(service, "metrics", "--by", "model", "--top", "1", "--last", "1d", "--output", "json")
    assert ["gpt-4o"] == [row["segment"] for row in json.loads(one.stdout)]


def test_the_time_before_is_compared(run: Run, service: FakeHelicone) -> None:
    """Before, after and ratio of all quantities; rows for programs."""
    done = run(service, "metrics", "--last", "7d", "--compare", "previous")
    ends = [request.json["timeFilter"] for request in service.requests]

    assert (0, 2) == (done.returncode, len(ends))
    # Both ends are rounded outwards.
    assert 1 >= abs(ends[0]["startTimeUnixMs"] - ends[1]["endTimeUnixMs"])
    for text in ("before", "after", "ratio", "dollars mean", "dollars total"):
        assert text in done.stdout
    rows = json.loads(
        run(service, "metrics", "--last", "7d", "--compare", "previous", "--output", "json").stdout
    )
    assert {1.0} == {row["ratio"] for row in rows if row["quantity"].endswith("_mean")}


@pytest.mark.parametrize(
    ("code", "condition"),
    [
        (6, "dollars_mean >= 0.25"),
        (6, "dollars_mean > $0.2"),
        (0, "dollars_mean > 0.25"),
        (6, "seconds_p95 < 1.5x"),
        (0, "seconds_p95 > 1.5x"),
        (6, "sessions > 3"),
    ],
)
def test_a_condition_decides_the_exit_code(
    run: Run, service: FakeHelicone, code: int, condition: str
) -> None:
    """An alert for cron: the reason is on the standard error, the figures on the standard output."""
    done = run(service, "metrics", "--last", "7d", "--compare", "previous", "--fail-if", condition)

    assert code == done.returncode
    assert (code == 6) == (condition in done.stderr)
    assert "dollars mean" in done.stdout


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("--fail-if must be a condition", ("--fail-if", "dollars_mean")),
        ("--fail-if must begin with a quantity, got 'cost'", ("--fail-if", "cost > 1")),
        ("Add --compare previous", ("--last", "7d", "--fail-if", "dollars_mean > 2x")),
        ("--compare needs a time", ("--compare", "previous")),
        ("--path must be the directory of a store", ("--path", "nowhere")),
        ("--region cannot be combined with --path or --data", ("--data", "x.jsonl", "--region", "eu")),
    ],
)
def test_what_an_alert_lacks_is_named(
    run: Run, service: FakeHelicone, message: str, arguments: tuple[str, ...]
) -> None:
    """Before anything is sent."""
    done = run(service, "metrics", *arguments)

    assert (2, []) == (done.returncode, service.requests)
    assert message in " ".join(done.stderr.split())
