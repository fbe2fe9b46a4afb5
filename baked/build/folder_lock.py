"""One build at a time in a folder, whichever process and host it runs on.

A lock of the system is held for as long as the process lives; the file says who holds it, for whoever finds it held.
Where the file system has no locks, a file that is touched every few seconds stands for one: who has not touched it for
long is gone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from job_stream.errors import BuildError

__all__ = ["FolderLock"]

BEAT_S = 5.0
GONE_S = 30.0
"""Who holds a lease and has not been heard of for so long is gone."""
DEATH_S = 5.0
"""How long a process that was killed may take until its lock is free."""
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
HELD = (errno.EACCES, errno.EAGAIN)

_mine: dict[tuple[int, int], int] = {}
"""The locks of this process, with their open files: the system would give them to it twice, and take them away as soon
as it closed the file anywhere."""


class FolderLock:
    """The lock of a build's folder; held from its making to ``release``, or to the end of this process.

    Args:
        path: of the lock file, which stays there.

    Raises:
        BuildError: another build holds it; names host, process, and since when.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._ended = threading.Event()
        self._lease = f"{path}.lease"
        self._has_lease = False
        self._check_not_mine()
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise BuildError(f"{path} cannot be opened: {error.strerror}: give the build another folder") from error
        info = os.fstat(self._fd)
        self._key = (info.st_dev, info.st_ino)
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise
        _mine[self._key] = self._fd
        self._say_who()

    def _check_not_mine(self) -> None:
        """Before the file is opened: closing it again would free the lock."""
        with suppress(OSError):
            info = os.stat(self._path)
            fd = _mine.get((info.st_dev, info.st_ino))
            if fd is not None:
                self._fd = fd
                raise self._taken()

    def _take(self) -> None:
        give_up_s = time.monotonic() + DEATH_S
        while True:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError as error:
                if error.errno in NO_LOCKS:
                    self._take_lease()
                    return
                if error.errno not in HELD:
                    raise BuildError(f"{self._path} cannot be locked: {error.strerror}") from error
            if not self._is_holder_gone() or time.monotonic() > give_up_s:
                raise self._taken()
            time.sleep(0.01)  # it was killed; the system is about to notice

    def _holder(self) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found = json.loads(os.pread(self._fd, 4096, 0))
            if isinstance(found, dict):
                return found
        return {}

    def _is_holder_gone(self) -> bool:
        holder = self._holder()
        if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
            return False
        return not os.path.exists(f"/proc/{holder['pid']}")

    def _taken(self) -> BuildError:
        holder = self._holder()
        who = "process {pid} on {host}, since {since}".format(
            **{"pid": "?", "host": "an unknown host", "since": "?", **holder}
        )
        return BuildError(
            f"another build is under way in {os.path.dirname(self._path)}: {who}: wait for it, or give this one "
            f"another folder"
        )

    def _say_who(self) -> None:
        text = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        with suppress(OSError):
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(text).encode(), 0)

    # where there are no locks -----------------------------------------------------------------------------------------

    def _take_lease(self) -> None:
        try:
            self._make_lease()
        except FileExistsError:
            if not self._is_old(self._lease):
                raise self._taken() from None
            self._put_aside()
            try:
                self._make_lease()
            except FileExistsError:
                raise self._taken() from None
        self._has_lease = True
        threading.Thread(target=self._beat, name="job_stream-build-lease", daemon=True).start()

    def _make_lease(self) -> None:
        os.close(os.open(self._lease, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o666))

    def _put_aside(self) -> None:
        """Takes an old lease away, but not the new one of who did the same a moment earlier."""
        aside = f"{self._lease}.{socket.gethostname()}.{os.getpid()}.old"
        try:
            os.rename(self._lease, aside)
        except FileNotFoundError:
            return
        is_old = self._is_old(aside)
        if not is_old:
            with suppress(OSError):
                os.link(aside, self._lease)
        os.unlink(aside)
        if not is_old:
            raise self._taken()

    def _is_old(self, path: str) -> bool:
        """By the clock of whoever keeps the files, not by that of this host."""
        try:
            touched = os.stat(path).st_mtime
        except FileNotFoundError:
            return True
        probe = f"{self._lease}.{socket.gethostname()}.{os.getpid()}"
        try:
            os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666))
            os.utime(probe)  # one may have been left here
            return os.stat(probe).st_mtime - touched > GONE_S
        finally:
            with suppress(FileNotFoundError):
                os.unlink(probe)

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(OSError):
                os.utime(self._lease)

    # the end ----------------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """Lets others build."""
        if self._fd < 0:
            return
        self._ended.set()
        if self._has_lease:
            with suppress(OSError):
                os.unlink(self._lease)
        _mine.pop(self._key, None)
        os.close(self._fd)
        self._fd = -1
