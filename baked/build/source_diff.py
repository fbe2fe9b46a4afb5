"""What has been edited in the code of a job: which of its parts, and which lines of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from .code import CodePart

__all__ = ["source_diff"]

ITSELF = "the function itself"


def source_diff(old: Sequence[CodePart], new: Sequence[CodePart]) -> str:
    """The changes between the parts of a function's code, as text; empty if there are none.

    Args:
        old: the parts as they were.
        new: as they are.

    Returns:
        for each part that has changed its name and a unified diff of its source; where the source is not known or has
        not changed (the value of a name has, for instance), a line that says so.
    """
    return "\n".join(line for before, after in _pairs(old, new) for line in _changes(before, after))


def _pairs(old: Sequence[CodePart], new: Sequence[CodePart]) -> Iterator[tuple[CodePart | None, CodePart | None]]:
    """Parts of the same name; of one name there may be several, which count by their order."""
    before, after = _by_name(old), _by_name(new)
    for name in dict.fromkeys([*after, *before]):
        yield from zip_longest(before.get(name, []), after.get(name, []))


def _by_name(parts: Sequence[CodePart]) -> dict[str, list[CodePart]]:
    found: dict[str, list[CodePart]] = {}
    for part in parts:
        found.setdefault(part.name, []).append(part)
    return found


def _changes(before: CodePart | None, after: CodePart | None) -> list[str]:
    if before is None or after is None:
        part, what = (before, "no longer used") if after is None else (after, "newly used")
        return [f"{part.name or ITSELF}: {what}"] if part is not None else []
    name = after.name or ITSELF
    if before.digest == after.digest or _are_references(before, after):
        return []
    if before.source == after.source:
        return [f"{name}: {_in_words(before)} before, {_in_words(after)} now"]
    return [f"{name}:", *_lines(before.source, after.source)]


def _are_references(before: CodePart, after: CodePart) -> bool:
    """Both say only that the part was met before; its number depends on what else there is."""
    return before.digest.startswith("seen ") and after.digest.startswith("seen ")


def _in_words(part: CodePart) -> str:
    return part.digest if " " in part.digest or part.digest in ("foreign", "nowhere", "ignored") else part.digest[:8]


def _lines(before: str, after: str) -> Iterator[str]:
    from difflib import unified_diff  # it is needed by few

    return unified_diff(before.splitlines(), after.splitlines(), "before", "now", lineterm="")
