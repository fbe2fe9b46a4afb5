"""Large contents that many payloads refer to: each lies in one memory file, and travels as its address.

Who has a volume holds its file open; whoever reads it opens the same file through ``/proc`` and maps it privately, so
nothing is copied but what is written to, and nobody sees what others write. Two volumes of the same contents are one:
they are told apart by digest and not by identity, since an array that is changed between two uses has other contents.

On another host, or where ``/proc`` is closed, a volume cannot be opened. That is noticed (``Unreachable``), and then
its contents have to travel.
"""

from __future__ import annotations

import mmap
import os
import threading
from typing import Any, NamedTuple
from uuid import uuid4
from weakref import WeakValueDictionary, finalize, ref

from ..ground.forks import MEMORY_FILE, own
from ..ground.limits import explained

__all__ = [
    "VOLUME_BYTES", "Address", "Contents", "LentShelf", "Shelf", "Unreachable", "Volume", "array_of", "contents_of",
]  # fmt: skip

VOLUME_BYTES = 1 << 20
"""Arrays from this size on are put into volumes, unless told otherwise."""

Contents = dict[str, Any]
"""The contents of volumes by name, where they travel with what refers to them."""


class Unreachable(Exception):
    """A volume cannot be opened from here."""


class Address(NamedTuple):
    """Where a volume lies; ``name`` is that of its file, which no other has."""

    name: str
    pid: int
    fd: int
    size: int


class Volume:
    """Contents in a memory file, for as long as somebody holds this.

    Attributes:
        address: where others find it.
    """

    def __init__(self, data: memoryview) -> None:
        name = f"{MEMORY_FILE}-{uuid4().hex}"
        try:
            fd = os.memfd_create(name, os.MFD_CLOEXEC)
        except OSError as error:
            raise explained(error, "a large argument cannot be kept")  # noqa: B904
        self.address = Address(name, os.getpid(), fd, data.nbytes)
        own(self)
        # no __del__: while that runs, a weak reference can still bring the volume back to life
        finalize(self, _close, fd, os.getpid()).atexit = False
        self._fill(data)

    def _fill(self, data: memoryview) -> None:
        try:
            while data:
                data = data[os.write(self.address.fd, data) :]
        except OSError as error:
            raise explained(error, "a large argument cannot be kept")  # noqa: B904

    def contents(self) -> memoryview:
        """What is in it."""
        return memoryview(mmap.mmap(self.address.fd, self.address.size, access=mmap.ACCESS_READ))

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        os.close(self.address.fd)


def _close(fd: int, pid: int) -> None:
    if os.getpid() == pid:  # else it was closed when the process was forked
        os.close(fd)


class Shelf:
    """The volumes of this process, by digest. Any thread may use it.

    Attributes:
        array_bytes: arrays from this size on belong here.
        is_read_only: whoever is given an array cannot write to it; otherwise that writes to a copy of their own.
    """

    array_bytes = VOLUME_BYTES
    is_read_only = False

    def __init__(self) -> None:
        self._volumes: WeakValueDictionary[tuple[bytes, int], Volume] = WeakValueDictionary()
        self._lock = threading.Lock()

    def put(self, data: memoryview) -> Volume:
        """The volume with these contents (bytes, one-dimensional)."""
        from hashlib import sha256  # slow to load, and most streams have nothing that large

        key = sha256(data).digest(), data.nbytes
        with self._lock:
            volume = self._volumes.get(key)
            if volume is None:
                volume = self._volumes[key] = Volume(data)
            return volume

    def put_array(self, array: Any, data: memoryview) -> Volume:
        """The volume of an array that has these contents."""
        return self.put(data)


class LentShelf(Shelf):
    """A shelf for a time in which nobody writes to the arrays: each is known again by its identity, which saves a look
    at all of it, and has its volume for as long as it is there.

    Args:
        array_bytes, is_read_only: as for ``Shelf``.
    """

    def __init__(self, array_bytes: int, is_read_only: bool) -> None:
        super().__init__()
        self.array_bytes = array_bytes
        self.is_read_only = is_read_only
        self._known: dict[int, tuple[ref[Any], Volume]] = {}
        self._entry = threading.Lock()

    def put_array(self, array: Any, data: memoryview) -> Volume:
        key = id(array)
        with self._entry:
            found = self._known.get(key)
            if found is None or found[0]() is not array:
                found = self._known[key] = ref(array, lambda gone: self._forget(key, gone)), Volume(data)
            return found[1]

    def _forget(self, key: int, gone: ref[Any]) -> None:
        """An array is gone; another may have its place by now."""
        found = self._known.get(key)
        if found is not None and found[0] is gone:
            del self._known[key]


def contents_of(address: Address, given: Contents | None) -> Any:
    """A buffer with the contents of a volume, private and writable; ``given``: what came along.

    Raises:
        Unreachable: the volume did not come along, and cannot be opened from here.
    """
    if given is not None and address.name in given:
        return bytearray(given[address.name])
    path = f"/proc/{address.pid}/fd/{address.fd}"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreachable(address.name) from error
    try:
        if os.readlink(f"/proc/self/fd/{fd}").partition(" ")[0] != f"/memfd:{address.name}":
            raise Unreachable(address.name)
        return mmap.mmap(fd, address.size, access=mmap.ACCESS_COPY)
    finally:
        os.close(fd)


def array_of(buffer: Any, dtype: Any, shape: tuple[int, ...], is_fortran: bool, is_read_only: bool) -> Any:
    """The array that a buffer holds."""
    import numpy

    array = numpy.frombuffer(buffer, dtype).reshape(shape, order="F" if is_fortran else "C")
    if is_read_only:
        array.flags.writeable = False
    return array
