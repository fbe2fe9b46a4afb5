"""Having the state of the stream brought home and captured, as fresh as can be had soon.

Rank 0 can be captured at any time; but what it has on record of work that is lent may be old. So it first has lanes and
borrowers report: they repay what they have as it stands. Then calls of the keeper are held back for as long as it takes
to get fresh copies of its stores, and the capture is taken. A borrower does the same towards its own lanes and
borrowers, and then repays. Nobody is waited for any longer than it takes those who are not stuck in a long item.

Ranks may have borrowed from each other, rank 0 from others too, and in circles. So only the rank that asked first waits
for all that is done here. Whoever asks later is repaid as soon as the lanes have reported: those who asked first make a
tree with rank 0 at its root, and along a tree nobody waits for himself. But what somebody was told off the tree may
concern rank 0 as well, if a piece was lent to and fro, so rank 0 asks again until nothing of that kind is left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import EngineError
from .lane_table import LaneTable
from .messages import Report, Reported, Saved, Send
from .rank_state import RankState
from .recall import Recall

__all__ = ["Snapshots"]

REPORT_S = 0.1
"""So long lanes have to report: a few of their time slices."""
BORROWERS_S = 1.0
SAVE_S = 2.0
"""So long it may take in all."""
ROUNDS = 8
"""So often borrowers are asked at most."""


class Snapshots:
    """What is done on one rank for a capture.

    Args:
        state: of the rank.
        lane_table: its lanes.
        recall: repays lenders.
        capture: the state of rank 0.

    Attributes:
        active: whether something is being done.
        deadline: when it wants to hear of something.
    """

    def __init__(self, state: RankState, lane_table: LaneTable, recall: Recall, capture: Callable[[], Any]) -> None:
        self._state = state
        self._lane_table = lane_table
        self._recall = recall
        self._capture = capture
        self._primary = state.number == 0
        share = 1.0 if self._primary else 0.5  # so that the lender gets what it is waiting for
        self._borrowers_s, self._save_s = BORROWERS_S * share, SAVE_S * share
        self._number = 0
        self._rounds = 0
        self._moved = False
        self._begun = self._lanes_until = 0.0
        self._then: Callable[[], None] | None = None
        self._debtors: set[int] = set()
        self._askers: dict[int, int] = {}
        self._parent: int | None = None
        self.active = False
        self.deadline: float | None = None

    # news -------------------------------------------------------------------------------------------------------------

    def save(self) -> None:
        """Somebody wants the state; if that is under way already, the same will do."""
        if not self._primary:
            raise EngineError("only rank 0 knows the state of the stream")
        if not self.active:
            self._rounds = ROUNDS
            self._begin(Report(self._number + 1))

    def heard_report(self, rank: int, report: Report) -> None:
        """A lender wants its work back as it stands."""
        if report.number < self._number or (report.number == self._number and not self.active):
            self._state.actions.append(Send(rank, Reported(report.number)))
            return
        self._askers[rank] = report.number
        if not self.active:
            self._parent = rank
            self._begin(report)
        elif report.number > self._number:
            self._parent = rank
            self._ask(report)

    def heard_reported(self, rank: int, reported: Reported) -> None:
        if reported.number == self._number:
            self._moved = self._moved or reported.moved
            self._debtors.discard(rank)

    def rank_died(self, rank: int) -> None:
        self._debtors.discard(rank)
        self._askers.pop(rank, None)
        if rank == self._parent:
            self._parent = None

    def _begin(self, report: Report) -> None:
        self.active = True
        self._begun = self._state.now
        if not report.again:
            self._state.actions.append(report)
            self._lane_table.flush_all()
        self._lanes_until = self._begun + (0.0 if report.again else REPORT_S)
        self._ask(report)

    def _ask(self, report: Report) -> None:
        """Has borrowers repay what they owe."""
        self._number = report.number
        self._moved = False
        self._debtors = set(self._state.ledger.debtors)
        self._state.actions += [Send(rank, report) for rank in sorted(self._debtors)]

    # going on ---------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Goes on if what was waited for has come, or is late."""
        self.deadline = None
        if self._then is None and not self._waits(self._lanes_until, self._lane_table.owes):
            self._go_on()
        while self._then is not None and not self._waits(self._begun + self._save_s, not self._is_quiet):
            self._then()

    def _go_on(self) -> None:
        """The lanes have reported."""
        if self._early:
            self._hold(self._repay_early)
        elif not self._waits(self._begun + self._borrowers_s, bool(self._debtors)):
            self._hold(self._finish)

    def _waits(self, due: float, wanting: bool) -> bool:
        """Whether something is wanting, and worth waiting for until then."""
        if not wanting or self._state.now >= due:
            return False
        self.deadline = due
        return True

    def _hold(self, then: Callable[[], None]) -> None:
        """Keeps calls back; ``then`` follows when copies of the stores are here."""
        self._then = then
        for stores in self._state.stores.values():
            stores.hold()

    @property
    def _is_quiet(self) -> bool:
        return all(stores.quiet for stores in self._state.stores.values())

    @property
    def _early(self) -> list[int]:
        """Who asked when somebody else had asked already; rank 0 asks itself first."""
        return [rank for rank in self._askers if rank != self._parent]

    def _repay_early(self) -> None:
        """Repays what is here, but not what comes from borrowers: they may be waiting for those that are repaid."""
        self._repay()
        self._release()
        self._answer(self._early, False)
        self._go_on()

    def _finish(self) -> None:
        self._repay()
        if self._is_round_due:
            self._release()
            self._rounds -= 1
            self._ask(Report(self._number + 1, again=True))
            self._go_on()
            return
        if self._primary:
            self._state.actions.append(Saved(self._capture()))
        self._release()
        self._answer(list(self._askers), self._moved)
        self._parent = None
        self.active = False

    @property
    def _is_round_due(self) -> bool:
        """Whether others may have something for rank 0 that they had not before."""
        in_time = self._state.now < self._begun + self._borrowers_s
        return self._primary and self._moved and in_time and self._rounds > 1 and bool(self._state.ledger.debtors)

    def _repay(self) -> None:
        if self._recall.repay_all() - {self._parent}:
            self._moved = True

    def _release(self) -> None:
        self._then = None
        for stores in self._state.stores.values():
            stores.release()

    def _answer(self, ranks: list[int], moved: bool) -> None:
        self._state.actions += [Send(rank, Reported(self._askers.pop(rank), moved)) for rank in ranks]
