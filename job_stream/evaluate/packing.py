"""How a lane turns values into payloads and back: process lanes pickle, thread lanes pass the values themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..errors import PayloadError
from ..ground.texts import shorten
from ..memory.exceptions import pack_error
from ..memory.payload import Blob, Live, Parts, pack, unpack

__all__ = ["LivePacking", "Packing", "PicklePacking", "StowedPacking", "unpack_any"]


class Packing(Protocol):
    """Values to payload and back."""

    def pack(self, values: Any) -> Any: ...

    def pack_item(self, item: Any) -> Any: ...

    def pack_error(self, error: BaseException) -> Any: ...


def unpack_any(payload: Any) -> Any:
    """The values of a payload of either kind."""
    return payload.values if type(payload) is Live else unpack(payload.frames())


class PicklePacking:
    """For values that leave the process."""

    def pack(self, values: Any) -> Parts:
        return pack(values)

    def pack_item(self, item: Any) -> Parts:
        """One item for a report of failures: its ``repr`` where it cannot be pickled."""
        try:
            return pack([item])
        except PayloadError:
            return pack([shorten(item)])

    def pack_error(self, error: BaseException) -> bytes | BaseException:
        """An exception that ends the run; nothing where it cannot travel."""
        return pack_error(error)


class LivePacking:
    """For values that stay in the process."""

    def pack(self, values: Any) -> Live:
        return Live(values)

    def pack_item(self, item: Any) -> Live:
        return Live([item])

    def pack_error(self, error: BaseException) -> BaseException:
        return error


class StowedPacking(PicklePacking):
    """For values that stay in the process, but are to be as they were when they were given, whatever is done to them.

    Args:
        stow: puts packed values where they stay as they are.
    """

    def __init__(self, stow: Callable[[Parts], Blob]) -> None:
        self._stow = stow

    def pack(self, values: Any) -> Blob:  # type: ignore[override]
        return self._stow(pack(values))

    def pack_error(self, error: BaseException) -> BaseException:
        return error
