"""Whose fault it was that a lane died, and what is given up for it.

What a dead lane held is lent again. The piece that it was in is a suspect: it is lent alone, in parts where it can be
cut, with calls made one by one, until the very item is found; an item that has killed its lane, or exceeded its time
limit, more often than its stage allows is given up.
"""

from __future__ import annotations

from ..stream.plan import Kind
from .backlog import cut, is_counted
from .ledger import Loan, Piece
from .messages import Fail, LaneLost, WorkBatch
from .rank_state import RankState

__all__ = ["Poison"]

SPLIT = 8
VAIN_DEATHS = 100
"""So many deaths in a row with nothing repaid in between end the run."""


class Poison:
    """What deaths have taught.

    Args:
        state: of the rank.
    """

    def __init__(self, state: RankState) -> None:
        self._state = state
        self._plan = state.plan
        self._vain = 0

    def repaid(self) -> None:
        """Something was repaid since the last death."""
        self._vain = 0

    def died(self, event: LaneLost) -> list[Fail]:
        """Has the work of a dead lane lent again; gives what is to be given up instead.

        What is given up by a stage that passes failures on is lent once more, marked as failed: a lane makes the
        failure of it that goes on in its place.
        """
        fails = [fail for number, loan in self._state.drop_loans(event.lane)
                 for fail in self._lend_again(number, loan, event)]  # fmt: skip
        self._vain += 1
        if self._vain > VAIN_DEATHS:
            fails.append(Fail(0, None, 0, 0, self._vain, event.cause, False, False))
        return fails

    def _lend_again(self, number: int, loan: Loan, event: LaneLost) -> list[Fail]:
        fails = []
        for name, piece in loan.units.items():
            if (number, name) != (event.loan, event.unit):
                self._state.give_back([piece])
            elif (fail := self._suspect(piece, event)) is not None:
                fails.append(fail)
        return fails

    def _suspect(self, piece: Piece, event: LaneLost) -> Fail | None:
        """A lane died over this piece: find out whether it is to blame, by lending it or parts of it alone."""
        work = piece.work
        if event.timed and work.count == 1:
            piece.attempts += 1
            if piece.attempts > self._plan.places[event.place].policy.retries:
                return self._give_up(piece, event, piece.attempts)
        elif piece.one_by_one or self._is_exact(work, event):
            piece.deaths += 1
            if piece.deaths >= self._plan.places[event.place].policy.deaths:
                return self._give_up(piece, event, piece.deaths)
        if is_counted(work) and work.count > 1:
            self._split(piece)
        else:
            piece.one_by_one = True
            self._state.give_back([piece])
        return None

    def _is_exact(self, work: WorkBatch, event: LaneLost) -> bool:
        """Whether the lane was in the very call that this piece stands for."""
        kind = self._plan.places[work.place].kind
        return work.count == 1 and event.place == work.place and kind != Kind.FRAME

    def _split(self, piece: Piece) -> None:
        """Replaces a counted piece by parts of it that are done one by one."""
        if piece.work.scope not in self._state.scopes:
            return
        parts, rest, step = [], piece.work, -(-piece.work.count // SPLIT)
        while rest.count > step:
            first, rest = cut(rest, step)
            parts.append(first)
        for part in (*parts, rest):
            part = part._replace(one_by_one=True)
            self._state.open(part)
            self._state.push(part)
        self._state.close_piece(piece)

    def _give_up(self, piece: Piece, event: LaneLost, attempts: int) -> Fail | None:
        work = piece.work
        if self._passes(work, event):
            passed = work._replace(one_by_one=False, failed=(event.cause, attempts, event.timed))
            self._state.open(passed)
            self._state.push(passed)
            self._state.close_piece(piece)
            return None
        self._state.close_piece(piece)
        base = None if work.base is None else work.base + work.skip
        return Fail(event.place, work.payload, work.skip, work.count, attempts, event.cause, event.timed,
                    event.during_unpickling, final=False, scope=work.scope, base=base)  # fmt: skip

    def _passes(self, work: WorkBatch, event: LaneLost) -> bool:
        """Whether a failure can go on in the place of an item: not where that kills whoever unpickles it."""
        is_known = work.count == 1 and event.place == work.place and not event.during_unpickling
        return is_known and not work.failed and self._plan.places[event.place].policy.passes
