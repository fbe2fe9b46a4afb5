"""Checks that several recipes make: of what they are given, of folders, and of libraries that only they need."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from job_stream import getRank
from job_stream.errors import PlanError

__all__ = ["check_file", "hint", "is_number", "need", "whole"]


def whole(what: str, value: Any, least: int | None = None) -> int:
    """A whole number of any type, those of NumPy included, as an int.

    Raises:
        PlanError: it is none, or below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or (least is not None and value < least):
        bound = "" if least is None else f" from {least} on"
        raise PlanError(f"{what} must be a whole number{bound}, not {value!r:.80}")
    return int(value)


def is_number(value: Any) -> bool:
    """Whether it is one real number of any type, and no truth value."""
    return isinstance(value, Real) and not isinstance(value, bool)


def hint(name: str, known: Iterable[str]) -> str:
    """Names what may be meant by an unknown name."""
    from difflib import get_close_matches

    near = get_close_matches(name, list(known), 1, 0.4)
    return f"; did you mean {near[0]!r}?" if near else ""


def check_file(keyword: str, path: Path) -> None:
    """Makes sure that a file can be written, on the rank that is going to do so; a link stands for what it leads to.

    Raises:
        PlanError: its folder is missing, or cannot be written to; or something else has its place, as a pipe or device.
    """
    if getRank() > 0:
        return
    folder = Path(os.path.realpath(path)).parent if path.is_symlink() else path.parent
    if not folder.is_dir():
        raise PlanError(f"the folder {str(folder)!r} of {keyword} {str(path)!r} does not exist: create it first")
    if path.is_dir():
        raise PlanError(f"{keyword} {str(path)!r} is a folder: give the name of a file")
    if os.path.exists(path) and not path.is_file():
        raise PlanError(f"{keyword} {str(path)!r} is no regular file: give the name of one")
    if os.path.exists(path) and not os.access(path, os.W_OK):
        raise PlanError(f"{keyword} {str(path)!r} is write-protected: chmod u+w it, or give another name")
    if not os.access(folder, os.W_OK):
        raise PlanError(f"the folder {str(folder)!r} of {keyword} {str(path)!r} cannot be written to")


def need(purpose: str, *libraries: str) -> None:
    """Makes sure that libraries are there, without importing them; they come with the extra ``sweep``.

    Raises:
        ImportError: one is not; says how to get it.
    """
    missing = [library for library in libraries if find_spec(library) is None]
    if missing:
        raise ImportError(f"{purpose} needs {' and '.join(missing)}: install with  pip install 'job_stream[sweep]'")
