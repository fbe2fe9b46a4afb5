"""Which files a job opens, and whether it should.

Python tells of each file that is opened by it (an audit hook); what programs and C libraries open is not seen. A job
that reads what another makes has to need it, or it may come too early; and what another makes is not to be written.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .building import Build
    from .job import BuildJob

__all__ = ["Opened", "complaints", "watching"]

Opened = tuple[str, bool]
"""An absolute path, and whether it was opened to be written."""

MOST = 1000
"""More files than that are not told of one job."""

_WRITING = os.O_WRONLY | os.O_RDWR


class _Hook:
    """The one hook of a process, which cannot be taken away; it notes only while somebody asks for that."""

    pid = 0
    root = ""
    found: dict[Opened, None] | None = None

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event != "open" or self.found is None or len(self.found) >= MOST:
            return
        path, mode, flags = args
        if isinstance(path, (str, bytes)):
            full = os.path.abspath(os.fsdecode(path))
            if full.startswith(self.root):
                is_write = any(letter in mode for letter in "wax+") if mode else bool((flags or 0) & _WRITING)
                self.found[full, is_write] = None


_hook = _Hook()


@contextmanager
def watching(root: str | None) -> Iterator[dict[Opened, None]]:
    """Notes what is opened below a folder, if one is given."""
    if root is None:
        yield {}
        return
    if not _hook.pid:
        sys.addaudithook(_hook)
        _hook.pid = os.getpid()
    _hook.root = os.path.join(root, "")
    found = _hook.found = {}
    try:
        yield found
    finally:
        _hook.found = None


def complaints(build: Build, job: BuildJob, opened: tuple[Opened, ...]) -> list[str]:
    """What a job has opened that it should not."""
    found = []
    for full, is_write in opened:
        path = build.relative(full)
        maker = build.makers.get(path)
        if maker is None or maker is job:
            continue
        if is_write:
            found.append(f"{job.id} writes {path}, which {maker.id} makes: only one job may")
        elif not build.way(job, maker):
            found.append(f"{job.id} reads {path}, which {maker.id} makes, without needing it: add it to its needs")
    return found
