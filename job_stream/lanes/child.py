"""What a forked child does from its first moment to its last: a lane, or the keeper (number 0)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from functools import cache
from typing import Any

from ..errors import LimitError
from ..mappings import mappings
from ..wire import Fork
from .arena import Arena
from .board import OWN_CPUS
from .failures import failureOf, ours
from .links import ProcessLink
from .packing import PicklePacking
from .renewal import renewRandom
from .worker import Setup, newWorker

__all__ = ["prctl", "settle", "work"]


def settle(parent: int, patient: bool) -> None:
    """Makes a fresh process a quiet child: Ctrl-C is the script's business, and the death of ``parent`` is ours."""
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, _ignore if patient else signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, _ignore if patient else signal.SIG_DFL)
    dieWithParent()
    if os.getppid() != parent:
        os._exit(1)


def _ignore(number: int, frame: Any) -> None:
    """A handler, not SIG_IGN: programs that a job starts would inherit that."""


def dieWithParent() -> None:
    """Has the kernel kill this process when its parent dies (prctl PR_SET_PDEATHSIG)."""
    prctl()(1, signal.SIGKILL, 0, 0, 0)


@cache
def prctl() -> Any:
    """The function of the system; looked up before the first fork, since that takes locks."""
    from ctypes import CDLL

    return CDLL(None).prctl


def work(setup: Setup, order: Fork, inbox: socket.socket, outbox: socket.socket) -> None:
    """Runs a lane or the keeper until the rank closes the inbox."""
    setup.board.take(order.serial, order.slot)
    note = setup.board.note(order.serial)
    link = ProcessLink(order.serial, inbox, outbox, Arena(setup.board.free(order.serial)))
    mappings.share(max(setup.board.flags[OWN_CPUS], 1))
    _prepareStreams()
    renewRandom()
    worker = newWorker(setup, order.lane, True, link, PicklePacking(), note)
    try:
        worker.run()
    except LimitError as error:
        link.send(failureOf(ours("a worker", error)))


def _prepareStreams() -> None:
    """What is printed must not be lost when this process is killed."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)
