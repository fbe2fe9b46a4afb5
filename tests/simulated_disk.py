"""A disk in memory that does all that a disk may do: it fails, it tears what it was given, and forgets what was not
synced.

There is one folder. What is written is kept in sectors, which are atomic. A power failure leaves any of the sectors
that were written since the last sync and not the others, and any of the changes of names. A sync that fails forgets
what it was to write, like the kernel, and the next one does not know of it.
"""

from __future__ import annotations

import errno
import io
import os
import random
import stat
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from job_stream.checkpoints.disk import Disk

FOLDER = "/disk"
SECTOR = 128
"""Real ones are larger; the head of a journal fits into one, as there."""
FAULTS = ("open", "close", "pread", "pwrite", "ftruncate", "fsync", "listdir", "link", "replace", "unlink")
"""The calls that may go wrong."""


class Death(BaseException):
    """The process ends here and now."""


class Memory(bytearray):
    """The begin of a file, mapped."""

    def close(self) -> None:
        """Like one of ``mmap``."""


class File:
    """What a name leads to: what processes see of it, and what has reached the disk."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.seen = bytearray()
        self.durable = bytearray()
        self.dirty: set[int] = set()
        self.memory: Memory | None = None

    def look(self) -> bytearray:
        """The content, with what came through memory."""
        if self.memory is not None and self.seen[: len(self.memory)] != self.memory:
            self._put(bytes(self.memory), 0)
        return self.seen

    def write(self, data: bytes, offset: int) -> None:
        self.look()
        self.seen.extend(bytes(max(0, offset - len(self.seen))))
        self._put(data, offset)
        if self.memory is not None:
            self.memory[:] = self.seen[: len(self.memory)]

    def _put(self, data: bytes, offset: int) -> None:
        self.seen[offset : offset + len(data)] = data
        self.dirty.update(range(offset // SECTOR, (offset + len(data) - 1) // SECTOR + 1))

    def truncate(self, size: int) -> None:
        self.look()
        self.seen[size:] = bytes(max(0, size - len(self.seen)))
        self.dirty.add(size // SECTOR)

    def sync(self) -> None:
        self._reach(self.dirty, len(self.look()))
        self.dirty.clear()

    def forget(self, evicted: bool) -> None:
        """What a sync that failed leaves: all counts as written; where memory is short, it is gone at once."""
        self.look()
        if evicted:
            for sector in self.dirty - {0}:  # the first one is in use, since it is mapped
                stretch = slice(sector * SECTOR, min((sector + 1) * SECTOR, len(self.seen)))
                self.seen[stretch] = self.durable[stretch].ljust(stretch.stop - stretch.start, b"\0")
        self.dirty.clear()

    def lose(self, chance: random.Random) -> None:
        """The power fails."""
        kept = {sector for sector in self.dirty if chance.random() < 0.5}
        sizes = sorted((len(self.durable), len(self.look())))
        self._reach(kept, chance.choice([*sizes, chance.randint(*sizes)]))
        self.seen[:] = self.durable
        self.dirty.clear()

    def _reach(self, sectors: set[int], size: int) -> None:
        """These sectors reach the disk, where the file gets this size."""
        self.durable[size:] = bytes(max(0, size - len(self.durable)))
        for sector in sectors:
            stretch = slice(sector * SECTOR, min((sector + 1) * SECTOR, size, len(self.seen)))
            if stretch.start < stretch.stop:
                self.durable[stretch] = self.seen[stretch]


class SimulatedDisk(Disk):
    """The disk.

    Args:
        chance: decides what is lost.

    Attributes:
        calls: how many there have been that may go wrong.
        fate: says of each of them how it ends: an error's number, ``Death``, or nothing.
        meanwhile: is called in each call during which others may go on.
        errors: how many calls have failed.
        synced: is called with the name of a file whose content is durable now.
        no_links: names cannot be given a second time.
    """

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.calls = self.errors = 0
        self.fate: Callable[[str], Any] = lambda call: None
        self.meanwhile: Callable[[], None] = lambda: None
        self.synced: Callable[[str], None] = lambda path: None
        self.no_links = False
        self.isDead = False
        self.names: dict[str, File] = {}
        self._durable: dict[str, File] = {}
        self._changes: list[tuple[str, str, File]] = []
        self._open: dict[int, tuple[str, File | None]] = {}
        self._last = 2

    # the end of a process -----------------------------------------------------------------------------------------

    def restart(self, power_fails: bool) -> None:
        """All that used the disk is dead, and maybe the power has failed, too."""
        files = {*self.names.values(), *self._durable.values()}
        for file in files:
            file.look()
            file.memory = None
        if power_fails:
            self._lose_names()
            for file in sorted(files, key=lambda file: file.number):
                file.lose(self.chance)
        self._open.clear()
        self.isDead = False

    def _lose_names(self) -> None:
        for change in self._changes:
            if self.chance.random() < 0.5:
                _change(self._durable, *change)
        self.names = dict(self._durable)
        self._changes.clear()

    def _die(self) -> None:
        self.isDead = True
        raise Death

    def _call(self, name: str, path: str = "") -> None:
        """What may go wrong goes wrong here."""
        if self.isDead:
            raise Death  # what a program does on its way out
        self.calls += 1
        fate = self.fate(name)
        if fate is Death:
            self._die()
        if fate is not None:
            self.errors += 1
            raise OSError(fate, os.strerror(fate), path or None)

    # calls --------------------------------------------------------------------------------------------------------

    def open(self, path: str, flags: int) -> int:
        self.meanwhile()
        self._call("open", path)
        file = None if flags & os.O_DIRECTORY else self._found(path, flags)
        self._last += 1
        self._open[self._last] = (path, file)
        return self._last

    def _found(self, path: str, flags: int) -> File:
        file = self.names.get(path)
        if file is None:
            if not flags & os.O_CREAT:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            self._last += 1
            file = File(self._last)
            self._change("set", path, file)
        elif flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        return file

    def _file(self, fd: int) -> File:
        file = self._open[fd][1]
        assert file is not None
        return file

    def close(self, fd: int) -> None:
        del self._open[fd]
        self._call("close")

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        self._call("pread")
        return bytes(self._file(fd).look()[offset : offset + size])

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        part = bytes(data)
        try:
            self._call("pwrite")
        except (OSError, Death):
            self._file(fd).write(part[: self.chance.randint(0, len(part))], offset)
            raise
        self._file(fd).write(part, offset)
        return len(part)

    def ftruncate(self, fd: int, size: int) -> None:
        self._call("ftruncate")
        self._file(fd).truncate(size)

    def fsync(self, fd: int) -> None:
        self.meanwhile()
        path, file = self._open[fd]
        try:
            self._call("fsync")
        except OSError:
            if file is not None:
                file.forget(evicted=self.chance.random() < 0.5)
            raise
        if file is None:
            self._durable = dict(self.names)
            self._changes.clear()
        else:
            file.sync()
            self.synced(path)

    def fstat(self, fd: int) -> Any:
        return SimpleNamespace(st_mode=stat.S_IFREG | 0o600, st_uid=os.geteuid(), st_size=len(self._file(fd).seen))

    def lstat(self, path: str) -> Any:
        if path not in self.names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return SimpleNamespace(st_mode=stat.S_IFREG | 0o600, st_uid=os.geteuid(), st_size=len(self.names[path].seen))

    def isdir(self, path: str) -> bool:
        return path == FOLDER

    def listdir(self, path: str) -> list[str]:
        self.meanwhile()
        self._call("listdir", path)
        return [name.removeprefix(f"{FOLDER}/") for name in self.names]

    def link(self, path: str, other: str) -> None:
        self.meanwhile()
        self._call("link", path)
        if self.no_links:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), path)
        if other in self.names:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), other)
        self._change("set", other, self._named(path))

    def replace(self, path: str, other: str) -> None:
        self.meanwhile()
        self._call("replace", path)
        file = self._named(path)
        if self.names.get(other) is not file:  # else nothing happens
            self._change(f"move {path}", other, file)

    def unlink(self, path: str) -> None:
        self.meanwhile()
        self._call("unlink", path)
        self._change("remove", path, self._named(path))

    def _named(self, path: str) -> File:
        self.lstat(path)
        return self.names[path]

    def _change(self, what: str, path: str, file: File) -> None:
        _change(self.names, what, path, file)
        self._changes.append((what, path, file))

    def lock(self, fd: int) -> bool:
        return True

    def map(self, fd: int, size: int) -> Any:
        file = self._file(fd)
        file.memory = Memory(file.look()[:size])
        return file.memory

    def reader(self, fd: int) -> Any:
        content = self.pread(fd, len(self._file(fd).seen), 0)
        self.close(fd)
        return io.BytesIO(content)

    # for tests ----------------------------------------------------------------------------------------------------

    def path_of(self, fd: int) -> str:
        return self._open[fd][0]

    def worst(self) -> SimulatedDisk:
        """Another one, with nothing but what is durable now."""
        other = SimulatedDisk(random.Random(0))
        for path, file in self._durable.items():
            copy = File(file.number)
            copy.durable[:] = copy.seen[:] = file.durable
            other.names[path] = copy
        other._durable = dict(other.names)
        return other


def _change(names: dict[str, File], what: str, path: str, file: File) -> None:
    """A change of names, on its own: those before it may have been lost."""
    if what == "remove":
        names.pop(path, None)
        return
    names[path] = file
    before = what.removeprefix("move ")
    if before != what and names.get(before) is file:
        del names[before]
