"""What is wrong with a job before it runs. All of it is found before anything is said, so it is collected here."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import NamedTuple

from job_stream.errors import PipelineError

__all__ = ["Problem", "Problems", "did_you_mean", "listed"]


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        file: where it is written.
        line: from 1 on; 0 where there are no lines.
        key: which key, name or path it is about.
        what: what is wrong.
        way_out: what to do about it.
    """

    file: str
    line: int
    key: str
    what: str
    way_out: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.what}; {self.way_out}".replace("\n", " ")


class Problems:
    """All problems, each once."""

    def __init__(self) -> None:
        self.found: dict[Problem, None] = {}

    def add(self, place: tuple[str, int], key: str, what: str, way_out: str) -> None:
        self.found[Problem(*place, key, what, way_out)] = None

    def extend(self, others: Iterable[Problem]) -> None:
        self.found.update(dict.fromkeys(others))

    def __bool__(self) -> bool:
        return bool(self.found)

    def raise_any(self) -> None:
        """Raises all of them together, in the order of files and lines.

        Raises:
            PipelineError: there is one.
        """
        if self.found:
            raise PipelineError(sorted(self.found, key=lambda each: (each.file, each.line)))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """'did you mean ...?, ' or nothing, before the names there are."""
    near = get_close_matches(name, list(known), 2, 0.65)
    return f"did you mean {' or '.join(map(repr, near))}? " if near else ""


def listed(names: Iterable[str]) -> str:
    """Names in a row; a word where there are none."""
    return ", ".join(map(repr, names)) or "none"
