"""Signals to a script with checkpoints: answered at every moment from its first such Work to the end of the process.

SIGTERM ends the script with exit code 75, so that it is started again; SIGUSR1 asks for a checkpoint, and ends nothing.
While a stream runs, its saver answers. Before and after that a guard does, if nobody else would: handlers of the
script's own stay in place there. All come back as they were after a stream, also those of C code (``faulthandler``), of
which the module ``signal`` knows nothing; what the script has set during the stream stays.

Once the script is on its way out with 75, more signals change nothing. Ranks other than the primary stay when they are
asked to end, since the primary has to save first; forked processes that are none of ours end as any others do.
"""

from __future__ import annotations

import atexit
import os
import signal
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any

from ..errors import JobStreamError
from ..evaluate.context import current
from ..ground.contexts import context
from ..ranks.world import rank_of, world
from .stopping import STOPPED

__all__ = ["handling_stop_signals", "note_stop", "stand_by", "stop_at_once"]

ASKING = (signal.SIGUSR1, signal.SIGTERM)
ACTION_BYTES = 512
"""Room for what the C library calls struct sigaction; it is kept as it comes, and begins with the handler's address."""
_ADDRESS_BYTES = struct.calcsize("P")
_MANY = 1000

Handler = Callable[[int, FrameType | None], None]


class _Disposition:
    """What a signal does now: what Python knows of it, and what the system does.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self._handler = signal.getsignal(number)
        self._action = _exchanged(number)

    @property
    def address(self) -> bytes:
        """Of the function that the system calls; zeros: the process ends. The rest may hold anything where it has no
        meaning."""
        return self._action[:_ADDRESS_BYTES]

    def restore(self) -> None:
        """Puts all of it back; between the two steps the signal waits."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)
        try:
            signal.signal(self.number, self._handler or signal.SIG_DFL)
            _exchanged(self.number, self._action)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@cache
def _sigaction() -> Any:
    from ctypes import CDLL  # each run needs it anyway

    return CDLL(None).sigaction


def _exchanged(number: int, action: bytes | None = None) -> bytes:
    """What the system does at a signal, before it is told to do something else."""
    from ctypes import create_string_buffer

    earlier = create_string_buffer(ACTION_BYTES)
    _sigaction()(int(number), action, earlier)
    return earlier.raw


class _Guard:
    """Answers where nobody else does."""

    def __init__(self) -> None:
        self._pid = 0
        self._ours: list[Handler] = [self.on_signal]
        self._address = b""
        self._held = threading.local()
        atexit.register(self._end)
        os.register_at_fork(before=self._hold, after_in_parent=self._release, after_in_child=self._leave)

    def begin(self) -> None:
        """From now on signals are answered that would end the script."""
        if threading.current_thread() is not threading.main_thread() or current() is not None:
            return
        self._pid = os.getpid()
        for number in ASKING:
            if not any(_Disposition(number).address):
                self._have(number, self.on_signal)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGTERM or _is_elsewhere():
            return
        is_over = _is_over(frame)
        if _is_leaving() or (is_over and world.status):
            return
        note_stop()
        _say(f"stopped outside of a stream, with exit code {STOPPED}: start it again")
        if is_over:  # an exception would change nothing any more
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            os._exit(STOPPED)
        raise SystemExit(STOPPED)

    @context
    def relieved(self, handler: Handler) -> Iterator[None]:
        """Within, another handler answers."""
        before = [_Disposition(number) for number in ASKING]
        self._ours.append(handler)
        for number in ASKING:
            self._have(number, handler)
        try:
            yield
        except SystemExit as stop:
            if stop.code == STOPPED:  # the script ends: whatever it would do at a second signal must not undo that
                before.clear()
                for number in ASKING:
                    self._have(number, self.on_signal)
            raise
        finally:
            for disposition in before:
                if self._is_ours(disposition.number):
                    disposition.restore()
            self._ours.remove(handler)

    def _have(self, number: int, handler: Handler) -> None:
        signal.signal(number, handler)
        self._address = _Disposition(number).address  # all of Python's handlers are one to the system

    def _hold(self) -> None:
        """Before a fork: what comes to the child while our handlers are there waits, or Python would forget it."""
        if self._pid == os.getpid():
            self._held.before = signal.pthread_sigmask(signal.SIG_BLOCK, ASKING)

    def _release(self) -> None:
        if (before := self._held.__dict__.pop("before", None)) is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _leave(self) -> None:
        """In a process that the script has forked: it ends like any other."""
        if self._pid:
            self._pid = 0
            self._replace(signal.SIG_DFL)
        self._release()

    def _end(self) -> None:
        """Soon the interpreter can answer no more; how the process ends is settled by now."""
        if self._pid == os.getpid():
            self._replace(signal.SIG_IGN)

    def _replace(self, disposition: signal.Handlers) -> None:
        for number in ASKING:
            if self._is_ours(number):
                signal.signal(number, disposition)

    def _is_ours(self, number: int) -> bool:
        """Whether nobody has set something else."""
        return signal.getsignal(number) in self._ours and _Disposition(number).address == self._address


_guard = _Guard()


def stand_by() -> None:
    """From now on, signals are answered that would end the script; only the main thread can see to that."""
    _guard.begin()


def stop_at_once(number: int, frame: FrameType | None) -> None:
    """Answers where there is nothing to be saved: SIGTERM ends the script."""
    _guard.on_signal(number, frame)


def note_stop() -> None:
    """The script is about to end with 75."""
    world.status = STOPPED


@context
def handling_stop_signals(handler: Handler) -> Iterator[None]:
    """Within, SIGUSR1 and SIGTERM call a function; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stand_by()
    with _guard.relieved(handler):
        yield


def _is_elsewhere() -> bool:
    """Whether this is a rank other than the primary."""
    with suppress(JobStreamError):
        return rank_of() > 0
    return False


def _is_leaving() -> bool:
    """Whether an exception that ends the script with 75 is on its way out."""
    error = sys.exc_info()[1]
    for _ in range(_MANY):
        if error is None or (isinstance(error, SystemExit) and error.code == STOPPED):
            return error is not None
        error = error.__context__
    return False


def _is_over(frame: FrameType | None) -> bool:
    """Whether the script has come to its end, and the interpreter is on its way to it."""
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    is_joining = frame is not None and frame.f_globals.get("__name__") == "threading"
    return is_joining or not threading.main_thread().is_alive()


def _say(text: str) -> None:
    """Tells the user, unless that is interrupted just now."""
    with suppress(Exception):
        print(f"job_stream: {text}", file=sys.stderr, flush=True)
