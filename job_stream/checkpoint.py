"""The checkpoint of a run: one file that holds all it takes to go on, and never half of it.

Beside FILE lie FILE.previous, the checkpoint before, FILE.journal (see ``journal``), and at the end FILE.done alone.
A new checkpoint is written under another name and made durable before it takes the name FILE, so whatever happens, and
whenever, FILE or FILE.previous is whole. The time of the last change of FILE is the progress of the run.

Files of others are left alone. Names that last for a moment only have the run's id in them, and are made anew, never
opened; whatever else is replaced or removed has been looked at before, and is a checkpoint of this user's.

All is verified before any of the state is looked at, and nothing is unpickled here. One thread at a time may write.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from .checkpointformat import FORMAT, MAGIC, Header, Reading, Stages, writeCheckpoint
from .envelope import dump
from .safekeeping import (
    CheckpointError,
    DamagedError,
    Secret,
    checkOurs,
    isOurs,
    named,
    openTrusted,
    syncFolder,
    writeAll,
)

__all__ = ["CheckpointError", "CheckpointFile", "CheckpointInfo", "Header", "Loaded", "infoOf"]

PROBE_BYTES = 1 << 14
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FAMILY = MAGIC[:3]
"""How all files of checkpoints begin, journals included."""
_PASSING = re.compile(r"\.[0-9a-f]{32}\.(new|old)")
"""What names that last for a moment have behind FILE."""


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

    Raises:
        CheckpointError: the key file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.previousPath = self.path + ".previous"
        self.journalPath = self.path + ".journal"
        self.donePath = self.path + ".done"
        self._secret = Secret()
        self._isGood = True
        self._isTidy = False

    # before the run ---------------------------------------------------------------------------------------------------

    def check(self) -> str | None:
        """Whether there is anything to do: None if so, else what to tell the user, since the run ended before.

        Raises:
            CheckpointError: no checkpoint can be written there, or something else is in the way.
        """
        folder = os.path.dirname(self.path) or "."
        if not os.path.isdir(folder):
            raise CheckpointError(f"the folder {folder} of checkpoint {self.path} does not exist: create it first")
        if os.path.isdir(self.path):
            raise CheckpointError(f"{self.path} is a folder: give the name of a file for the checkpoint")
        if os.path.lexists(self.donePath):
            self._checkDone()
            return f"nothing to do: {self.donePath} says that this run has ended; remove it to run again"
        try:
            self._probe()
        except OSError as error:
            raise CheckpointError(f"no checkpoint can be written to {folder}: {error.strerror}; mend that, or give "
                                  "another checkpointFile") from error  # fmt: skip
        try:
            checkOurs(self.previousPath, MAGIC)
        except OSError as error:
            raise CheckpointError(f"{self.previousPath} is in the way: {error.strerror}; give another checkpointFile, "
                                  "or remove it") from error  # fmt: skip
        return None

    def _checkDone(self) -> None:
        """Whoever could make a run end before it has begun could as well have removed it; so it is trusted as FILE is.

        Raises:
            CheckpointError: this user has not ended a run with that.
        """
        try:
            with os.fdopen(openTrusted(self.donePath), "rb") as file:
                Reading(self.donePath, file, self._secret).header()
        except (CheckpointError, OSError) as error:
            raise CheckpointError(f"{self.donePath} would say that this run has ended, but is not to be trusted: "
                                  f"{error}. Remove it to run") from error  # fmt: skip

    def _probe(self) -> None:
        """A file can be created and deleted there, and there is room for what is in it."""
        path = self._passing(uuid.uuid4().hex, "new")
        fd = os.open(path, _CREATE, 0o600)
        try:
            writeAll(fd, MAGIC + bytes(PROBE_BYTES), 0)
        finally:
            os.close(fd)
            with suppress(FileNotFoundError):  # a run that has begun with the same name has tidied up
                os.unlink(path)

    def _passing(self, runId: str, kind: str) -> str:
        """A name that lasts for a moment; nobody else has it."""
        return f"{self.path}.{runId}.{kind}"

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
            if not os.path.lexists(self.previousPath):
                return None
            loaded = self._fallBack(stages, f"{self.path} is missing", None)
            self._checkMissing(loaded.header.runId)
            return loaded
        except DamagedError as error:
            return self._fallBack(stages, str(error), error.runId)

    def _checkMissing(self, runId: str) -> None:
        """Whether a process died between two names, as it may if the file system has no hard links."""
        if not isOurs(self._passing(runId, "new"), MAGIC):
            raise CheckpointError(f"{self.path} is missing, but {self.previousPath} is there: rename it to go on from "
                                  "it, or remove it to begin anew")  # fmt: skip

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
        with os.fdopen(openTrusted(path), "rb") as file:
            reading = Reading(path, file, self._secret)
            header = reading.header()
            reading.verify()
            changed = _compare(path, header.stages, stages)
            with _uncollected():
                return Loaded(path, header, reading.state(), changed, "")

    def next(self) -> str:
        """What a script does that finds what is there now."""
        if os.path.lexists(self.donePath):
            return f"ends at once, since {self.donePath} says that all is done"
        return f"goes on from {self.path}" if os.path.lexists(self.path) else "begins anew"

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
        except FileExistsError:
            raise
        except OSError:
            os.replace(self.path, self.donePath)  # the disk is full; what counts is that the name is there
        for path in (self.path, self.previousPath, self.journalPath):
            _remove(path)
        syncFolder(self.path)

    def _put(self, header: Header, state: Any, path: str) -> None:
        new = self._passing(header.runId, "new")
        try:
            self._tidy()
            _beFree(path)
            _remove(new)
            self._writeNew(new, header, state)
            if path == self.path and self._isGood:
                self._keepPrevious(header.runId)
            os.replace(new, path)
            self._isGood = True
            syncFolder(path)
        except FileExistsError:
            raise
        except OSError as error:
            raise named(error, path) from error
        finally:
            with suppress(OSError):
                _remove(new)

    def _tidy(self) -> None:
        """Removes what processes have left that died while they wrote a checkpoint here."""
        if self._isTidy:
            return
        self._isTidy = True
        folder, name = os.path.split(self.path)
        with suppress(OSError):  # who may not look into the folder can still write there
            for entry in os.listdir(folder or "."):
                if entry.startswith(name) and _PASSING.fullmatch(entry, len(name)):
                    _remove(os.path.join(folder, entry))

    def _writeNew(self, path: str, header: Header, state: Any) -> None:
        fd = os.open(path, _CREATE, 0o600)
        try:
            writeCheckpoint(fd, self._secret, header._replace(written=time.time()), dump(state))
            os.fsync(fd)
        finally:
            os.close(fd)

    def _keepPrevious(self, runId: str) -> None:
        """Gives the checkpoint a second name; FILE is there at every moment, if the file system knows hard links."""
        between = self._passing(runId, "old")
        _beFree(self.previousPath)
        _remove(between)
        try:
            os.link(self.path, between)
            os.replace(between, self.previousPath)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            with suppress(FileNotFoundError):
                os.replace(self.path, self.previousPath)
        finally:
            with suppress(OSError):
                _remove(between)  # also there if both names had been one file before


def _beFree(path: str) -> None:
    """Makes sure that a checkpoint may take a name.

    Raises:
        FileExistsError: something of somebody else has it since the run began.
    """
    try:
        checkOurs(path, MAGIC)
    except CheckpointError as error:
        raise FileExistsError(errno.EEXIST, str(error)) from None


def _remove(path: str) -> None:
    """Removes a file of a checkpoint; nothing else."""
    if isOurs(path, _FAMILY):
        os.unlink(path)


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
        with os.fdopen(openTrusted(found), "rb") as file:
            header = Reading(found, file, Secret()).header()
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    stages = tuple(f"{kind} {name}" for kind, name, _ in header.stages if kind != "end")
    return CheckpointInfo(found, FORMAT, header.runId, header.written, finished, header.open, dict(header.byStage),
                          header.nbytes, header.delivered, stages)  # fmt: skip


def _timeText(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
