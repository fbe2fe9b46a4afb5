"""The end of a run, for threads that wait for something in its jobs: unlike processes, they cannot be killed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Ending"]


class Ending:
    """Comes once, when the run is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._come = threading.Event()
        self._actions: list[Callable[[], None]] = []

    @property
    def has_come(self) -> bool:
        return self._come.is_set()

    def come(self) -> None:
        """Performs what it was to bring; from any thread."""
        with self._lock:
            self._come.set()
            for action in self._actions:
                action()

    @contextmanager
    def brings(self, action: Callable[[], None]) -> Iterator[None]:
        """Has an action performed if the end comes in this context, or has come already."""
        with self._lock:
            self._actions.append(action)
            if self._come.is_set():
                action()
        try:
            yield
        finally:
            with self._lock:
                self._actions.remove(action)

    def wait(self, seconds: float) -> None:
        """Waits so long, or until the end comes."""
        self._come.wait(seconds)
