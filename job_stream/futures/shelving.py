"""Pickling in which large arrays are put into volumes, and only their addresses travel."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

from ..memory.volumes import Address, Contents, Shelf, Volume, array_of, contents_of

__all__ = ["Shelving", "array_at", "dumped", "reading"]


class Shelving:
    """Of a pickler: puts large arrays onto a shelf."""

    def __init__(self, shelf: Shelf, volumes: list[Volume], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._shelf = shelf
        self._volumes = volumes

    def reducer_override(self, what: Any) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or type(what) not in (numpy.ndarray, numpy.memmap):
            return self._other(what)
        if what.nbytes < self._shelf.array_bytes or what.dtype.hasobject:
            return self._other(what)
        is_fortran = what.flags.f_contiguous and not what.flags.c_contiguous
        if not (is_fortran or what.flags.c_contiguous):
            return self._other(what)
        flat = what.T if is_fortran else what
        volume = self._shelf.put_array(what, memoryview(flat.reshape(-1).view(numpy.uint8)))
        self._volumes.append(volume)
        return array_at, (volume.address, what.dtype, what.shape, is_fortran, self._shelf.is_read_only)

    def _other(self, what: Any) -> Any:
        return NotImplemented


class _PlainPickler(Shelving, pickle.Pickler):
    """Like pickle."""


def dumped(value: Any, shelf: Shelf, volumes: list[Volume]) -> bytes | None:
    """As pickle does it; None: it refuses."""
    file = io.BytesIO()
    try:
        _PlainPickler(shelf, volumes, file, 5).dump(value)
    except Exception:
        return None
    return file.getvalue()


class _Reading:
    """The contents that came with the call under way."""

    given: Contents | None = None


reading = _Reading()


def array_at(address: Address, *layout: Any) -> Any:
    return array_of(contents_of(address, reading.given), *layout)
