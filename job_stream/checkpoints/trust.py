"""What the files of a checkpoint have in common: whom to trust, the optional key, and how names change safely.

A checkpoint holds pickles, and whoever can write one can run code as the user who resumes from it. So only a regular
file of this very user is read, and only if nobody else may write it. ``JOBS_CHECKPOINT_KEY`` may name a file with a
secret, which then keys every digest.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from hashlib import blake2b
from typing import Any

from ..errors import CheckpointError
from ..ground.environment import CHECKPOINT_KEY
from .disk import DISK, Disk

__all__ = [
    "DIGEST_BYTES", "CheckpointError", "DamagedError", "Secret", "check_ours", "is_ours", "named",
    "open_trusted",
]  # fmt: skip

DIGEST_BYTES = 32
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class DamagedError(CheckpointError):
    """The file was a checkpoint once. ``run_id``: of which run, where that can still be read."""

    def __init__(self, text: str, run_id: str | None = None) -> None:
        super().__init__(text)
        self.run_id = run_id


class Secret:
    """What digests are keyed with: nothing, or the content of the file that ``JOBS_CHECKPOINT_KEY`` names.

    Raises:
        CheckpointError: there is no such file, it is empty, or others may read or write it.
    """

    def __init__(self) -> None:
        path = CHECKPOINT_KEY.read()
        self._key = _key_of(path) if path else b""

    @property
    def is_set(self) -> bool:
        return bool(self._key)

    def digest(self, purpose: bytes, size: int = DIGEST_BYTES) -> Any:
        """A BLAKE2b hash; one made for another purpose is of no use in its place."""
        return blake2b(digest_size=size, key=self._key, person=purpose)


def _key_of(path: str) -> bytes:
    try:
        with os.fdopen(open_trusted(path), "rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read()
    except OSError as error:
        raise CheckpointError(f"{CHECKPOINT_KEY} names {path}, which cannot be read: {error.strerror}") from error
    if mode & _OF_OTHERS:
        raise CheckpointError(f"{CHECKPOINT_KEY} names {path}, which is no secret, since others can read it (mode "
                              f"{mode:o}): chmod go= it, and make a new one if anybody may have")  # fmt: skip
    if not content:
        raise CheckpointError(f"{CHECKPOINT_KEY} names {path}, which is empty: put some random bytes into it")
    return blake2b(content).digest()


def open_trusted(path: str, flags: int = os.O_RDONLY, disk: Disk = DISK) -> int:
    """The descriptor of a file that only this user can have written.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: it is not such a file.
    """
    try:
        fd = _open(path, flags, disk)
    except PermissionError:
        raise CheckpointError(f"{path} cannot be opened, since it {_denial(path, disk)}") from None
    reason = _distrust(disk.fstat(fd))
    if reason:
        disk.close(fd)
        raise CheckpointError(f"{path} is not read, since it {reason}")
    return fd


def _open(path: str, flags: int, disk: Disk) -> int:
    """Opens a file, or makes it, and nothing else: opening alone does something to devices, and may wait for ever."""
    with suppress(FileNotFoundError):
        mode = disk.lstat(path).st_mode
        if stat.S_ISLNK(mode):
            raise CheckpointError(f"{path} is a symbolic link: give the name of the file itself")
        if not stat.S_ISREG(mode):
            raise CheckpointError(f"{path} is not a regular file: give the name of one")
    return disk.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def check_ours(path: str, magic: bytes, disk: Disk = DISK) -> None:
    """Makes sure that a checkpoint may take this name: it is free, or one of this user's has it.

    Args:
        magic: how checkpoints begin; a file that has nothing in it is nobody's loss.

    Raises:
        CheckpointError: it is something else.
        OSError: it cannot be looked at.
    """
    try:
        reason = _strange(path, magic, disk)
    except FileNotFoundError:
        return
    if reason:
        raise CheckpointError(f"{path} is in the way: it {reason}")


def _strange(path: str, magic: bytes, disk: Disk) -> str:
    """Why a file is no checkpoint of this user's; nothing if it is."""
    fd = _open(path, os.O_RDONLY, disk)
    try:
        reason = _foreign(disk.fstat(fd))
        if not reason and not magic.startswith(disk.pread(fd, len(magic), 0)):
            reason = "is not a checkpoint of job_stream: give another name, or remove it"
        return reason
    finally:
        disk.close(fd)


def is_ours(path: str, magic: bytes, disk: Disk = DISK) -> bool:
    """Whether there is such a file."""
    with suppress(CheckpointError):
        check_ours(path, magic, disk)
        return disk.lexists(path)
    return False


def _foreign(status: os.stat_result) -> str:
    """Why a file is not this user's; nothing if it is."""
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file: give the name of one"
    if status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, and this is user {os.geteuid()}: run as its owner, or copy it"
    return ""


def _distrust(status: os.stat_result) -> str:
    """Why a file is not to be trusted; nothing if it is."""
    if reason := _foreign(status):
        return reason
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"can be written by others (mode {status.st_mode & 0o777:o}): if nobody has, chmod go-w it"
    return ""


def _denial(path: str, disk: Disk) -> str:
    """Why this user may not open a file."""
    with suppress(OSError):
        if reason := _distrust(disk.lstat(path)):
            return reason
    return "is not to be read and written by this user: if it is yours, chmod u+rw it, or else give another name"


def named(error: OSError, path: str) -> OSError:
    """The same error with the path in it, which calls on descriptors leave out."""
    return OSError(error.errno, error.strerror or str(error), path)
