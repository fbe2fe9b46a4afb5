"""What a forked child does from its first moment to its last: a lane, or the keeper (number 0)."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from types import FrameType

from ..errors import LimitError
from ..evaluate.failures import failure_of, ours
from ..evaluate.packing import PicklePacking
from ..memory.arena import Arena
from ..memory.mappings import mappings
from ..memory.words import MEMORY, NOTE_LEAVING, OWN_CPUS, Words
from ..stream.adapting import close_instances
from .exits import disown, leave
from .links import ProcessLink
from .nested import keep_sequential
from .orphans import brand, prctl
from .protocol import Fork
from .renewal import renew_random
from .streams import Forwarding, settle_output
from .worker import Setup, new_worker

__all__ = ["SETTLED", "ignore", "settle", "work"]

_SAVING = (signal.SIGTERM, signal.SIGUSR1)
SETTLED = (signal.SIGINT, *_SAVING, signal.SIGHUP, signal.SIGUSR2)
"""The signals that ``settle`` sees to; they are blocked where such a process begins."""

_PDEATHSIG = 1


def settle(parent: int, survives_sigterm: bool, at_its_death: int = signal.SIGKILL) -> None:
    """Makes a fresh process a quiet child: Ctrl-C is the script's business, and the death of ``parent`` is ours.

    So is what else the script answers: a terminal or a batch system sends it to all processes, and a handler of the
    script is not meant to run in each of them.
    """
    for number in SETTLED:
        handler = signal.getsignal(number)
        is_answered = handler not in (signal.SIG_DFL, signal.SIG_IGN) or (survives_sigterm and number in _SAVING)
        if is_answered or number == signal.SIGINT:
            signal.signal(number, ignore)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SETTLED)
    prctl()(_PDEATHSIG, at_its_death, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def ignore(number: int, frame: FrameType | None) -> None:
    """A handler, not SIG_IGN: programs that a job starts would inherit that."""


def work(setup: Setup, forwarding: Forwarding, order: Fork, inbox: socket.socket, outbox: socket.socket) -> None:
    """Runs a lane or the keeper until the rank closes the inbox, and leaves."""
    disown()
    brand()
    keep_sequential()
    setup.board.take(order.serial, order.slot)
    note = setup.board.note(order.serial)
    share = setup.board.flags[MEMORY] // max(setup.board.flags[OWN_CPUS], 1)
    link = ProcessLink(order.serial, inbox, outbox, Arena(setup.board.free(order.serial), share))
    mappings.keep_at_most(share)
    renew_random()
    with settle_output(forwarding):
        with suppress(SystemExit, BrokenPipeError):  # it was to end between two calls, or nobody hears it any more
            _run(setup, order.lane, link, note)
        note[NOTE_LEAVING] = 1
        close_instances(setup.plan)
        leave()


def _run(setup: Setup, number: int, link: ProcessLink, note: Words) -> None:
    packing = PicklePacking()
    worker = new_worker(setup, number, True, link, packing, note)
    try:
        worker.run()
    except LimitError as error:
        link.send(failure_of(ours("a worker", error), packing.pack_error))
