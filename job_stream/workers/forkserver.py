"""The fork server: a process without threads that forks nurseries for a script that has some.

A fork takes one thread along. What the script's other threads had locked at that moment stays locked for ever in the
child, and a worker that needs it hangs. So where ``startMethod="forkserver"`` asks for it, nurseries are forked from a
process that was started anew and never had a second thread. They have nothing of the script but what is sent: the plan,
the initial work and what ``__main__`` defines travel by cloudpickle, in a memory file (``Cargo``), beside the
descriptors that a forked nursery would have inherited (``DESCRIPTORS``).

The server lives as long as its script, which holds the other end of its socket. Who asks (``lanes.starting``) waits
until the nursery has unpacked all: what cannot be had there is an error of the script's.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from ..ground.limits import raise_files
from ..memory.words import SharedWords
from .child import SETTLED, ignore
from .links import receive
from .nursery import Nursery, run_forked, thread_limiter
from .orphans import prctl
from .streams import Forwarding, settle_output
from .worker import Setup

__all__ = ["DESCRIPTORS", "READY", "Cargo", "Circumstances", "serve"]

DESCRIPTORS = ("cargo", "board", "lines", "commands", "outbox", "told", "1", "2")
"""What comes with each order, in this order; after these, ends of pipes for streams that are in the script only."""

READY = b"ready "
"""With this and its pid the nursery answers; anything else is what went wrong, in words."""


class Circumstances(NamedTuple):
    """What a process inherits from the script where it is forked from it."""

    environment: dict[str, str]
    folder: str
    path: list[str]
    argv: list[str]
    file: str | None


class Cargo(NamedTuple):
    """What the workers of a run need: their setup, but for the board, and what ``__main__`` defines."""

    setup: tuple[Any, ...]
    main: dict[str, Any]


def serve(number: int, script: int) -> None:
    """Obeys until the script is gone.

    Args:
        number: of the descriptor of a socket, through which orders come.
        script: its pid.
    """
    for each in SETTLED:
        signal.signal(each, ignore)  # the script answers them
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so nobody needs to reap nurseries
    prctl()
    raise_files()
    poll = select.poll()
    with suppress(OSError):  # it has gone, so there is no order either
        poll.register(os.pidfd_open(script), select.POLLIN)
    with socket.socket(fileno=number) as orders:
        poll.register(orders, select.POLLIN)
        while [fd for fd, _ in poll.poll()] == [orders.fileno()] and (message := receive(orders)) is not None:
            _obey(orders, message[0].decode().split(), message[1])


def _obey(orders: socket.socket, names: list[str], fds: list[int]) -> None:
    ends = dict(zip((*DESCRIPTORS, *names), fds, strict=True))
    try:
        if os.fork() == 0:
            orders.close()
            run_forked(lambda: _be_nursery(ends, names))
    except OSError as error:
        os.write(ends["told"], f"the fork server cannot fork: {error.strerror}".encode())
    finally:
        for fd in fds:
            os.close(fd)


def _be_nursery(ends: dict[str, int], names: list[str]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # what is imported now may wait for processes of its own
    for name in ("1", "2"):
        os.dup2(ends[name], int(name))
        os.close(ends[name])
    forwarding = Forwarding.handed(ends["lines"], {name: ends[name] for name in names})
    try:
        with open(ends["cargo"], "rb") as file:
            setup = _unpacked(file, ends["board"])
    except BaseException as error:
        _tell(ends["told"], f"{type(error).__name__}: {error}".encode(errors="backslashreplace"))
        return
    with socket.socket(fileno=ends["commands"]) as commands, socket.socket(fileno=ends["outbox"]) as outbox:
        nursery = Nursery(setup, forwarding, os.getppid(), commands, outbox, thread_limiter())
        _tell(ends["told"], READY + str(os.getpid()).encode())
        with settle_output(forwarding):
            nursery.run()


def _tell(fd: int, text: bytes) -> None:
    with suppress(BrokenPipeError):
        os.write(fd, text[: select.PIPE_BUF])
    os.close(fd)


def _unpacked(file: BinaryIO, board: int) -> Setup:
    circumstances: Circumstances = pickle.load(file)
    os.environ.clear()
    os.environ.update(circumstances.environment)
    os.chdir(circumstances.folder)
    sys.path[:] = circumstances.path
    sys.argv[:] = circumstances.argv
    main = sys.modules["__main__"] = ModuleType("__main__")
    if circumstances.file is not None:
        main.__file__ = circumstances.file
    cargo: Cargo = pickle.load(file)
    vars(main).update(cargo.main)
    return Setup(*cargo.setup)._replace(board=SharedWords(board))
