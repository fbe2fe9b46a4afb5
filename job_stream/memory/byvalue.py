"""Pickling of what pickle alone refuses: classes and functions without a name, by cloudpickle or by where they lie.

It is a module of its own since cloudpickle is slow to load, and most streams never need it.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from .kin import is_named, kin

__all__ = ["Pickler", "StrangersPickler", "by_value", "dumps", "for_strangers"]

_NOWHERE = "<dynamic-code>"
"""What cloudpickle calls the file of all code."""


class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Like cloudpickle; but classes and functions of the script travel by name, and those of the family by address."""

    def reducer_override(self, what: Any) -> Any:
        kind = type(what)
        if kind is not FunctionType and not issubclass(kind, type):
            return NotImplemented  # as cloudpickle would say, and soon, as this is asked for each object
        if is_named(what):
            return NotImplemented
        reference = kin.reference(what)
        return super().reducer_override(what) if reference is None else reference


class _ByValue(cloudpickle.Pickler):  # type: ignore[misc]
    """Gives the same for the same class in each process that runs the script, but for cloudpickle's own numbers."""

    def reducer_override(self, what: Any) -> Any:
        is_class = issubclass(type(what), type)
        if is_class or type(what) is FunctionType:
            if is_named(what):
                return NotImplemented
            if is_class:
                copyreg._slotnames(what)  # type: ignore[attr-defined]  # pickle notes them in a class at its first use
        return super().reducer_override(what)


def dumps(
    value: Any,
    out_of_band: Callable[[pickle.PickleBuffer], Any] | None = None,
    kind: Callable[..., Any] = Pickler,
    *arguments: Any,
) -> bytes:
    """The pickle of a value; ``out_of_band`` takes buffers, as in pickle. ``arguments``: more that a pickler takes."""
    file = io.BytesIO()
    kind(*arguments, file, 5, buffer_callback=out_of_band).dump(value)
    return file.getvalue()


class StrangersPickler(cloudpickle.Pickler):  # type: ignore[misc]
    """For processes that do not run the script; tracebacks show the lines of code that travelled."""

    def reducer_override(self, what: Any) -> Any:
        if type(what) is CodeType:
            make, parts = self.dispatch_table[CodeType](what)
            return make, tuple(what.co_filename if part == _NOWHERE else part for part in parts)
        return super().reducer_override(what)


def for_strangers(value: Any) -> bytes:
    """A value, for a process that does not run the script: what ``__main__`` defines is in it."""
    return dumps(value, None, StrangersPickler)


def by_value(what: Any) -> bytes:
    """A class or function itself, for whoever does not have it."""
    return dumps(what, None, _ByValue)
