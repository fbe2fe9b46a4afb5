"""Reads YAML files: plain data only, no key twice, and everything knows the line where it stands.

Plain values are read by the core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema), since that of
YAML 1.1, PyYAML's own, takes ``1e3`` for text, ``no`` for a boolean, ``12:30`` and ``2024-01-01`` for something else
than text. A file may not stand for much more than it holds, nor be nested so deeply that it cannot be walked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any, ClassVar

import yaml

from ...errors import PlanError
from .modules import Mapped

__all__ = ["read_yaml"]

MOST_NODES = 1_000_000
SHORT = 300
"""Characters of a message of PyYAML."""


def read_yaml(path: str | os.PathLike[str]) -> Mapped:
    """The mapping in a YAML file.

    Raises:
        PlanError: it is no YAML, holds a key twice, or objects, or no mapping; names the line.
        OSError: it cannot be read.
    """
    found = _read(os.fspath(path))
    if not isinstance(found, Mapped):
        what = "nothing" if found is None else f"a {type(found).__name__}"
        raise PlanError(f"{os.fspath(path)}: it must hold a mapping, with jobs and perhaps a reducer; it holds {what}")
    return found


def _read(name: str) -> Any:
    with open(name, "rb") as file:
        try:
            return yaml.load(file, _Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = f", line {mark.line + 1}" if mark else ""
            what = ", ".join(filter(None, (error.context, error.problem)))
            raise PlanError(f"{name}{line}: {what:.{SHORT}}") from None
        except yaml.YAMLError as error:
            raise PlanError(f"{name}: {error!s:.{SHORT}}") from None
        except RecursionError:
            raise PlanError(f"{name}: it is nested too deeply") from None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """The safe loader with other ideas of what is a number."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            self._size(node, {})
        return node

    def _size(self, node: Any, sizes: dict[int, int]) -> int:
        """How many nodes a node stands for where each alias counts as what it repeats."""
        size = sizes.get(id(node))
        if size is not None and size > 0:
            return size
        sizes[id(node)] = 0
        found = 1
        for inner in _inner_nodes(node):
            if sizes.get(id(inner)) == 0:
                raise yaml.MarkedYAMLError(problem="found unconstructable recursive node",
                                           problem_mark=inner.start_mark)  # fmt: skip
            found += self._size(inner, sizes)
        if found > MOST_NODES:
            raise yaml.MarkedYAMLError(problem=f"with its aliases it stands for more than {MOST_NODES:,} values",
                                       problem_mark=node.start_mark)  # fmt: skip
        sizes[id(node)] = found
        return found

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:  # a number of too many digits, or a tag that does not go with the text behind it
            what = f"{node.value!r:.60}" if isinstance(node, yaml.ScalarNode) else f"this {node.id}"
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"{what} cannot be read as {kind}: {error!s:.100}",
                                       problem_mark=node.start_mark) from None  # fmt: skip

    def mapping(self, node: Any) -> Mapped:
        self._check_keys(node)
        self.flatten_mapping(node)
        mapped = Mapped(self.construct_mapping(node, deep=True))
        mapped.place = _place(node)
        mapped.places = dict(self._places(node))
        return mapped

    def _places(self, node: Any) -> Iterator[tuple[tuple[Any, ...], str]]:
        for key, value in node.value:
            name = self.construct_object(key)
            yield (name,), _place(value)
            if isinstance(value, yaml.SequenceNode):
                yield from (((name, index), _place(element)) for index, element in enumerate(value.value))

    def _check_keys(self, node: Any) -> None:
        seen: dict[Any, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            name = (key.tag, self.construct_object(key))
            if name in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key.value!r} stands in line {seen[name]}, too",
                                           problem_mark=key.start_mark)  # fmt: skip
            seen[name] = key.start_mark.line + 1

    def sequence(self, node: Any) -> list[Any]:
        return list(self.construct_sequence(node, deep=True))

    def integer(self, node: Any) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def _inner_nodes(node: Any) -> Iterator[Any]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _place(node: Any) -> str:
    return f"{node.start_mark.name}, line {node.start_mark.line + 1}"


_Loader.add_constructor("tag:yaml.org,2002:map", _Loader.mapping)
_Loader.add_constructor("tag:yaml.org,2002:seq", _Loader.sequence)
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.integer)
for _kind, _pattern, _first in (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", "[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
     "-+.0123456789"),
    ("merge", "<<", "<"),
):  # fmt: skip
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"^(?:{_pattern})$"), list(_first))
