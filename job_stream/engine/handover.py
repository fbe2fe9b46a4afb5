"""Repaying borrowed work as it stands, with all that is under way in it.

Otherwise only the end of a borrowed piece is repaid while a frame is open in it or a store holds something. But a
lender that is about to save its state wants it fresh. So stores go home together with the rest, and frames that are
open here go on at the lender: what is left of them here are pieces like any other that was borrowed. Calls have to be
held back meanwhile, since a store can only leave as a copy that is known to be the last.
"""

from __future__ import annotations

from ..stream.plan import Kind
from .books import Books
from .debts import Debts
from .ledger import Piece
from .messages import HOME, Fold, Open, Output, Product
from .scopes import Debt, Scope

__all__ = ["Handover"]


class Handover:
    """Brings home what a rank has borrowed.

    Args:
        books: of the rank.
        debts: what it owes.
    """

    def __init__(self, books: Books, debts: Debts) -> None:
        self._books = books
        self._debts = debts

    def repayAll(self) -> set[int]:
        """Repays everything that can be repaid at once; what the keeper is busy with stays.

        Returns:
            the ranks that have been told of a rest.
        """
        pieces: dict[int, list[Piece]] = {}
        for piece in self._books.pieces:
            pieces.setdefault(piece.work.scope, []).append(piece)
        told: set[int] = set()
        for scope, *frames in self._books.scopes.families().values():
            debt = scope.debt
            if debt is None or not self._debts.closing(debt) or not all(map(self._isFresh, (scope, *frames))):
                continue
            if self._repay(scope, debt, frames, pieces):
                told.add(debt.lender)
        return told

    def _isFresh(self, scope: Scope) -> bool:
        return all(self._books.storesAt(place).isFresh((number, place))
                   for number, place in self._books.storesOf(scope.number))  # fmt: skip

    def _repay(self, scope: Scope, debt: Debt, frames: list[Scope], pieces: dict[int, list[Piece]]) -> bool:
        """Repays what came of one scope; gives whether something is left of it."""
        standIns = {scope.number: HOME, **{frame.number: -frame.number for frame in frames}}
        for frame in frames:
            debt.products.append(self._opened(frame, standIns))
        for part in (scope, *frames):
            debt.products += self._storesOf(part, standIns[part.number])
        new = [*self._debts.unnamed(debt)]
        for frame in frames:
            own = pieces.get(frame.number, [])
            self._handHome(frame, Debt(debt.lender, debt.loan), own)
            new += own
        scope.calls = 0
        self._books.touched.update(standIns)
        self._debts.repay(debt, tuple(new), standIns)
        return bool(new)

    def _opened(self, frame: Scope, standIns: dict[int, int]) -> Open:
        """A frame with its store, and what stands for it in this repayment."""
        stores = self._books.storesAt(frame.body.end)
        payload = stores.copyOf((frame.number, frame.body.end))
        return Open(standIns[frame.number], standIns[frame.parent], frame.place, payload, tuple(sorted(frame.active)),
                    frame.key)  # fmt: skip

    def _storesOf(self, scope: Scope, standIn: int) -> list[Product]:
        """The stores of a scope, but for the one that its frame takes along, and what was to be put into them."""
        products: list[Product] = []
        for name in self._books.storesOf(scope.number):
            store, more = self._books.storesAt(name[1]).part(name)
            if self._books.plan.places[name[1]].kind == Kind.FOLD:
                products += [Fold(standIn, name[1], payload) for payload in (store, *more)]
            else:
                products += [Output(standIn, name[1], 1, payload) for payload in more]
        return products

    def _handHome(self, frame: Scope, debt: Debt, pieces: list[Piece]) -> None:
        debt.pieces = dict.fromkeys(pieces)
        self._books.scopes.handHome(frame, debt)
