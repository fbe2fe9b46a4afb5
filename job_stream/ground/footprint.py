"""How much memory this process has asked the system for: touched or not, whatever for."""

from __future__ import annotations

import os

__all__ = ["Footprint"]

_STATM = "/proc/self/statm"
_MOST = 32


class Footprint:
    """Tells how it grows. A look takes a microsecond or two; where there is no ``/proc``, nothing ever grows."""

    def __init__(self) -> None:
        self._page = os.sysconf("SC_PAGE_SIZE")
        self._fd: int | None = None
        self._process = 0

    def bytes(self) -> int:
        """What it is now; 0: nobody knows."""
        if self._process != os.getpid():  # what is open in a process that was forked is about the one before
            self._close()
            self._open()
        return 0 if self._fd is None else self._page * int(os.pread(self._fd, _MOST, 0).split(None, 1)[0])

    def _open(self) -> None:
        self._process = os.getpid()
        try:
            self._fd = os.open(_STATM, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = None

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
