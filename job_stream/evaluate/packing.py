"""How a lane turns values into payloads and back: process lanes pickle, thread lanes pass the values themselves."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any, Protocol

from ..engine.payloads import Payload
from ..errors import PayloadError
from ..ground.texts import shorten
from ..memory.exceptions import pack_error
from ..memory.payload import Blob, Live, Parts, pack, unpack
from ..values import Args, Pair, Sent
from .weights import weigh

__all__ = ["LivePacking", "Packing", "PicklePacking", "StowedPacking", "is_frozen", "unpack_any"]


class Packing(Protocol):
    """Values to payload and back."""

    def pack(self, values: Any) -> Any: ...

    def pack_item(self, item: Any) -> Any: ...

    def pack_error(self, error: BaseException) -> bytes | BaseException: ...

    def may_pack(self, value: Any) -> bool:
        """Whether a value can be packed as it was given to a function that has it now, and may change it."""
        ...

    def copy(self, value: Any) -> Any:
        """A payload of this value alone that stays as it is; None: pickle refuses it."""
        ...


_FROZEN = (bool, bytes, complex, float, int, range, str, type(None))


def is_frozen(value: Any) -> bool:
    """Whether a value is of those that nobody can change; there are more than those that are found out here."""
    kind = type(value)
    if kind in _FROZEN:
        return True
    if kind in (tuple, frozenset, Pair, Sent):
        return all(map(is_frozen, value))
    if kind is Args:
        return all(map(is_frozen, (*value.args, *value.kwargs.values())))
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.generic)


def unpack_any(payload: Payload) -> Any:
    """The values of a payload of either kind."""
    if type(payload) is Live:
        return payload.values
    return payload.unpacked() if type(payload) is Blob else unpack(payload.frames)


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

    def may_pack(self, value: Any) -> bool:
        return is_frozen(value)

    def copy(self, value: Any) -> Parts | Blob | None:
        try:
            return Parts([pickle.dumps([value], 5)])
        except Exception:
            return None


class LivePacking:
    """For values that stay in the process."""

    def pack(self, values: Any) -> Live:
        return Live(values, weigh(values))

    def pack_item(self, item: Any) -> Live:
        return Live([item])

    def pack_error(self, error: BaseException) -> BaseException:
        return error

    def may_pack(self, value: Any) -> bool:
        return True  # who would have it again would have the very same object

    def copy(self, value: Any) -> None:
        return None


class StowedPacking(PicklePacking):
    """For values that stay in the process, but are to be as they were when they were given, whatever is done to them.

    Args:
        stow: puts packed values where they stay as they are.
    """

    def __init__(self, stow: Callable[[Parts], Blob]) -> None:
        self._stow = stow

    def pack(self, values: Any) -> Blob:  # type: ignore[override]
        return self._stow(pack(values))

    def copy(self, value: Any) -> Parts | Blob | None:
        copy = super().copy(value)
        return self._stow(copy) if type(copy) is Parts else None

    def pack_error(self, error: BaseException) -> BaseException:
        return error
