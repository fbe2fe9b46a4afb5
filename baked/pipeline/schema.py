"""Which keys there are in a manifest, a job, a step, an entry and an artifact, and what kind of value each has."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unicodedata import category

from .document import Element
from .problems import Problems, did_you_mean, listed

__all__ = [
    "ARTIFACT",
    "ENTRY",
    "INPUT",
    "JOB",
    "MANIFEST",
    "PARAM",
    "STEP",
    "Fields",
    "SchemaField",
    "check_name",
    "fields_of",
    "flaw_of_path",
]

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_scalar(value: Any) -> bool:
    return value is not None and not isinstance(value, (list, dict))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class ValueKind(NamedTuple):
    """What a value may be, in words and as a test."""

    words: str
    fits: Callable[[Any], bool]


TEXT = ValueKind("a text that is not empty", _is_text)
SCALAR = ValueKind("a plain value", _is_scalar)
LIST = ValueKind("a list", lambda value: isinstance(value, list))
ITEMS = ValueKind("a list, or empty", lambda value: value is None or isinstance(value, list))
MAPPING = ValueKind("a mapping", lambda value: value is None or isinstance(value, dict))
ONE = ValueKind("one mapping", lambda value: isinstance(value, dict))
FLAG = ValueKind("true or false", lambda value: isinstance(value, bool))
ANY = ValueKind("anything", lambda value: True)
CORES = ValueKind("a number from 1 on, -1 (all but one) or 'all'",
                  lambda value: value == "all" or (type(value) is int and (value == -1 or value > 0)))  # fmt: skip
SIZE = ValueKind("a number of bytes, or a text such as '8G'",
                 lambda value: _is_text(value) or (_is_number(value) and value > 0))  # fmt: skip
SECONDS = ValueKind("a number of seconds above 0", lambda value: _is_number(value) and value > 0)
COUNT = ValueKind("a number from 0 on", lambda value: type(value) is int and value >= 0)
WORDS = ValueKind(
    "a list of texts",
    lambda value: isinstance(value, list) and bool(value) and all(_is_scalar(each.value) for each in value),
)
VALUES = ValueKind(
    "a mapping of names to plain values",
    lambda value: value is None or (isinstance(value, dict) and all(_is_scalar(each.value) for each in value.values())),
)
LIMITS = ValueKind(
    "a mapping of names to numbers from 1 on",
    lambda value: value is None
    or (isinstance(value, dict) and all(type(each.value) is int and each.value > 0 for each in value.values())),
)
CWD = ValueKind("'scratch', 'module' or 'caller'", lambda value: value in ("scratch", "module", "caller"))
ORDER = ValueKind("'steps' or 'data'", lambda value: value in ("steps", "data"))


class SchemaField(NamedTuple):
    """A key: what its value is, whether it has to be there, and for which other key it is a short form."""

    kind: ValueKind
    is_required: bool = False
    stands_for: str | None = None


Schema = Mapping[str, SchemaField]


class Fields(dict[str, Element]):
    """The elements of a mapping that are as they should be, by their long names.

    Args:
        place: of the mapping.
    """

    def __init__(self, place: tuple[str, int]) -> None:
        super().__init__()
        self.place = place

    def of(self, key: str, default: Any = None) -> Any:
        """The value of a key, as elements where it is a list or a mapping."""
        return self[key].value if key in self else default

    def text(self, key: str) -> str:
        """A plain value as it is written."""
        return self[key].text if key in self else ""

    def items_of(self, key: str) -> list[Element]:
        """The elements of a list, which may be empty or not there."""
        return self.of(key) or []

    def mapping_of(self, key: str) -> dict[str, Element]:
        """The same of a mapping."""
        return self.of(key) or {}

    def place_of(self, key: str) -> tuple[str, int]:
        """Of its value, or of the whole mapping."""
        return self[key].place if key in self else self.place

    def name(self, key: str, what: str, problems: Problems) -> str | None:
        """A name of a job, step or module."""
        return check_name(self[key], what, problems) if key in self else None


MANIFEST: Schema = {
    "name": SchemaField(TEXT, True),
    "description": SchemaField(SCALAR, True),
    "entrypoint": SchemaField(TEXT),
    "inputs": SchemaField(ITEMS, True),
    "outputs": SchemaField(ITEMS, True),
    "command": SchemaField(WORDS),
    "python": SchemaField(TEXT),
    "venv": SchemaField(TEXT),
    "requirements": SchemaField(TEXT),
    "cores": SchemaField(CORES),
    "memory": SchemaField(SIZE),
    "timeout": SchemaField(SECONDS),
    "retries": SchemaField(COUNT),
    "limits": SchemaField(LIMITS),
    "host": SchemaField(TEXT),
    "env": SchemaField(VALUES),
    "cwd": SchemaField(CWD),
    "ignore": SchemaField(ITEMS),
    "version": SchemaField(ANY),
    "author": SchemaField(ANY),
    "license": SchemaField(ANY),
}
PARAM: Schema = {"param_name": SchemaField(TEXT, True), "type": SchemaField(TEXT, True)}
JOB: Schema = {
    "name": SchemaField(TEXT, True),
    "version": SchemaField(SCALAR, True),
    "steps": SchemaField(LIST, True),
    "order": SchemaField(ORDER),
    "input_artifacts": SchemaField(ITEMS),
    "input_artifact": SchemaField(ONE, stands_for="input_artifacts"),
}
STEP: Schema = {"name": SchemaField(TEXT, True), "entries": SchemaField(LIST, True)}
ENTRY: Schema = {
    "module": SchemaField(TEXT, True),
    "name": SchemaField(TEXT),
    "input_artifacts": SchemaField(ITEMS),
    "output_artifacts": SchemaField(ITEMS),
    "inputs": SchemaField(ITEMS, stands_for="input_artifacts"),
    "outputs": SchemaField(ITEMS, stands_for="output_artifacts"),
    "parameters": SchemaField(MAPPING),
}
INPUT: Schema = {"name": SchemaField(TEXT), "param_name": SchemaField(TEXT, True), "type": SchemaField(TEXT, True)}
ARTIFACT: Schema = {
    "name": SchemaField(TEXT, True),
    "param_name": SchemaField(TEXT, True),
    "type": SchemaField(TEXT, True),
    "public": SchemaField(FLAG),
    "emptyOk": SchemaField(FLAG),
}


def fields_of(element: Element, schema: Schema, what: str, problems: Problems) -> Fields:
    """The values of a mapping that are as they should be, by their long names; everything else is a problem."""
    if not isinstance(element.value, dict):
        problems.add(element.place, what, f"{what} is no mapping of keys to values", f"its keys are {listed(schema)}")
        return Fields(element.place)
    found = Fields(element.place)
    for key, value in element.value.items():
        field = schema.get(key)
        if field is None:
            if not key.startswith("x-") or schema is not MANIFEST:
                problems.add(element.at(key), key, f"{what} has no key {key!r}",
                             f"{did_you_mean(key, schema)}the keys are {listed(schema)}")  # fmt: skip
        elif field.stands_for in element.value:
            problems.add(element.at(key), key, f"{what} has both {key!r} and {field.stands_for!r}",
                         "they are the same: leave one out")  # fmt: skip
        elif not field.kind.fits(value.value):
            problems.add(element.at(key), key, f"{key!r} of {what} is {_shown(value)}",
                         f"it is to be {field.kind.words}")  # fmt: skip
        else:
            found[field.stands_for or key] = Element([value], value.place) if field.kind is ONE else value
    for key, field in schema.items():
        if field.is_required and key not in element.value:
            problems.add(element.place, key, f"{what} has no {key!r}", f"add '{key}: ...', {field.kind.words}")
    return found


def _shown(element: Element) -> str:
    if isinstance(element.value, (list, dict)):
        return "a list" if isinstance(element.value, list) else "a mapping"
    return "empty" if element.value is None else repr(element.value)[:60]


# --- names ------------------------------------------------------------------------------------------------------------


def check_name(element: Element, what: str, problems: Problems) -> str | None:
    """A name of a job, step or module."""
    name = str(element.value)
    if "/" in name or not name.isprintable() or name in {".", ".."}:
        problems.add(element.place, name, f"{what} {name!r} cannot be a name", "leave out '/' and control characters")
        return None
    return name


def is_word(name: str, place: tuple[str, int], what: str, problems: Problems) -> bool:
    """Whether it can be an option of a program; else that is a problem."""
    is_fine = _WORD.fullmatch(name) is not None
    if not is_fine:
        problems.add(place, name, f"{name!r} cannot be a {what}", "a letter, then letters, digits, '_', '-'")
    return is_fine


def flaw_of_path(path: str) -> str | None:
    """Why a text cannot be the name of an artifact; None if it can."""
    if "\\" in path:
        return "it has a backslash"
    if any(category(letter) in {"Cc", "Cs", "Zl", "Zp"} for letter in path):
        return "it has a control character, or half of a letter"
    if path.startswith("/"):
        return "it is an absolute path"
    for part in path.split("/"):
        if not part:
            return "a part of it is empty"
        if part in {".", ".."}:
            return f"a part of it is {part!r}, and it has to stay in its folder"
        if part.startswith("~"):
            return "a part of it begins with '~'"
        if len(part.encode()) > 255:
            return "a part of it is longer than 255 bytes"
    return None
