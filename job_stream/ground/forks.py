"""What belongs to the runs of this process and is no business of a process that is forked from it meanwhile.

Another run's nursery, a helper of ``multiprocessing``, whatever else a thread of the script forks: each would hold the
sockets and the memory files of this run open, and keep them for as long as it lives. So a run says what it has, and
every process that comes of ``os.fork`` lets go of it first of all. Nothing takes a lock there, since another thread may
have held it at the fork. What can keep still around a fork, such as a thread of ours, does so.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager, suppress
from typing import Any, Protocol
from weakref import WeakSet

__all__ = ["MEMORY_FILE", "Belonging", "Restless", "alone", "disown", "keep_still", "move_on", "own"]

MEMORY_FILE = "job_stream"
"""The name of memory files, by which those that are on their way through this process are found."""


class Belonging(Protocol):
    """Something that a run has open."""

    def let_go(self) -> None:
        """In a forked process: closes it, and does nothing from then on; takes no lock."""


class Restless(Belonging, Protocol):
    """Something that does not stand still by itself when somebody forks."""

    def pause(self) -> None:
        """Before a fork of this process."""

    def resume(self) -> None:
        """After it, in this process."""


class _ForkTurn:
    """Whose turn it is to open and to fork."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Also in a forked process, where nobody would ever give it back."""
        self.lock = threading.RLock()


_turn = _ForkTurn()
_belongings: WeakSet[Belonging] = WeakSet()
_restless: WeakSet[Restless] = WeakSet()


def alone() -> AbstractContextManager[Any]:
    """Within this context no other run forks: it would take along what is open here and belongs to nobody yet."""
    return _turn.lock


def own(thing: Belonging) -> None:
    """Has processes that are forked from now on let go of this."""
    _belongings.add(thing)


def disown(thing: Belonging) -> None:
    """It has been closed."""
    _belongings.discard(thing)


def keep_still(thing: Restless) -> None:
    """Has this keep still around forks from now on."""
    _restless.add(thing)


def move_on(thing: Restless) -> None:
    """It keeps still for good."""
    _restless.discard(thing)


def _pause() -> None:
    for thing in list(_restless):
        with suppress(Exception):
            thing.pause()


def _resume() -> None:
    for thing in list(_restless):
        with suppress(Exception):
            thing.resume()


def _let_go() -> None:
    _turn.renew()
    for restless in list(_restless):
        with suppress(Exception):
            restless.let_go()
    _restless.clear()
    if not _belongings:
        return
    for thing in list(_belongings):
        with suppress(Exception):  # what cannot be closed keeps nothing else open
            thing.let_go()
    _belongings.clear()
    _close_memory_files()


def _close_memory_files() -> None:
    """Closes those that are on their way, too; who holds them here does so no longer (see ``Segment``)."""
    if sys.platform != "linux":
        return  # there are none
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith(f"/memfd:{MEMORY_FILE} "):
                os.close(int(name))


os.register_at_fork(before=_pause, after_in_parent=_resume, after_in_child=_let_go)
