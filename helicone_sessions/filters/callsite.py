"""Finds the expression that a frame runs, in the source of its module.

Python keeps the place of each instruction in the source (PEP 657). The expression is the syntax node at that
place. It is used only if the code was compiled from this source.
"""

import ast
import dis
import functools
import itertools
import linecache
import re
from types import CodeType, FrameType
from typing import Any

import attrs

# First line, last line, first column and last column, the order of code.co_positions().
Place = tuple[Any, ...]

_parse = functools.lru_cache(maxsize=4)(ast.parse)  # the same source may fail in a loop


class Unsure(Exception):
    """The source leaves a doubt about what was meant."""


@attrs.frozen
class CallSite:
    """The node that a frame runs.

    Args:
        code: The code of the frame.
        source: The source of its module.
        path: The nodes from the module to this one.
    """

    code: CodeType
    source: str
    path: list[Any]

    def text(self, node: ast.AST) -> str:
        """Return the source of *node*, one of the path, on one line.

        Raises:
            Unsure: The code was compiled from another source, or a string has several lines.
        """
        place = _place(node)
        # Without the pass, the code would return None at the place of the statement.
        module = ast.Module([self.path[1], ast.Pass(lineno=0, col_offset=0)], [])
        compiled = compile(module, "", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        # A tool such as pytest may add to the code, but what the source names keeps its place.
        if not _operands(compiled, place) <= _operands(self.code, place):
            raise Unsure
        text = _on_one_line(ast.get_source_segment(self.source, node) or "")
        if not is_same(expression(text), node):
            raise Unsure
        return text


def call_site(frame: FrameType) -> CallSite:
    """Return the node that *frame* runs.

    Raises:
        Unsure: The source has no node at that place.
    """
    code = frame.f_code
    place = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None))
    source = "".join(linecache.getlines(code.co_filename, frame.f_globals))
    path = _path(_parse(source), place)
    if not path:
        raise Unsure
    return CallSite(code, source, path)


def expression(text: str) -> ast.expr:
    """Parse one expression."""
    return ast.parse(text, mode="eval").body


def is_same(one: ast.AST, other: ast.AST) -> bool:
    """Whether two expressions mean the same to Python."""
    return ast.unparse(one) == ast.unparse(other)


def _path(node: ast.AST, place: Place) -> list[Any]:
    """The nodes from *node* to the innermost one at *place*; none if no node is there."""
    own = _place(node)
    if own and own[1] < place[0]:
        return []
    for child in ast.iter_child_nodes(node):
        if path := _path(child, place):
            return [node, *path]
    return [node] if own == place else []


def _place(node: Any) -> Place:
    if not hasattr(node, "lineno"):
        return ()
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _operands(code: CodeType, around: Place) -> set[tuple[Place, object]]:
    """The names, constants and signs that *code* has inside the place *around*, each with its own place."""
    found = set()
    for step in dis.get_instructions(code):
        place: Any = step.positions
        if isinstance(step.argval, CodeType):
            found |= _operands(step.argval, around)
        elif None in place or place[::2] < around[::2] or place[1::2] > around[1::2]:
            continue
        # dis spells all of them but small integers; it also spells the ends of jumps.
        elif (step.argrepr or step.opname == "LOAD_SMALL_INT") and step.opcode not in dis.hasjrel:
            found.add((place, step.argval))
    return found


def _on_one_line(source: str) -> str:
    """*source* without line breaks and comments; the contents of a string may change."""
    if "\n" not in source:
        return source
    line = re.sub(r"\s*(#[^\n'\"]*|\\)?\n\s*", " ", source)
    return re.sub(r"(?<=[(\[{]) |,? (?=[)\]}])", "", line)
