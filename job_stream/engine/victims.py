"""Whom to ask for work, and at whom to wait for it.

**In three steps.** A rank without work tells the one before it in a binomial tree around rank 0 that it is waiting, for
itself and for all that are behind it, so that work spreads from rank 0 in large loans, and nobody has to hear of
everybody. Then it asks whoever lent to it last and some others by chance; then it tells its *lifelines*, and sleeps.
These are its neighbours in a hypercube (ranks whose numbers differ in one bit), so that everybody can be reached from
everybody in few steps and nothing is sent when nothing is left (after Saraswat et al., "Lifeline-based global load
balancing", 2011).

**Why not otherwise.** By chance alone, thousands of idle ranks would ask for ever: at the end of a stream, when most
are idle, that is most of the traffic. By a tree alone, work that arises in one branch would not get to another. By
asking the whole hypercube first, neighbours would be asked by all of theirs at once when a branch runs dry; random
victims spread that.

**Who is left out.** Rank 0 and the one before in the tree are never asked by chance: these know already. Nor are the
dead; nor, among many ranks, those that owe this one something: what they have came from here. Where a lifeline is dead,
its neighbours take its place, so that the living stay connected (``lifelines`` walks on through the dead).

**What ends the waiting.** Being lent something (``lent``): then all tries are forgotten, and the lender is the first to
be asked next time. Lifelines may all be busy for long; so who waits does so at one more rank from time to time, after
20 ms and then twice as long each time, up to a second: by then somebody far away may have too much. All chance comes
from a number of the rank itself: the engine must be reproducible.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from .messages import Refuse

__all__ = ["Asking", "Told", "behind", "lifelines", "tree_parent"]

FEW = 8
"""Among so many ranks, all are the lifelines of all."""
RETRY_S, RETRY_MOST_S = 0.02, 1.0
"""Who waits does so at one rank more from time to time, less and less often."""


def lifelines(rank: int, size: int, dead: set[int]) -> list[int]:
    """The neighbours of a rank in the hypercube; the neighbours of those that are dead in their place."""
    if size <= FEW:
        return [other for other in range(size) if other != rank and other not in dead]
    seen, near = {rank}, [rank]
    found: list[int] = []
    for number in near:  # grows while it is walked
        for bit in range(max(size - 1, 1).bit_length()):
            other = number ^ 1 << bit
            if other >= size or other in seen:
                continue
            seen.add(other)
            (near if other in dead else found).append(other)
    return found


def tree_parent(rank: int) -> int:
    """The rank before this one in the binomial tree around rank 0, in which those behind a rank are its neighbours."""
    return rank & (rank - 1)


def behind(rank: int, lanes_of: tuple[int, ...]) -> int:
    """The lanes of a rank and of all behind it in the tree."""
    return sum(lanes_of[rank : rank + (rank & -rank)] if rank else lanes_of)


class Told(NamedTuple):
    """What a rank has told one at which it waits: for how many lanes, and until when its own have something to do."""

    lanes: int
    idle_at: float


class Asking:
    """Which rank to ask next.

    Args:
        rank: this one.
        size: how many there are.
        debtors: those that owe this one something. Among many ranks they are not asked: what they have came from here,
            and each time it goes to and fro it takes longer until it is repaid.
    """

    def __init__(self, rank: int, size: int, debtors: Collection[int] = ()) -> None:
        self.rank = rank
        self.size = size
        self._debtors = debtors if size > FEW else ()
        self._most = max(2, size.bit_length() // 2)
        self.dead: set[int] = set()
        self.asked: int | None = None
        self.waiting_at: dict[int, Told] = {}
        self.ever_lent = rank == 0
        self._tries = 0
        self.retry_at = 0.0
        self._pause = RETRY_S
        self._never = {-1, 0, rank, tree_parent(rank)}  # the others would ask rank 0 too often; it lends by the tree
        self._tried: set[int] = set()
        self._last = -1
        self._chance = 2654435761 * (rank + 1) & 0xFFFFFFFF

    def next(self) -> int | None:
        """The next rank to ask; None: wait at the lifelines."""
        while self._tries < self._most:
            victim = self._random() if self._tries else self._last
            self._tries += 1
            if not any(victim in those for those in (self._never, self.dead, self._tried, self._debtors)):
                self._tried.add(victim)
                return victim
        return None

    def retry(self, now: float) -> list[int]:
        """One more rank to wait at, if it is time: those at the lifelines may be busy for long."""
        if not self.retry_at:
            self.retry_at = now + self._pause
        if now < self.retry_at:
            return []
        self._pause = min(2 * self._pause, RETRY_MOST_S)
        self.retry_at = now + self._pause
        victim = self._random()
        return [] if victim in self._never or victim in self.dead else [victim]

    def _random(self) -> int:
        """Any rank (a linear congruential generator: the engine must be reproducible)."""
        self._chance = (1664525 * self._chance + 1013904223) & 0xFFFFFFFF
        return (self._chance >> 8) % self.size

    def lent(self, rank: int) -> None:
        """A rank has lent something."""
        self.ever_lent = True
        self._last = rank
        self._forget_tries()
        self.waiting_at.pop(rank, None)
        self._answered(rank)

    def again(self) -> None:
        """Forgets whom this rank has asked and at whom it waits."""
        self.asked = None
        self.waiting_at.clear()
        self._forget_tries()

    def _forget_tries(self) -> None:
        self._tries, self.retry_at, self._pause = 0, 0.0, RETRY_S
        self._tried.clear()

    def heard_refuse(self, rank: int, refuse: Refuse) -> None:
        self._answered(rank)

    def _answered(self, rank: int) -> None:
        self.asked = None if self.asked == rank else self.asked

    def died(self, rank: int) -> None:
        self.dead.add(rank)
        self._answered(rank)
        self.waiting_at.pop(rank, None)

    def lifelines(self) -> list[int]:
        return lifelines(self.rank, self.size, self.dead)
