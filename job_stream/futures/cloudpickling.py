"""Pickling by value, for what is of ``__main__`` or made at run time. A module of its own: cloudpickle is slow to load.
"""

from __future__ import annotations

import io
from typing import Any

from ..memory.byvalue import StrangersPickler
from ..memory.volumes import Shelf, Volume
from .shelving import Shelving

__all__ = ["dumped_by_value"]


class _ByValuePickler(Shelving, StrangersPickler):
    """Puts large arrays onto a shelf."""

    def _other(self, what: Any) -> Any:
        return StrangersPickler.reducer_override(self, what)


def dumped_by_value(value: Any, shelf: Shelf, volumes: list[Volume]) -> bytes:
    """A value as cloudpickle writes it; ``volumes`` grows by what it refers to."""
    file = io.BytesIO()
    _ByValuePickler(shelf, volumes, file, 5).dump(value)
    return file.getvalue()
