"""The nursery: a process with one thread that forks lanes and the keeper, and reports how they end.

It is forked from the script's main thread before the run has threads of its own (and before MPI is initialised), so
that forking from it stays safe for as long as the run lasts. Functions and data that the script has loaded reach the
children this way without being pickled.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from typing import Any

from ..errors import LimitError
from ..memory.codec import Codec
from ..memory.words import ENDING, NOTE_LEAVING
from .child import SETTLED, settle, work
from .links import receive, send
from .orphans import adopt, awaited, end_adopted, kill_tree, prctl
from .protocol import KINDS, Died, Fork, Forked, FromNursery, Kill, NotForked, Stopped
from .renewal import await_imports, renew
from .streams import Forwarding, flush_standard, settle_input, settle_output
from .worker import Setup

__all__ = ["Nursery", "fork_nursery", "run_forked", "thread_limiter"]

NOTICE_S, LEAVE_S = 2.0, 10.0
"""How long a worker may take to notice that the run is over, and then to leave."""
HURRIED_NOTICE_S, HURRIED_LEAVE_S = 0.25, 2.0
"""The same where the run ends early. Who has not noticed by then is inside user code."""
NONE = -1
"""No lane in particular."""
ORPHANED = getattr(signal, "SIGRTMAX", signal.SIGTERM)  # there are workers on Linux only, where it is there
"""Comes when the script has died. SIGKILL, as for workers, would leave no time to end what they have started."""


class Nursery:
    """Runs in a process of its own until the rank closes its end of ``commands``.

    Args:
        setup: for the children.
        forwarding: of what they print.
        parent: the process whose end is the end of this one.
        commands: from the rank, and reports back to it.
        outbox: the children's way back to the rank.
        limit_threads: see ``thread_limiter``.
    """

    def __init__(self, setup: Setup, forwarding: Forwarding, parent: int, commands: socket.socket,
                 outbox: socket.socket, limit_threads: Callable[[], None]) -> None:  # fmt: skip
        self._parent = parent
        self._setup = setup
        self._forwarding = forwarding
        self._commands = commands
        self._outbox = outbox
        self._limit_threads = limit_threads
        self._codec = Codec(KINDS, _no_segments, lambda owner, number, fd: None)
        self._children: dict[int, Fork] = {}

    def run(self) -> None:
        """Obeys until the rank is gone, then ends all children."""
        awake, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGCHLD, ORPHANED):
            signal.signal(number, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD, ORPHANED])  # who waits for signals blocks them
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        settle(self._parent, self._setup.survives_sigterm, ORPHANED)
        adopt()
        settle_input()
        self._limit_threads()
        gc.freeze()
        poll = select.poll()
        poll.register(awake, select.POLLIN)
        poll.register(self._commands, select.POLLIN)
        while True:
            ready = [fd for fd, _ in poll.poll()]
            if awake in ready:
                os.read(awake, 4096)
                self._reap()
            if self._is_orphan:
                break
            if self._commands.fileno() in ready and not self._obey():
                break
        self._end_all()

    def _obey(self) -> bool:
        """Takes one command; False when there will be no more."""
        try:
            message = receive(self._commands)
        except LimitError:
            self._report(NotForked(NONE, errno.EMFILE))
            return True
        except OSError:
            return False
        if message is None:
            return False
        data, fds = message
        command = self._codec.decode(data, [], 0)
        if type(command) is Fork:
            self._fork(command, socket.socket(fileno=fds[0]))
        elif type(command) is Kill:
            self._kill(command.lane)
        return True

    def _fork(self, order: Fork, inbox: socket.socket) -> None:
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            inbox.close()
            self._report(NotForked(order.lane, error.errno or 0))
            return
        if pid == 0:
            run_forked(lambda: self._child(nursery, order, inbox))
        inbox.close()
        self._setup.board.take(order.serial, order.slot)
        self._children[pid] = order
        self._report(Forked(order.lane, pid))

    def _child(self, nursery: int, order: Fork, inbox: socket.socket) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, ORPHANED):
            signal.signal(number, signal.SIG_DFL)
        self._commands.close()
        settle(nursery, self._setup.survives_sigterm)
        work(self._setup, self._forwarding, order, inbox, self._outbox)

    def _kill(self, lane: int) -> None:
        for pid, order in self._children.items():
            if lane == order.lane:
                kill_tree(pid)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return
            if pid == 0:
                return
            order = self._children.get(pid)
            if order is None:
                continue
            if os.WIFSTOPPED(status) or os.WIFCONTINUED(status):
                self._report(Stopped(order.lane, os.WIFSTOPPED(status)))
            else:
                del self._children[pid]
                self._report(Died(order.lane, status))

    def _report(self, message: FromNursery) -> None:
        data, _ = self._codec.encode(message)
        with suppress(OSError):  # the rank is gone, which is noticed elsewhere
            send(self._commands, data, [])

    def _end_all(self) -> None:
        """Children leave by themselves when their inbox is closed, unless they are inside user code."""
        self._give_time(NOTICE_S, HURRIED_NOTICE_S)
        note = self._setup.board.note
        self._force([pid for pid, order in self._children.items() if not note(order.serial)[NOTE_LEAVING]])
        self._give_time(LEAVE_S, HURRIED_LEAVE_S)
        if not self._is_hurried():
            self._tell_of_force()
        self._force(list(self._children))
        end_adopted(self._is_hurried())

    def _is_hurried(self) -> bool:
        """Whether the run ends early; that may come while its workers leave."""
        return self._is_orphan or bool(self._setup.board.flags[ENDING])

    @property
    def _is_orphan(self) -> bool:
        """Whether the script has died."""
        return os.getppid() != self._parent

    def _give_time(self, seconds: float, hurried: float) -> None:
        """Waits until all children have ended, for so long at most; not at all if the script has died."""
        if awaited(lambda: self._are_gone() or self._is_hurried(), seconds):
            awaited(lambda: self._are_gone() or self._is_orphan, hurried)

    def _are_gone(self) -> bool:
        while self._children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return False
            self._children.pop(pid, None)
        return True

    def _force(self, pids: list[int]) -> None:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            os.waitpid(pid, 0)
            del self._children[pid]

    def _tell_of_force(self) -> None:
        """What a job has started and is lost now must not be lost without a word."""
        for pid in self._children if sys.stderr is not None else ():
            what = f"worker process {pid} was killed: {LEAVE_S:g} s after the stream it had not ended"
            why = "a thread that is no daemon runs in it, or nobody reads what it put into a multiprocessing.Queue"
            print(f"job_stream: {what}. Probably {why}", file=sys.stderr, flush=True)


def run_forked(body: Callable[[], None]) -> None:
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


def fork_nursery(setup: Setup, forwarding: Forwarding, commands: socket.socket, outbox: socket.socket,
                 foreign: list[socket.socket]) -> int:  # fmt: skip
    """Forks the nursery and gives its pid; ``foreign``: the rank's ends, which the nursery closes."""
    flush_standard()
    script, limit_threads = os.getpid(), thread_limiter()
    prctl()
    await_imports()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SETTLED)  # what comes to the child before it has settled waits
    try:
        pid = os.fork()
        if pid == 0:
            nursery = Nursery(setup, forwarding, script, commands, outbox, limit_threads)
            run_forked(lambda: _run_nursery(nursery, forwarding, foreign))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _run_nursery(nursery: Nursery, forwarding: Forwarding, foreign: list[socket.socket]) -> None:
    gc.freeze()  # what the script has left to be collected takes locks, too
    renew()
    for end in foreign:
        end.close()
    with settle_output(forwarding):
        nursery.run()


def _no_segments(parts: list[Any]) -> tuple[int, int]:
    raise AssertionError("the nursery sends small messages only")


_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_NUMERIC = ("numpy", "scipy", "sklearn", "torch", "numba")


def thread_limiter() -> Callable[[], None]:
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
