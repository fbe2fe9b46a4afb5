"""Variables from outside that a function uses, and whether they have been bound anew since it was declared."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date, time, timedelta
from dis import get_instructions
from enum import Enum
from functools import cache, partial
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any

from job_stream.errors import BuildError

from .fingerprints import fingerprint_of
from .ownership import is_own

__all__ = ["captured", "captured_cells", "rebound"]

IMMUTABLE = (int, float, complex, str, bytes, bool, type(None), tuple, frozenset, range,
             PurePath, Enum, date, time, timedelta)  # fmt: skip


def captured_cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """The variables that a function has captured, with their values; those that are unbound are passed over."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        with suppress(ValueError):
            yield name, cell.cell_contents


def captured(function: Any) -> dict[str, Any]:
    """The immutable values of variables of outside that a function uses, as they are now.

    They are what a loop binds anew: whoever declares jobs in a loop, and has functions use its variable, gets the last
    value in all of them.
    """
    found: dict[str, Any] = {}
    for one in _layers(function):
        cells = captured_cells(one)
        names = one.__globals__
        found |= {
            name: names[name] for name in _globals_in(one.__code__) if name in names and _is_immutable(names[name])
        }
        found |= {name: value for name, value in cells if _is_immutable(value)}
    return found


@cache
def _globals_in(code: CodeType) -> tuple[str, ...]:
    """The names that a function, and those in it, look up outside of it; attributes are none."""
    own = (step.argval for step in get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME"))
    inner = (name for const in code.co_consts if isinstance(const, CodeType) for name in _globals_in(const))
    return tuple(dict.fromkeys([*own, *inner]))


def rebound(function: Any, before: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Which variables have other values now than ``captured`` gave before: names, values then, and values now."""
    now = captured(function)
    return [(name, value, now.get(name)) for name, value in before.items()
            if name not in now or not _is_same(value, now[name])]  # fmt: skip


def _is_same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    try:
        return fingerprint_of(one) == fingerprint_of(other)
    except BuildError:  # a tuple with something that nobody knows
        return type(one) is type(other) and repr(one) == repr(other)


def _is_immutable(value: Any) -> bool:
    return isinstance(value, IMMUTABLE) or _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    """A number of numpy's, which a loop over an array gives."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, getattr(numpy, "generic", ()))


def _layers(function: Any) -> Iterator[FunctionType]:
    """The functions that something is made of: behind partials, methods, and the project's own decorators."""
    seen: set[int] = set()
    while function is not None and id(function) not in seen:
        seen.add(id(function))
        if isinstance(function, FunctionType):
            if is_own(function):
                yield function
            function = getattr(function, "__wrapped__", None)
        elif isinstance(function, (partial, MethodType)):
            function = function.func if isinstance(function, partial) else function.__func__
        else:
            function = getattr(function, "__wrapped__", None)
