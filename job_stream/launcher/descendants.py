"""What a launcher has started on this machine: with ssh to each host, which waits for ever for one that is gone."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

__all__ = ["Process", "children_of", "kill"]

_PARENT, _STARTED = 1, 19
"""Where these stand in /proc/PID/stat behind the name of the program (proc(5))."""


class Process(NamedTuple):
    """A process, told from a later one with the same number by the time of its start."""

    pid: int
    started: str


def children_of(parent: int) -> set[Process]:
    """The living children of a process."""
    stats = ((int(entry), _stat(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return {Process(pid, stat[_STARTED]) for pid, stat in stats if stat and stat[_PARENT] == str(parent)}


def kill(processes: Iterable[Process]) -> None:
    """Kills those that are still there."""
    for pid, started in processes:
        stat = _stat(str(pid))
        if stat and stat[_STARTED] == started:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _stat(pid: str) -> list[str]:
    with suppress(OSError):
        return Path("/proc", pid, "stat").read_text(errors="replace").rpartition(")")[2].split()
    return []
