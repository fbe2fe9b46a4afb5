"""The checkpoint of a run: one file that holds all it takes to go on, and never half of it.

Beside FILE lie FILE.previous, the checkpoint before, FILE.journal (see ``journal``), and at the end FILE.done alone.
A new checkpoint is written under another name and made durable before it takes the name FILE, so whatever happens, and
whenever, FILE or FILE.previous is whole. The time of the last change of FILE is the progress of the run.

All is verified before any of the state is looked at, and nothing is unpickled here. One thread at a time may write.
"""

from __future__ import annotations

import errno
import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from .checkpointformat import FORMAT, Header, Reading, Stages, writeCheckpoint
from .disk import DISK, Disk
from .envelope import dump
from .safekeeping import CheckpointError, DamagedError, Secret, named, openTrusted

__all__ = ["CheckpointError", "CheckpointFile", "CheckpointInfo", "Header", "Loaded", "infoOf"]

PROBE_BYTES = 1 << 14
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP)


class Loaded(NamedTuple):
    """A checkpoint to go on from. ``path``: where it was. ``changed``: stages whose code is not what it was.
    ``warning``: what the user should know; may be empty."""

    path: str
    header: Header
    state: Any
    changed: tuple[str, ...]
    warning: str


class CheckpointFile:
    """The checkpoint at a path, and the files beside it.

    Args:
        path: where it is, or is to be.
        disk: that it is on.

    Raises:
        CheckpointError: the key file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], disk: Disk = DISK) -> None:
        self.path = os.fspath(path)
        self.previousPath = self.path + ".previous"
        self.journalPath = self.path + ".journal"
        self.donePath = self.path + ".done"
        self._newPath = self.path + ".new"
        self._disk = disk
        self._secret = Secret()
        self._isGood = True

    # before the run ---------------------------------------------------------------------------------------------------

    def check(self) -> str | None:
        """Whether there is anything to do: None if so, else what to tell the user, since the run ended before.

        Raises:
            CheckpointError: no checkpoint can be written there.
        """
        folder = os.path.dirname(self.path) or "."
        if not self._disk.isdir(folder):
            raise CheckpointError(f"the folder {folder} of checkpoint {self.path} does not exist: create it first")
        if self._disk.isdir(self.path):
            raise CheckpointError(f"{self.path} is a folder: give the name of a file for the checkpoint")
        if self._disk.lexists(self.donePath):
            return f"nothing to do: {self.donePath} says that this run has ended; remove it to run again"
        try:
            self._probe()
        except OSError as error:
            raise CheckpointError(f"no checkpoint can be written to {folder}: {error.strerror}; mend that, or give "
                                  "another checkpointFile") from error  # fmt: skip
        return None

    def _probe(self) -> None:
        """A file can be created and deleted there, and there is room for what is in it."""
        path = self.path + ".probe"
        fd = self._disk.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW)
        try:
            self._disk.writeAll(fd, bytes(PROBE_BYTES), 0)
        finally:
            self._disk.close(fd)
            self._disk.unlink(path)

    def read(self, stages: Stages) -> Loaded | None:
        """The newest whole checkpoint; None: there is none.

        Args:
            stages: the fingerprint of the plan that is to go on.

        Raises:
            CheckpointError: there is one, but it is not to be used; says why and what to do.
        """
        try:
            return self._load(self.path, stages)
        except FileNotFoundError:
            if not self._disk.lexists(self.previousPath):
                return None
            reason, runId = self._missing(), None
        except DamagedError as error:
            reason, runId = str(error), error.runId
        return self._fallBack(stages, reason, runId)

    def _missing(self) -> str:
        """Why there is only the one before: a process died between two names, if the file system has no hard links."""
        if not self._disk.lexists(self._newPath):
            raise CheckpointError(f"{self.path} is missing, but {self.previousPath} is there: rename it to go on from "
                                  "it, or remove it to begin anew")  # fmt: skip
        return f"{self.path} is missing"

    def _fallBack(self, stages: Stages, reason: str, runId: str | None) -> Loaded:
        """The checkpoint before, which stays until there is a new one."""
        try:
            loaded = self._load(self.previousPath, stages)
        except FileNotFoundError:
            raise CheckpointError(f"{reason}; and there is no {self.previousPath} to go on from: remove {self.path} to "
                                  "begin anew") from None  # fmt: skip
        except DamagedError as error:
            raise CheckpointError(f"{reason}; and {error}: remove both to begin anew") from None
        if runId not in (None, loaded.header.runId):
            raise CheckpointError(f"{reason}; {self.previousPath} is of another run: remove both to begin anew")
        self._isGood = False
        when = _timeText(loaded.header.written)
        return loaded._replace(warning=f"{reason}; going on from {self.previousPath} of {when} instead")

    def _load(self, path: str, stages: Stages) -> Loaded:
        with _reading(path, self._secret, self._disk) as reading:
            header = reading.header()
            reading.verify()
            changed = _compare(path, header.stages, stages)
            with _uncollected():
                return Loaded(path, header, reading.state(), changed, "")

    # during the run ---------------------------------------------------------------------------------------------------

    def write(self, header: Header, state: Any) -> None:
        """Puts a new checkpoint in the place of the one that is there.

        Raises:
            OSError: that was not possible; what was there is untouched, and the run can go on.
        """
        self._put(header, state, self.path)

    def finish(self, header: Header) -> None:
        """All is done and the results are in good hands: leaves FILE.done, which has a header only.

        Raises:
            OSError: not even a name could be changed.
        """
        try:
            self._put(header, None, self.donePath)
        except OSError:
            self._disk.replace(self.path, self.donePath)  # the disk is full; what counts is that the name is there
            self._disk.syncFolder(self.path)  # before anything else is gone
        for path in (self.path, self.previousPath, self.journalPath):
            with suppress(FileNotFoundError):
                self._disk.unlink(path)
        self._disk.syncFolder(self.path)

    def _put(self, header: Header, state: Any, path: str) -> None:
        try:
            self._putBack()
            self._writeNew(header, state)
            if path == self.path and self._isGood:
                self._keepPrevious()
            self._disk.replace(self._newPath, path)
            self._isGood = True
            self._disk.syncFolder(path)
        except OSError as error:
            raise named(error, path) from error
        finally:
            with suppress(OSError):
                self._putBack()
                self._disk.unlink(self._newPath)

    def _putBack(self) -> None:
        """Where files cannot have two names, FILE may be missing after an error: it gets its name back. Until it has,
        the new file stays, and would tell another run what has happened."""
        if self._disk.lexists(self.previousPath) and not self._disk.lexists(self.path):
            self._disk.replace(self.previousPath, self.path)
            self._disk.syncFolder(self.path)

    def _create(self) -> int:
        with suppress(FileNotFoundError):
            self._disk.unlink(self._newPath)
        return self._disk.open(self._newPath, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

    def _writeNew(self, header: Header, state: Any) -> None:
        fd = self._create()
        try:
            writeCheckpoint(fd, self._secret, header._replace(written=time.time()), dump(state), self._disk)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)

    def _keepPrevious(self) -> None:
        """Gives the checkpoint a second name; FILE is there at every moment, if the file system knows hard links."""
        between = self.previousPath + ".new"
        with suppress(FileNotFoundError):
            self._disk.unlink(between)
        try:
            self._disk.link(self.path, between)
            self._disk.replace(between, self.previousPath)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._disk.syncFolder(self.path)  # the new one has to be there while FILE is not
            with suppress(FileNotFoundError):
                self._disk.replace(self.path, self.previousPath)
        finally:
            with suppress(OSError):
                self._disk.unlink(between)  # also there if both names had been one file before


@contextmanager
def _reading(path: str, secret: Secret, disk: Disk) -> Iterator[Reading]:
    """Opens a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read.
    """
    try:
        with disk.reader(openTrusted(path, disk=disk)) as file:
            yield Reading(path, file, secret)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; mend that, or give another name") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Within, no garbage is collected: again and again all would be looked at that is being made, and none of it is."""
    wasOn = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if wasOn:
            gc.enable()


def _compare(path: str, theirs: Stages, ours: Stages) -> tuple[str, ...]:
    """The stages that have the same kind and name but other code."""
    for number in range(max(len(theirs), len(ours))):
        then, now = (_nameStage(stages, number) for stages in (theirs, ours))
        if then != now:
            raise CheckpointError(
                f"{path} is of another stream: stage number {number + 1} was {then} when it was written, and is {now} "
                "here; run the script that wrote it, or give another checkpointFile"
            )
    return tuple(name for (_, name, then), (_, _, now) in zip(theirs, ours, strict=True) if then != now)


def _nameStage(stages: Stages, number: int) -> str:
    return f"{stages[number][0]} {stages[number][1]!r}" if number < len(stages) else "missing"


# for the user ---------------------------------------------------------------------------------------------------------


class CheckpointInfo(NamedTuple):
    """What a checkpoint says of itself; its ``str`` is a readable summary. ``finished``: the run has ended."""

    path: str
    format: int
    runId: str
    written: float
    finished: bool
    open: int
    byStage: dict[str, int]
    nbytes: int
    delivered: int
    stages: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"checkpoint  {self.path}",
            f"format      {self.format}",
            f"run         {self.runId}{', finished' if self.finished else ''}",
            f"written     {_timeText(self.written)}",
            f"tasks open  {self.open:,} ({self.nbytes:,} bytes)",
            *(f"  {count:,} at {name}" for name, count in self.byStage.items()),
            f"results     {self.delivered:,} delivered",
            f"plan        {' -> '.join(self.stages)}",
        ]
        return "\n".join(lines)


def infoOf(path: str | os.PathLike[str]) -> CheckpointInfo:
    """What is in a checkpoint, in brief; see ``job_stream.checkpointInfo``."""
    path = os.fspath(path)
    finished = not os.path.lexists(path) and os.path.lexists(path + ".done")
    found = path + ".done" if finished else path
    try:
        with _reading(found, Secret(), DISK) as reading:
            header = reading.header()
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    stages = tuple(f"{kind} {name}" for kind, name, _ in header.stages if kind != "end")
    return CheckpointInfo(found, FORMAT, header.runId, header.written, finished, header.open, dict(header.byStage),
                          header.nbytes, header.delivered, stages)  # fmt: skip


def _timeText(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
