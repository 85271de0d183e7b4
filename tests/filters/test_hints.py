"""The suggestion for a rejected expression is right, or there is none."""

import ast
import contextlib
import itertools
import linecache
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helicone_sessions.errors import FilterError, FilterTypeError
from helicone_sessions.filters.columns import F
from helicone_sessions.filters.expression import ALL, Filter, all_of, any_of
from tests.filters.support import MOMENT, read
from tests.repeats import repeats

P, Q = F.model.contains("gpt"), F.user_id.like("a%")
NAMES = {
    "F": F,
    "ALL": ALL,
    "all_of": all_of,
    "MOMENT": MOMENT,
    "P": P,
    "Q": Q,
    "cost": F.cost,
    "low": 1,
    "high": 5,
    "names": ["a", "b"],
    "columns": [F.model],
    "by_name": {"cost": 1},
    "filters": {"given": P},
    "on": True,
    "scope": types.SimpleNamespace(cost=F.cost, given=P, text=F.properties["a"]),
    "helper": lambda *_: P,
}

Suggestion = tuple[str, str]
_LINES = re.compile(r"\n  you wrote:    (.*)\n  did you mean: (.*)")


def suggested(error: BaseException) -> Suggestion | None:
    """The quoted source in the message of *error*, and the suggestion."""
    found = _LINES.search(str(error))
    return (found[1], found[2]) if found else None


def refused(source: str, filename: str, **names: object) -> Suggestion | None:
    """The suggestion in the error with which *source* ends."""
    with pytest.raises(FilterTypeError) as caught:
        exec(compile(source, filename, "exec", dont_inherit=True), NAMES | names)  # noqa: S102 - as above
    return suggested(caught.value)


@contextlib.contextmanager
def in_memory(source: str, name: str) -> Iterator[None]:
    """Makes *source* the content of *name* in linecache."""
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    try:
        yield
    finally:
        del linecache.cache[name]


@pytest.fixture
def find(tmp_path: Path) -> Callable[[str], Suggestion | None]:
    """The suggestion for a source in a file."""

    def found(source: str) -> Suggestion | None:
        file = tmp_path / "caller.py"
        file.write_text(source, encoding="utf-8")
        return refused(source, str(file))

    return found


@pytest.mark.parametrize(
    ("wrote", "meant"),
    [
        ('F.model == "x" & F.user_id == "y"', '(F.model == "x") & (F.user_id == "y")'),
        ("F.cost > 1 & F.threat | ~F.latency < 2", "(F.cost > 1) & F.threat | ~(F.latency < 2)"),
        ("F.cost > 1 | F.latency < 2 & P", "(F.cost > 1) | (F.latency < 2) & P"),
        ("~(F.cost > 1 & F.latency < 2) & P", "~((F.cost > 1) & (F.latency < 2)) & P"),
        ("F.cost > low & F.latency < high + 1", "(F.cost > low) & (F.latency < high + 1)"),
        ("F.cost > (1 if on else 2) & F.latency < 2", "(F.cost > (1 if on else 2)) & (F.latency < 2)"),
        ("MOMENT < F.request_created_at & cost > 1", "(MOMENT < F.request_created_at) & (cost > 1)"),
        (
            "F.properties['a'] == 'x' & F['scores']['b'] == 4",
            "(F.properties['a'] == 'x') & (F['scores']['b'] == 4)",
        ),
        ("F.cost > 1 & helper() & F.latency < 2", "(F.cost > 1) & helper() & (F.latency < 2)"),
        ("5 < F.cost & P", "(5 < F.cost) & P"),
        ("F.threat & F.cached == False", "F.threat & (F.cached == False)"),
        ("~F.threat == True", "~(F.threat == True)"),
        ("True == F.threat & P", "(True == F.threat) & P"),
        ("F.cost > 1 and not F.threat", "(F.cost > 1) & ~F.threat"),
        ("not F.cost > 1", "~(F.cost > 1)"),
        ("not (P and Q)", "~(P & Q)"),
        ("(P)and(Q)or(F.cost>1)", "P & Q | (F.cost > 1)"),
        ("P and (F.threat or F.cached)", "P & (F.threat | F.cached)"),
        ("F.cost > 1 or P", "(F.cost > 1) | P"),
        ("F.properties['facts'].contains('a') and P", "F.properties['facts'].contains('a') & P"),
        ("F.cost > 1 and all_of(P)", "(F.cost > 1) & all_of(P)"),
        ("scope.cost > 1 and scope.given", "(scope.cost > 1) & scope.given"),
        ("F.cost > 1 & F.latency < 2 or P and not Q", "(F.cost > 1) & (F.latency < 2) | P & ~Q"),
        ("1 < F.cost < 5", 'F.cost.between(1, 5, inclusive="neither")'),
        ("1 <= F.cost <= 5", "F.cost.between(1, 5)"),
        ("1 <= F.cost < 5", 'F.cost.between(1, 5, inclusive="left")'),
        ("1 < F.cost <= 5", 'F.cost.between(1, 5, inclusive="right")'),
        ("5 > F.cost > 1", 'F.cost.between(1, 5, inclusive="neither")'),
        ("5 > F.cost >= 1", 'F.cost.between(1, 5, inclusive="left")'),
        ("5 >= (F.cost) > 1", 'F.cost.between(1, 5, inclusive="right")'),
        ("low < cost < high", 'cost.between(low, high, inclusive="neither")'),
        ("1 < F.cost < 5 & P", 'F.cost.between(1, 5, inclusive="neither") & P'),
        ("P & ~(1 <= F.cost <= 5)", "P & ~F.cost.between(1, 5)"),
        ("F.cost < high < F.latency", "(F.cost < high) & (high < F.latency)"),
        ("1 < F.cost != 3", "(1 < F.cost) & (F.cost != 3)"),
        ('F.model in ["a", "b"]', 'F.model.is_in(["a", "b"])'),
        ("F.model in names", "F.model.is_in(names)"),
        ('F.model in {"a"}', 'F.model.is_in({"a"})'),
        ('F.model not in ("a", "b")', 'F.model.not_in(("a", "b"))'),
        ("F.status in range(500, 600) and P", "F.status.is_in(range(500, 600)) & P"),
        ('"a" in F.model', 'F.model.contains("a")'),
        ('"a" not in F.properties["k"]', 'F.properties["k"].not_contains("a")'),
        ("P ^ Q", "(P | Q) & ~(P & Q)"),
        ("F.threat ^ F.cached", "(F.threat | F.cached) & ~(F.threat & F.cached)"),
        ("3 > F.cost < 1", "(3 > F.cost) & (F.cost < 1)"),
        ("3 > F.latency <= 1 and P", "(3 > F.latency) & (F.latency <= 1) & P"),
        ("1 < F.cost > 3", "(1 < F.cost) & (F.cost > 3)"),
    ],
)
def test_what_was_meant(find: Callable[[str], Suggestion | None], wrote: str, meant: str) -> None:
    """A rejected expression is rewritten, and the suggestion builds a filter."""
    assert (wrote, meant) == find(f"x = {wrote}")
    assert isinstance(read(meant, **NAMES), Filter)


@pytest.mark.parametrize(
    "wrote",
    [
        "F.cost > F.latency",
        "F.cost > F.latency & P",
        "F.cost > 1 and F.latency > F.cost",
        "F.cost > 1 and F.latency > max(F.cost, 2)",
        "F.cost & F.threat",
        "F.cost and F.threat",
        "P & 5 & Q",
        "P and 5",
        "P and on",
        "P and helper()",
        "P and P.to_wire()",
        "P and low < high",
        "F.model == 'a' or 'b'",
        "P or Q",
        "P or ALL",
        "P or F.cost > 1",
        "scope.given or F.threat",
        "P and Q or ALL",
        "not P",
        "not F.threat & P",
        "F.cost > 1 and P | Q",
        "F.threat and F.cached is True",
        "5 < F.cost < 1",
        "1 < F.cost < 5 < 7",
        "F.cost < low < 5",
        "P and (1 < F.cost < helper() < F.latency)",
        "P and 'a' < F.model",
        "F.threat == True & P == Q & F.cached",
        "F.cost > (1 & P) & F.latency < 2",
        "(P | F.cost) & Q",
        "(F.threat & F.cached) == False",
        "(F.cost > 1 if on else P) and F.threat",
        "~low < F.cost & P & ~low < F.latency",
        "P ^ (Q | ALL)",
        "P ^ F.model.contains('a name of some length')",
        "'k' in F.properties",
        "5 in F.cost",
        "'a' in P",
        "'a' in [F.model, F.user_id]",
        "F.user_id in columns",
        "F.model in [F.user_id]",
        "P and F.model in 'gpt'",
        "P and F.cost in by_name",
    ],
)
def test_doubts(find: Callable[[str], Suggestion | None], wrote: str) -> None:
    """If the intention is unclear, there is no suggestion."""
    assert None is find(f"x = {wrote}")


# 3.11 does not keep the place of such a test.
from_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="3.11 does not keep its place")


@pytest.mark.parametrize(
    ("source", "wrote", "meant"),
    [
        ("if P: pass", "if P", "if P is not None"),
        ("if (P):\n    pass\nelse:\n    pass", "if P", "if P is not None"),
        ("if not P: pass", "if not P", "if P is None"),
        ("if 0: pass\nelif on:\n    if P: pass", "if P", "if P is not None"),
        ("if not on: pass\nelif P: pass", "if P", "if P is not None"),
        ("while P: pass", "while P", "while P is not None"),
        ("assert P", "assert P", "assert P is not None"),
        ("assert not P, 'no'", "assert not P", "assert P is None"),
        ("x = 1 if P else 2", "if P", "if P is not None"),
        ("x = P | Q if not P else Q", "if not P", "if P is None"),
        pytest.param("match 1:\n    case 1 if P: pass", "if P", "if P is not None", marks=from_3_12),
        pytest.param("x = [1 for y in [1] if P]", "if P", "if P is not None", marks=from_3_12),
        pytest.param("x = list(1 for y in [1] if not P)", "if not P", "if P is None", marks=from_3_12),
    ],
)
def test_tests(find: Callable[[str], Suggestion | None], source: str, wrote: str, meant: str) -> None:
    """An optional filter is compared with None."""
    assert (wrote, meant) == find(source)


@pytest.mark.parametrize(
    "source",
    [
        "if cost: pass",
        "if scope.given: pass",
        "if F.threat: pass",
        "if F.cost > 1: pass",
        "if on and P and Q: pass",
        "if (P\n    or Q): pass",
        "if F.cost > 1 & F.latency < 2: pass",
        "if F.cost > 1 and P or 1 < F.latency < 5: pass",
        "while not (P and Q): pass",
        "assert 1 < F.cost < 5, 'no'",
        "x = 1 if P and Q else 2",
        "x = P | Q if F.cost > 1 and P and low else Q",
        "x = [1 for y in [1] if 1 < F.cost < 5]",
        "x = {y: 1 for y in [1] if P or Q}",
        "match 1:\n    case 1 if 1 < F.cost < 5: pass",
    ],
)
def test_no_filter_is_a_test(find: Callable[[str], Suggestion | None], source: str) -> None:
    """No other filter is a test for None, so there is no suggestion."""
    assert find(source) is None


@pytest.mark.parametrize(
    ("source", "wrote", "meant"),
    [
        ("{F.cost: 1}", "{F.cost: 1}", '{"cost": 1}'),
        ("{'é': 1, **{cost: 2}}", "{cost: 2}", '{"cost": 2}'),
        ("{**by_name, F.cost: 1}", None, '{**by_name, "cost": 1}'),
        ("{'é': 1, F.helicone_score_feedback: 1}", None, "{'é': 1, \"helicone-score-feedback\": 1}"),
        ("{F.cost,\n F.latency}", "{F.cost, F.latency}", '{"cost", "latency"}'),
        ("by_name[F.cost]", None, 'by_name["cost"]'),
        ("by_name[cost] = 2", "by_name[cost]", 'by_name["cost"]'),
        ("by_name[cost] += 2", "by_name[cost]", 'by_name["cost"]'),
        ("del by_name[F.cost]", "by_name[F.cost]", 'by_name["cost"]'),
        ("if by_name[cost] and on: pass", "by_name[cost]", 'by_name["cost"]'),
    ],
)
def test_keys(find: Callable[[str], Suggestion | None], source: str, wrote: str | None, meant: str) -> None:
    """A column's name can replace it as a key."""
    assert (wrote or source, meant) == find(source)


@pytest.mark.parametrize(
    "source",
    [
        "helper.__dict__[F.cost]",
        "filters['given'] and P",
        "if filters['given']: pass",
        "{scope.text: 1}",
        "{F.properties: 1}",
    ],
)
def test_no_keys(find: Callable[[str], Suggestion | None], source: str) -> None:
    """If no name can replace the column, or no key is wrong, there is no suggestion."""
    assert find(source) is None


AND = ("F.cost > 1 and P", "(F.cost > 1) & P")
RANGE = ("1 < x < high", 'x.between(1, high, inclusive="neither")')
MANGLED = ("1 < F.cost < __high", 'F.cost.between(1, __high, inclusive="neither")')
LOCALS = ("a < b < c", 'b.between(a, c, inclusive="neither")')


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def f():\n    return F.cost > 1 and P\nf()", AND),
        ("def f(x, high):\n    def g(): return 1 < x < high\n    g()\nf(F.cost, 2)", RANGE),
        ("class A:\n    def f(self, x): return 1 < x < high\nA().f(F.cost)", RANGE),
        ("class A:\n    x = F.cost\n    y = 1 < x < high", RANGE),
        ("(lambda x: 1 < x < high)(F.cost)", RANGE),
        ("[1 < x < high for x in [F.cost]]", RANGE),
        ("def f():\n    [1 < x < high for x in [F.cost]]\nf()", RANGE),
        ("{1: 1 < x < high for x in [F.cost]}", RANGE),
        ("list(1 < x < high for x in [F.cost])", RANGE),
        ("[y for y in [1] if on for z in [F.cost > 1 and P]]", AND),
        ("async def f(x):\n    return 1 < x < high\nf(F.cost).send(None)", RANGE),
        (
            "async def f(x):\n    return F.cost > await f(1) and P if x > 1 else 2\nf(2).send(None)",
            ("F.cost > await f(1) and P", "(F.cost > await f(1)) & P"),
        ),
        ("def f(x):\n    yield 1 < x < high\nnext(f(F.cost))", RANGE),
        ("@(lambda f: F.cost > 1 and P)\ndef g(): pass", AND),
        ("def f(\n    x=F.cost > 1 and P,\n): pass", AND),
        ("match 1:\n    case 1:\n        F.cost > 1 and P", AND),
        ("try:\n    1 / 0\nexcept ZeroDivisionError:\n    F.cost > 1 and P", AND),
        ("f'{F.cost > 1 and P}'", AND),
        ("f'é{on!r:>{high}} {F.cost > 1 and P!r:>5}'", AND),
        ("f'''\n{on}\n{F.cost > 1 and P}'''", AND),
        ("x = 'é', '中', F.cost > 1 and P; y = 1", AND),
        ("x = {\n    'a': [\n        (F.cost  # so (much\n         > 1\n         and # more ))\n P)]}", AND),
        ("x = F.cost > 1 \\\n    and P", AND),
        ("x = '''\n''', F.cost > 1 and P, '''\n'''", AND),
        ("print(helper(F.cost > 1 and P), on)", AND),
        ("x = columns[F.cost > 1 and P]", AND),
        ("x = (y := F.cost > 1 and P)", AND),
        ("P &= F.cost > 1 and P", AND),
        ("class A:\n    __high = 5\n    x = 1 < F.cost < __high", MANGLED),
        ("class A:\n    def f(_, __high): return [1 < F.cost < __high for _ in [1]]\nA().f(5)", MANGLED),
        ("def f(a, b, c):\n    return a < b < c\nf(1, F.cost, 5)", LOCALS),
        ("x = (F.cost > 1 and P) if on else Q", AND),
        (
            "x = F.model.contains(\n    'a',  # first\n) and F.model.is_in(\n    ['b', f'{on}{{}}'],\n)",
            (
                "F.model.contains('a') and F.model.is_in(['b', f'{on}{{}}'])",
                "F.model.contains('a') & F.model.is_in(['b', f'{on}{{}}'])",
            ),
        ),
        (
            "import helicone_sessions as hs\nhs.F.cost > 1 and hs.all_of(P)",
            ("hs.F.cost > 1 and hs.all_of(P)", "(hs.F.cost > 1) & hs.all_of(P)"),
        ),
    ],
)
def test_places(find: Callable[[str], Suggestion | None], source: str, expected: Suggestion) -> None:
    """The expression is found anywhere, and only its own condition is quoted."""
    assert expected == find(source)


@pytest.mark.parametrize(
    "source",
    [
        "bool(F.cost > 1)",
        "any(P for x in [1])",
        "max(F.cost, F.latency)",
        "all_of(P & True)",
        "by_name.get(F.cost)",
        "{column for column in columns}",
        "exec('F.cost > 1 and P')",
        "x = F.model == '''a\nb''' and P",
        "x = F.cost > 1 and F.model.is_in([" + "'a', " * 60 + "])",
    ],
)
def test_nothing_is_found(find: Callable[[str], Suggestion | None], source: str) -> None:
    """There is no suggestion for calls, code without a file, multi-line strings and listings."""
    assert find(source) is None


def test_no_source(tmp_path: Path) -> None:
    """Without a source there is no suggestion."""
    assert refused("F.cost > 1 and P", str(tmp_path / "missing.py")) is None


def test_source_in_memory() -> None:
    """The source of a cell or a prompt is found under the name that linecache has for it."""
    source = "x = F.cost > 1 and P"
    with in_memory(source, "<cell 1>"):
        assert AND == refused(source, "<cell 1>")


def test_cells() -> None:
    """Jupyter compiles each statement of a cell by itself, and shows the value of the last."""
    cell = "x = [F.cost > 1 and P\n     for _ in names]\nawait helper(F.cost > 1 and P)\nF.cost > 1 and P"
    *statements, last = ast.parse(cell).body
    assert isinstance(last, ast.Expr)
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    codes = [compile(ast.Module([one], []), "<cell 1>", "exec", flags) for one in statements]
    codes.append(compile(ast.Interactive([last]), "<cell 1>", "single", flags))
    with in_memory(cell, "<cell 1>"):
        for code in codes:
            with pytest.raises(FilterTypeError) as caught:
                eval(code, dict(NAMES)).send(None)  # noqa: S307 - as above
            assert AND == suggested(caught.value)


@pytest.mark.skipif(sys.platform == "emscripten", reason="no other process can be started")
def test_no_places(tmp_path: Path) -> None:
    """Without columns of positions (-X no_debug_ranges) there is no suggestion."""
    file = tmp_path / "caller.py"
    file.write_text("from helicone_sessions import F\nF.cost > 1 and F.threat")
    command = [sys.executable, "-X", "no_debug_ranges", str(file)]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "F.cost > 1 has no truth value" in said
    assert "did you mean" not in said


@pytest.mark.parametrize(
    "now",
    [
        "x = F.cost > 1 and Q",
        "x = F.cost > 2 and P",
        "x = F.cost < 1 and P",
        "x = F.cost > 1 or P",
        "x = 1, (F.cost > 1 and P)",
        "x = (F.cost > 1) & P",
        "x = F.cost > 1 and",
        "",
        "y = '''\nx = F.cost > 1 and P'''",
    ],
)
def test_changed_source(now: str) -> None:
    """Nothing is suggested from another source than the compiled one, for example of a changed file."""
    with in_memory(now, "<string>"):
        assert refused("x = F.cost > 1 and P", "<string>") is None


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8-sig", "utf-8"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(tmp_path: Path, encoding: str, end: str) -> None:
    """Files are read as Python reads them."""
    lines = [f"# coding: {encoding.removesuffix('-sig')}", "x = 'ä', (F.cost > 1", "  and P)", ""]
    file = tmp_path / "caller.py"
    file.write_bytes(end.join(lines).encode(encoding))
    with pytest.raises(FilterTypeError) as caught:
        exec(compile(file.read_bytes(), str(file), "exec"), dict(NAMES))  # noqa: S102 - as above
    assert AND == suggested(caught.value)


def test_long_file(find: Callable[[str], Suggestion | None]) -> None:
    """The expression is found in a long file too."""
    block = "def f(x):\n    if x:\n        return [x, 'é']\n\n\n"
    assert AND == find(block * 2000 + "for _ in [1]:\n    F.cost > 1 and P\n")


def test_while_it_is_traced(find: Callable[[str], Suggestion | None]) -> None:
    """Instructions replaced by tracing are recognised."""
    before = sys.gettrace()
    sys.settrace(lambda *_: lambda *_: None)
    try:
        assert AND == find("x = F.cost > 1 and P")
    finally:
        sys.settrace(before)


def test_rewritten_module() -> None:
    """Modules whose assert statements pytest has rewritten are read as they were written."""
    with pytest.raises(FilterTypeError) as caught:
        [P & F.cost > 1 & F.latency < 2 for _ in [1]]
    meant = "P & (F.cost > 1) & (F.latency < 2)"
    assert ("P & F.cost > 1 & F.latency < 2", meant) == suggested(caught.value)


def test_rewritten_assert() -> None:
    """In an assert statement that pytest has rewritten, too, the expression is found."""
    given = P
    with pytest.raises(FilterTypeError) as caught:
        assert all_of(F.model == "x" & F.user_id == "y") == P
    assert ('F.model == "x" & F.user_id == "y"', '(F.model == "x") & (F.user_id == "y")') == suggested(
        caught.value
    )
    with pytest.raises(FilterTypeError) as caught:
        assert given
    assert ("assert given", "assert given is not None") == suggested(caught.value)
    with pytest.raises(FilterTypeError) as caught:
        assert all_of(not F.threat) == P
    assert ("not F.threat", "~F.threat") == suggested(caught.value)
    with pytest.raises(FilterTypeError) as caught:
        assert all_of(1 < F.cost < 5) == P  # pytest moves chains, and, or to the place of the assert
    assert suggested(caught.value) is None


def test_beside_a_rewritten_assert() -> None:
    """Beside assert statements that pytest has rewritten every expression is found."""
    low, high = 1, 5
    with pytest.raises(FilterTypeError) as caught:
        _ = low < F.cost < high
    assert ("low < F.cost < high", 'F.cost.between(low, high, inclusive="neither")') == suggested(
        caught.value
    )


@pytest.mark.parametrize("name", ["__main__", "helicone_sessions.filtersets"])
def test_the_caller(name: str) -> None:
    """The expression is the caller's, even in a module whose name begins like those of the language."""
    source = "x = F.cost > 1 and P"
    with in_memory(source, "<cell 1>"):
        assert AND == refused(source, "<cell 1>", __name__=name)
        assert refused(source, "<cell 1>", __name__="helicone_sessions.filters.inside") is None


def test_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """However broken the source is, looking for it causes no other error."""

    def getlines(*_: object) -> list[str]:
        raise OSError

    monkeypatch.setattr(linecache, "getlines", getlines)
    assert refused("x = F.cost > 1 and P", "<cell 1>") is None


def test_nothing_is_run(find: Callable[[str], Suggestion | None]) -> None:
    """Neither properties nor item access nor calls of the caller are run to understand it."""
    wrote = (
        "F.cost > 1 and sly.limit and sly['a'] and sly.b and sly() and 1 in sly and F.model in sly and sly"
    )
    source = f"""
class Sly(dict):
    def run(*_): raise SystemExit
    __getitem__ = __contains__ = __getattr__ = __iter__ = __call__ = __bool__ = run
    limit = __class__ = property(run)
sly = Sly()
x = {wrote}
"""
    assert None is find(source)


@pytest.mark.parametrize("scope", [types.MappingProxyType({}), {}])
def test_any_scope(scope: Any) -> None:
    """Names are looked up in any mapping that exec() received for variables."""
    source = "F.cost > 1 and P"
    with in_memory(source, "<cell 2>"), pytest.raises(FilterTypeError) as caught:
        exec(compile(source, "<cell 2>", "exec"), dict(NAMES), scope)  # noqa: S102 - as above
    assert AND == suggested(caught.value)


# Expressions without parentheses, and the filters that they mean.
COMPARISONS = [
    ("F.cost > 0.5", F.cost.gt(0.5)),
    ("3 >= F.latency", F.latency.lte(3)),
    ("F.model == 'x y'", F.model.eq("x y")),
    ("F.properties['a & b'] != '('", F.properties["a & b"].ne("(")),
    ("F.request_created_at >= MOMENT", F.request_created_at.gte(MOMENT)),
    ("F.threat == False", F.threat.is_false()),
    ("1 < F.cost <= 5", F.cost.between(1, 5, "right")),
    ("-1 >= F.status > -5", F.status.between(-5, -1, "right")),
    ("F.cost < 5 != F.latency", F.cost.lt(5) & F.latency.ne(5)),
    ("F.model in ['a', 'b']", F.model.is_in(["a", "b"])),
    ("F.model not in {'a'}", F.model.not_in(["a"])),
    ("'a' in F.model", F.model.contains("a")),
]
ATOMS = [
    ("F.threat", F.threat.is_true()),
    ("F.model.contains('gpt or (')", F.model.contains("gpt or (")),
    ("all_of(F.cost.lt(1), F.threat)", F.cost.lt(1) & F.threat),
]
OR, AND_, NOT, COMPARISON = range(4)
# How tightly it binds; what it joins, or its source and filter; how it is spelt; whether it has needless
# parentheses.
Tree = tuple[int, tuple[Any, ...], bool, bool]


def trees(words: st.SearchStrategy[bool]) -> st.SearchStrategy[Tree]:
    leaves = st.sampled_from(
        [(COMPARISON, leaf) for leaf in COMPARISONS] + [(COMPARISON + 1, a) for a in ATOMS]
    )
    flags = st.tuples(words, st.integers(0, 9).map(lambda number: number == 0))

    def joined(inner: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
        parts = st.lists(inner, min_size=2, max_size=3).map(tuple)
        below = st.tuples(st.just(NOT), st.tuples(inner)) | st.tuples(st.sampled_from([OR, AND_]), parts)
        return st.tuples(below, flags).map(lambda pair: (*pair[0], *pair[1]))

    return st.recursive(st.tuples(leaves, flags).map(lambda pair: (*pair[0], *pair[1])), joined, max_leaves=6)


def meaning(tree: Tree) -> Filter:
    """The filter of *tree*, built by methods."""
    binds, below, *_ = tree
    if binds >= COMPARISON:
        return below[1]  # type: ignore[no-any-return]
    if binds == NOT:
        return ~meaning(below[0])
    return (all_of if binds == AND_ else any_of)(*map(meaning, below))


def text(tree: Tree, around: int = OR) -> str:
    """The source of *tree*, with the parentheses that a reader needs."""
    binds, below, in_words, needless = tree
    if binds >= COMPARISON:
        source = below[0]
    elif binds == NOT:
        source = ("not " if in_words else "~") + text(below[0], NOT)
    else:
        word = {AND_: ("and", "&"), OR: ("or", "|")}[binds][not in_words]
        source = f" {word} ".join(text(part, binds) for part in below)
    return f"({source})" if binds < around or needless else source


NUMBERS = itertools.count()


def meant_by(tree: Tree) -> tuple[bool, Suggestion | None]:
    """Whether the source of *tree* is rejected, and the suggestion."""
    source, name = f"x = {text(tree)}", f"<tree {next(NUMBERS)}>"
    with in_memory(source, name):
        try:
            exec(compile(source, name, "exec"), dict(NAMES))  # noqa: S102 - as above
        except FilterTypeError as error:
            return True, suggested(error)
        except (
            TypeError,
            FilterError,
            SyntaxError,
        ):  # Python itself refuses "a" & "b", and `F.threat & not P`
            pass
    return False, None


@given(trees(st.booleans()))
@settings(max_examples=repeats(400))
def test_never_another_filter(tree: Tree) -> None:
    """The suggestion for a rejected expression is the filter that a reader sees in it."""
    _, found = meant_by(tree)
    if found:
        assert meaning(tree).to_wire() == all_of(read(found[1])).to_wire()


@given(trees(st.just(value=True)) | trees(st.just(value=False)))
@settings(max_examples=repeats(400))
def test_hardly_ever_nothing(tree: Tree) -> None:
    """A rejected expression in words only, or in signs only, has a suggestion."""
    source, (is_refused, found) = text(tree), meant_by(tree)
    # Python computes ~5, which may be meant, and False | 3, which is compared with F.threat.
    if is_refused and len(source) <= 300 and not re.search(r"~[-\d']|False [&|] [-\d]", source):
        assert found is not None
        assert meaning(tree).to_wire() == all_of(read(found[1])).to_wire()
