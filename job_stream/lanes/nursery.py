"""The nursery: a process with one thread that forks lanes and the keeper, and reports how they end.

It is forked from the script's main thread before the run has threads of its own (and before MPI is initialised), so
that forking from it stays safe for as long as the run lasts. Functions and data that the script has loaded reach the
children this way without being pickled.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from time import monotonic, sleep
from typing import Any

from ..wire import Codec, Died, Fork, Forked, Kill, Stopped
from .child import SETTLED, settle, work
from .links import receive, send
from .worker import Setup

__all__ = ["Nursery", "forkNursery"]

EVERYBODY = -1
GRACE_S = 0.25


class Nursery:
    """Runs in a process of its own until the rank closes its end of ``commands``.

    Args:
        setup: for the children.
        parent: the process whose end is the end of this one.
        commands: from the rank, and reports back to it.
        outbox: the children's way back to the rank.
        limitThreads: see ``threadLimiter``.
    """

    def __init__(self, setup: Setup, parent: int, commands: socket.socket, outbox: socket.socket,
                 limitThreads: Callable[[], None]) -> None:  # fmt: skip
        self._parent = parent
        self._setup = setup
        self._commands = commands
        self._outbox = outbox
        self._limitThreads = limitThreads
        self._codec = Codec(_noSegments, lambda owner, number, fd: None)
        self._children: dict[int, int] = {}

    def run(self) -> None:
        """Obeys until the rank is gone, then ends all children."""
        settle(self._parent, self._setup.patient)
        self._limitThreads()
        gc.freeze()
        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(awake, select.POLLIN)
        poll.register(self._commands, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if awake in ready:
                os.read(awake, 4096)
                self._reap()
            if self._commands.fileno() in ready and not self._obey():
                break
        self._endAll()

    def _obey(self) -> bool:
        """Takes one command; False when there will be no more."""
        try:
            message = receive(self._commands)
        except OSError:
            return False
        if message is None:
            return False
        data, fds = message
        command = self._codec.decode(data, [], 0)
        if type(command) is Fork:
            self._fork(command.lane, socket.socket(fileno=fds[0]))
        elif type(command) is Kill:
            self._kill(command.lane)
        return True

    def _fork(self, lane: int, inbox: socket.socket) -> None:
        nursery = os.getpid()
        pid = os.fork()
        if pid == 0:
            _runChild(lambda: self._child(nursery, lane, inbox))
        inbox.close()
        self._children[pid] = lane
        self._report(Forked(lane, pid))

    def _child(self, nursery: int, lane: int, inbox: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._commands.close()
        settle(nursery, self._setup.patient)
        work(self._setup, lane, inbox, self._outbox)

    def _kill(self, lane: int) -> None:
        for pid, number in self._children.items():
            if lane in (number, EVERYBODY):
                os.kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            lane = self._children.get(pid)
            if lane is None:
                continue
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._report(Stopped(lane, os.WIFSTOPPED(status)))
            else:
                del self._children[pid]
                self._report(Died(lane, status))

    def _report(self, message: Any) -> None:
        data, _ = self._codec.encode(message)
        try:
            send(self._commands, data, [])
        except OSError:
            self._endAll()
            os._exit(1)

    def _endAll(self) -> None:
        """Children end by themselves when their inbox is closed, unless they are inside user code."""
        deadline = monotonic() + GRACE_S
        while self._children and monotonic() < deadline:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            self._children.pop(pid, None)
            if pid == 0:
                sleep(2e-4)
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)
        for pid in self._children:
            os.waitpid(pid, 0)


def _runChild(body: Any) -> None:
    """Runs the body of a forked process and leaves, without what the script would do at its own end."""
    code = 1
    try:
        body()
        code = 0
    except BrokenPipeError:
        pass
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(code)


def forkNursery(setup: Setup, commands: socket.socket, outbox: socket.socket, foreign: list[socket.socket]) -> int:
    """Forks the nursery and gives its pid; ``foreign``: the rank's ends, which the nursery closes."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    script, limitThreads = os.getpid(), threadLimiter()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SETTLED)  # what comes to the child before it has settled waits
    try:
        pid = os.fork()
        if pid == 0:
            for end in foreign:
                end.close()
            _runChild(Nursery(setup, script, commands, outbox, limitThreads).run)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _noSegments(parts: list[Any]) -> tuple[int, int]:
    raise AssertionError("the nursery sends small messages only")


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_NUMERIC = ("numpy", "scipy", "sklearn", "torch", "numba")


def threadLimiter() -> Callable[[], None]:
    """What limits BLAS and OpenMP to one thread, unless the user has said otherwise: the lanes fill the cores already.

    Looking for the libraries takes a while, so it is done in the script's process, once for those that are loaded.
    """
    if any(name in os.environ for name in _THREAD_VARIABLES):
        return lambda: None
    controller = _controller(tuple(name for name in _NUMERIC if name in sys.modules))

    def limit() -> None:
        os.environ.update(dict.fromkeys(_THREAD_VARIABLES, "1"))  # for libraries that are loaded later
        if controller is not None:
            controller.limit(limits=1)

    return limit


@lru_cache(maxsize=4)
def _controller(loaded: tuple[str, ...]) -> Any:
    if not loaded:
        return None
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
