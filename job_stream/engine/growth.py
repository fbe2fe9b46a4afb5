"""How many lanes there may be by now: a worker is forked where there is work that is worth it.

The first are started as soon as there is anything for them. What items cost is known when the first of them are done;
from then on one more is started if each that there is has work for longer than it takes until that one is there. Where
that is not known, or where lanes turn out to be stuck in what was thought to be short, time tells: if all have been
busy for as long as it took to fork the last ones, there may be twice as many.

How long a fork takes depends on what the script has in memory, and on what else the machine has to do, by factors of a
hundred; so it is measured. And few are under way at a time: they come no later for it, since they are forked one after
the other, and by then more is known of what there is to do.
"""

from __future__ import annotations

__all__ = ["AT_ONCE", "Growth"]

AT_ONCE = 16
"""So many are started without any question; so many are under way at a time."""
PATIENCE_S = 4e-3
"""So long all have to be busy at least before it tells anything."""
WORTH_S = 3e-3
"""A new lane is worth starting if those that there are have more work than that before them, at least."""


class Growth:
    """The number of lanes of one kind.

    Args:
        most: lanes.

    Attributes:
        deadline: when there may be more, if all are busy until then.
    """

    def __init__(self, most: int) -> None:
        self.deadline: float | None = None
        self._most = most
        self._allowed = min(AT_ONCE, most)
        self._under_way: set[int] = set()
        self._begun = self._fork_s = 0.0
        self._forked = 0

    def starts(self, lane: int, now: float) -> None:
        """A lane is to be forked."""
        if not self._under_way:
            self._begun, self._forked = now, 0
        self._under_way.add(lane)

    def heard_of(self, lane: int, now: float) -> None:
        """It has been forked, or has died."""
        if lane in self._under_way:
            self._under_way.discard(lane)
            self._forked += 1
            self._fork_s = (now - self._begun) / self._forked

    def look(self, started: int, idle: int, now: float) -> None:
        """Takes in how many there are, and of these, how many have nothing to do."""
        if self._allowed == self._most:
            return
        self._allowed = max(self._allowed, started)
        if idle or self._under_way or started < self._allowed or started == self._most:
            self.deadline = None
        elif self.deadline is None:
            self.deadline = now + max(now - self._begun, PATIENCE_S)
        elif now >= self.deadline:
            self._allowed = min(2 * started, self._most)
            self.deadline = None

    def room(self, started: int) -> int:
        """How many more may be started whatever they are for."""
        return max(min(self._allowed - started, AT_ONCE - len(self._under_way)), 0)

    def is_worth(self, started: int, seconds: float) -> bool:
        """Whether there may be one more, for so much work that waits."""
        until_there = self._fork_s * (len(self._under_way) + 1)
        return len(self._under_way) < AT_ONCE and seconds > started * max(until_there, WORTH_S)
