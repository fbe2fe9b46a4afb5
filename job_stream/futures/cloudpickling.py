"""Pickling by value, for what is of ``__main__`` or made at run time. A module of its own: cloudpickle is slow to load.
"""

from __future__ import annotations

import io
from types import CodeType
from typing import Any

import cloudpickle

from ..memory.volumes import Shelf, Volume
from .shelving import Shelving

__all__ = ["dumped_by_value"]

_NOWHERE = "<dynamic-code>"
"""What cloudpickle calls the file of all code."""


class _ByValuePickler(Shelving, cloudpickle.Pickler):  # type: ignore[misc]
    """Like cloudpickle; but tracebacks show the lines of code that travelled."""

    def _other(self, what: Any) -> Any:
        if type(what) is CodeType:
            make, parts = self.dispatch_table[CodeType](what)
            return make, tuple(what.co_filename if part == _NOWHERE else part for part in parts)
        return cloudpickle.Pickler.reducer_override(self, what)


def dumped_by_value(value: Any, shelf: Shelf, volumes: list[Volume]) -> bytes:
    """A value as cloudpickle writes it; ``volumes`` grows by what it refers to."""
    file = io.BytesIO()
    _ByValuePickler(shelf, volumes, file, 5).dump(value)
    return file.getvalue()
