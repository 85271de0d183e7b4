"""What the names of an expression stand for, looked up without running any of the caller's code."""

import ast
import inspect
from types import FrameType, FunctionType
from typing import Any, Final

_PACKAGE: Final = __name__.rpartition(".")[0]
UNKNOWN: Final = object()


class Mixed:
    """The kind of what holds a column or a filter and is neither."""


def is_below(module: object) -> bool:
    """Whether a module of that name belongs to the filter language."""
    return f"{module}.".startswith(f"{_PACKAGE}.")


def _is_ours(value: object) -> bool:
    return is_below(type(value).__module__)


def can(kind: type | None, method: str) -> bool:
    """Whether *kind* is a class of the filter language and has *method*."""
    return kind is not None and is_below(kind.__module__) and hasattr(kind, method)


class Known:
    """The names of a frame, looked up without running any code; even isinstance() asks an object's own."""

    def __init__(self, frame: FrameType) -> None:
        variables = frame.f_locals
        if not issubclass(type(variables), dict):
            # From 3.13 on they are seen through a proxy; those of a class or of exec() may be any mapping.
            variables = dict(variables) if type(variables).__module__ == "builtins" else {}
        self._scopes = (variables, frame.f_globals)

    def value(self, node: ast.AST) -> Any:
        """What *node* is, if it is there to be looked up."""
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
        """The class of what *node* is, where that can be told."""
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
