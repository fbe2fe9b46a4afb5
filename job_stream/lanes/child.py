"""What a forked child does from its first moment to its last: a lane, or the keeper (number 0)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any

from ..mappings import mappings
from .arena import Arena
from .board import NOTE_LEAVING, OWN_CPUS
from .leaving import disown, leave
from .links import ProcessLink
from .nested import keepSequential
from .orphans import brand
from .packing import PicklePacking
from .streams import settleOutput
from .worker import Setup, newWorker

__all__ = ["settle", "work"]


def settle(parent: int, patient: bool, atItsDeath: int = signal.SIGKILL) -> None:
    """Makes a fresh process a quiet child: Ctrl-C is the script's business, and the death of ``parent`` is ours."""
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore if patient else signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, _ignore if patient else signal.SIG_DFL)
    _hearOfDeath(atItsDeath)
    if os.getppid() != parent:
        os._exit(1)


def _ignore(number: int, frame: Any) -> None:
    """A handler, not SIG_IGN: programs that a job starts would inherit that."""


def _hearOfDeath(number: int) -> None:
    """Has the kernel send this process a signal when its parent dies (prctl PR_SET_PDEATHSIG)."""
    from ctypes import CDLL  # loaded by the pool already, before it forked

    CDLL(None).prctl(1, number, 0, 0, 0)


def work(setup: Setup, number: int, inbox: socket.socket, outbox: socket.socket) -> None:
    """Runs a lane or the keeper until the rank closes the inbox, and leaves."""
    disown()
    brand()
    keepSequential()
    setup.board.clear(number)
    note = setup.board.note(number)
    link = ProcessLink(number, inbox, outbox, Arena(setup.board.free(number)))
    mappings.share(max(setup.board.flags[OWN_CPUS], 1))
    _reseed()
    with settleOutput(setup.forwarding):
        with suppress(SystemExit, BrokenPipeError):  # it was to end between two calls, or nobody hears it any more
            newWorker(setup, number, True, link, PicklePacking(), note).run()
        note[NOTE_LEAVING] = 1
        leave()


def _reseed() -> None:
    """Forked processes must not draw the same random numbers (Python's own module sees to itself)."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
