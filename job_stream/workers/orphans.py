"""The programs and processes that workers start, and how they are ended with them.

When a worker dies its children go on. The process that forks the workers *adopts* them (the kernel gives orphans to the
nearest ancestor that has asked for them), so it has them all before it when the run is over. Children of the script
itself are never among them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from time import monotonic, sleep
from typing import Any

from ..ground.environment import WORKER

__all__ = ["adopt", "brand", "end_adopted", "kill_tree", "prctl"]

_SUBREAPER = 36
_SHORT_S, _LONG_S = 0.25, 1.0
_SHORTEST_S, _LONGEST_S = 2e-4, 1e-2


def adopt() -> None:
    """Has this process become the parent of all orphans among its descendants (prctl PR_SET_CHILD_SUBREAPER)."""
    prctl()(_SUBREAPER, 1, 0, 0, 0)


@cache
def prctl() -> Any:
    """The function of the system; looked up before the first fork, since that takes locks."""
    from ctypes import CDLL

    return CDLL(None).prctl


def brand() -> None:
    """Marks what this process will start as its own, for ``kill_tree``."""
    os.environ[WORKER.name] = str(os.getpid())


# one worker -----------------------------------------------------------------------------------------------------------


def kill_tree(root: int) -> None:
    """Kills a child of this process, and all that it has started; stopped first, so that nothing escapes by a fork."""
    mark = f"{WORKER}={root}".encode()
    known = {root}
    _tell(root, signal.SIGSTOP)
    while found := {pid for pid, parent in _table() if parent in known or _is_lost(pid, parent, mark)} - known:
        for pid in found:
            _tell(pid, signal.SIGSTOP)
        known |= found
    for pid in known:
        _tell(pid, signal.SIGKILL)


def _is_lost(pid: int, parent: int, mark: bytes) -> bool:
    """Whether a process has been adopted already that was started under this mark."""
    if parent != os.getpid():
        return False
    with suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return mark in file.read().split(b"\0")
    return False


def _table() -> Iterator[tuple[int, int]]:
    """Every process and its parent."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                yield int(name), int(file.read().rpartition(b")")[2].split()[1])


def _tell(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


# all that is left -----------------------------------------------------------------------------------------------------


def end_adopted(hurried: bool) -> None:
    """Ends all children of this process, and their children as those come to it: what tidies up after others (resource
    trackers) ends by itself, then programs are asked to, then they are killed.

    Only children are told, since no other process can have been given their numbers meanwhile.
    """
    if hurried:
        _await(_SHORT_S, signal.SIGTERM)
    else:
        _await(_SHORT_S, None)
        _await(_LONG_S, signal.SIGTERM)
    _await(_LONG_S, signal.SIGKILL)


def _await(seconds: float, number: int | None) -> None:
    """Waits so long until no child is left; each is told ``number`` once."""
    told: set[int] = set()

    def is_alone() -> bool:
        if _bury():
            return True
        if number is not None:
            own = {pid for pid, parent in _table() if parent == os.getpid()}
            for pid in own - told:
                _tell(pid, number)
            told.update(own)
        return False

    awaited(is_alone, seconds)


def _bury() -> bool:
    """Takes note of children that have ended; True: there are none any more."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


def awaited(is_there: Callable[[], bool], seconds: float) -> bool:
    """Waits until something is there, for so long at most; gives whether it is."""
    deadline, pause = monotonic() + seconds, _SHORTEST_S
    while not is_there():
        if monotonic() >= deadline:
            return False
        sleep(pause)
        pause = min(2 * pause, _LONGEST_S)
    return True
