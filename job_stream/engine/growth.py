"""How many lanes there may be by now: a worker is forked where there is work that is worth it.

The first are started as soon as there is anything for them. What items cost is known when the first of them are done;
from then on a lane more is started if each that there is has work for longer than it takes to fork one. Where that is
not known, or where lanes turn out to be stuck in what was thought to be short, time tells: if all have been busy for as
long as it takes to fork as many once more, there may be twice as many.
"""

from __future__ import annotations

__all__ = ["AT_ONCE", "Growth"]

AT_ONCE = 16
"""So many are started without any question."""
FORK_S = 5e-4
"""What the nursery needs to fork a lane."""
WORTH_S = 3e-3
"""A new lane is worth starting if those that there are have more work than that before them."""


class Growth:
    """The number of lanes of one kind.

    Args:
        most: lanes.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed = min(AT_ONCE, most)
        self._busy_since: float | None = None

    def look(self, started: int, idle: int, now: float) -> None:
        """Takes in how many there are, and of these, how many have nothing to do."""
        self._allowed = max(self._allowed, started)
        if idle or started < self._allowed or started == self._most:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = now
        elif now >= self._busy_since + FORK_S * started:
            self._allowed = min(2 * started, self._most)
            self._busy_since = None

    def room(self, started: int) -> int:
        """How many more may be started whatever they are for."""
        return max(self._allowed - started, 0)

    def is_worth(self, started: int, seconds: float) -> bool:
        """Whether there may be one more, for so much work that waits."""
        return started < self._most and (started < self._allowed or seconds > WORTH_S * started)

    def deadline(self, started: int) -> float | None:
        """When there may be more, if all are busy until then."""
        return None if self._busy_since is None else self._busy_since + FORK_S * started
