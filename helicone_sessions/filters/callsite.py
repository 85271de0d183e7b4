"""The expression that a frame is running, found in its source.

What is not certain is not found: a file that was changed after it was imported, or that is not there.
"""

import ast
import functools
import itertools
import linecache
import re
import tokenize
from collections.abc import Iterator
from opcode import opname
from types import CodeType, FrameType, NoneType
from typing import Any, Final

import attrs

# The instructions that ask an operand for what it may refuse: its truth, a result, its hash.
_ASKING: Final = re.compile(
    r"_IF_(TRUE|FALSE)|TO_BOOL|UNARY_|(COMPARE|CONTAINS|BINARY)_OP|_SUBSCR$|BUILD_(MAP|SET)$"
)


class Unsure(Exception):
    """The source leaves a doubt about what was meant."""


@attrs.frozen
class CallSite:
    """An expression of the caller's.

    Args:
        wrote: It as it stands in the source, on one line.
        tree: The same, parsed.
        is_key: Whether it failed over a key, of a dict, a set or an index.
        form: The words around it where it is what a statement tests, as ``"if {}:"``.
    """

    wrote: str
    tree: Any
    is_key: bool
    form: str | None


def call_site(frame: FrameType) -> CallSite | None:
    """What *frame* is running; None where its source cannot be trusted."""
    code = frame.f_code
    asking = opname[code.co_code[frame.f_lasti]]
    # All text that is evaluated is called <string>; from 3.13 on the source of -c is found for any of it.
    if code.co_filename == "<string>" or not _ASKING.search(asking):
        return None
    lines = linecache.getlines(code.co_filename, frame.f_globals)
    place = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None))
    is_key = asking.startswith("BUILD") or asking.endswith("SUBSCR")
    node, parent = _located("".join(lines), place, climb=not is_key)
    wrote = _on_one_line(_cut(lines, node))
    tree = expression(wrote)
    if shape(tree) != shape(node) or not _belongs(tree, code):
        return None
    return CallSite(wrote, tree, is_key, None if is_key else _form_of_test(lines, node, parent))


@functools.lru_cache(maxsize=4)  # the error may be met in a loop; what is kept is known by the whole source
def _located(source: str, place: tuple[Any, ...], *, climb: bool) -> tuple[Any, Any]:
    """The condition that the node at *place* is a part of, and the node around it."""
    above: dict[ast.AST, ast.AST] = {}
    node: ast.AST = ast.parse(source)
    waiting = [node]
    for parent in waiting:
        for child in ast.iter_child_nodes(parent):
            if not hasattr(child, "lineno") or _reaches(child, place):
                above[child] = parent
                waiting.append(child)
                node = child if _place_of(child) == place else node
    # For a test, 3.11 gives the place of what the test belongs to.
    match node:
        case ast.If() | ast.While() | ast.Assert() | ast.IfExp():
            return node.test, node
        case ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            [only] = [(test, part) for part in node.generators for test in part.ifs]
            return only
    while climb and is_operator(above[node]):
        node = above[node]
    return node, above[node]


def _reaches(node: Any, place: tuple[Any, ...]) -> bool:
    first = min(part.lineno for part in (node, *getattr(node, "decorator_list", ())))
    return bool(first <= place[0] and place[1] <= node.end_lineno)


def _place_of(node: ast.AST) -> tuple[Any, ...]:
    return tuple(
        getattr(node, name, None) for name in ("lineno", "end_lineno", "col_offset", "end_col_offset")
    )


def is_operator(node: ast.AST) -> bool:
    """Whether it joins, compares or negates."""
    match node:
        case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not() | ast.Invert()):
            return True
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor()):
            return True
    return False


def _form_of_test(lines: list[str], node: ast.AST, parent: ast.AST) -> str | None:
    match parent:
        case ast.If(test=test) | ast.While(test=test) if test is node:
            return _cut(lines, parent).split(maxsplit=1)[0] + " {}:"
        case ast.Assert(test=test) if test is node:
            return "assert {}"
        case ast.IfExp(test=test) | ast.match_case(guard=test) if test is node:
            return "if {}"
        case ast.comprehension(ifs=tests) if node in tests:
            return "if {}"
    return None


def _cut(lines: list[str], node: Any) -> str:
    rows = [line.encode() for line in lines[node.lineno - 1 : node.end_lineno]]
    rows[-1] = rows[-1][: node.end_col_offset]
    rows[0] = rows[0][node.col_offset :]
    return b"".join(rows).decode()


def _on_one_line(source: str) -> str:
    """*source* without comments and line breaks; a text that goes over several lines is too much."""
    if "\n" not in source:
        return source
    rows = f"({source})".splitlines(keepends=True)
    line, end = "", (1, 0)
    for token in tokenize.generate_tokens(iter(rows).__next__):
        if token.type in (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER):
            continue
        if token.start[0] != token.end[0]:
            raise Unsure
        if token.start[0] != end[0]:
            line = line.rstrip(", ") if token.string in ")]}" else line + " " * (line[-1] not in "([{")
            end = token.start
        line += rows[end[0] - 1][end[1] : token.end[1]]
        end = max(end, token.end)
    return line[1:-1]


def expression(source: str) -> Any:
    """The parsed *source* of one expression."""
    return ast.parse(source, mode="eval").body


def shape(node: ast.AST) -> str:
    """What makes two trees equal."""
    return re.sub(r"\b(Store|Del)\(\)", "Load()", ast.dump(node))


def _belongs(tree: Any, code: CodeType) -> bool:
    """Whether the names and constants of *tree* are those of *code*; else the file was changed meanwhile."""
    names = {getattr(node, "id", None) or getattr(node, "attr", "") for node in ast.walk(tree)}
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    constants = compile(ast.Expression(tree), "", "eval", flags=flags).co_consts
    return names <= {"", *_names_of(code)} and all(
        constant in code.co_consts for constant in constants if not isinstance(constant, (CodeType, NoneType))
    )


def _names_of(code: CodeType) -> Iterator[str]:
    for name in (*code.co_names, *code.co_varnames, *code.co_freevars, *code.co_cellvars):
        yield name
        yield re.sub(r"^_\w+?(?=__)", "", name)  # inside a class, __name is kept as _Class__name
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_of(constant)
