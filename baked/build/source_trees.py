"""The syntax trees of a file's functions and classes, each to be found by what it was compiled to."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from types import CodeType
from typing import Any

from .code_tree import FUNCTIONS

__all__ = ["SourceFile", "source_file"]

WITHOUT_FILE = frozenset({"<string>", "<stdin>"})
"""Where the source of what was typed in would be looked for, and something else may be found."""


def source_file(name: str, names: Mapping[str, Any]) -> SourceFile | None:
    """The trees of a file; None: there is no source of it, or none that can be read.

    Args:
        name: of the file, as code objects have it.
        names: the globals of the module, by which sources in archives are found.
    """
    if name in WITHOUT_FILE:
        return None
    lines = linecache.getlines(name, dict(names))
    with suppress(SyntaxError, ValueError, RecursionError):
        return SourceFile(name, lines) if lines else None
    return None


class SourceFile:
    """The trees of all functions and classes of a file of source."""

    def __init__(self, name: str, lines: list[str]) -> None:
        self.name = name
        self.lines = lines
        self.text = "".join(lines)
        self.tree = ast.parse(self.text)
        self.at: dict[tuple[str, int], list[ast.AST]] = {}
        self.classes: dict[str, ast.ClassDef] = {}
        self._walk(self.tree, "")

    def _walk(self, node: ast.AST, around: str) -> None:
        for child in ast.iter_child_nodes(node):
            inside = around
            if isinstance(child, FUNCTIONS):
                self._walk(child.args, around)  # first of all, as it is compiled
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                first = min([child.lineno, *(decorator.lineno for decorator in child.decorator_list)])
                self.at.setdefault((child.name, first), []).append(child)
                if isinstance(child, ast.ClassDef):
                    self.classes[around + child.name] = child
                inside = f"{around}{child.name}{'.' if isinstance(child, ast.ClassDef) else '.<locals>.'}"
            elif isinstance(child, ast.Lambda):
                self.at.setdefault(("<lambda>", child.lineno), []).append(child)
                inside = f"{around}<lambda>.<locals>."
            elif isinstance(child, ast.arguments):
                continue
            self._walk(child, inside)

    @cached_property
    def codes(self) -> dict[tuple[str, int], list[CodeType]]:
        """The compiled functions of the file, in the order of the trees."""
        found: dict[tuple[str, int], list[CodeType]] = {}
        waiting = [compile(self.text, self.name, "exec", dont_inherit=True)]
        while waiting:
            code = waiting.pop()
            found.setdefault((code.co_name, code.co_firstlineno), []).append(code)
            waiting += reversed([const for const in code.co_consts if isinstance(const, CodeType)])
        return found

    def node_of(self, code: CodeType) -> ast.AST | None:
        """The tree that a function was compiled from."""
        key = (code.co_name, code.co_firstlineno)
        nodes = self.at.get(key, [])
        if len(nodes) < 2:
            return nodes[0] if nodes else None
        with suppress(SyntaxError, ValueError):  # several on one line: that which is compiled to the same
            codes = self.codes.get(key, [])
            if len(codes) == len(nodes):
                return next((node for node, other in zip(nodes, codes, strict=True) if _are_alike(code, other)), None)
        return None

    def source_of(self, node: ast.AST) -> str:
        """As it is written; ``ast.get_source_segment`` would go through the whole file for each."""
        first, last = getattr(node, "lineno", 1) - 1, getattr(node, "end_lineno", None) or 0
        lines = [line.encode() for line in self.lines[first:last]]
        if not lines:
            return ""
        start = getattr(node, "col_offset", 0)
        lines[-1] = lines[-1][: getattr(node, "end_col_offset", None)]
        lines[0] = (b" " * start if len(lines) > 1 else b"") + lines[0][start:]
        return b"".join(lines).decode()


def _are_alike(code: CodeType, other: CodeType) -> bool:
    """Whether two functions were compiled from the same text, wherever that stood in its line."""
    if hasattr(code, "co_positions") and list(code.co_positions()) != list(other.co_positions()):
        return False
    return code.co_code == other.co_code and code.co_names == other.co_names and _consts(code) == _consts(other)


def _consts(code: CodeType) -> list[Any]:
    return [const.co_code if isinstance(const, CodeType) else (type(const), const) for const in code.co_consts]
