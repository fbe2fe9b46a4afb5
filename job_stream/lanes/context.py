"""Which evaluator runs user code in this thread, and with which numbers about the cluster.

User code reaches its surroundings through here: ``rng()`` asks for the generator of the call under way, and a Work
inside a job notices that it is inside one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluator import Evaluator

__all__ = ["Ending", "current", "enter", "leave"]

_local = threading.local()


class Ending:
    """The end of a run, for threads that wait for something in its jobs: unlike processes, they cannot be killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._come = threading.Event()
        self._actions: list[Callable[[], None]] = []

    @property
    def hasCome(self) -> bool:
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


def current() -> Evaluator | None:
    """The evaluator whose user code this thread is running, or None."""
    return getattr(_local, "evaluator", None)


def enter(evaluator: Evaluator) -> Evaluator | None:
    """Makes ``evaluator`` the current one of this thread and returns the one before it."""
    before = current()
    _local.evaluator = evaluator
    return before


def leave(before: Evaluator | None) -> None:
    """Puts back what ``enter`` returned."""
    _local.evaluator = before
