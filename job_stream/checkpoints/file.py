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
from typing import NamedTuple

from ..engine.capture import State
from ..stream.fingerprint import Stages, differences
from .disk import DISK, Disk
from .encoding import dump
from .format import MAGIC, Header, Reading, write_checkpoint
from .trust import CheckpointError, DamagedError, Secret, check_ours, is_ours, named, open_trusted

__all__ = ["CheckpointError", "CheckpointFile", "Content", "Header", "Loaded", "reading", "time_text"]

PROBE_BYTES = 1 << 14
_NO_LINKS = (errno.EPERM, errno.ENOSYS, errno.ENOTSUP)
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FAMILY = MAGIC[:3]
"""How all files of checkpoints begin, journals included."""
_NOTHING = bytes(len(MAGIC))
"""How one begins that was not durable when the power failed."""
_PASSING = re.compile(r"\.[0-9a-f]{32}\.(new|old)")
"""What names that last for a moment have behind FILE."""


Content = tuple[State, tuple[bytes, ...], tuple[int | None, ...], tuple[bytes, ...]]
"""What is in a checkpoint: the engine's state, what init functions gave (pickled), the lengths of the parts of the
initial work, and what was skipped (pickled)."""


class Loaded(NamedTuple):
    """A checkpoint to go on from. ``path``: where it was. ``changed``: stages whose code is not what it was.
    ``warning``: what the user should know; may be empty."""

    path: str
    header: Header
    state: Content
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
        self.previous_path = self.path + ".previous"
        self.journal_path = self.path + ".journal"
        self.done_path = self.path + ".done"
        self._disk = disk
        self._secret = Secret()
        self._is_good = True
        self._is_tidy = False

    # before the run ---------------------------------------------------------------------------------------------------

    def check(self) -> str | None:
        """Whether there is anything to do: None if so, else what to tell the user, since the run ended before.

        Raises:
            CheckpointError: no checkpoint can be written there, or something else is in the way.
        """
        folder = os.path.dirname(self.path) or "."
        if not self._disk.isdir(folder):
            raise CheckpointError(f"the folder {folder} of checkpoint {self.path} does not exist: create it first")
        if self._disk.isdir(self.path):
            raise CheckpointError(f"{self.path} is a folder: give the name of a file for the checkpoint")
        if self._disk.lexists(self.done_path):
            self._check_done()
            return f"nothing to do: {self.done_path} says that this run has ended; remove it to run again"
        try:
            self._probe()
        except OSError as error:
            raise CheckpointError(f"no checkpoint can be written to {folder}: {error.strerror}; mend that, or give "
                                  "another checkpointFile") from error  # fmt: skip
        try:
            check_ours(self.previous_path, MAGIC, self._disk)
        except OSError as error:
            raise CheckpointError(f"{self.previous_path} is in the way: {error.strerror}; give another checkpointFile, "
                                  "or remove it") from error  # fmt: skip
        return None

    def _check_done(self) -> None:
        """Whoever could make a run end before it has begun could as well have removed it; so it is trusted as FILE is.

        Raises:
            CheckpointError: this user has not ended a run with that.
        """
        try:
            with reading(self.done_path, self._secret, self._disk) as checkpoint:
                checkpoint.header()
        except (CheckpointError, OSError) as error:
            raise CheckpointError(f"{self.done_path} would say that this run has ended, but is not to be trusted: "
                                  f"{error}. Remove it to run") from error  # fmt: skip

    def _probe(self) -> None:
        """A file can be created and deleted there, and there is room for what is in it."""
        path = self._passing(uuid.uuid4().hex, "new")
        fd = self._disk.open(path, _CREATE)
        try:
            self._disk.write_all(fd, MAGIC + bytes(PROBE_BYTES), 0)
        finally:
            self._disk.close(fd)
            with suppress(FileNotFoundError):  # a run that has begun with the same name has tidied up
                self._disk.unlink(path)

    def _passing(self, run_id: str, kind: str) -> str:
        """A name that lasts for a moment; nobody else has it."""
        return f"{self.path}.{run_id}.{kind}"

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
            if not self._disk.lexists(self.previous_path):
                return None
            loaded = self._fall_back(stages, f"{self.path} is missing", None)
            self._check_missing(loaded.header.run_id)
            return loaded
        except DamagedError as error:
            return self._fall_back(stages, str(error), error.run_id)

    def _check_missing(self, run_id: str) -> None:
        """Whether a process died between two names, as it may if the file system has no hard links."""
        new = self._passing(run_id, "new")
        with _readable(new):
            if is_ours(new, MAGIC, self._disk):
                return
        raise CheckpointError(f"{self.path} is missing, but {self.previous_path} is there: rename it to go on from it, "
                              "or remove it to begin anew")  # fmt: skip

    def _fall_back(self, stages: Stages, reason: str, run_id: str | None) -> Loaded:
        """The checkpoint before, which stays until there is a new one."""
        try:
            loaded = self._load(self.previous_path, stages)
        except FileNotFoundError:
            raise CheckpointError(f"{reason}; and there is no {self.previous_path} to go on from: remove {self.path} "
                                  "to begin anew") from None  # fmt: skip
        except DamagedError as error:
            raise CheckpointError(f"{reason}; and {error}: remove both to begin anew") from None
        if run_id not in (None, loaded.header.run_id):
            raise CheckpointError(f"{reason}; {self.previous_path} is of another run: remove both to begin anew")
        self._is_good = False
        when = time_text(loaded.header.written)
        return loaded._replace(warning=f"{reason}; going on from {self.previous_path} of {when} instead")

    def _load(self, path: str, stages: Stages) -> Loaded:
        with reading(path, self._secret, self._disk) as checkpoint:
            header = checkpoint.header()
            checkpoint.verify()
            changed = _changed(path, header.stages, stages)
            with _uncollected():
                return Loaded(path, header, checkpoint.state(), changed, "")

    def next(self) -> str:
        """What a script does that finds what is there now."""
        if self._disk.lexists(self.done_path):
            return f"ends at once, since {self.done_path} says that all is done"
        return f"goes on from {self.path}" if self._disk.lexists(self.path) else "begins anew"

    # during the run ---------------------------------------------------------------------------------------------------

    def write(self, header: Header, state: Content) -> None:
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
            self._put(header, None, self.done_path)
        except FileExistsError:
            raise
        except OSError:
            self._be_free(self.done_path)
            self._disk.replace(self.path, self.done_path)  # the disk is full; what counts is that the name is there
            self._disk.sync_folder(self.path)  # before anything else is gone
        for path in (self.path, self.previous_path, self.journal_path):
            self._remove(path)
        self._disk.sync_folder(self.path)

    def _put(self, header: Header, state: Content | None, path: str) -> None:
        new = self._passing(header.run_id, "new")
        try:
            self._put_back()
            self._tidy()
            self._be_free(path)
            self._discard(new)
            self._write_new(new, header, state)
            if path == self.path and self._is_good:
                self._keep_previous(header.run_id)
            self._disk.replace(new, path)
            self._is_good = True
            self._disk.sync_folder(path)
        except FileExistsError:
            raise
        except OSError as error:
            raise named(error, path) from error
        finally:
            with suppress(OSError):
                self._put_back()
                self._discard(new)

    def _put_back(self) -> None:
        """Where files cannot have two names, FILE may be missing after an error: it gets its name back. Until it has,
        the new file stays, and would tell another run what has happened."""
        if not self._disk.lexists(self.path) and is_ours(self.previous_path, MAGIC, self._disk):
            self._disk.replace(self.previous_path, self.path)
            self._is_good = True
            self._disk.sync_folder(self.path)

    def _tidy(self) -> None:
        """Removes what processes have left that died while they wrote a checkpoint here."""
        if self._is_tidy:
            return
        self._is_tidy = True
        folder, name = os.path.split(self.path)
        with suppress(OSError):  # who may not look into the folder can still write there
            for entry in self._disk.listdir(folder or "."):
                if entry.startswith(name) and _PASSING.fullmatch(entry, len(name)):
                    with suppress(OSError):
                        self._discard(os.path.join(folder, entry))

    def _be_free(self, path: str) -> None:
        """Makes sure that a checkpoint may take a name.

        Raises:
            FileExistsError: something of somebody else has it since the run began.
        """
        try:
            check_ours(path, MAGIC, self._disk)
        except CheckpointError as error:
            raise FileExistsError(errno.EEXIST, str(error)) from None

    def _remove(self, path: str) -> None:
        """Removes a file of a checkpoint; nothing else."""
        if is_ours(path, _FAMILY, self._disk):
            self._disk.unlink(path)

    def _discard(self, path: str) -> None:
        """Removes a file with a passing name, which may never have become one."""
        if is_ours(path, _FAMILY, self._disk) or is_ours(path, _NOTHING, self._disk):
            self._disk.unlink(path)

    def _write_new(self, path: str, header: Header, state: Content | None) -> None:
        fd = self._disk.open(path, _CREATE)
        try:
            write_checkpoint(fd, self._secret, header._replace(written=time.time()), dump(state), self._disk)
            self._disk.fsync(fd)
        finally:
            self._disk.close(fd)

    def _keep_previous(self, run_id: str) -> None:
        """Gives the checkpoint a second name; FILE is there at every moment, if the file system knows hard links."""
        between = self._passing(run_id, "old")
        self._be_free(self.previous_path)
        self._discard(between)
        try:
            self._disk.link(self.path, between)
            self._disk.replace(between, self.previous_path)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            self._disk.sync_folder(self.path)  # the new one has to be there while FILE is not
            with suppress(FileNotFoundError):
                self._disk.replace(self.path, self.previous_path)
        finally:
            with suppress(OSError):
                self._discard(between)  # also there if both names had been one file before


@contextmanager
def reading(path: str, secret: Secret, disk: Disk) -> Iterator[Reading]:
    """Opens a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it cannot be read.
    """
    with _readable(path), disk.reader(open_trusted(path, disk=disk)) as file:
        yield Reading(path, file, secret)


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """Within, a file is read; that it is not there is no error."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}; mend that, or give another name") from error


@contextmanager
def _uncollected() -> Iterator[None]:
    """Within, no garbage is collected: again and again all would be looked at that is being made, and none of it is."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _changed(path: str, theirs: Stages, ours: Stages) -> tuple[str, ...]:
    """The stages that have the same kind and name but other code."""
    changed = []
    for number, name, here, there in differences(ours, theirs):
        if here != there:
            raise CheckpointError(
                f"{path} is of another stream: stage number {number} was {there} when it was written, and is {here} "
                "here; run the script that wrote it, or give another checkpointFile"
            )
        changed.append(name)
    return tuple(changed)


def time_text(seconds: float) -> str:
    """A time of the wall clock, for the user."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
