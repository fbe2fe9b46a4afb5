"""What a forked child does from its first moment to its last: a lane, or the keeper (number 0)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import Any

from ..mappings import mappings
from .arena import Arena
from .board import OWN_CPUS
from .links import ProcessLink
from .packing import PicklePacking
from .worker import Setup, newWorker

__all__ = ["SETTLED", "settle", "work"]

SETTLED = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The signals that ``settle`` sees to; they are blocked where such a process begins."""


def settle(parent: int, patient: bool) -> None:
    """Makes a fresh process a quiet child: Ctrl-C is the script's business, and the death of ``parent`` is ours."""
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore if patient else signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, _ignore if patient else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SETTLED)
    dieWithParent()
    if os.getppid() != parent:
        os._exit(1)


def _ignore(number: int, frame: Any) -> None:
    """A handler, not SIG_IGN: programs that a job starts would inherit that."""


def dieWithParent() -> None:
    """Has the kernel kill this process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    from ctypes import CDLL  # loaded by the pool already, before it forked

    CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)


def work(setup: Setup, number: int, inbox: socket.socket, outbox: socket.socket) -> None:
    """Runs a lane or the keeper until the rank closes the inbox."""
    setup.board.clear(number)
    note = setup.board.note(number)
    link = ProcessLink(number, inbox, outbox, Arena(setup.board.free(number)))
    mappings.share(max(setup.board.flags[OWN_CPUS], 1))
    _prepareStreams()
    _reseed()
    newWorker(setup, number, True, link, PicklePacking(), note).run()


def _prepareStreams() -> None:
    """What is printed must not be lost when this process is killed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _reseed() -> None:
    """Forked processes must not draw the same random numbers (Python's own module sees to itself)."""
    random = sys.modules.get("numpy.random")
    if random is not None:
        random.seed()
