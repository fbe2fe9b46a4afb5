"""Names: inside, all is PEP 8; and whoever looks for a class or a module finds one thing."""

from __future__ import annotations

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import REPOSITORY

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CAMEL = re.compile(r"_*[a-z][a-z0-9]*(?:[A-Z][a-z0-9]*)+")
FILES = [*(REPOSITORY / "job_stream").rglob("*.py"), *(REPOSITORY / "baked").rglob("*.py")]
SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
PUBLIC = set(SETTINGS["tool"]["ruff"]["lint"]["pep8-naming"]["ignore-names"])

SAME_MODULE = {"__init__.py", "__main__.py", "protocol.py"}
"""What a room and its neighbour may both have; of protocols there is one for workers and one for ranks."""


def given(tree: ast.AST) -> Iterator[str]:
    """Every name that a module gives to something: functions, classes, parameters, variables, attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg


def test_camel_case_is_for_public_names():
    found = {(path.name, name) for path in FILES for name in given(ast.parse(path.read_text(encoding="utf-8")))
             if CAMEL.fullmatch(name) and name not in PUBLIC}  # fmt: skip
    assert not found, "write them in snake_case; a new public name goes into ignore-names in pyproject.toml"


def test_every_public_name_that_is_listed_is_used():
    used = {name for path in FILES for name in given(ast.parse(path.read_text(encoding="utf-8")))}
    assert used >= PUBLIC


@pytest.mark.parametrize("source", ["aB = 1", "def aB(): pass", "def f(aB): pass", "x.aB = 1", "f(aB=1)"])
def test_every_way_to_give_a_name_is_seen(source):
    assert "aB" in given(ast.parse(source))


def test_no_two_classes_have_the_same_name():
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(path.relative_to(REPOSITORY)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def test_no_two_modules_have_the_same_name():
    places: dict[str, list[str]] = defaultdict(list)
    for path in FILES:
        places[path.name].append(str(Path(path).relative_to(REPOSITORY)))
    assert not {name: paths for name, paths in places.items() if len(paths) > 1 and name not in SAME_MODULE}
