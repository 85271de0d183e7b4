"""Template strings of Python 3.14, compiled at run time, and stand-ins for them on older Pythons."""

import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from helicone_sessions.errors import FilterError, FilterSyntaxError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, Filter
from helicone_sessions.filters.parser import parse_filter
from tests.filters.support import MOMENT, Model, read


@attrs.frozen
class Interpolation:
    """As ``string.templatelib.Interpolation``."""

    value: object
    expression: str
    conversion: str | None = None
    format_spec: str = ""


@attrs.frozen
class Template:
    """As ``string.templatelib.Template``."""

    strings: tuple[str, ...]
    interpolations: tuple[Interpolation, ...]


def compiled(source: str, names: dict[str, object]) -> Any:
    """The template string of *source*, as Python 3.14 makes it."""
    return eval(f"t'''{source}'''", {"F": F, "ALL": ALL, **names})  # noqa: S307 - the tests' own text


def stood_in(source: str, names: dict[str, object]) -> Any:
    """The same for sources without escapes, whose interpolations have no conversions."""
    first, *rest = source.split("{")
    strings, interpolations = [first], []
    for part in rest:
        expression, _, after = part.partition("}")
        interpolations.append(Interpolation(read(expression, **names), expression))
        strings.append(after)
    return Template(tuple(strings), tuple(interpolations))


Make = Callable[[str, dict[str, object]], Any]
makes = pytest.mark.parametrize(
    "make",
    [
        stood_in,
        pytest.param(
            compiled,
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="template strings need Python 3.14"),
        ),
    ],
)
NAMES: dict[str, object] = {
    "x": 0.5,
    "env": "env",
    "odd": 'it\'s "{quoted}" \\ \n',
    "moment": MOMENT,
    "models": ["a", 'b"'],
    "mini": Model.MINI,
    "base": F.threat | F.cached,
    "flag": True,
    "nothing": None,
}


@makes
@pytest.mark.parametrize(
    ("source", "same"),
    [
        ("cost > {x}", F.cost > 0.5),
        ("cost>{x}and threat", (F.cost > 0.5) & F.threat),
        ("{x} < cost <= {x}", F.cost.between(0.5, 0.5, inclusive="right")),
        ("properties[{env}] == {odd}", F.properties["env"] == NAMES["odd"]),
        ("F.properties[{odd}].contains({odd})", F.properties[str(NAMES["odd"])].contains(str(NAMES["odd"]))),
        (
            "model contains {odd} or status in (200, {x})",
            F.model.contains(str(NAMES["odd"])) | F.status.is_in([200, 0.5]),
        ),
        ("model in {models} and model == {mini}", F.model.is_in(["a", 'b"']) & (F.model == "gpt-mini")),
        ("not model in {models}", ~F.model.is_in(["a", 'b"'])),
        ("F.model.is_in({models})", F.model.is_in(["a", 'b"'])),
        ("request_created_at < {moment}", F.request_created_at < MOMENT),
        ("threat == {flag}", F.threat == True),  # noqa: E712 - the comparison is the subject
        ("cost between {x} and {x + 1}", F.cost.between(0.5, 1.5)),
        ("{base} and cost > 1", (F.threat | F.cached) & (F.cost > 1)),
        ("not {F.threat} or {ALL}", ~F.threat | ALL),
    ],
)
def test_interpolations_are_values(make: Make, source: str, same: Filter) -> None:
    """An interpolation is a constant, a key, a list or a filter, and nothing in it is read as text."""
    assert same == parse_filter(make(source, NAMES))


@makes
@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("cost > «{env}»", FilterTypeError, "cost takes a number, got 'env'. Its unit is dollars"),
        ("threat and model == «{x}»", FilterTypeError, "model takes text, got 0.5. Write it in quotes"),
        (
            "cost > «{nothing}»",
            FilterTypeError,
            "cost cannot be compared with None. The API has no null in a comparison",
        ),
        (
            "cost > «{-x}»",
            FilterSyntaxError,
            "cost is never below zero, but is compared with -0.5. Compare it with zero or more",
        ),
        (
            'properties[«{x}»] == "a"',
            FilterTypeError,
            "properties takes text as a key, got 0.5. Write the key in quotes",
        ),
        (
            "model in «{x}»",
            FilterTypeError,
            "model takes a list of values, got 0.5. Put a single value into a list",
        ),
        (
            "«{F.cost}» and threat",
            FilterTypeError,
            "F.cost is not a condition yet. Compare it with a constant, for example F.cost > 0.1",
        ),
        (
            "«{x}» and threat",
            FilterSyntaxError,
            "{x} is not compared with a column. For example, write status == 200, or status in (200, 404) for one of several values",
        ),
        ("model in «{[x]}»", FilterTypeError, "model takes text, got 0.5. Write it in quotes"),
        (
            "cost «{x}»",
            FilterSyntaxError,
            "cost is a number column, not a condition. It has ==, !=, <, <=, >, >=, between, in",
        ),
        (
            'model == «"»{env}"',
            FilterSyntaxError,
            "this quote is not closed before the interpolation. Interpolations need no quotes",
        ),
    ],
)
def test_errors_point_at_the_interpolation(
    make: Make, source: str, kind: type[FilterError], words: str
) -> None:
    """An error shows the expression of the interpolation; a wrong type is a FilterTypeError."""
    start, end = source.index("«"), source.index("»") - 1
    plain = source.replace("«", "").replace("»", "")
    with pytest.raises(FilterError) as caught:
        parse_filter(make(plain, NAMES))
    assert kind is type(caught.value)
    assert words == f"{caught.value.problem}. {caught.value.remedy}"
    first, line, marks = str(caught.value).split("\n")
    assert first.endswith(words)
    assert plain == line.strip()
    if not words.startswith("cost is a number column"):
        assert "^" + "~" * (end - start - 1) == marks.strip()
        assert start == marks.index("^") - 2
    if kind is FilterTypeError:
        assert plain[start + 1 : end - 1] == caught.value.argument


@pytest.mark.parametrize("formatting", [{"conversion": "r"}, {"format_spec": ".2f"}])
def test_no_formatting(formatting: dict[str, Any]) -> None:
    """A conversion or a format, which would turn a value into text, is refused."""
    template = Template(("cost > ", ""), (Interpolation(0.5, "x", **formatting),))
    with pytest.raises(FilterTypeError, match=r"^x has a conversion or a format, .*\. Write \{x\}$"):
        parse_filter(template)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="template strings need Python 3.14")
def test_braces_of_json() -> None:
    """Doubled braces are the API's JSON; an interpolation inside of it is refused."""
    doubled = '{{"request_response_rmt": {{"cost": {{"gt": 1}}}}}}'
    assert (F.cost > 1) & (F.latency > 0.5) == parse_filter(compiled(doubled + " and latency > {x}", NAMES))
    with pytest.raises(FilterSyntaxError, match="this is not JSON"):
        parse_filter(compiled('{{"request_response_rmt": {{"model": {{"equals": "{env}"}}}}}}', NAMES))
    with pytest.raises(FilterTypeError, match=r"^x has a conversion"):
        parse_filter(compiled("cost > {x!r}", NAMES))
