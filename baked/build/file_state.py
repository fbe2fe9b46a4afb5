"""What is known of a file: its size, when it was changed last, and its content, as 128 bits.

A content is read only where size, time or inode differ from what was known, or where the file had been changed so
shortly before it was read that another change need not show in its time.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from hashlib import blake2b
from typing import Any, NamedTuple

__all__ = ["FileState", "FileStates", "is_current", "print_of_contents", "read_state"]

DIGEST_BYTES = 16
CHUNK_BYTES = 1 << 20
SETTLED_NS = 2_000_000_000
"""The times of files may be as coarse as that, over a network."""
FOLDER = b"folder\0"


class FileState(NamedTuple):
    """How a file, or a folder with all that is in it, was when it was read.

    Attributes:
        digest: of its content, in hex: BLAKE2b of 128 bits.
        size: in bytes; of a folder, how many files are in it.
        mtime_ns: when it was changed last; of a folder, the latest of all files in it.
        inode: its number; of a folder, one that stands for sizes, times and numbers of all that is in it.
        read_ns: when it was read.
    """

    digest: str
    size: int
    mtime_ns: int
    inode: int
    read_ns: int


def read_state(path: str, without: tuple[str, ...] = ()) -> FileState:
    """The state of a file or folder as it is now.

    Args:
        path: of a file, a folder, or a link to one.
        without: patterns of what does not count in a folder: of names, or of paths in it.

    Returns:
        its state; of a folder, one for the names and contents of all files in it.

    Raises:
        OSError: there is none, or it cannot be read, or it is neither (a device, a FIFO, a socket).
    """
    read_ns = time.time_ns()
    info = os.stat(path)
    if stat.S_ISDIR(info.st_mode):
        return _state_of_folder(path, read_ns, without)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(f"{path} is neither a file nor a folder")
    return FileState(_digest_of(path), info.st_size, info.st_mtime_ns, info.st_ino, read_ns)


def _digest_of(path: str) -> str:
    digest = blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _state_of_folder(path: str, read_ns: int, without: tuple[str, ...]) -> FileState:
    digest = blake2b(FOLDER, digest_size=DIGEST_BYTES)
    look = _look_of_folder(path, without)
    for name, _ in look.files:
        with suppress(FileNotFoundError):  # it was there a moment ago
            digest.update(b"%s\0%s\n" % (os.fsencode(name), _digest_of(os.path.join(path, name)).encode()))
    return FileState(digest.hexdigest(), len(look.files), look.mtime_ns, look.number, read_ns)


class _FolderLook(NamedTuple):
    """What can be told of a folder without reading its files."""

    files: list[tuple[str, os.stat_result]]
    mtime_ns: int
    number: int


def _look_of_folder(path: str, without: tuple[str, ...]) -> _FolderLook:
    files = _walked(path, without)
    number = blake2b(digest_size=8)
    for name, info in files:
        number.update(b"%s\0%d %d %d\n" % (os.fsencode(name), info.st_size, info.st_mtime_ns, info.st_ino))
    latest = max((info.st_mtime_ns for _, info in files), default=0)
    return _FolderLook(files, latest, int.from_bytes(number.digest(), "big"))


def _walked(path: str, without: tuple[str, ...]) -> list[tuple[str, os.stat_result]]:
    """All regular files in a folder and those in it, by their names from there; links to folders are not followed."""
    found = []
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            entries = list(os.scandir(os.path.join(path, folder)))
        except FileNotFoundError:
            if not folder:
                raise
            continue  # it was there a moment ago
        for entry in entries:
            name = os.path.join(folder, entry.name)
            if any(fnmatchcase(name, pattern) or fnmatchcase(entry.name, pattern) for pattern in without):
                continue
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif entry.is_file():
                with suppress(FileNotFoundError):
                    found.append((name, entry.stat()))
    return sorted(found)


def is_current(known: FileState, path: str, info: os.stat_result, without: tuple[str, ...] = ()) -> bool:
    """Whether a file or folder is as it was, as far as that shows without reading it.

    Args:
        known: what it was like when it was read.
        path: where it is.
        info: what the system says of it now.
        without: as it was read.

    Raises:
        OSError: a folder cannot be looked through.
    """
    if stat.S_ISDIR(info.st_mode):
        look = _look_of_folder(path, without)
        now = (len(look.files), look.mtime_ns, look.number)
    elif stat.S_ISREG(info.st_mode):
        now = (info.st_size, info.st_mtime_ns, info.st_ino)
    else:
        return False
    return now == (known.size, known.mtime_ns, known.inode) and known.read_ns - known.mtime_ns >= SETTLED_NS


class FileStates:
    """The states of files during one run: each is asked for once, and read only where it has to be.

    Args:
        known: what is on record, by absolute path.
        without: of folders, the patterns of what does not count in them.
    """

    def __init__(self, known: Mapping[str, FileState], without: Mapping[str, tuple[str, ...]] | None = None) -> None:
        self._known = known
        self._without = without or {}
        self._now: dict[str, FileState | None] = {}

    def look(self, path: str) -> FileState | None:
        """The state of a file if it is known without reading it; None: it has to be read (``read_state``).

        Raises:
            FileNotFoundError: there is none.
            OSError: it cannot be looked at.
        """
        if path in self._now:
            return self._now[path]
        info = os.stat(path)
        known = self._known.get(path)
        state = known if known is not None and is_current(known, path, info, self._left_out(path)) else None
        if state is not None:
            self._now[path] = state
        return state

    def note(self, path: str, state: FileState | None) -> None:
        """A file has been read, or made anew; None: it is gone, or is about to be."""
        if state is None:
            self._now.pop(path, None)
        else:
            self._now[path] = state

    def now(self, path: str) -> FileState:
        """The state of a file, which is read here if need be.

        Raises:
            OSError: there is none, or it cannot be read.
        """
        state = self.look(path)
        if state is None:
            state = read_state(path, self._left_out(path))
            self._now[path] = state
        return state

    def _left_out(self, path: str) -> tuple[str, ...]:
        return self._without.get(path, ())


def print_of_contents(digests: Iterable[str]) -> str:
    """One fingerprint for a set of contents: the same whatever the files are called, and however often each is there.

    Args:
        digests: of the contents, in hex.
    """
    digest: Any = blake2b(digest_size=DIGEST_BYTES)
    for one in sorted(set(digests)):
        digest.update(one.encode())
    return str(digest.hexdigest())
