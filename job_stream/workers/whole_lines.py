"""What workers print, in whole lines: those of several workers, and of several threads in one, do not mix.

``print`` makes several writes for a line. So what a thread writes is collected until its line has come to an end, or
until it flushes; then it goes on at once, while no other worker writes. Streams are not replaced: whoever has kept one
(handlers of ``logging``, ``from sys import stdout``) would print past the substitute.
"""

from __future__ import annotations

import fcntl
import os
import select
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["LineLock", "Lines", "write_all"]

MOST = 1 << 20
"""A line of more characters, or in more pieces, goes on as it comes."""


class _Threads:
    """What one thread of this process holds at a time; a fork gets one that nobody holds."""

    def __init__(self) -> None:
        self.renew()
        os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.lock = threading.RLock()  # a signal handler may print while its thread does


_threads = _Threads()


class LineLock:
    """Held by one thread of one process at a time; the system takes it from a process that dies.

    Args:
        fd: of a file that all these processes have, and use for nothing else; None: there is only one process.
    """

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        _threads.lock.acquire()
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_EX)

    def __exit__(self, *error: object) -> None:
        if self._fd is not None:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)
        _threads.lock.release()


class Lines:
    """Stands in for the methods of one stream.

    Args:
        emit: takes text that is to be printed at once.
        flush: is called when the stream is flushed.
        is_for: whether the calling thread is a worker; the others print as before.
    """

    def __init__(self, stream: Any, emit: Callable[[str], Any], flush: Callable[[], Any] = lambda: None,
                 is_for: Callable[[], bool] = lambda: True) -> None:  # fmt: skip
        self._stream = stream
        self._emit = emit
        self._flush = flush
        self._is_for = is_for
        self._write = stream.write
        self._parts: dict[int, list[str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)  # where this stands in for the stream itself

    def attach(self) -> bool:
        """Has the stream's text come here; False: the stream does not allow that."""
        try:
            self._stream.write, self._stream.flush = self.write, self.flush
        except AttributeError:
            return False
        return True

    def detach(self) -> None:
        """Gives on what has been collected. The stream is as it was."""
        with suppress(AttributeError):
            del self._stream.write, self._stream.flush
        self.finish()

    def write(self, text: str) -> Any:
        if not self._is_for():
            return self._write(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        parts = self._parts.setdefault(threading.get_ident(), [])
        parts.append(text)
        if "\n" in text:
            whole, end, rest = "".join(parts).rpartition("\n")
            parts[:] = [rest] if rest else []
            self._emit(whole + end)
        elif len(text) > MOST or len(parts) > MOST:
            self._give_on(parts)
        return len(text)

    def flush(self) -> None:
        if self._is_for():
            self._give_on(self._parts.get(threading.get_ident(), []))
        self._flush()

    def finish(self) -> None:
        """Gives on what all threads have written."""
        for parts in list(self._parts.values()):
            self._give_on(parts)

    def _give_on(self, parts: list[str]) -> None:
        text = "".join(parts)
        parts.clear()
        if text:
            self._emit(text)


def write_all(fd: int, data: bytes) -> None:
    """Writes all of it, also where the descriptor does not block."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
