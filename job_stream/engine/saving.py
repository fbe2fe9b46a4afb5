"""Having the state of the stream brought home and captured, as fresh as can be had soon.

Rank 0 can be captured at any time; but what it has on record of work that is lent may be old. So it first has lanes and
borrowers report: they repay what they have as it stands. Then calls of the keeper are held back for as long as it takes
to get fresh copies of its stores, and the capture is taken. A borrower does the same towards its own lanes and
borrowers, and then repays. Nobody is waited for any longer than it takes those who are not stuck in a long item.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import EngineError
from .books import Books
from .handover import Handover
from .messages import Report, Reported, Saved, Send
from .roster import Roster

__all__ = ["Saving"]

REPORT_S = 0.1
"""So long lanes have to report: a few of their time slices."""
BORROWERS_S = 1.0
SAVE_S = 2.0
"""So long it may take in all."""


class Saving:
    """What is done on one rank for a capture.

    Args:
        books: of the rank.
        roster: its lanes.
        handover: repays lenders.
        capture: the state of rank 0.

    Attributes:
        active: whether something is being done.
        deadline: when it wants to hear of something.
    """

    def __init__(self, books: Books, roster: Roster, handover: Handover, capture: Callable[[], Any]) -> None:
        self._books = books
        self._roster = roster
        self._handover = handover
        self._capture = capture
        self._primary = books.number == 0
        share = 1.0 if self._primary else 0.5  # so that the lender gets what it is waiting for
        self._borrowers_s, self._save_s = BORROWERS_S * share, SAVE_S * share
        self._number = 0
        self._begun = 0.0
        self._holding = False
        self._debtors: set[int] = set()
        self._askers: dict[int, int] = {}
        self.active = False
        self.deadline: float | None = None

    # news -------------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Somebody wants the state; if that is under way already, the same will do."""
        if not self._primary:
            raise EngineError("only rank 0 knows the state of the stream")
        if not self.active:
            self._begin(self._number + 1)

    def heardReport(self, rank: int, report: Report) -> None:
        """A lender wants its work back as it stands; ranks that borrow from each other don't wait for each other."""
        if report.number <= self._number or self._primary:
            self._books.actions.append(Send(rank, Reported(report.number)))
            return
        self._askers[rank] = report.number
        if self.active:
            self._number = report.number
        else:
            self._begin(report.number)

    def heardReported(self, rank: int, reported: Reported) -> None:
        if reported.number == self._number:
            self._debtors.discard(rank)

    def rankDied(self, rank: int) -> None:
        self._debtors.discard(rank)
        self._askers.pop(rank, None)

    def _begin(self, number: int) -> None:
        self.active = True
        self._number = number
        self._begun = self._books.now
        self._holding = False
        self._debtors = set(self._books.ledger.debtors)
        self._books.actions.append(Report(number))
        self._roster.flushAll()
        self._books.actions += [Send(rank, Report(number)) for rank in sorted(self._debtors)]

    # going on ---------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Goes on if what was waited for has come, or is late."""
        self.deadline = None
        if not self._holding and not self._reportsAreDue:
            self._holding = True
            for stores in self._books.stores.values():
                stores.hold()
        if self._holding and not self._waits(self._save_s, not self._isQuiet):
            self._finish()

    @property
    def _reportsAreDue(self) -> bool:
        return self._waits(REPORT_S, self._roster.owes) or self._waits(self._borrowers_s, bool(self._debtors))

    def _waits(self, seconds: float, wanting: bool) -> bool:
        """Whether something is wanting, and worth waiting for after so many seconds."""
        due = self._begun + seconds
        if not wanting or self._books.now >= due:
            return False
        self.deadline = due
        return True

    @property
    def _isQuiet(self) -> bool:
        return all(stores.quiet for stores in self._books.stores.values())

    def _finish(self) -> None:
        if self._primary:
            self._books.actions.append(Saved(self._capture()))
        else:
            self._handover.repayAll()
        for stores in self._books.stores.values():
            stores.release()
        self._books.actions += [Send(rank, Reported(number)) for rank, number in self._askers.items()]
        self._askers.clear()
        self.active = False
