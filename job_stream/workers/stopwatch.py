"""How long a lane or keeper is at the user's work, noted on the board, where it can be read after its death too."""

from __future__ import annotations

from time import perf_counter_ns, thread_time_ns

from ..memory.words import NOTE_CPU, NOTE_WALL, Words

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds wall and CPU time up, of one thread.

    Args:
        note: where the sums are, in ns.
    """

    def __init__(self, note: Words) -> None:
        self._note = note
        self._wall = self._cpu = 0

    def start(self) -> None:
        self._wall = perf_counter_ns()
        self._cpu = thread_time_ns()

    def stop(self) -> None:
        """Stops; in the opposite order, so that the CPU time is never more than the wall time."""
        note = self._note
        note[NOTE_CPU] += thread_time_ns() - self._cpu
        note[NOTE_WALL] += perf_counter_ns() - self._wall
