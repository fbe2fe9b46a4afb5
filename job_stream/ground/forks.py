"""What belongs to the runs of this process and is no business of a process that is forked from it meanwhile.

Another run's nursery, a helper of ``multiprocessing``, whatever else a thread of the script forks: each would hold the
sockets and the memory files of this run open, and keep them for as long as it lives. So a run says what it has, and
every process that comes of ``os.fork`` lets go of it first of all. Nothing takes a lock there, since another thread may
have held it at the fork.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["MEMORY_FILE", "Belonging", "alone", "disown", "own"]

MEMORY_FILE = "job_stream"
"""The name of memory files, by which those that are on their way through this process are found."""


class Belonging(Protocol):
    """Something that a run has open."""

    def let_go(self) -> None:
        """In a forked process: closes it, and does nothing from then on; takes no lock."""


class _ForkTurn:
    """Whose turn it is to open and to fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Also in a forked process, where nobody would ever give it back."""
        self.lock = threading.RLock()


_turn = _ForkTurn()
_belongings: WeakSet[Belonging] = WeakSet()


def alone() -> AbstractContextManager[Any]:
    """Within this context no other run forks: it would take along what is open here and belongs to nobody yet."""
    return _turn.lock


def own(thing: Belonging) -> None:
    """Has processes that are forked from now on let go of this."""
    _belongings.add(thing)


def disown(thing: Belonging) -> None:
    """It has been closed."""
    _belongings.discard(thing)


def _let_go() -> None:
    _turn.renew()
    if not _belongings:
        return
    for thing in list(_belongings):
        with suppress(Exception):  # what cannot be closed keeps nothing else open
            thing.let_go()
    _belongings.clear()
    _close_memory_files()


def _close_memory_files() -> None:
    """Closes those that are on their way, too; who holds them here does so no longer (see ``Segment``)."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"/memfd:{MEMORY_FILE} "):
                os.close(int(name))


os.register_at_fork(after_in_child=_let_go)
