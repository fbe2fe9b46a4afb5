"""A thread that looks at a lane now and then, while the lane's own thread may be in user code for long.

It is not there before the first parcel, and sleeps for as long as there is none. It takes no signals, which are the
business of user code, and ends around each fork that user code makes in this process: the child would have a copy of
whatever this thread holds at that moment, and Python warns of forks of processes with threads.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..ground.forks import keep_still, move_on

__all__ = ["Divider"]

JOIN_S = 2.0


class Divider:
    """Has ``look`` called, again and again.

    Args:
        look: does what is to be done, and tells in how many seconds it wants to look again; None: when it is woken.
    """

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look = look
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_asleep = False
        self._is_over = False

    def attend(self) -> None:
        """There is something to look at."""
        if self._thread is None:
            self.resume()
            keep_still(self)
        elif self._is_asleep:
            self._bell.put(None)

    def _run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while not self._is_over:
            delay = self._look()
            if delay is None:
                self._is_asleep = True
                delay = self._look()  # once more: who began something before that was set has not rung the bell
            with suppress(Empty):
                self._bell.get(timeout=delay)
            self._is_asleep = False

    def close(self) -> None:
        """Ends the thread, and forgets what it has looked at: what that holds goes with the lane, and not later."""
        move_on(self)
        self.pause()
        self._look = _nothing

    # around a fork ----------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Ends the thread, unless it is this one; a look that it is at is finished first."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        self._is_over = True
        self._bell.put(None)
        thread.join(JOIN_S)
        self._thread = None

    def resume(self) -> None:
        """Starts it again."""
        if self._thread is None:
            self._is_over = self._is_asleep = False
            thread = threading.Thread(target=self._run, name="job_stream-divider", daemon=True)
            with suppress(RuntimeError):  # there can be no more threads, so work stays where it is
                thread.start()
                self._thread = thread

    def let_go(self) -> None:
        """In the forked process, which is no lane."""
        self._thread = None
        self._is_over = True


def _nothing() -> None:
    """There is nothing to look at any more."""
