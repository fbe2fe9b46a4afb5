"""Which evaluator runs user code in this thread, and with which numbers about the cluster.

User code reaches its surroundings through here: ``rng()`` asks for the generator of the call under way, and a Work
inside a job notices that it is inside one.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluator import Evaluator

__all__ = ["current", "enter", "leave"]

_local = threading.local()


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
