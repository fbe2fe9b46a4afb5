"""Signals to the launcher, as something that can be waited for together with other things."""

from __future__ import annotations

import signal
import socket
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["HARMLESS", "SignalQueue"]

HARMLESS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that don't ask for the end."""
_WATCHED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *HARMLESS)


class SignalQueue:
    """As a context, collects signals; SIGCHLD wakes whoever waits, and is not collected.

    SIGHUP is left alone where it is ignored, as ``nohup`` has it.

    Attributes:
        ending: the first signal that asked for the end; None: none has.
    """

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._before: dict[int, Any] = {}
        self.ending: int | None = None

    def __enter__(self) -> SignalQueue:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*_WATCHED, signal.SIGCHLD):
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Readable when a signal has come."""
        return self._reader.fileno()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._numbers.append(number)
            if self.ending is None and number not in HARMLESS:
                self.ending = number

    def take(self) -> list[int]:
        """What has come since the last time."""
        with suppress(BlockingIOError):
            while self._reader.recv(4096):
                pass
        numbers, self._numbers = self._numbers, []
        return numbers
