"""Repaying borrowed work as it stands, with all that is under way in it.

Otherwise only the end of a borrowed piece is repaid while a frame is open in it or a store holds something. But a
lender that is about to save its state wants it fresh. So stores go home together with the rest, and frames that are
open here go on at the lender: what is left of them here are pieces like any other that was borrowed. Calls have to be
held back meanwhile, since a store can only leave as a copy that is known to be the last.
"""

from __future__ import annotations

from ..stream.plan import Kind
from .debts import Debts
from .ledger import Piece
from .messages import HOME, Fold, Open, Output, Product
from .rank_state import RankState
from .scopes import Debt, Scope

__all__ = ["Recall"]


class Recall:
    """Brings home what a rank has borrowed.

    Args:
        state: of the rank.
        debts: what it owes.
    """

    def __init__(self, state: RankState, debts: Debts) -> None:
        self._state = state
        self._debts = debts

    def repay_all(self) -> set[int]:
        """Repays everything that can be repaid at once; what the keeper is busy with stays.

        Returns:
            the ranks that have been told of a rest.
        """
        pieces: dict[int, list[Piece]] = {}
        for piece in self._state.pieces:
            pieces.setdefault(piece.work.scope, []).append(piece)
        told: set[int] = set()
        for scope, *frames in self._state.scopes.families().values():
            debt = scope.debt
            if debt is None or not self._debts.closing(debt) or not all(map(self._is_fresh, (scope, *frames))):
                continue
            if self._repay(scope, debt, frames, pieces):
                told.add(debt.lender)
        return told

    def _is_fresh(self, scope: Scope) -> bool:
        return all(self._state.stores_at(place).is_fresh((number, place))
                   for number, place in self._state.stores_of(scope.number))  # fmt: skip

    def _repay(self, scope: Scope, debt: Debt, frames: list[Scope], pieces: dict[int, list[Piece]]) -> bool:
        """Repays what came of one scope; gives whether something is left of it."""
        stand_ins = {scope.number: HOME, **{frame.number: -frame.number for frame in frames}}
        for frame in frames:
            debt.products.append(self._opened(frame, stand_ins))
        for part in (scope, *frames):
            debt.products += self._stores_of(part, stand_ins[part.number])
        new = [*self._debts.unnamed(debt)]
        for frame in frames:
            own = pieces.get(frame.number, [])
            self._hand_home(frame, Debt(debt.lender, debt.loan), own)
            new += own
        scope.calls = 0
        self._state.touched.update(stand_ins)
        self._debts.repay(debt, tuple(new), stand_ins)
        return bool(new)

    def _opened(self, frame: Scope, stand_ins: dict[int, int]) -> Open:
        """A frame with its store, and what stands for it in this repayment."""
        stores = self._state.stores_at(frame.body.end)
        payload = stores.copy_of((frame.number, frame.body.end))
        return Open(stand_ins[frame.number], stand_ins[frame.parent], frame.place, payload, tuple(sorted(frame.active)),
                    frame.key)  # fmt: skip

    def _stores_of(self, scope: Scope, stand_in: int) -> list[Product]:
        """The stores of a scope, but for the one that its frame takes along, and what was to be put into them."""
        products: list[Product] = []
        for name in self._state.stores_of(scope.number):
            store, more = self._state.stores_at(name[1]).part(name)
            if self._state.plan.places[name[1]].kind == Kind.FOLD:
                products += [Fold(stand_in, name[1], payload) for payload in (store, *more)]
            else:
                products += [Output(stand_in, name[1], 1, payload) for payload in more]
        return products

    def _hand_home(self, frame: Scope, debt: Debt, pieces: list[Piece]) -> None:
        debt.pieces = dict.fromkeys(pieces)
        self._state.scopes.hand_home(frame, debt)
