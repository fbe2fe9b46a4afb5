"""A log of what happened to jobs, a line for each event: JSON, a space, and a checksum of what stands before it.

Lines are only ever appended, by one process. So whatever is killed, and whenever, all that was written is there, but
for a last line that may be torn, which is left out. A line that does not agree with its checksum is left out, too, and
the reader is told whose it was; where that cannot be told it may have been anybody's, so then everything is in doubt
that had been written before.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from zlib import crc32

from job_stream.errors import BuildError

__all__ = ["Event", "EventLog"]

FORMAT = 1
SYNC_S = 1.0
"""A crash of the machine may cost what was written since."""
MANY_LINES = 1000
"""A log with no more lines than that is never written anew."""
HEAD = "history"
_CHECKSUM = re.compile(rb" [0-9a-f]{8}")
_SUBJECT = re.compile(rb'\[("(?:[^"\\]|\\.)*"),(\d+)\]')
DAMAGED = "damaged"


class Event(NamedTuple):
    """One event.

    Attributes:
        kind: what happened; 'damaged' stands for a line that cannot be read.
        subject: the job that it happened to, or something else that it is about; None where nobody knows.
        data: whatever is to be known of it.
    """

    kind: str
    subject: str | None
    data: Any = None


class EventLog:
    """A log in a file.

    Args:
        path: of the file, which is made if there is none; its folder has to be there.
        warn: is told in words what was wrong with the file.

    Attributes:
        events: what was in the file, in order.

    Raises:
        BuildError: it is not a file of this user, was written by a newer version, or cannot be read or written.
    """

    def __init__(self, path: str, warn: Callable[[str], None]) -> None:
        self._path = path
        self._synced_s = time.monotonic()
        self._is_dirty = False
        self._is_full = False
        try:
            self._fd = _opened(path)
            with open(self._fd, "rb", closefd=False) as file:
                text = file.read()
            with _no_garbage_collected():
                self.events, self._end = _read(path, text, warn)
            if self._end < len(text):
                os.ftruncate(self._fd, self._end)
        except OSError as error:
            raise BuildError(f"the history of this build cannot be used: {path}: {error.strerror or error}") from error
        self._lines = len(self.events)
        if not self._end:
            self._write(_line(Event(HEAD, None, FORMAT)))

    def append(self, entry: Event) -> None:
        """Writes an event down; after that a crash of this process does not lose it.

        Raises:
            BuildError: the disk is full; what was written before is not lost.
        """
        self._write(_line(entry))
        self._lines += 1
        if time.monotonic() - self._synced_s >= SYNC_S:
            self.sync()

    def sync(self) -> None:
        """After that, a crash of the machine does not lose what was written, either."""
        if self._is_dirty:
            with suppress(OSError):  # some file systems have none
                os.fsync(self._fd)
            self._is_dirty = False
        self._synced_s = time.monotonic()

    def _write(self, line: bytes) -> None:
        if self._is_full:
            raise BuildError(f"{self._path} could not be written before, so nothing more is recorded")
        written = 0
        try:
            while written < len(line):
                written += os.write(self._fd, line[written:])
        except OSError as error:
            self._is_full = True
            with suppress(OSError):
                os.ftruncate(self._fd, self._end)
            raise BuildError(self._trouble(error)) from error
        except BaseException:  # an interrupt: half a line would spoil the next one
            os.ftruncate(self._fd, self._end)
            raise
        self._end += len(line)
        self._is_dirty = True

    def _trouble(self, error: OSError) -> str:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        what = "the disk is full" if full else error.strerror or str(error)
        return f"{self._path} cannot be written ({what}): no job is begun any more; all that is recorded there is kept"

    def tidy(self, live: Callable[[], Iterable[Event]]) -> None:
        """Writes the log anew where most of it is outdated.

        Args:
            live: gives what is to stay, in order.

        Raises:
            BuildError: the new file cannot be written; the old one is as it was.
        """
        if self._lines <= MANY_LINES:
            return
        kept = list(live())
        if self._lines <= 2 * len(kept):
            return
        fresh = f"{self._path}.new"
        text = b"".join(map(_line, [Event(HEAD, None, FORMAT), *kept]))
        try:
            with suppress(FileNotFoundError):
                os.unlink(fresh)  # of a build that was killed meanwhile
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o666)
            try:
                _write_all(fd, text)
                os.fsync(fd)
                os.rename(fresh, self._path)
            except BaseException:
                os.close(fd)
                os.unlink(fresh)
                raise
        except OSError as error:
            raise BuildError(self._trouble(error)) from error
        os.close(self._fd)
        self._fd, self._end, self._lines, self._is_dirty = fd, len(text), len(kept), False
        _sync_folder(os.path.dirname(self._path))

    def close(self) -> None:
        """Nothing more is written."""
        if self._fd >= 0:
            self.sync()
            os.close(self._fd)
            self._fd = -1


def _opened(path: str) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    info = os.fstat(fd)
    wrong = ""
    if not stat.S_ISREG(info.st_mode):
        wrong = "is no file"
    elif info.st_uid != os.geteuid():
        wrong = "belongs to another user"
    if wrong:
        os.close(fd)
        raise BuildError(f"{path} {wrong}: give the build another folder, or remove it")
    return fd


def _write_all(fd: int, text: bytes) -> None:
    view = memoryview(text)
    while view:
        view = view[os.write(fd, view) :]


def _sync_folder(path: str) -> None:
    with suppress(OSError):
        fd = os.open(path or ".", os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# lines ----------------------------------------------------------------------------------------------------------------


def _line(entry: Event) -> bytes:
    """With a checksum of the subject alone, too: so that it can be told of a damaged line whose it was."""
    subject = None if entry.subject is None else [entry.subject, _check(entry.subject)]
    body = json.dumps([entry.kind, subject, entry.data], ensure_ascii=True, separators=(",", ":")).encode()
    return b"%s %08x\n" % (body, crc32(body))


def _check(text: str) -> int:
    return crc32(text.encode("utf-8", "surrogatepass"))


def _read(path: str, text: bytes, warn: Callable[[str], None]) -> tuple[list[Event], int]:
    """The entries of a log, and where the last whole line ends."""
    end = text.rfind(b"\n") + 1
    lines = text[:end].split(b"\n")[:-1]
    bodies: list[bytes] = []
    damaged: list[tuple[int, bytes]] = []
    for number, line in enumerate(lines):
        body, _, check = line.rpartition(b" ")
        if _is_sound(body, check):
            bodies.append(body)
        else:
            damaged.append((number, line))
            bodies.append(b"0")
    if damaged and not any(body != b"0" for body in bodies):
        raise _foreign(path)
    try:
        entries = [_entry(one) for one in json.loads(b"[%s]" % b",".join(bodies))]
    except (ValueError, TypeError, RecursionError) as error:  # checksums that hold, of something else
        raise _foreign(path) from error
    for number, line in damaged:
        entries[number] = Event(DAMAGED, _subject_of(line))
    _check_format(path, entries)
    if damaged:
        warn(f"{path}: {_lines_in_words(damaged)} cannot be read, so the jobs in question run again")
    return [entry for entry in entries if entry.kind != HEAD], end


def _foreign(path: str) -> BuildError:
    return BuildError(f"{path} is no history of a build: give the build another folder, or remove the file")


@contextmanager
def _no_garbage_collected() -> Iterator[None]:
    """While many objects are made of which none is garbage: looking for some would take as long again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _is_sound(body: bytes, check: bytes) -> bool:
    try:
        return len(check) == 8 and int(check, 16) == crc32(body) and body[:2] == b'["'
    except ValueError:
        return False


def _entry(parsed: Any) -> Event:
    if type(parsed) is not list:
        return Event(DAMAGED, None)
    kind, subject, data = parsed
    return Event(kind, None if subject is None else subject[0], data)


def _subject_of(line: bytes) -> str | None:
    """Whose a damaged line was, where that part of it is not damaged, and it surely is one line, and a whole one."""
    if [found.end() for found in _CHECKSUM.finditer(line)] != [len(line)]:
        return None
    names = []
    for found in _SUBJECT.finditer(line):
        with suppress(ValueError):
            name = json.loads(found[1])
            if _check(name) == int(found[2]):
                names.append(name)
    return names[0] if len(names) == 1 else None


def _check_format(path: str, entries: list[Event]) -> None:
    formats = [entry.data for entry in entries if entry.kind == HEAD]
    newest = max((number for number in formats if isinstance(number, int)), default=FORMAT)
    if newest > FORMAT:
        raise BuildError(
            f"{path} was written by a newer version of job_stream (format {newest}; this one writes {FORMAT}): "
            f"use that version, or remove the file, and all is made anew"
        )


def _lines_in_words(damaged: list[tuple[int, bytes]]) -> str:
    numbers = [str(number + 1) for number, _ in damaged]
    shown = ", ".join(numbers[:5]) + (", ..." if len(numbers) > 5 else "")
    return f"line {shown}" if len(numbers) == 1 else f"{len(numbers)} lines ({shown})"
