"""What jobs write to stdout and stderr, by file descriptor, so that of their programs is there, too.

A worker has two files that it uses again for each job. Only a job whose output is to stay takes its file away with it,
so that most jobs cost no file of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b

__all__ = ["TAIL_BYTES", "JobLogs", "holds_logs", "log_path", "remove_logs", "remove_scratch"]

TAIL_BYTES = 64 * 1024
"""How much of the end of an output is told with the job."""

_SCRATCH = ".worker-"
_PLAIN, _LONGEST = 60, 250
"""How many characters can't be too many bytes for a name, and how many bytes are not."""


def log_path(folder: str, job_id: str, suffix: str) -> str:
    """Where the output of a job stays."""
    name = job_id.lstrip("/").replace("..", "__").replace("\0", "_")
    if len(name) > _PLAIN:
        name = "/".join(map(_short, name.split("/")))
    return os.path.join(folder, f"{name}.{suffix}")


def remove_logs(folder: str, job_id: str) -> None:
    """What a job has written in an earlier attempt."""
    for suffix in ("out", "err"):
        with suppress(OSError, ValueError):
            os.unlink(log_path(folder, job_id, suffix))


def holds_logs(folder: str) -> bool:
    """Whether earlier runs have left any."""
    try:
        return any(not name.startswith(_SCRATCH) for name in os.listdir(folder))
    except OSError:
        return False


def _short(name: str) -> str:
    """A name to which a suffix may be added, where files may have names of 255 bytes."""
    encoded = name.encode("utf-8", "surrogatepass")
    if len(encoded) <= _LONGEST:
        return name
    return f"{encoded[:_LONGEST - 33].decode(errors='ignore')}-{blake2b(encoded, digest_size=16).hexdigest()}"


class JobLogs:
    """The output files of one worker."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._files: dict[str, int] = {}
        self._owner = 0

    def open(self) -> tuple[int, int]:
        """Two empty files for the next job, out and err."""
        if self._owner != os.getpid():
            self._files, self._owner = {}, os.getpid()
        return self._empty("out"), self._empty("err")

    def _scratch(self, suffix: str) -> str:
        return os.path.join(self.folder, f"{_SCRATCH}{os.uname().nodename}-{self._owner}.{suffix}")

    def _empty(self, suffix: str) -> int:
        file = self._files.get(suffix)
        if file is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
            file = self._files[suffix] = os.open(self._scratch(suffix), flags, 0o644)
        elif os.fstat(file).st_size:
            os.ftruncate(file, 0)
        return file

    def tails(self) -> tuple[str, str]:
        """The ends of what the job has written."""
        return self._tail("out"), self._tail("err")

    def _tail(self, suffix: str) -> str:
        file = self._files[suffix]
        size = os.fstat(file).st_size
        if not size:
            return ""
        return os.pread(file, TAIL_BYTES, max(0, size - TAIL_BYTES)).decode(errors="replace")

    def keep(self, job_id: str) -> bool:
        """Leaves what the job has written under its id; false where it cannot stay, which is no failure of the job."""
        try:
            for suffix in ("out", "err"):
                target = log_path(self.folder, job_id, suffix)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                os.rename(self._scratch(suffix), target)
                os.close(self._files.pop(suffix))
        except (OSError, ValueError):
            return False
        return True

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Has this process itself write there for a while."""
        out, err = self.open()
        _flush()
        held = os.dup(1), os.dup(2)
        streams = sys.stdout, sys.stderr
        try:
            with _bound(out, err):
                yield
        finally:
            os.dup2(held[0], 1)
            os.dup2(held[1], 2)
            os.close(held[0])
            os.close(held[1])
            sys.stdout, sys.stderr = streams


@contextmanager
def _bound(out: int, err: int) -> Iterator[None]:
    os.dup2(out, 1)
    os.dup2(err, 2)
    bind_streams()
    try:
        yield
    finally:
        _flush()


def bind_streams() -> None:
    """Has print and the like write to the file descriptors, whatever the script or a test runner had put there."""
    sys.stdout = open(1, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):
            stream.flush()


def remove_scratch(folder: str) -> None:
    """Files that workers have left, which only those that were killed do, or those of a run that is over."""
    with suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(_SCRATCH):
                with suppress(OSError):
                    os.unlink(os.path.join(folder, name))
