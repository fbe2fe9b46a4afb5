"""What is lent next: to which lane, how much, and when other ranks are asked for more.

Lanes that have nothing come first, then other ranks that wait, then a second parcel for each lane, so that none has to
wait for its next one.
"""

from __future__ import annotations

from .books import Books
from .ledger import Piece
from .messages import Pull, Signal
from .pauses import Pauses
from .progress import Progress
from .roster import LOANS_PER_LANE, Roster
from .sharing import ANSWER_S, Sharing

__all__ = ["Scheduling"]

LOW_S = 0.05
"""When less work is left for each lane behind this rank, and somebody waits for some, it is time to ask for more."""
SOON_S = 0.02
"""The same where nobody waits yet."""


class Scheduling:
    """Lends what waits.

    Args:
        books: of the rank.
        roster: of its lanes.
        sharing: lends to other ranks, and asks them.
        progress: has the keeper go on with long Multiples.
        pauses: whether anything new may be begun.
    """

    def __init__(self, books: Books, roster: Roster, sharing: Sharing, progress: Progress, pauses: Pauses) -> None:
        self._books = books
        self._roster = roster
        self._sharing = sharing
        self._progress = progress
        self._pauses = pauses
        self._source_kind = books.plan.places[0].processes
        self._has_plenty = False

    @property
    def has_plenty(self) -> bool:
        """Whether there is enough to do for some time, so that it will do to hear of other ranks a little later. Not
        so where items are pulled: of these, little is lent at once, and others come back for more soon."""
        return self._has_plenty and not self._books.source.pulled

    def advance(self) -> None:
        """Lends whatever can be lent, and asks for more before it runs out."""
        full = self._pauses.paused
        for depth in range(1, LOANS_PER_LANE + 1):
            for processes in self._books.kinds:
                while self._lend_one(processes, full, depth):
                    pass
            if depth == 1 and not self._sharing.alone:
                self._sharing.serve(full, self._roster.running > 0)
        if not self._sharing.alone:
            self._ask_others(full)
            self._books.actions += self._pauses.tell(self._books.ledger.debtors)
        self._pull(full)
        self._progress.ask_for_more(full)
        available = {processes: self._available(processes, full) for processes in self._books.kinds}
        hungry = self._roster.serve_hungry(available, self._sharing.urgent)
        self._roster.signal(Signal(hungry, full))

    def _available(self, processes: bool, full: bool) -> bool:
        if self._books.backlogs[processes]:
            return True
        return processes == self._source_kind and self._books.source.ready and not full

    def _lend_one(self, processes: bool, full: bool, depth: int) -> bool:
        if not self._available(processes, full):
            return False
        number = self._roster.idlest(processes, depth)
        if number is None:
            return False
        waiting = self._books.backlogs[processes]
        self._roster.lend(number, self._books.take_parcel(processes) if waiting else [self._take_source()])
        return True

    def _take_source(self) -> Piece:
        books = self._books
        solo = self._books.plan.places[0].solo
        items = 1 if solo else books.costs.size(0, books.source.left, books.lanes)
        books.enter_source()
        return books.source.take(items)

    def _ask_others(self, full: bool) -> None:
        """Asks other ranks for work before the lanes run dry."""
        self._has_plenty = full or self._books.lasts(LOW_S * self._sharing.behind)
        if self._has_plenty:
            return
        has_room = self._roster.running < LOANS_PER_LANE * self._books.lanes
        if self._sharing.wanted or has_room or not self._books.lasts(SOON_S * self._sharing.behind):
            waits = any(self._available(processes, full) for processes in self._books.kinds)
            self._sharing.ask(idle=not waits and self._is_idle())

    def _is_idle(self) -> bool:
        """Whether a lane has nothing to do, or will have nothing by the time that an answer can be here."""
        if self._roster.running < self._books.lanes:
            return True
        idle_at = self._roster.idle_at()
        if idle_at is None:
            return False
        if idle_at > self._books.now + ANSWER_S:
            self._sharing.remind(idle_at - ANSWER_S)
            return False
        return True

    def _pull(self, full: bool) -> None:
        books, source = self._books, self._books.source
        if full or not source.wants_pull or not self._sharing.pulls:
            return
        source.pulling = True
        books.actions.append(Pull(1 if self._books.plan.places[0].solo else books.costs.size(0, None, books.lanes)))
