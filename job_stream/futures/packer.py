"""Calls on their way to a lane.

A call is packed at once where it is made: what it was given may be changed afterwards. Pickle is used where that will
do; what it refuses, and what is of ``__main__``, travels by value (cloudpickle), so that a function that was defined
anew is the new one. Large arrays and pickles are put into volumes, which lie in memory once, however many calls refer
to them.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from copy import copy
from typing import Any, NamedTuple

from ..errors import PayloadError
from ..ground.texts import said
from ..memory.volumes import VOLUME_BYTES, Address, Contents, Shelf, Volume
from .shelving import dumped
from .stretches import name_of

__all__ = ["Packed", "Packer", "Pickle", "SentCall"]

FUNCTION_BYTES = 32 << 10
"""Functions from this size on are put into volumes; arguments are from ``VOLUME_BYTES`` on."""
_MAIN = b"__main__"

Pickle = bytes | Address


class SentCall(NamedTuple):
    """A call as lanes are given it.

    Attributes:
        setup: the initializer of lanes and its arguments, pickled; None: there is none.
        function: its pickle, or where that lies.
        arguments: the same of its positional and named arguments.
        contents: of volumes, where these cannot be opened.
    """

    setup: bytes | None
    function: Pickle
    arguments: Pickle
    contents: Contents | None = None


class Packed(NamedTuple):
    """A call where it was made.

    Attributes:
        call: what travels.
        volumes: what it refers to; they are kept for as long as it is under way.
        nbytes: what it takes on its way.
        name: of the function.
    """

    call: SentCall
    volumes: tuple[Volume, ...]
    nbytes: int
    name: str

    def whole(self) -> Packed:
        """The same with the contents of its volumes."""
        contents = {volume.address.name: pickle.PickleBuffer(volume.contents()) for volume in self.volumes}
        nbytes = sum(volume.address.size for volume in self.volumes)
        return Packed(self.call._replace(contents=contents), (), self.nbytes + nbytes, self.name)


class Packer:
    """Packs calls, in any thread.

    Args:
        initializer: called in each lane before its first call, with ``initargs``; None: nothing is.
    """

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._shelf = Shelf()
        self._setup = None if initializer is None else self._dumps((initializer, initargs), [])

    def with_shelf(self, shelf: Shelf) -> Packer:
        """The same, with another place for what is large."""
        packer = copy(self)
        packer._shelf = shelf
        return packer

    def packed(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """A call.

        Raises:
            PayloadError: a part of it cannot be pickled.
        """
        volumes: list[Volume] = []
        packed = self.function(function, volumes)
        return self.call(packed, args, kwargs, volumes, name_of(function))

    def function(self, function: Callable[..., Any], volumes: list[Volume]) -> Pickle:
        """A function, to be called many times.

        Raises:
            PayloadError: it cannot be pickled.
        """
        try:
            return self._stored(self._dumps(function, volumes), FUNCTION_BYTES, volumes)
        except Exception as error:
            raise PayloadError(f"function {name_of(function)} cannot be pickled: {said(error, 1000)}") from error

    def call(self, function: Pickle, args: tuple[Any, ...], kwargs: dict[str, Any], volumes: list[Volume],
             name: str) -> Packed:  # fmt: skip
        """A call of a packed function, with the volumes that this refers to."""
        own: list[Volume] = []
        try:
            arguments = self._stored(self._dumps((args, kwargs), own), VOLUME_BYTES, own)
        except Exception as error:
            raise PayloadError(f"an argument of {name} cannot be pickled: {said(error, 1000)}") from error
        nbytes = sum(len(each) for each in (function, arguments) if type(each) is bytes)
        return Packed(SentCall(self._setup, function, arguments), (*volumes, *own), nbytes, name)

    def _stored(self, data: bytes, limit: int, volumes: list[Volume]) -> Pickle:
        if len(data) < limit:
            return data
        volumes.append(volume := self._shelf.put(memoryview(data)))
        return volume.address

    def _dumps(self, value: Any, volumes: list[Volume]) -> bytes:
        data = dumped(value, self._shelf, volumes)
        if data is not None and _MAIN not in data:
            return data
        from .cloudpickling import dumped_by_value  # loads cloudpickle

        volumes.clear()
        return dumped_by_value(value, self._shelf, volumes)
