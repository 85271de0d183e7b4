"""Suggest a correction for a rejected expression, based on the caller's source.

Python records the source position of each instruction (PEP 657). The rejected expression is the syntax node
at the position of the caller's current instruction. A suggestion must not hide the original error, so this
module never raises an error and never runs the caller's code. If the source is ambiguous, there is no
suggestion.
"""

import ast
import contextlib
import dis
import functools
import inspect
import itertools
import linecache
import re
import sys
import warnings
from collections.abc import Iterator
from types import CodeType, FrameType, FunctionType, NoneType
from typing import Any, Final

import attrs

# First line, last line, first column and last column, as in code.co_positions().
Place = tuple[Any, ...]

_parse = functools.lru_cache(maxsize=4)(ast.parse)  # the same source may fail in a loop


class Unsure(Exception):
    """The intended meaning is not clear from the source."""


@attrs.frozen
class CallSite:
    """The syntax node that a frame is executing.

    Args:
        code: The code of the frame.
        source: The source of the frame's module.
        path: The nodes from the module down to the node that the frame is executing.
    """

    code: CodeType
    source: str
    path: list[Any]

    def text(self, node: ast.AST) -> str:
        """Return the source of *node*, a node in the path, on one line.

        Raises:
            Unsure: The code was compiled from another source, or a string spans several lines.
        """
        place = _place(node)
        # Without the pass statement, the code would return None at the position of the other statement.
        module = ast.Module([self.path[1], ast.Pass(lineno=0, col_offset=0)], [])
        compiled = compile(module, "", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        # Tools such as pytest add instructions, but the names in the source keep their positions.
        if not _operands(compiled, place) <= _operands(self.code, place):
            raise Unsure
        text = _on_one_line(ast.get_source_segment(self.source, node) or "")
        if not is_same(expression(text), node):
            raise Unsure
        return text


def call_site(frame: FrameType) -> CallSite:
    """Return the syntax node that *frame* is executing.

    Raises:
        Unsure: The source has no node at that position.
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
    """Whether two expressions have the same meaning in Python."""
    return ast.unparse(one) == ast.unparse(other)


def _path(node: ast.AST, place: Place) -> list[Any]:
    """The nodes from *node* to the innermost one at *place*, or an empty list if no node is there."""
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
    """The names, constants and operators in *code* inside the range *around*, with their positions."""
    found = set()
    for step in dis.get_instructions(code):
        place: Any = step.positions
        if isinstance(step.argval, CodeType):
            found |= _operands(step.argval, around)
        elif None in place or place[::2] < around[::2] or place[1::2] > around[1::2]:
            continue
        # dis describes all of these except small integers, but also describes the targets of jumps.
        elif (step.argrepr or step.opname == "LOAD_SMALL_INT") and step.opcode not in dis.hasjrel:
            found.add((place, step.argval))
    return found


def _on_one_line(source: str) -> str:
    """*source* without line breaks and comments. The contents of strings may change."""
    if "\n" not in source:
        return source
    line = re.sub(r"\s*(#[^\n'\"]*|\\)?\n\s*", " ", source)
    return re.sub(r"(?<=[(\[{]) |,? (?=[)\]}])", "", line)


_PACKAGE: Final = __name__.rpartition(".")[0]
UNKNOWN: Final = object()


class Mixed:
    """Marks the type of a value that contains a column or a filter, but is neither."""


def is_below(module: object) -> bool:
    """Whether the module with this name belongs to the filter language."""
    return f"{module}.".startswith(f"{_PACKAGE}.")


def _is_ours(value: object) -> bool:
    return is_below(type(value).__module__)


def can(kind: type | None, method: str) -> bool:
    """Whether *kind* is a class of the filter language that has *method*."""
    return kind is not None and is_below(kind.__module__) and hasattr(kind, method)


class Known:
    """Looks up the values of a frame's names without running any code, and so without isinstance()."""

    def __init__(self, frame: FrameType) -> None:
        variables = frame.f_locals
        if not issubclass(type(variables), dict):
            # From Python 3.13 on, `f_locals` is a proxy. In a class body or in exec(), it can be any mapping.
            variables = dict(variables) if type(variables).__module__ == "builtins" else {}
        self._scopes = (variables, frame.f_globals)

    def value(self, node: ast.AST) -> Any:
        """The value of *node*, or `UNKNOWN` if it cannot be looked up."""
        match node:
            case ast.Name(id=name):
                scopes = (scope for scope in self._scopes if dict.__contains__(scope, name))
                return next((dict.__getitem__(scope, name) for scope in scopes), UNKNOWN)
            case ast.Attribute(value=base, attr=name) if (of := self.value(base)) is not UNKNOWN:
                return inspect.getattr_static(of, name, UNKNOWN)
            case ast.Subscript(value=base, slice=ast.Constant(value=str(name))):  # F["cost"] is F.cost
                if _is_ours(of := self.value(base)) and not can(type(of), "_column"):
                    return inspect.getattr_static(of, name.replace("-", "_"), UNKNOWN)
        return UNKNOWN

    def kind(self, node: ast.AST) -> type | None:
        """The class of the value of *node*, or None if the class is unknown."""
        match node:
            case ast.Constant(value=value):
                return type(value)
            case ast.Subscript(value=base) if can(type(of := self.value(base)), "_column"):
                return of._column  # type: ignore[no-any-return]
            case ast.Call(func=function) if returned := self._returned(function):
                return returned
        value = self.value(node)
        held = value if type(value) in (list, tuple, set, frozenset) else ()
        if value is not UNKNOWN and not any(map(_is_ours, held)):
            return type(value)
        if any(map(_is_ours, (*held, *map(self.value, ast.walk(node))))):
            return Mixed
        return list if isinstance(node, (ast.List, ast.Tuple, ast.Set, ast.Dict)) else None

    def _returned(self, function: ast.AST) -> type | None:
        found = self.value(function)
        if found is UNKNOWN and isinstance(function, ast.Attribute):
            found = inspect.getattr_static(self.kind(function.value), function.attr, UNKNOWN)
        if type(found) is not FunctionType or not is_below(found.__module__):
            return None
        returned = found.__annotations__.get("return")
        return returned if isinstance(returned, type) else Mixed


_LONGEST: Final = 300
_LONGEST_TWICE: Final = 24
_WORD: Final = re.compile(r"not\s+in\b|is\s+not\b|\w+|[<>=!]=|[<>&|^~()]")
_METHODS: Final = {"==": "eq", "!=": "ne", "<": "lt", "<=": "lte", ">": "gt", ">=": "gte"}
_RANGES: Final = {("<=", "<="): "", ("<", "<"): "neither", ("<=", "<"): "left", ("<", "<="): "right"}
_FLIPPED: Final = {">": "<", ">=": "<="}
_NO_CONSTANTS: Final = (NoneType, list, tuple, set, frozenset, dict, FunctionType)
_REFERENCES: Final = (ast.Name, ast.Attribute, ast.Subscript)

# A part of the suggestion, and how tightly it binds.
_OR, _AND, _NOT, _COMPARISON, _ATOM = range(5)
Piece = tuple[int, str]


def suggestion() -> str:
    """The caller's expression and the suggestion, each on one line, or an empty string."""
    try:
        with warnings.catch_warnings():  # Python already issued the warnings for this source
            warnings.simplefilter("ignore")
            frame = _caller()
            wrote, meant = _rewritten(call_site(frame), Known(frame))
    except Exception:  # noqa: BLE001 - it would hide the original error
        return ""
    return f"\n  you wrote:    {wrote}\n  did you mean: {meant}" if len(wrote) <= _LONGEST else ""


def _caller() -> FrameType:
    frame = sys._getframe()
    while is_below(frame.f_globals.get("__name__")):
        if frame.f_back is None:
            raise Unsure
        frame = frame.f_back
    return frame


def _rewritten(site: CallSite, known: Known) -> tuple[str, str]:
    *above, node = site.path
    if isinstance(node, (ast.Dict, ast.Set, ast.Subscript)):
        wrote = site.text(node)
        return wrote, _with_names(wrote, expression(wrote), known)
    whole = node
    if hasattr(node, "test"):  # Python 3.11 gives a test the position of its statement
        above.append(node)
        whole = node.test
    while _is_operator(above[-1]):
        whole = above.pop()
    if whole in _tests(above[-1]):
        wrote = site.text(whole)
        word = {ast.While: "while", ast.Assert: "assert"}.get(type(above[-1]), "if")
        return f"{word} {wrote}", f"{word} {_is_given(expression(wrote), known)}"
    if not _is_operator(node):  # a call, such as any(), or an item
        raise Unsure
    wrote = site.text(whole)
    return wrote, _Reader(wrote, expression(wrote), known).meaning()


def _is_operator(node: ast.AST) -> bool:
    """Whether the node is a logical operation, a comparison or a negation."""
    match node:
        case ast.BoolOp() | ast.Compare() | ast.UnaryOp(op=ast.Not() | ast.Invert()):
            return True
        case ast.BinOp(op=ast.BitAnd() | ast.BitOr() | ast.BitXor()):
            return True
    return False


def _tests(node: ast.AST) -> list[Any]:
    """The conditions under which the contents of *node* run."""
    return [getattr(node, "test", None), getattr(node, "guard", None), *getattr(node, "ifs", ())]


def _is_given(tree: ast.AST, known: Known) -> str:
    """The expression that tests whether an optional filter is given."""
    match tree:
        case ast.UnaryOp(op=ast.Not(), operand=ast.Name() as name) if can(known.kind(name), "to_wire"):
            return f"{name.id} is None"
        case ast.Name(id=name) if can(known.kind(tree), "to_wire"):
            return f"{name} is not None"
    raise Unsure


def _with_names(wrote: str, tree: Any, known: Known) -> str:
    """The source *wrote*, with column names instead of columns as keys."""
    source, text, end = wrote.encode(), b"", 0
    for key in _keys(tree, known):
        column = known.value(key)
        if not can(type(column), "condition"):
            if can(known.kind(key), "condition"):
                raise Unsure
            continue
        if column._key is not None:
            raise Unsure
        text += source[end : key.col_offset] + f'"{column._facts.name}"'.encode()
        end = key.end_col_offset
    if not end:
        raise Unsure
    return (text + source[end:]).decode()


def _keys(tree: Any, known: Known) -> list[Any]:
    match tree:
        case ast.Subscript(value=container, slice=key) if type(known.value(container)) is dict:
            return [key]
        case ast.Dict(keys=keys) | ast.Set(elts=keys):
            return [key for key in keys if key]  # None marks a ** item
    raise Unsure


@attrs.frozen(eq=False)
class _Atom:
    """An operand, which is the source between two operators."""

    text: str
    node: ast.AST
    kind: type | None

    def can(self, method: str) -> bool:
        return can(self.kind, method)

    @property
    def is_ours(self) -> bool:
        return self.can("__class__")

    @property
    def is_constant(self) -> bool:
        """Whether a column can be compared with the operand."""
        return not self.is_ours and self.kind not in _NO_CONSTANTS


# A list of words and operands, with a nested list for each pair of parentheses.
Level = list[Any]


class _Reader:
    """Reads an expression. Comparisons bind tightest, then ~ and "not", then & and "and", then | and "or"."""

    def __init__(self, wrote: str, tree: ast.AST, known: Known) -> None:
        self._text, self._tree, self._known = wrote.encode(), tree, known
        # Operands of & are filters, but operands of "and" can be anything.
        self._strict = any(isinstance(node, (ast.BoolOp, ast.Not)) for node in ast.walk(tree))

    def meaning(self) -> str:
        """The intended expression.

        Raises:
            Unsure: The intention is unclear, or the expression is already right.
        """
        level = self._level()
        if level[0] == "not" and _is_optional(level[1:]):
            raise Unsure
        text = self._either(level)[1]
        if is_same(expression(text), self._tree):
            raise Unsure
        return text

    def _level(self) -> Level:
        levels: list[Level] = [[]]
        end = 0
        for leaf in (*_leaves(self._tree), None):
            start = leaf.col_offset if leaf else len(self._text)
            for word in _WORD.findall(self._text[end:start].decode()):
                if word == "(":
                    levels.append([])
                elif word == ")":
                    group = levels.pop()
                    levels[-1].append(_in_parentheses(*group) if len(group) == 1 else group)
                else:
                    levels[-1].append(" ".join(word.split()))
            if leaf:
                end = leaf.end_col_offset
                levels[-1].append(_Atom(self._text[start:end].decode(), leaf, self._known.kind(leaf)))
        return levels[0]

    def _either(self, level: Level) -> Piece:
        match level:
            case [_Atom(text=one) as left, "^", _Atom(text=other) as right]:
                self._alone(left), self._alone(right)
                if max(len(one), len(other)) > _LONGEST_TWICE:
                    raise Unsure
                return _AND, f"({one} | {other}) & ~({one} & {other})"
        _check_mixed(level)
        # `given or ALL` is a common way to write an optional filter, so it may be correct as it is.
        *given, last = _split(level, "or")
        is_default = bool(given) and _is_optional(last) and last[0].text.endswith(("ALL", "NONE"))
        if is_default or any(map(_is_optional, given)):
            raise Unsure
        return _joined("|", [self._all(part) for part in _split(level, "|", "or")])

    def _all(self, level: Level) -> Piece:
        return _joined("&", [self._negated(part) for part in _split(level, "&", "and")])

    def _negated(self, level: Level) -> Piece:
        match level:
            case ["~", _Atom() as first, _, *_] if not first.can("condition"):
                raise Unsure  # Python evaluates ~5 before this code runs
            case ["~" | "not", *inner]:
                return _NOT, "~" + _wrapped(self._negated(inner), _OR, _AND, _COMPARISON)
            case [item]:
                return self._alone(item)
            case [_Atom() as left, "in" | "not in" as sign, _Atom() as right]:
                return _membership(left, right, negated=sign == "not in")
            case [_Atom() as low, first, _Atom() as column, second, _Atom() as high]:
                return _between(low, column, high, first, second) or _chain(level)
        return _chain(level)

    def _alone(self, item: Any) -> Piece:
        if not isinstance(item, _Atom):
            return self._either(item)
        may_be_condition = item.kind is None and isinstance(item.node, (*_REFERENCES, ast.Call))
        if item.can("to_wire") or item.can("is_true") or (may_be_condition and not self._strict):
            return _ATOM, item.text
        raise Unsure


def _leaves(node: ast.AST) -> Iterator[Any]:
    if not _is_operator(node):
        yield node
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            yield from _leaves(child)


def _in_parentheses(item: Any) -> Any:
    if not isinstance(item, _Atom) or isinstance(item.node, (*_REFERENCES, ast.Call, ast.Constant)):
        return item
    return attrs.evolve(item, text=f"({item.text})")


def _is_optional(level: Level) -> bool:
    """Whether the operand names a filter that can be None."""
    match level:
        case [_Atom(node=ast.Name() | ast.Attribute()) as atom]:
            return atom.can("to_wire")
    return False


def _check_mixed(level: Level) -> None:
    """Raise `Unsure` if words such as "and" are mixed with signs such as &.

    Python evaluates | before "and", and it evaluates & and | before "not". The author may have meant another
    order.
    """
    if "^" in level or ("and" in level and "|" in level):
        raise Unsure
    if any("not" in part and ("&" in part or "|" in part) for part in _split(level, "and", "or")):
        raise Unsure


def _split(level: Level, *signs: str) -> list[Level]:
    parts: list[Level] = [[]]
    for item in level:
        if item in signs:
            parts.append([])
        else:
            parts[-1].append(item)
    return parts


def _joined(sign: str, parts: list[Piece]) -> Piece:
    if len(parts) == 1:
        return parts[0]
    rank, wrapped = (_AND, (_OR, _COMPARISON)) if sign == "&" else (_OR, (_COMPARISON,))
    return rank, f" {sign} ".join(_wrapped(part, *wrapped) for part in parts)


def _wrapped(piece: Piece, *ranks: int) -> str:
    return f"({piece[1]})" if piece[0] in ranks else piece[1]


def _chain(level: Level) -> Piece:
    atoms, signs = level[::2], level[1::2]
    # The middle operand is repeated, so it must not contain a call.
    if not all(isinstance(atom, _Atom) for atom in atoms) or any(
        not isinstance(atom.node, (*_REFERENCES, ast.Constant)) for atom in atoms[1:-1]
    ):
        raise Unsure
    return _joined("&", list(map(_comparison, atoms, signs, atoms[1:])))


def _comparison(left: _Atom, sign: str, right: _Atom) -> Piece:
    column, constant = (left, right) if left.can("condition") else (right, left)
    if not column.can("condition") or not column.can(_METHODS.get(sign, "?")) or not constant.is_constant:
        raise Unsure
    return _COMPARISON, f"{left.text} {sign} {right.text}"


def _between(low: _Atom, column: _Atom, high: _Atom, first: str, second: str) -> Piece | None:
    if first in _FLIPPED and second in _FLIPPED:
        low, high, first, second = high, low, _FLIPPED[second], _FLIPPED[first]
    ends = _RANGES.get((first, second))
    if ends is None or not column.can("between") or not (low.is_constant and high.is_constant):
        return None
    with contextlib.suppress(TypeError, ValueError):  # if they are not literals
        if ast.literal_eval(low.text) > ast.literal_eval(high.text):
            raise Unsure
    how = f', inclusive="{ends}"' if ends else ""
    return _ATOM, f"{column.text}.between({low.text}, {high.text}{how})"


def _membership(left: _Atom, right: _Atom, *, negated: bool) -> Piece:
    if left.can("is_in") and not right.is_ours:
        # With a dict, the author may mean its keys as values, or look up the column's name in it.
        is_iterable = inspect.getattr_static(right.kind or list, "__iter__", None)
        if right.kind in (str, bytes, dict) or not is_iterable:
            raise Unsure
        return _ATOM, f"{left.text}.{'not_in' if negated else 'is_in'}({right.text})"
    if right.can("contains") and left.kind in (str, None):
        return _ATOM, f"{right.text}.{'not_contains' if negated else 'contains'}({left.text})"
    raise Unsure
