"""Whose turn it is to touch an evaluator: its own thread's, but for the time in which that is in user code.

It is taken to and fro around each call of user code, so it is no lock that both sides take: the thread says that it is
away, and when it comes back looks whether somebody has claimed the turn meanwhile. The other side claims it first and
then looks whether the thread is away. One of them sees the other, since each tells before it looks.
"""

from __future__ import annotations

from threading import Lock

__all__ = ["Turn"]


class Turn:
    """Belongs to an evaluator.

    Attributes:
        is_away: the evaluator's thread is in user code.
        is_claimed: another thread touches the evaluator, or is about to; ``wait`` for it.
    """

    __slots__ = ("_lock", "is_away", "is_claimed")

    def __init__(self) -> None:
        self.is_away = False
        self.is_claimed = False
        self._lock = Lock()

    def wait(self) -> None:
        """In the evaluator's thread, back from user code: waits until nobody else touches it."""
        with self._lock:
            pass

    def claim(self) -> bool:
        """In another thread: whether it may touch the evaluator, until it gives the turn back."""
        self._lock.acquire()
        self.is_claimed = True
        if self.is_away:
            return True
        self.give_back()
        return False

    def give_back(self) -> None:
        """Ends what ``claim`` has begun."""
        self.is_claimed = False
        self._lock.release()
