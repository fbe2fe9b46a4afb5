"""YAML files as values that know their lines.

PyYAML reads them into nodes. Plain values follow the core schema of YAML 1.2, so ``no`` and ``1:30`` are texts. Tags
are refused: nothing in a job or a manifest needs one, and some of them run code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .problems import Problems

__all__ = ["Element", "element_of", "read_yaml"]

DEEPEST = 50
"""How far values may be nested."""

_PREFIX = "tag:yaml.org,2002:"
_USUAL = {
    _PREFIX + name for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
}
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}


class Element:
    """A value of a file.

    Attributes:
        value: a plain value, a list of elements, or a mapping of texts to elements.
        place: file and line.
        text: a plain value as it is written, since ``1.10`` is not ``1.1``.
        keys: of a mapping, the line of each key.
    """

    def __init__(
        self, value: Any, place: tuple[str, int], text: str = "", keys: Mapping[str, int] | None = None
    ) -> None:
        self.value = value
        self.place = place
        self.text = text
        self.keys = keys or {}

    def at(self, key: str) -> tuple[str, int]:
        """The place of a key, or of the whole where there is no such key."""
        return self.place[0], self.keys.get(key, self.place[1])

    @property
    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, list):
            return [each.plain for each in self.value]
        if isinstance(self.value, dict):
            return {key: each.plain for key, each in self.value.items()}
        return self.value


def read_yaml(path: Path, shown: str, problems: Problems) -> Element | None:
    """What a file says; None where it cannot be read, which is a problem then.

    Args:
        shown: how problems call the file.
    """
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except OSError as error:
        problems.add((shown, 0), shown, f"the file cannot be read ({error.strerror})", "check the path")
        return None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        problems.add((shown, line), "", f"line {line} is not UTF-8", "save the file as UTF-8")
        return None
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problems.add((shown, line), "", f"this is not YAML: {error.problem}, in column {column}",
                     "mend the line or the one above")  # fmt: skip
        return None
    except RecursionError:  # of the reader that is written in Python
        problems.add((shown, 1), "", "values are nested too deeply", "no key takes so many levels")
        return None
    except yaml.YAMLError as error:
        line = text.count("\n", 0, getattr(error, "position", 0) or 0) + 1
        problems.add((shown, line), "", f"this is not YAML: {str(error).splitlines()[0]}",
                     "mend or remove the character")  # fmt: skip
        return None
    element = _Reader(shown, problems).read(node) if node is not None else Element(None, (shown, 1))
    if not isinstance(element.value, dict):
        problems.add(element.place, "", "the file is no mapping of keys to values", "write it as 'key: value' lines")
        return None
    return element


class _Reader:
    """Turns nodes to elements; a node that is used several times, by aliases, is read once."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._read: dict[int, Element] = {}
        self._open: set[int] = set()

    def read(self, node: yaml.Node) -> Element:
        place = self._file, node.start_mark.line + 1
        if id(node) in self._open:
            self._problems.add(place, "", "an alias stands within what it is an alias of", "write the value itself")
            return Element(None, place)
        if len(self._open) > DEEPEST:
            self._problems.add(place, "", "values are nested too deeply here", "no key takes so many levels")
            return Element(None, place)
        if id(node) not in self._read:
            self._open.add(id(node))
            self._read[id(node)] = self._fresh(node, place)
            self._open.discard(id(node))
        return self._read[id(node)]

    def _fresh(self, node: yaml.Node, place: tuple[str, int]) -> Element:
        if node.tag not in _USUAL:
            column = node.start_mark.column + 1
            self._problems.add(place, node.tag, f"the tag {node.tag!r} in column {column} is not understood",
                               "remove it")  # fmt: skip
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return Element([self.read(each) for each in node.value], place)
        return Element(_plain(node), place, node.value)

    def _mapping(self, node: yaml.MappingNode, place: tuple[str, int]) -> Element:
        found: dict[str, Element] = {}
        lines: dict[str, int] = {}
        for key, value in node.value:
            line, column = key.start_mark.line + 1, key.start_mark.column + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add((self._file, line), "", f"a key in column {column} is no text", "write a plain key")
            elif key.value in found:
                self._problems.add(
                    (self._file, line),
                    key.value,
                    f"the key {key.value!r} in column {column} is there already, in line {lines[key.value]}",
                    "remove one of them",
                )
            else:
                lines[key.value] = line
                found[key.value] = self.read(value)
        return Element(found, place, keys=lines)


def _plain(node: yaml.ScalarNode) -> Any:
    text = node.value
    if node.style in tuple("'\"|>") or node.tag == _PREFIX + "str":
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) < 1000 else text
    return float(text) if _FLOAT.fullmatch(text) else text


def element_of(value: Any, file: str) -> Element:
    """What a script gives in place of a file."""
    if isinstance(value, Mapping):
        return Element({str(key): element_of(each, file) for key, each in value.items()}, (file, 0))
    if isinstance(value, (list, tuple)):
        return Element([element_of(each, file) for each in value], (file, 0))
    return Element(value, (file, 0), "" if value is None else str(value))
