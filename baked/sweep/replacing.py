"""Files that are written anew: there in full or as before, under a link if there is one, and nothing but files.

The new one is made beside the old one, under a name that nobody else has, and takes its place when it is complete. It
keeps the rights and the owner of the one before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .arguments import check_file

__all__ = ["replacing"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def replacing(keyword: str, path: Path) -> Iterator[Path]:
    """A new file to be written within; afterwards it stands at the path. If that fails, what was there stays.

    Raises:
        PlanError: what is there is not to be replaced.
    """
    check_file(keyword, path)
    whole = Path(os.path.realpath(path))
    part = whole.with_name(f".{os.urandom(16).hex()}.part{whole.suffix}")
    fd = os.open(part, _CREATE, 0o666)
    try:
        try:
            _inherit(fd, whole)
        finally:
            os.close(fd)
        yield part
        part.replace(whole)
    finally:
        part.unlink(missing_ok=True)


def _inherit(fd: int, whole: Path) -> None:
    """Gives a new file the owner and the rights of the one that it is to replace, as far as this user can."""
    with suppress(FileNotFoundError):
        status = whole.stat()
        with suppress(PermissionError):
            os.fchown(fd, status.st_uid, status.st_gid)
        os.fchmod(fd, stat.S_IMODE(status.st_mode))
