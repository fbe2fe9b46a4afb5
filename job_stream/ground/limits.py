"""What the system lets a process have, in words where it refuses more."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ..errors import LimitError

__all__ = ["are_files_scarce", "explained", "files", "files_for_one", "named", "raise_files", "refusal"]

MANY_FILES = 1 << 20
PURPOSES = 16


def files() -> int:
    """How many files this process may have open."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MANY_FILES if limit == resource.RLIM_INFINITY else limit


def files_for_one() -> int:
    """How many of them may be open for one purpose, such as a message that is under way, or memory that is mapped."""
    return max(files() // PURPOSES, 1)


def raise_files() -> None:
    """Lets this process have as many files open as it may give itself."""
    few, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if few != most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def are_files_scarce(fd: int) -> bool:
    """Whether so many are open, as a new descriptor shows, that none should be kept that can be done without."""
    return fd >= files() // 4


def _size_of_files() -> str:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return (
        f"a file of this process, and so its shared memory, may have {most:,} bytes (ulimit -f): raise the limit, or "
        "pass smaller values"
    )


_PROCESSES = (
    "this user, or the container, may have no more processes and threads (ulimit -u; pids.max of the cgroup): raise "
    "the limit, or use fewer workers (cpus=)"
)
_REASONS: dict[int, Callable[[], str]] = {
    errno.EMFILE: lambda: f"this process may have {files():,} files open (ulimit -n): raise the limit, or use fewer "
    "workers (cpus=)",
    errno.ENFILE: lambda: "the system has as many files open as it may (sysctl fs.file-max)",
    errno.EAGAIN: lambda: _PROCESSES,
    errno.ENOMEM: lambda: "the system has no memory left",
    errno.ENOSPC: lambda: "the system has no memory left for files in memory",
    errno.EFBIG: _size_of_files,
}
_NO_THREAD = "can't start new thread"


def refusal(number: int, what: str) -> LimitError:
    """The error for ``what`` that the system has refused with this number of an error."""
    reason = _REASONS.get(number, lambda: os.strerror(number))
    return LimitError(f"{what} ({errno.errorcode.get(number, number)}): {reason()}")


@contextmanager
def named(what: str) -> Iterator[None]:
    """Within, refusals of the system are raised as the error that says which limit was met."""
    try:
        yield
    except OSError as error:
        raise explained(error, what)  # noqa: B904


def explained(error: BaseException, what: str) -> BaseException:
    """The error that says which limit was met; others as they are."""
    if isinstance(error, OSError) and error.errno in _REASONS:
        told = refusal(error.errno, what)
    elif isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
        told = refusal(errno.EAGAIN, what)
    else:
        return error
    told.__cause__ = error
    return told
