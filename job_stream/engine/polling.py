"""How long to wait between two looks for messages of other ranks: MPI wakes nobody, and each look costs 20 to 50 us."""

from __future__ import annotations

__all__ = ["CALM_S", "HOT_PAUSE_S", "pause_between_looks"]

CALM_S = 8e-3
HOT_S = 2e-2
WAITING_HOT_S = 5e-2
HOT_PAUSE_S = 5e-5
LATE = 0.02
"""Of the time that it has been quiet, so much may be lost by looking too late."""
SHORTEST_S, LONGEST_S = 1e-3, 2.5e-2


def pause_between_looks(quiet_s: float, calm: bool, busy: bool, awaits: bool) -> float:
    """Seconds until the next look.

    Args:
        quiet_s: since another rank was last heard of.
        calm: lanes here have plenty to do. Then looking often would take more from them than it gives.
        busy: they have something to do.
        awaits: there is nothing to do here but to wait for what other ranks owe.
    """
    if calm:
        return CALM_S
    if not busy and quiet_s < (WAITING_HOT_S if awaits else HOT_S):
        return HOT_PAUSE_S  # just after news the next are awaited without leaving the processor for long
    return min(max(LATE * quiet_s, SHORTEST_S), LONGEST_S)
