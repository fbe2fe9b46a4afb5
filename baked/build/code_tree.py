"""The syntax tree of a function or class, written down in one way for all Pythons, and what it takes from outside.

Left out is what changes nothing that a function does: docstrings, annotations, positions, the decorators and the name
of the function itself. And what Pythons do not agree on: fields that are empty, and how the text of an f-string is
split.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

__all__ = ["Chain", "NameScope", "Taken", "canonical", "chains_of"]

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)

SKIPPED = frozenset({"ctx", "type_comment", "kind", "type_ignores", "returns", "annotation"})
MYSELF = "<itself>"


class Chain(NamedTuple):
    """A name that is taken from outside, with the attributes that are looked up in it: ``tools.math.mean``."""

    root: str
    attributes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return ".".join((self.root, *self.attributes))


# one way to write a tree down -----------------------------------------------------------------------------------------


def canonical(node: ast.AST, own_name: str = "") -> str:
    """A function, class or expression as text that is the same in all Pythons.

    Args:
        node: the outermost function or class; its name and decorators are left out.
        own_name: by which it calls itself.
    """
    parts: list[str] = []
    _TreeWriter(parts, own_name).write(node, is_outermost=True)
    return " ".join(parts)


class _TreeWriter:
    def __init__(self, parts: list[str], own_name: str) -> None:
        self._parts = parts
        self._own_name = own_name
        self._is_in_class = False

    def write(self, node: Any, is_outermost: bool = False) -> None:
        if isinstance(node, ast.AST):
            self._node(node, is_outermost)
        elif isinstance(node, list):
            meant = [one for one in node if self._is_in_class or not _is_only_a_hint(one)]
            self._parts.append(f"[{len(meant)}")
            for one in meant:
                self.write(one)
        else:
            self._parts.append(repr(node))

    def _node(self, node: ast.AST, is_outermost: bool) -> None:
        if isinstance(node, ast.JoinedStr):
            node = ast.JoinedStr(_joined(node.values))
        elif isinstance(node, ast.AnnAssign):
            if node.value is None:  # a field of a dataclass
                self._parts.append("Hint")
                self.write(node.target)
                return
            node = ast.Assign([node.target], node.value)
        elif isinstance(node, ast.Name) and node.id == self._own_name:
            self._parts.append(MYSELF)
            return
        self._parts.append(type(node).__name__)
        around, self._is_in_class = self._is_in_class, isinstance(node, ast.ClassDef)
        for field in node._fields:
            if field in SKIPPED or (is_outermost and field in ("name", "decorator_list")):
                continue
            value = getattr(node, field, None)
            if field == "body" and isinstance(value, list):
                value = _without_docstring(node, value)
            if value is None or value == []:
                continue
            self._parts.append(f"{field}=")
            self.write(value)
        self._is_in_class = around
        self._parts.append(";")


def _is_only_a_hint(node: Any) -> bool:
    return isinstance(node, ast.AnnAssign) and node.value is None


def _joined(values: Iterable[ast.expr]) -> list[Any]:
    """The parts of an f-string, with neighbouring texts as one, and none that is empty."""
    joined: list[Any] = []
    for value in values:
        if not isinstance(value, ast.Constant):
            joined.append(value)
        elif joined and isinstance(joined[-1], ast.Constant):
            joined[-1] = ast.Constant(str(joined[-1].value) + str(value.value))
        elif value.value:
            joined.append(value)
    return joined


def _without_docstring(node: ast.AST, body: list[Any]) -> list[Any]:
    documented = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)
    if isinstance(node, documented) and body and isinstance(body[0], ast.Expr):
        text = body[0].value
        if isinstance(text, ast.Constant) and isinstance(text.value, str):
            body = body[1:]
    return [] if all(isinstance(one, ast.Pass) for one in body) else body


# what is taken from outside -------------------------------------------------------------------------------------------


class NameScope:
    """The names that a function, class or comprehension has of its own.

    Attributes:
        imported: those of them that an import has bound, with the module and, where it is one, its attribute.
    """

    def __init__(self, parent: NameScope | None, is_class: bool = False) -> None:
        self.parent = parent
        self.is_class = is_class
        self.bound: set[str] = set()
        self.imported: dict[str, tuple[str, str | None]] = {}
        self.elsewhere: set[str] = set()

    def finds(self, name: str) -> NameScope | None:
        """The scope, this one or one around it, that a name belongs to; None: it comes from outside of all."""
        scope: NameScope | None = self
        while scope is not None:
            if name in scope.elsewhere:
                scope = scope.parent
                continue
            if name in scope.bound and (scope is self or not scope.is_class):
                return scope
            scope = scope.parent
        return None


class Taken(NamedTuple):
    """What a function or class takes from outside.

    Attributes:
        chains: the names, in the order in which they come first.
        imports: modules, with the attributes that are taken from them, that it imports itself.
    """

    chains: tuple[Chain, ...]
    imports: tuple[Chain, ...]


def chains_of(node: ast.AST) -> Taken:
    """What a function, class or expression takes from outside."""
    chains: dict[Chain, None] = {}
    imports: dict[Chain, None] = {}
    _NameFinder(chains, imports).visit_outermost(node)
    return Taken(tuple(chains), tuple(imports))


class _NameFinder:
    """Walks through nested scopes."""

    def __init__(self, chains: dict[Chain, None], imports: dict[Chain, None]) -> None:
        self._chains = chains
        self._imports = imports

    def visit_outermost(self, node: ast.AST) -> None:
        scope = NameScope(None)
        if isinstance(node, FUNCTIONS):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, scope)
        else:
            if isinstance(node, ast.Module):
                _bind(node.body, scope)
            self._expression(node, scope)

    def _function(self, node: Function, around: NameScope) -> None:
        arguments = node.args
        for default in (*arguments.defaults, *arguments.kw_defaults):
            if default is not None:
                self._expression(default, around)
        scope = NameScope(around)
        every = (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg)
        scope.bound.update(one.arg for one in every if one is not None)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        _bind(body, scope)
        for one in body:
            self._expression(one, scope)

    def _class(self, node: ast.ClassDef, around: NameScope) -> None:
        for base in (*node.bases, *(keyword.value for keyword in node.keywords)):
            self._expression(base, around)
        scope = NameScope(around, is_class=True)
        _bind(node.body, scope)
        for one in node.body:
            self._expression(one, scope)

    def _comprehension(self, node: Any, around: NameScope) -> None:
        scope = NameScope(around)
        for generator in node.generators:
            _bind_target(generator.target, scope)
        for number, generator in enumerate(node.generators):
            self._expression(generator.iter, around if number == 0 else scope)
            for condition in generator.ifs:
                self._expression(condition, scope)
        for part in ("elt", "key", "value"):
            if getattr(node, part, None) is not None:
                self._expression(getattr(node, part), scope)

    def _expression(self, node: ast.AST, scope: NameScope) -> None:
        """Anything that is not a scope by itself, with what is in it."""
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            for decorator in node.decorator_list:
                self._expression(decorator, scope)
        if isinstance(node, FUNCTIONS):
            self._function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._class(node, scope)
        elif isinstance(node, COMPREHENSIONS):
            self._comprehension(node, scope)
        elif isinstance(node, (ast.Name, ast.Attribute)):
            self._chain(node, scope)
        elif isinstance(node, ast.AnnAssign):
            self._expression(node.target, scope)
            if node.value is not None:
                self._expression(node.value, scope)
        else:
            for child in ast.iter_child_nodes(node):
                self._expression(child, scope)

    def _chain(self, node: ast.Name | ast.Attribute, scope: NameScope) -> None:
        attributes: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute):
            attributes.append(at.attr)
            at = at.value
        if not isinstance(at, ast.Name):
            self._expression(at, scope)
            return
        owner = scope.finds(at.id)
        attributes.reverse()
        if owner is None:
            self._chains[Chain(at.id, tuple(attributes))] = None
        elif at.id in owner.imported:
            module, attribute = owner.imported[at.id]
            self._imports[Chain(module, (*([attribute] if attribute else []), *attributes))] = None


def _bind(body: Iterable[ast.AST], scope: NameScope) -> None:
    """Notes the names that statements bind, without those of scopes within."""
    for node in body:
        for found in _statements(node):
            _bind_one(found, scope)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if isinstance(node, (*FUNCTIONS, ast.ClassDef)):
        return
    for child in ast.iter_child_nodes(node):
        if isinstance(node, COMPREHENSIONS) and isinstance(child, ast.comprehension):
            yield from _walrus(child)
        else:
            yield from _statements(child)


def _walrus(node: ast.AST) -> Iterator[ast.AST]:
    """What is assigned inside a comprehension belongs to the function around it; its own targets do not."""
    return (found for found in ast.walk(node) if isinstance(found, ast.NamedExpr))


def _bind_one(node: ast.AST, scope: NameScope) -> None:
    if isinstance(node, ast.Name) and isinstance(node.ctx, (ast.Store, ast.Del)):
        scope.bound.add(node.id)
    elif isinstance(node, ast.NamedExpr):
        _bind_target(node.target, scope)
    elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        scope.bound.add(node.name)
    elif isinstance(node, ast.ExceptHandler):
        scope.bound.update([node.name] if node.name else [])
    elif isinstance(node, (ast.Global, ast.Nonlocal)):
        scope.elsewhere.update(node.names)
    elif isinstance(node, ast.Import):
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            scope.bound.add(name)
            scope.imported[name] = (alias.name if alias.asname else name, None)
    elif isinstance(node, ast.ImportFrom):
        for alias in node.names:
            name = alias.asname or alias.name
            scope.bound.add(name)
            scope.imported[name] = ("." * node.level + (node.module or ""), alias.name)
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)) and node.name:
        scope.bound.add(node.name)
    elif isinstance(node, ast.MatchMapping) and node.rest:
        scope.bound.add(node.rest)


def _bind_target(target: ast.AST, scope: NameScope) -> None:
    scope.bound.update(node.id for node in ast.walk(target) if isinstance(node, ast.Name))
