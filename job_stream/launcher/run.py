"""One run of a program on its ranks, from the start of its launcher to the end of all of it.

Signals go from here to the programs and not to mpirun, which would give them only a moment. mpirun is not trusted to
come to an end either: when a rank has failed, or all are done, it has a time limit. And nothing outlives this process:
the kernel kills mpirun with it, and ushers end their programs when the connection is gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
from collections.abc import Mapping, Sequence
from time import monotonic

from .descendants import Process, children_of, kill
from .error import LauncherError
from .signal_queue import HARMLESS, SignalQueue
from .switchboard import Switchboard
from .usher import dies_with
from .verdict import End, Outcome, cause, judge

__all__ = ["LaunchedRun"]

FAILED_S = 10.0
"""How long mpirun may take to end all ranks when one has failed."""
DONE_S = 10.0
"""How long mpirun may take to end when all programs have."""
LOST_S = 2.0
"""The same where a host is lost: mpirun has noticed and is about to end, or waits for it for ever."""
FORCE_S = 5.0
"""How long between asking mpirun to end and killing it, and for ushers to hang up after it."""


class LaunchedRun:
    """A run under way.

    Args:
        command: that starts the ushers.
        additions: to the environment.
        ranks: how many there will be.
        recovers: MPI survives the death of ranks other than 0.
        addresses: of this machine, as the ranks see it.
        mailbox: of signals.

    Raises:
        LauncherError: the command cannot be started.
    """

    def __init__(self, command: Sequence[str], additions: Mapping[str, str], ranks: int, recovers: bool,
                 addresses: Sequence[str], signal_queue: SignalQueue) -> None:  # fmt: skip
        self._ranks = ranks
        self._recovers = recovers
        self._signal_queue = signal_queue
        self._selector = selectors.DefaultSelector()
        self._selector.register(signal_queue, selectors.EVENT_READ, self._take_signals)
        self._board = Switchboard(self._selector, addresses)
        self._launcher = _start(command, {**os.environ, **additions, **self._board.environment})
        self._helpers: set[Process] = set()
        self._asked = 0
        self._force: float | None = None
        self._forced = 0
        self._before: tuple[list[End], int] | None = None

    @property
    def came_up(self) -> bool:
        """Whether any rank's program was started."""
        return self._board.started > 0

    def wait(self) -> Outcome:
        """Waits for the end of all of it."""
        try:
            while self._launcher.poll() is None or self._board.connected:
                self._watch()
                for key, _ in self._selector.select(self._poll_policy()):
                    key.data()
            ends, running = self._before or (self._board.ends, 0)
            return judge(ends, running, self._launcher.returncode, self._recovers)
        finally:
            self._end()

    def _watch(self) -> None:
        """Sets time limits as things come to their ends, and enforces them."""
        self._board.hang_up_on_strangers()
        if self._has_lost and not self._helpers:
            self._helpers = children_of(self._launcher.pid)
        if self._force is None:
            if self._launcher.poll() is not None:
                self._force = monotonic() + FORCE_S
            elif cause(self._board.ends, self._recovers) is not None:
                self._force = monotonic() + (LOST_S if self._has_lost else FAILED_S)
            elif len(self._board.ends) >= self._ranks:
                self._force = monotonic() + (LOST_S if self._has_lost else DONE_S)
        if self._force is not None and monotonic() >= self._force:
            self._use_force()

    @property
    def _has_lost(self) -> bool:
        """Whether a rank is gone without a word, and so probably its host."""
        return any(end.status is None for end in self._board.ends)

    def _poll_policy(self) -> float | None:
        own = None if self._force is None else max(0.0, self._force - monotonic())
        return min((each for each in (own, self._board.poll_policy()) if each is not None), default=None)

    def _use_force(self) -> None:
        """A step further each time: asks mpirun to end; kills it, and the programs; hangs up."""
        self._force = monotonic() + FORCE_S
        self._forced += 1
        if self._launcher.poll() is None:
            if self._forced == 1:
                self._launcher.terminate()
                return
            self._launcher.kill()
        if self._before is None:  # how programs end that are killed here tells nothing
            self._before = list(self._board.ends), self._board.running
        self._board.signal(signal.SIGKILL)
        if self._forced > 2:
            self._board.hang_up()

    def _take_signals(self) -> None:
        for number in self._signal_queue.take():
            self._pass(number)

    def _pass(self, number: int) -> None:
        """Passes a signal on. Asked to end for a second time, or before anything has come up, it forces the end."""
        if number in HARMLESS:
            self._board.signal(number)
            return
        self._asked += 1
        if self._asked == 1 and self._board.running:
            self._board.signal(signal.SIGINT if number == signal.SIGINT else signal.SIGTERM)
            return
        self._force = monotonic()

    def _end(self) -> None:
        self._board.close()
        self._selector.close()
        if self._launcher.poll() is None:
            self._launcher.kill()
            self._launcher.wait()
        kill(self._helpers)


def _start(command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Starts a launcher in a session of its own: Ctrl-C is passed on once, by this process."""
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=dies_with(os.getpid()),
        )
    except OSError as error:
        raise LauncherError(f"cannot start {command[0]}: {error.strerror}") from None
