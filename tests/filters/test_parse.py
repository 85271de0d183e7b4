"""Filters as text: reading, writing, and the errors of invalid text."""

import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.errors import FilterError, FilterSyntaxError, FilterTypeError, FilterValueError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.constants import MISSING
from helicone_sessions.filters.expression import ALL, Filter, all_of, any_of, filter_of_contract
from helicone_sessions.filters.nodes import Leaf
from helicone_sessions.filters.parser import LONGEST, parse_filter
from helicone_sessions.filters.printer import to_text
from helicone_sessions.filters.schema import COLUMNS
from helicone_sessions.filters.tokens import KEYWORDS, TRUTHS
from tests.filters.support import again, leaf, read
from tests.repeats import repeats
from tests.strategies import filters, wire_values

MANY = 10_000


def written(filter_: Filter) -> str:
    """The filter as text."""
    return to_text(filter_.node)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        # Columns
        ("cost > 0.1", "F.cost > 0.1"),
        ("helicone-score-feedback", "F.helicone_score_feedback == True"),
        ("helicone_score_feedback", "F.helicone_score_feedback == True"),
        ("not helicone-score-feedback", "~F.helicone_score_feedback"),
        ("session_total_cost >= 1", "F.session_total_cost >= 1"),
        ('properties["env"] == "prod"', "F.properties['env'] == 'prod'"),
        ("properties [ 'it\\'s' ] = 'x'", "F.properties[\"it's\"] == 'x'"),
        ('search_properties["k"] != "v"', "F.search_properties['k'] != 'v'"),
        ('scores["quality"] == 4', "F.scores['quality'] == 4"),
        ('scores["quality"] in (1, "2", 0.5)', "F.scores['quality'].is_in([1, '2', 0.5])"),
        ('property_key == "k"', "F.property_key == 'k'"),
        # Precedence
        ("cost > 1 and threat or cached", "F.cost.gt(1) & F.threat | F.cached"),
        ("threat or cached and cost > 1", "F.threat | (F.cached & (F.cost > 1))"),
        ("threat & cached | cost > 1 & cached", "(F.threat & F.cached) | ((F.cost > 1) & F.cached)"),
        ("threat and (cached or cost > 1)", "F.threat & (F.cached | (F.cost > 1))"),
        ("not threat and cached", "~F.threat & F.cached"),
        ("not cost > 1 and cached", "~(F.cost > 1) & F.cached"),
        ("~cost > 1 | cached", "~(F.cost > 1) | F.cached"),
        ("not (threat or cached)", "~((F.threat == True) | (F.cached == True))"),
        ("not not threat", "F.threat == True"),
        ("~(not(~threat))", "~F.threat"),
        ("threat AND NOT cached Or ALL", "(F.threat & ~F.cached) | ALL"),
        (
            "threat and cached and (cost > 1 and status == 200)",
            "all_of(F.threat, F.cached, F.cost > 1, F.status == 200)",
        ),
        ("(((threat)))", "F.threat == True"),
        # Constants of the language
        ("all", "ALL"),
        ("None", "NONE"),
        ("not all", "~ALL"),
        ("all and threat", "F.threat == True"),
        ("none or threat", "F.threat == True"),
        ("threat or all", "F.threat | ALL"),
        # Signs
        ("cost = 1", "F.cost == 1"),
        ("cost <> 1", "F.cost != 1"),
        ("cost!=1", "F.cost != 1"),
        ("cost<=1", "F.cost <= 1"),
        ("1 < cost", "F.cost > 1"),
        ("1 >= cost", "F.cost <= 1"),
        ("1<>cost", "F.cost != 1"),
        ('"o3" = model', "F.model == 'o3'"),
        ("false == threat", "F.threat == False"),
        ("threat != true", "F.threat == False"),
        ("threat == FALSE", "F.threat == False"),
        ("2026-11-01T12:30:00Z <= request_created_at", "F.request_created_at >= MOMENT"),
        # Ranges
        ("0.1 < cost < 5", "F.cost.between(0.1, 5, inclusive='neither')"),
        ("0.1 <= cost < 5", "F.cost.between(0.1, 5, inclusive='left')"),
        ("0.1 < cost <= 5", "F.cost.between(0.1, 5, inclusive='right')"),
        ("5 >= cost >= 0.1", "F.cost.between(0.1, 5)"),
        ("5 > cost >= 1", "F.cost.between(1, 5, inclusive='left')"),
        ("not 1 < cost < 5", "~F.cost.between(1, 5, inclusive='neither')"),
        ("cost between 1 and 5 and threat", "F.cost.between(1, 5) & F.threat"),
        ("cost not between 1 and 5 or threat", "~F.cost.between(1, 5) | F.threat"),
        # Lists
        ('model in ("a", "b")', "F.model.is_in(['a', 'b'])"),
        ('model in ["a", "b",]', "F.model.is_in(['a', 'b'])"),
        ('model in ("a", "a")', "F.model == 'a'"),
        ("status in (404)", "F.status == 404"),
        ("status not in (404, 500)", "F.status.not_in([404, 500])"),
        ("status in ()", "NONE"),
        ("status not in []", "ALL"),
        ("not status in (404, 500)", "~F.status.is_in([404, 500])"),
        ("threat in (true, false)", "F.threat.is_in([True, False])"),
        ("request_created_at not in (2026-11-01T12:30Z)", "F.request_created_at != MOMENT"),
        # Words
        ('model contains "gpt"', "F.model.contains('gpt')"),
        ('model not contains "gpt"', "F.model.not_contains('gpt')"),
        ('not model contains "gpt"', "~F.model.contains('gpt')"),
        ('model like "gpt-%"', "F.model.like('gpt-%')"),
        ('model NOT LIKE "gpt-%"', "~F.model.like('gpt-%')"),
        ('model ilike "GPT-_"', "F.model.ilike('GPT-_')"),
        (r'model ilike "%50\\%%"', "F.model.contains('50%')"),
        ('model startswith "o3_"', "F.model.startswith('o3_')"),
        ('model not startswith "o3"', "~F.model.startswith('o3')"),
        ('model endswith "mini"', "F.model.endswith('mini')"),
        ('model istartswith "O3"', "F.model.istartswith('O3')"),
        ('model iendswith "Mini"', "F.model.iendswith('Mini')"),
        ("country_code is null", "F.country_code.is_null()"),
        ("country_code IS NOT NULL", "~F.country_code.is_null()"),
        ("not country_code is not null", "F.country_code.is_null()"),
        ("user_id is empty", "F.user_id == ''"),
        ("properties['env'] is not empty", "~(F.properties['env'] == '')"),
        ("assets is empty", "F.assets.is_empty()"),
        ("threat is true", "F.threat == True"),
        ("threat is False", "F.threat == False"),
        ("threat is not true and cached", "~F.threat & F.cached"),
        # Constants
        (
            "cost > .5 and cost < 5. and cost != 1e-3 and cost != +2E+3",
            "all_of(F.cost > 0.5, F.cost < 5.0, F.cost != 0.001, F.cost != 2000.0)",
        ),
        ("status == -1", "F.status == -1"),
        ("cost>-0.0", "F.cost > 0"),
        (r'model == "\"\\\/\b\f\n\r\tA\u00e9\uD83D\uDE00\'"', r"""F.model == '"\\/\b\f\n\r\tAé😀\''"""),
        ("""model == '"' or model == "'" or model == '\t'""", """F.model.is_in(['"', "'", '\\t'])"""),
        ('model == ""', "F.model == ''"),
        ('model == "2026-11-01T00:00:00Z"', "F.model == '2026-11-01T00:00:00Z'"),
        ("request_created_at < 2026-11-01T12:30:00Z", "F.request_created_at < MOMENT"),
        ("request_created_at < 2026-11-01T14:30:00.000+02:00", "F.request_created_at < MOMENT"),
        ('request_created_at < "2026-11-01 12:30:00+00:00"', "F.request_created_at < MOMENT"),
        # Spaces
        ("\n\tthreat\r\n  and\n  cached\n", "F.threat & F.cached"),
        ("threat&cached|~cached", "(F.threat & F.cached) | ~F.cached"),
        ('not(threat)and(model=="x")', "~F.threat & (F.model == 'x')"),
        # The spelling of Python
        ('F.cost > 0.1 & F.model.contains("gpt")', "F.cost > 0.1 & F.model.contains('gpt')"),
        ('cost > 0.1 & model.contains("gpt")', "F.cost > 0.1 & F.model.contains('gpt')"),
        ("~F.cost > 1 | F.threat & F.cached", "~(F.cost > 1) | (F.threat & F.cached)"),
        ("(F.cost > 1) & (F.status == 200)", "(F.cost > 1) & (F.status == 200)"),
        ('F["cost"] > 1', "F.cost > 1"),
        ('F["helicone-score-feedback"] == True', "F.helicone_score_feedback == True"),
        ('F.properties["env"].not_contains("x")', "F.properties['env'].not_contains('x')"),
        ('properties["env"].eq("x")', "F.properties['env'] == 'x'"),
        ('F["properties"]["env"] != "x"', "F.properties['env'] != 'x'"),
        ("F.scores['q'] == 4", "F.scores['q'] == 4"),
        (
            'F.model.is_in(["x", "y"]) | F.status.not_in((404, 500))',
            "F.model.is_in(['x', 'y']) | F.status.not_in((404, 500))",
        ),
        ("F.cost.between(1, 5)", "F.cost.between(1, 5)"),
        ("F.cost.between(1, 5, inclusive='left')", "F.cost.between(1, 5, inclusive='left')"),
        ("F.cost.between(1, 5, 'neither')", "F.cost.between(1, 5, 'neither')"),
        ("cost.gt(5) and latency.lte(3)", "F.cost.gt(5) & F.latency.lte(3)"),
        ("F.threat.is_true() & F.cached.is_false()", "F.threat.is_true() & F.cached.is_false()"),
        ("~F.user_id.is_empty() & F.target_url.is_null()", "~F.user_id.is_empty() & F.target_url.is_null()"),
        (
            "F.request_created_at < datetime.datetime.fromisoformat('2026-11-01T12:30:00+00:00')",
            "F.request_created_at < MOMENT",
        ),
        (
            "all_of(F.threat, F.cost > 1 | F.cached, any_of(F.status == 200, F.status == 404)) | ALL",
            "all_of(F.threat, F.cost.gt(1) | F.cached, any_of(F.status == 200, F.status == 404)) | ALL",
        ),
        ("any_of() | F.threat & all_of()", "any_of() | F.threat & all_of()"),
        ("~any_of(F.threat, F.cached)", "~any_of(F.threat, F.cached)"),
        # The API's JSON
        ('{"request_response_rmt": {"cost": {"gt": 1}}}', "F.cost > 1"),
        ('threat or not {"request_response_rmt": {"cost": {"gt": 1}}}', "F.threat | ~(F.cost > 1)"),
        (
            '{"left": {"request_response_rmt": {"threat": {"equals": true}}}, "operator": "or", "right": "all"}',
            "F.threat | ALL",
        ),
    ],
)
def test_read(text: str, source: str) -> None:
    """A text is read as the same words in Python, comparisons first and "or" last."""
    assert read(source) == parse_filter(text)


SPELT = {
    "T": ("threat", "cost > 1"),
    "C": ("cached", 'model == "x"'),
    "&": ("&", "and"),
    "|": ("|", "OR"),
    "~": ("~", "not"),
    "(": ("(", "("),
    ")": (")", ")"),
}
CONDITIONS = {
    "T": (F.threat.is_true(), F.cost > 1),
    "C": (F.cached.is_true(), F.model == "x"),
}


def _same_as_python(signs: tuple[str, ...], spelling: int) -> None:
    # Between complete conditions, Python's own ~ & | have the right meaning.
    try:
        expected = read(" ".join(signs), **{name: pair[spelling] for name, pair in CONDITIONS.items()})
    except (SyntaxError, TypeError):
        expected = ()
    text = " ".join(SPELT[sign][spelling] for sign in signs)
    try:
        assert expected == parse_filter(text)
    except FilterSyntaxError:
        assert expected == ()


@pytest.mark.parametrize("length", range(1, 6))
def test_precedence_is_that_of_python(length: int) -> None:
    """Any short row of conditions, connectives and parentheses is read as in Python, or not at all."""
    for signs in itertools.product(SPELT, repeat=length):
        _same_as_python(signs, length % 2)


@given(st.lists(st.sampled_from("TTTCCC&&&|||~~(())"), min_size=6, max_size=16).map(tuple), st.integers(0, 1))
@settings(max_examples=repeats(400))
def test_precedence_of_long_rows(signs: tuple[str, ...], spelling: int) -> None:
    """Longer rows are read as in Python, or not at all."""
    _same_as_python(signs, spelling)


@pytest.mark.parametrize("word", sorted([*KEYWORDS, *TRUTHS]))
def test_no_column_hides_a_word(word: str) -> None:
    """No column has the name of a word of the language, in any spelling."""
    assert word not in {name.lower() for name in COLUMNS}


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("F.cost > 0.1", "cost > 0.1"),
        ("F.status == -1", "status == -1"),
        ("F.cost <= 1e16", "cost <= 1e+16"),
        ("F.threat", "threat"),
        ("F.threat == False", "threat == false"),
        ("~F.threat", "not threat"),
        ("~(F.cost > 1)", "not cost > 1"),
        ("F.helicone_score_feedback & F.cached", "helicone-score-feedback and cached"),
        ("F.threat & F.cached | F.cost.gt(1)", "threat and cached or cost > 1"),
        ("F.threat & (F.cached | (F.cost > 1))", "threat and (cached or cost > 1)"),
        (
            "~(F.threat & F.cached) | ~(F.threat | F.cached)",
            "not (threat and cached) or not (threat or cached)",
        ),
        ("F.cost.between(1, 5)", "cost >= 1 and cost <= 5"),
        ("F.model.is_in(['a', 'b'])", 'model in ("a", "b")'),
        ("F.model.not_in(['a', 'b'])", 'model not in ("a", "b")'),
        ("~F.model.is_in(['a', 'b'])", 'not model in ("a", "b")'),
        ("F.model.is_in(['a', 'b']) & F.threat", 'model in ("a", "b") and threat'),
        ("F.model.is_in(['a', 'b']) | F.threat", 'model in ("a", "b") or threat'),
        ("(F.model.is_in(['a', 'b']) | F.threat) & F.cached", '(model in ("a", "b") or threat) and cached'),
        ("F.model.not_in(['a', 'b']) | F.threat", 'model not in ("a", "b") or threat'),
        (
            "F.model.is_in(['a', 'b']) | F.user_id.is_in(['c', 'd'])",
            'model in ("a", "b") or user_id in ("c", "d")',
        ),
        ("F.scores['q'].is_in([1, 2])", 'scores["q"] in ("1", "2")'),
        (
            "any_of(F.properties['a'] == 'x', F.properties['b'] == 'x')",
            'properties["a"] == "x" or properties["b"] == "x"',
        ),
        ("any_of(F.model == 'a', F.model == 'a')", 'model == "a" or model == "a"'),
        ("any_of(F.model == 'a', F.model != 'b')", 'model == "a" or model != "b"'),
        (
            "any_of(F.property_key == 'a', F.property_key == 'b')",
            'property_key == "a" or property_key == "b"',
        ),
        ("any_of(F.user_id == 'a', F.country_code.is_null())", 'user_id == "a" or country_code is null'),
        ("~F.country_code.is_null()", "not country_code is null"),
        ("F.country_code == 'null'", 'country_code == "null"'),
        ("F.properties['env'].is_empty()", 'properties["env"] == ""'),
        ("F.properties['\"'] == \"it's\"", r'''properties["\""] == "it's"'''),
        ("F.model.contains('50%')", 'model contains "50%"'),
        ("F.model.not_contains('gpt')", 'model not contains "gpt"'),
        ("F.model.startswith('o3_')", r'model like "o3\\_%"'),
        ("F.model == 'é日😀\\n\\u2028\\u202e'", r'model == "é日😀\n\u2028\u202e"'),
        ("F.request_created_at < MOMENT", "request_created_at < 2026-11-01T12:30:00Z"),
        (
            "F.request_created_at != MOMENT",
            "request_created_at < 2026-11-01T12:30:00Z or request_created_at > 2026-11-01T12:30:00Z",
        ),
        ("ALL", "all"),
        ("~NONE | F.threat & NONE", "not none or threat and none"),
    ],
)
def test_written(source: str, text: str) -> None:
    """A filter is written with as few parentheses as it needs, and conditions on one column as a list."""
    filter_ = read(source)
    filter_ = filter_ if isinstance(filter_, Filter) else all_of(filter_)
    assert text == written(filter_)
    assert filter_ == parse_filter(text)


@given(filters(max_leaves=30))
@settings(max_examples=repeats(150))
def test_any_filter_is_read_back(filter_: Filter) -> None:
    """Any filter, and its opposite, is read from its text as an equal one."""
    assert filter_ == parse_filter(written(filter_))
    assert ~filter_ == parse_filter(written(~filter_))


@pytest.mark.parametrize(
    "condition",
    [
        leaf("cost", "gt", -1),
        leaf("latency", "equals", 2**53 + 1),
        leaf("model", "contains", ""),
        leaf("model", "not-contains", ""),
        leaf("properties", "equals", "\u2028é", ""),
        leaf("properties", "contains", "50%", ""),
    ],
)
def test_what_another_client_sent(condition: dict[str, Any]) -> None:
    """A condition that the language does not take is written as the API's JSON, and read from it."""
    filter_ = Filter.from_wire(condition)
    assert written(filter_).startswith('{"request_response_rmt": {')
    assert written(filter_).isprintable()
    joined = any_of(filter_, ~filter_ & F.threat, filter_)
    assert joined == parse_filter(written(joined))


@given(wire_values())
@settings(max_examples=repeats(200))
def test_any_wire_has_a_text(wire: object) -> None:
    """Whatever is read from the API's JSON is read back from its text."""
    try:
        filter_ = filter_of_contract(wire, path="$")
    except FilterError:
        return
    assert filter_ == parse_filter(written(filter_))


def test_a_missing_value_stays_one() -> None:
    """A test for a missing value is not read back as a comparison with the word."""
    node = parse_filter("country_code is null").node
    assert isinstance(node, Leaf)
    assert node.value is MISSING
    other = parse_filter('country_code == "null"').node
    assert isinstance(other, Leaf)
    assert other.value is not MISSING


def _alternating(depth: int) -> str:
    steps = (f"(latency > {n} {'and' if n % 2 else 'or'} not " for n in range(depth))
    return "".join(steps) + "threat" + ")" * depth


@pytest.mark.promise(name="F2")
@pytest.mark.parametrize(
    ("text", "same"),
    [
        (" and ".join(f"latency > {n}" for n in range(MANY)), all_of(*(F.latency > n for n in range(MANY)))),
        (" | ".join(f"latency > {n}" for n in range(MANY)), any_of(*(F.latency > n for n in range(MANY)))),
        (f"latency in ({', '.join(map(str, range(MANY)))})", F.latency.is_in([*range(MANY)])),
        ("(" * 100_000 + "threat" + ")" * 100_000, F.threat.is_true()),
        ("not " * 100_000 + "threat", F.threat.is_true()),
        ("~(" * 100_001 + "threat" + ")" * 100_001, ~F.threat),
        (" " * (LONGEST - 6) + "threat", F.threat.is_true()),
        (_alternating(MANY), None),
    ],
    ids=["and", "or", "in", "parentheses", "not", "not-parentheses", "spaces", "alternating"],
)
def test_large(text: str, same: Filter | None) -> None:
    """Ten thousand conditions, side by side or one in the other, and any nesting are read and written."""
    filter_ = parse_filter(text)
    assert filter_ == parse_filter(written(filter_))
    assert same is None or same == filter_


@pytest.mark.parametrize("text", [None, 5, b"threat", F.threat, ALL, {"request_response_rmt": {}}])
def test_only_text_is_read(text: Any) -> None:
    """A value that is not a string is rejected by its type."""
    with pytest.raises(FilterTypeError, match=r"^text must be a string, got "):
        parse_filter(text)


TEXT_HAS = "==, !=, contains, like, ilike, startswith, endswith, istartswith, iendswith, in, is empty"
NUMBER_HAS = "==, !=, <, <=, >, >=, between, in"


def _refused(marked: str, problem: str) -> None:
    """Expect *problem* about the piece between « and », and a remedy."""
    plain = re.sub("[«»]", "", marked)
    start, end = marked.index("«"), marked.index("»") - 1
    with pytest.raises(FilterSyntaxError) as caught:
        parse_filter(plain)
    error = caught.value
    marks = " " * start + "^" + "~" * (end - start - 1)
    sentences = f"{error.problem}. {error.remedy}"
    assert error.remedy
    assert sentences.startswith(problem)
    assert f"line 1, column {start + 1}: {sentences}\n  {plain}\n  {marks}" == error.message
    assert (1, start + 1, start) == (error.line, error.column, error.offset)


@pytest.mark.promise(name="F2")
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        # Columns
        ('cost > 0.1 and «modle» contains "gpt"', "there is no column 'modle'. Did you mean 'model'?"),
        ("«Cost» > 1", "there is no column 'Cost'. Did you mean 'cost'?"),
        (
            "«helicone-score-fedback»",
            "there is no column 'helicone-score-fedback'. Did you mean 'helicone-score-feedback'?",
        ),
        ("«nto» threat", "there is no column 'nto'. Did you mean 'not'?"),
        (
            "«xyzzy» == 1",
            "there is no column 'xyzzy'. Columns have the names of the API, such as cost or model",
        ),
        ("model.like«»", "expected '(' after 'model.like', got the end"),
        ('«properties.env» == "x"', 'properties is a map. Name a key, for example properties["env"]'),
        ('«properties» == "x"', 'properties is a map. Name a key, for example properties["env"]'),
        ('properties[«env»] == "x"', "the key 'env' has no quotes. Write \"env\""),
        ('properties[«]» == "x"', "expected a key in quotes after '[', got ']'"),
        ('properties["a" «==» "x"', "expected ']' after '\"a\"', got '=='"),
        ('«cost»["x"] > 1', "cost is a number column and has no keys. Remove the brackets"),
        # The spelling of Python
        ("«F.cots» > 1", "there is no column 'F.cots'. Did you mean 'cost'?"),
        ('F[«"cots"»] > 1', "there is no column 'cots'. Did you mean 'cost'?"),
        ("«model.regex»('x')", f"model is a text column and has no .regex(). It has {TEXT_HAS}"),
        ("«cost.contains»('x')", f"cost is a number column and has no .contains(). It has {NUMBER_HAS}"),
        ("«model.is_each»(['x'])", f"model is a text column and has no .is_each(). It has {TEXT_HAS}"),
        (
            '«F.model.contains("")»',
            "model takes text that is not empty, got ''. Leave the condition out: it is true of every value",
        ),
        ("cost.between(5«)»", "expected ',' after '5', got ')'"),
        ("cost.gt(5«,» 6)", "expected ')' after '5', got ','"),
        (
            "cost.between(1, 2, «1»)",
            "expected the ends that belong to the range, in quotes after ',', got '1'",
        ),
        ("~«5» < status", "~ cannot negate a constant. Write not, or put the comparison in parentheses"),
        ("all_of«»", "expected '(' after 'all_of', got the end"),
        ("all_of(threat, «)»", "expected a condition after ',', got ')'"),
        ("(threat«,» cached)", "expected 'and' or 'or', got ','"),
        # Operators
        ('cost «contains» "x"', f"cost is a number column and has no contains. It has {NUMBER_HAS}"),
        (
            'request_created_at «like» "x"',
            f"request_created_at is a timestamp column and has no like. It has {NUMBER_HAS}",
        ),
        ('model «>» "x"', f"model is a text column and has no >. It has {TEXT_HAS}"),
        ('"x" «<» model', f"model is a text column and has no <. It has {TEXT_HAS}"),
        ('model «between» "a" and "b"', f"model is a text column and has no between. It has {TEXT_HAS}"),
        ('scores["q"] «>» 1', f'scores["q"] is a text column and has no >. It has {TEXT_HAS}'),
        (
            'threat «contains» "x"',
            "threat is a boolean column and has no contains. It has ==, !=, in, is true, is false",
        ),
        ('property_key «!=» "x"', "property_key is a map key column and has no !=. It has =="),
        ('property_key «in» ("x")', "property_key is a map key column and has no in. It has =="),
        ("cost «is null»", f"cost is a number column and cannot be null. It has {NUMBER_HAS}"),
        ("model «is not true»", f"model is a text column and cannot be true. It has {TEXT_HAS}"),
        ('model is «"x"»', "expected null, empty, true or false after is. Compare a value with =="),
        ("model is not«»", "expected null, empty, true or false after is. Compare a value with =="),
        (
            'model not «==» "x"',
            "expected an operator in words after 'not', got '=='. Write not in or not contains, for example",
        ),
        ('model «contians» "gpt"', "there is no operator 'contians'. Did you mean 'contains'?"),
        ("cost «above» 5", f"there is no operator 'above'. It has {NUMBER_HAS}"),
        ("cost «gt» 5", "there is no operator 'gt'. Use >"),
        ('model «not-equals» "x"', "there is no operator 'not-equals'. Use !="),
        ("«cost»", f"cost is a number column, not a condition. It has {NUMBER_HAS}"),
        ("(«cost») > 1", f"cost is a number column, not a condition. It has {NUMBER_HAS}"),
        (
            '«properties["env"]» and threat',
            f'properties["env"] is a text column, not a condition. It has {TEXT_HAS}',
        ),
        ("cost «===» 1", "there is no operator ===. Use =="),
        ("cost «!==» 1", "there is no operator !==. Use !="),
        ("cost «=>» 1", "there is no operator =>. Use >="),
        ("cost «=<» 1", "there is no operator =<. Use <="),
        # Words between conditions
        ('cost > 0.1 «adn» model == "x"', "expected 'and' or 'or', got 'adn'. Did you mean 'and'?"),
        ("threat «&&» cached", "there is no operator &&. Use & or and"),
        ("threat «||» cached", "there is no operator ||. Use | or or"),
        ("«!»threat", "there is no operator !. Use ~ or not"),
        ('cost > 0.1 «model» == "x"', "expected 'and' or 'or', got 'model'"),
        ("threat «maybe»", "expected 'and' or 'or', got 'maybe'"),
        ("threat «(»cached)", "expected 'and' or 'or', got '('"),
        ("(cost > 1) «>» 5", "expected 'and' or 'or', got '>'"),
        ("cost > 1«,»000", "expected 'and' or 'or', got ','"),
        ("cost > 5 «+» 3", "expected 'and' or 'or', got '+'"),
        ('threat «{"a": 1}»', "expected 'and' or 'or', got '{\"a\": 1}'"),
        ("cost > 0.1 and«»", "expected a condition after 'and', got the end"),
        ("cost > 0.1 and «or» threat", "expected a condition after 'and', got 'or'"),
        ("cost > 0.1 and «<» 5", "expected a condition after 'and', got '<'"),
        ("«and» threat", "expected a condition, got 'and'"),
        ("not«»", "expected a condition after 'not', got the end"),
        ("(«)»", "expected a condition after '(', got ')'"),
        ("«in» (1)", "expected a condition, got 'in'"),
        # Parentheses and quotes
        ("«(»cost > 1", "this ( is not closed. Add a )"),
        ("«(»(cost > 1) and threat", "this ( is not closed. Add a )"),
        ("threat and «(»cached or (cost > 1)", "this ( is not closed. Add a )"),
        ("cost > 1«)»", "there is no ( for this ). Remove it, or add the ("),
        ("«}» or threat", "there is no { for this }. Remove it, or write text in quotes"),
        ('threat and model == «"»gpt', 'this quote is not closed. Add " at the end of the text'),
        ("model == «'»gpt\"", "this quote is not closed. Add ' at the end of the text"),
        ("model == 'it'«s»'", "expected 'and' or 'or', got 's'"),
        # Constants
        ("model == «gpt-4o»", "the text 'gpt-4o' has no quotes. Write \"gpt-4o\""),
        ("model == «“gpt”»", "the text '“gpt”' has no quotes. Write \"gpt\""),
        (r"model == «a\b»", "the text 'a\\\\b' has no quotes. Write \"a\\\\b\""),
        ("model == «2026-11-01»", "the text '2026-11-01' has no quotes. Write \"2026-11-01\""),
        ("model == «and»", "expected a constant, got 'and'"),
        ("model ==«»", "expected a constant after '==', got the end"),
        ('model contains «(»"x")', "expected a constant after 'contains', got '('"),
        (r'model like "50«\%»"', "there is no escape \\%. Write a backslash as two: \\\\%"),
        (r"model like 'C:«\u»sers'", "there is no escape \\u. Write a backslash as two: \\\\u"),
        ("model == «null»", "the API has no comparison with null. Write model is empty"),
        ("model != «None»", "the API has no comparison with null. Write model is empty"),
        ("properties['a'] == «null»", "the API has no comparison with null. Write properties['a'] is empty"),
        ("cost == «null»", "the API has no comparison with null. Leave the condition out"),
        ("cost > «latency»", "a column can be compared with a constant only. Write a constant here"),
        ("1 < latency < «F.cost»", "a column can be compared with a constant only. Write a constant here"),
        (
            'model == «properties»["env"]',
            "a column can be compared with a constant only. Write a constant here",
        ),
        ('«"a" == "b"»', "two constants are compared. Compare a column with a constant"),
        ("«1 < 2» < cost", "two constants are compared. Compare a column with a constant"),
        ('"a" == «and»', "expected a column after '==', got 'and'"),
        (
            "status == 200 or «404»",
            "'404' is not compared with a column. For example, write status == 200, or status in (200, 404) for one of several values",
        ),
        (
            "«true»",
            "'true' is not compared with a column. For example, write status == 200, or status in (200, 404) for one of several values",
        ),
        ('«"gpt"» in model', 'a constant is on the left of in. For example, write model contains "gpt"'),
        ("cost > «abc»", "cost takes a number, got 'abc'"),
        ("cost > «1_000»", "cost takes a number, got '1_000'"),
        ("cost > «nan»", "cost takes a number, got 'nan'"),
        ("threat == «yes»", "threat takes true or false, got 'yes'"),
        (
            "request_created_at >= «yesterday»",
            "'yesterday' is not a time. Write it like 2026-11-01T00:00:00Z",
        ),
        ('request_created_at >= «"soon"»', "'\"soon\"' is not a time. Write it like 2026-11-01T00:00:00Z"),
        # Ranges and lists
        (
            "«0.1 < cost > 5»",
            "the signs of a range point in different directions. Write a range like 0.1 < cost < 5",
        ),
        (
            "«0.1 == cost < 5»",
            "the signs of a range point in different directions. Write a range like 0.1 < cost < 5",
        ),
        ("cost > 1 «<» 5", "two signs follow a column. Write a range like 0.1 < cost < 5"),
        ("cost between 5 «or» 1", "expected 'and' after '5', got 'or'"),
        ('model in «"a"»', "expected a list in parentheses after 'in', got '\"a\"'"),
        ('model in ("a" «"b"»)', "expected a comma or ')' after '\"a\"', got '\"b\"'"),
        ('model in ["a"«)»', "expected a comma or ']' after '\"a\"', got ')'"),
        ('model in ("a",«,» "b")', "expected a constant after ',', got ','"),
        ("status in («,»)", "expected a constant after '(', got ','"),
        ("status in «(»1", "this ( is not closed. Add a )"),
        ("status in «[»", "this [ is not closed. Add a ]"),
        # The API's JSON
        ('threat or {"a": 1«»', "this is not JSON: expecting ',' delimiter. Paste a whole filter of the API"),
        (
            "{«b»ad}",
            "this is not JSON: expecting property name enclosed in double quotes. Paste a whole filter of the API",
        ),
    ],
)
def test_refused(text: str, problem: str) -> None:
    """The error of an invalid text shows its position and what to write instead."""
    _refused(text, problem)


# The remedies that differ between Python and text.
REMEDIES = {
    "Use .is_true() or .is_false()": "Write true or false",
    "Add the zone, for example with .replace(tzinfo=datetime.UTC)": "Write the zone, for example 2026-11-01T00:00:00Z",
    "Pass a datetime with its zone, because a day starts at a different instant in each zone": "Write the time too, for example 2026-11-01T00:00:00Z",
    "To negate a comparison, put it in parentheses after ~: Python computes ~1 as -2": "Compare it with zero or more",
    "Convert it to a datetime, for example with datetime.fromisoformat()": "Write it like 2026-11-01T00:00:00Z",
    "Use .is_empty(), because a missing value is stored as empty text": "Write is empty, because a missing value is stored as empty text",
}


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("model == «5»", "F.model == 5"),
        ("«5» == model", "F.model == 5"),
        ('«model contains ""»', "F.model.contains('')"),
        ('model == «"\\ud800"»', "F.model == '\\ud800'"),
        ("cost > «-1»", "F.cost > -1"),
        ('cost > «"0.1"»', "F.cost > '0.1'"),
        ("cost > «1e999»", "F.cost > 1e999"),
        ("cost > «9007199254740993»", "F.cost > 9007199254740993"),
        ("threat == «1»", "F.threat == 1"),
        ("cost == «true»", "F.cost == True"),
        ("request_created_at >= «2026-11-01»", "F.request_created_at >= MOMENT.date().replace(day=1)"),
        ('request_created_at >= «"2026-11-01"»', "F.request_created_at >= MOMENT.date().replace(day=1)"),
        (
            "request_created_at >= «2026-11-01T00:00:00»",
            "F.request_created_at >= datetime.datetime(2026, 11, 1)",
        ),
        (
            "«2026-11-01T00:00:00» < request_created_at",
            "F.request_created_at > datetime.datetime(2026, 11, 1)",
        ),
        (
            "request_created_at >= «0001-01-01T00:00:00+02:00»",
            "F.request_created_at > datetime.datetime.fromisoformat('0001-01-01T00:00:00+02:00')",
        ),
        ("request_created_at >= «1793491200»", "F.request_created_at > 1793491200"),
        ("«5 < cost < 1»", "F.cost.between(5, 1)"),
        ("threat and «cost between 5 and 1» or cached", "F.cost.between(5, 1)"),
        ("cost in (1, «-5»)", "F.cost.is_in([1, -5])"),
        ('«properties["env"] is null»', "F.properties['env'].is_null()"),
        ('«scores["q"] is not empty»', "F.scores['q'].is_empty()"),
        ('properties[«""»] == "x"', "F.properties['']"),
        (
            '«{"request_response_rmt": {"cost": {"gt": "x"}}}» and threat',
            "Filter.from_wire({'request_response_rmt': {'cost': {'gt': 'x'}}})",
        ),
    ],
)
def test_the_language_refuses(text: str, source: str) -> None:
    """Text is rejected for the same reasons as the same words in Python."""
    with pytest.raises(FilterError) as caught:
        read(source)
    error = caught.value
    remedy = REMEDIES.get(error.remedy or "", error.remedy)
    problem = f"{error.column or error.field} {error.problem}"
    _refused(text, f"{problem}. {remedy}" if remedy else problem)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: the filter is empty. Write all to match everything"),
        (" \n\t", "line 1, column 1: the filter is empty. Write all to match everything"),
        (
            "cost > 1\nand modle == 2\nor threat",
            """\
line 2, column 5: there is no column 'modle'. Did you mean 'model'?
  and modle == 2
      ^~~~~""",
        ),
        (
            "threat\r\n and\r\n",
            """\
line 2, column 5: expected a condition after 'and', got the end. Write one such as cost > 0.1
   and
      ^""",
        ),
        (
            "threat and (\n  cached or\n  cost between 5\n  and 1\n)",
            """\
line 3, column 3: cost takes the lower end of a range first, got 5 and 1. Swap the ends
    cost between 5
    ^~~~~~~~~~~~~~""",
        ),
        (
            'model == "gpt\nand cost > "5"',
            """\
line 1, column 10: this quote is not closed on its line. Write a line break as \\n
  model == "gpt
           ^""",
        ),
        (
            '\tmodel == "日本e\u0301\u200b" \tadn threat',
            """\
line 1, column 20: expected 'and' or 'or', got 'adn'. Did you mean 'and'?
   model == "日本e\u0301 "  adn threat
                      ^~~""",
        ),
        (
            "model == 日本",
            """\
line 1, column 10: the text '日本' has no quotes. Write "日本"
  model == 日本
           ^~~~""",
        ),
        (
            f"{'threat or ' * 20}modle == 1{' or threat' * 20}",
            f"""\
line 1, column 201: there is no column 'modle'. Did you mean 'model'?
  …{"threat or " * 5}modle == 1{" or threat" * 4}…
  {" " * 51}^~~~~""",
        ),
        (
            f"model == {'x' * 300} and threat",
            f"""\
line 1, column 10: the text '{"x" * 58}… has no quotes. Write "{"x" * 98}…
  model == {"x" * 91}…
           ^{"~" * 90}""",
        ),
        (
            f"threat and {'(' * 300}",
            f"""\
line 1, column 312: expected a condition after '(', got the end. Write one such as cost > 0.1
  …{"(" * 100}
  {" " * 101}^""",
        ),
        pytest.param(
            '{"left":' * 100_000,
            f"""\
line 1, column 1: this JSON is nested too deeply. Join its conditions with "and" or "or"
  {('{"left":' * 13)[:100]}…
  ^""",
            id="too deep",
        ),
        (
            '{"request_response_rmt": {"cost": {"gt": ' + "9" * 5000,
            f"""\
line 1, column 1: this JSON has a number with thousands of digits. Use a shorter number
  {'{"request_response_rmt": {"cost": {"gt": ' + "9" * 59}…
  ^""",
        ),
        (
            "all" + " " * LONGEST,
            "line 1, column 1000001: the text has 1,000,003 characters; the limit is 1,000,000. Build the filter in Python",
        ),
    ],
)
def test_the_place_is_shown(text: str, message: str) -> None:
    """A message shows the line, and a long one cut, with the piece underlined where a terminal shows it."""
    with pytest.raises(FilterSyntaxError) as caught:
        parse_filter(text)
    assert message == caught.value.message


def test_the_error_has_the_place() -> None:
    """The error of a text carries its place, is a ValueError and survives pickle."""
    with pytest.raises(ValueError, match=r"^line 2, column 4: ") as caught:
        parse_filter("all\nor cots > 1")
    error = again(caught.value)
    assert isinstance(error, FilterSyntaxError)
    assert isinstance(error, FilterValueError)
    assert (2, 4, 7) == (error.line, error.column, error.offset)
    assert str(caught.value) == str(error)


_WORDS = [
    *(
        "cost",
        "model",
        "threat",
        "request_created_at",
        "property_key",
        "properties",
        '["env"]',
        "[",
        "]",
        "(",
        ")",
    ),
    *(
        "and",
        "or",
        "not",
        "&",
        "|",
        "~",
        "all",
        "none",
        "in",
        "is",
        "null",
        "true",
        "between",
        "contains",
        "like",
    ),
    *("==", "!=", "<", ">=", "=", ",", "1", "-5", "0.5", "1e999", '"gpt"', "'x'", "2026-11-01T00:00:00Z"),
    *(
        "2026-11-01",
        "gpt",
        "F.cost",
        "model.contains",
        ".eq",
        "{}",
        "{",
        "}",
        '"',
        "'",
        "\\",
        "!",
        "&&",
        "\n",
    ),
    '{"request_response_rmt": {"cost": {"gt": -1}}}',
]


def _is_read_or_refused(text: str) -> bool:
    try:
        filter_ = parse_filter(text)
    except FilterSyntaxError as error:
        assert 0 <= error.offset <= len(text)  # noqa: PT017 - there may be none
        assert error.message.startswith(f"line {error.line}, column {error.column}: ")  # noqa: PT017
        return False
    assert filter_ == parse_filter(written(filter_))
    return True


@given(st.lists(st.sampled_from(_WORDS), max_size=12), st.sampled_from([" ", "", "\t\n"]))
@settings(max_examples=repeats(600))
def test_any_words_are_read_or_refused(words: list[str], between: str) -> None:
    """The words of the language in any order are a filter, or are refused with a place."""
    _is_read_or_refused(between.join(words))


@given(st.text(max_size=40) | st.text("\\\"'ua0(){}[]<>=!&|~,.:- \n\ud800é", max_size=40))
@settings(max_examples=repeats(400))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any text at all is a filter, or is refused with a place."""
    _is_read_or_refused(text)
    _is_read_or_refused(f"model == {text}")


@given(filters(max_leaves=6), st.data())
@settings(max_examples=repeats(200))
def test_a_damaged_filter_is_read_or_refused(filter_: Filter, data: st.DataObject) -> None:
    """A filter's text with a piece cut out or put elsewhere is a filter, or is refused with a place."""
    text = written(filter_)
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    _is_read_or_refused(text[:first] + text[last:])
    _is_read_or_refused(text[last:] + text[first:last] + text[:first])


def test_json_that_says_a_thing_twice() -> None:
    """Of a key that stands twice in pasted JSON neither value is dropped in silence."""
    with pytest.raises(FilterSyntaxError, match="an object of this JSON has a key twice"):
        parse_filter('{"request_response_rmt": {"cost": {"gt": 1, "gt": 2}}}')
