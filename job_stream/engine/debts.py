"""What this rank has borrowed from others, and how it repays.

The pieces of a loan that belong to one scope of the lender get a scope here, so that what they are folded into is one
store; but where results can come early, and a frame ahead may hold them up, each piece has a scope of its own. A scope
that has drained is repaid with its stores. One that goes on repays what has come of it so far every 20 ms, and says
what is left, which it keeps under new names.
"""

from __future__ import annotations

from collections.abc import Callable

from ..stream.plan import Kind
from .ledger import Piece, holder_of
from .messages import HOME, Cancel, Fold, Lend, Product, Repaid, Same, Send, WorkBatch
from .rank_state import RankState
from .scopes import Debt, Scope

__all__ = ["Debts"]

NEW_NAMES = 1 << 32
"""Units that a borrower has made out of others have names from here on; those that were lent have smaller ones."""
GATHER_S = 0.02
GATHER_BYTES = 256 << 10


class Debts:
    """The borrowing side of a rank.

    Args:
        state: of the rank.
        alone: there is nobody to borrow from.
    """

    def __init__(self, state: RankState, alone: bool) -> None:
        self._state = state
        self._plan = state.plan
        self._alone = alone
        self._last_name = NEW_NAMES
        self._samples: dict[int, list[float]] = {}
        self._holding: dict[int, bool] = {}
        self.deadline: float | None = None

    def learn(self, samples: tuple[tuple[int, int, float], ...]) -> None:
        """Takes in what items took, for this rank and, where it has lenders, for these."""
        for place, items, seconds in samples:
            self._state.costs.learn(place, items, seconds)
            if self._state.number:
                sample = self._samples.setdefault(place, [0, 0.0])
                sample[0] += items
                sample[1] += seconds

    # borrowing --------------------------------------------------------------------------------------------------------

    def borrow(self, lender: int, lend: Lend) -> None:
        """Takes in what another rank has lent."""
        shared: dict[tuple[int, int], Scope] = {}
        for name, work in lend.units:
            body = self._plan.places[work.place].body
            scope = shared.get((work.scope, body))
            if scope is None:
                scope = self._state.scopes.borrow(body, Debt(lender, lend.loan))
                if not self._holds_up(work.place):
                    shared[work.scope, body] = scope
            self._take(scope, name, work)

    def _take(self, scope: Scope, name: int, work: WorkBatch) -> None:
        assert scope.debt is not None
        piece = Piece(work._replace(scope=scope.number))
        self._state.open(piece.work)
        scope.debt.names[piece] = name
        self._state.register(piece)
        self._state.give_back([piece])

    def _holds_up(self, number: int) -> bool:
        """Whether results that pieces at this place lead to may have to wait for a frame."""
        known = self._holding.get(number)
        if known is None:
            place = self._plan.places[number]
            folds = self._plan.bodies[place.body].segments[place.segment].folds
            known = not folds and any(stage.kind == Kind.FRAME for stage in self._plan.ahead(number))
            self._holding[number] = known
        return known

    def heard_cancel(self, lender: int, cancel: Cancel) -> None:
        """Nobody waits for a loan any more."""
        self._drop(lambda debt: (debt.lender, debt.loan) == (lender, cancel.loan))

    def lender_died(self, rank: int) -> None:
        self._drop(lambda debt: debt.lender == rank)

    def _drop(self, gone: Callable[[Debt], bool]) -> None:
        """Forgets borrowed work with all that came of it, and tells those to whom it was lent on."""
        state = self._state
        dropped: set[int] = set()
        for scope in state.scopes.owing():
            if scope.debt is not None and gone(scope.debt):
                dropped.update(state.scopes.drop(scope.number))
        if not dropped:
            return
        for stores in state.stores.values():
            for number in dropped:
                stores.forget(number)
        for backlog in state.waiting:
            backlog.discard(dropped)
        for rank in tuple(state.ledger.debtors):
            for number, loan in state.ledger.of(holder_of(rank)):
                if all(piece.work.scope not in state.scopes for piece in loan.units.values()):
                    state.ledger.drop(number)
                    state.actions.append(Send(rank, Cancel(number)))

    # repaying ---------------------------------------------------------------------------------------------------------

    def owe(self, debt: Debt, product: Product) -> None:
        """What came of borrowed work, for its lender."""
        if not debt.products:
            debt.since = self._state.now
        debt.products.append(product._replace(scope=HOME))
        debt.nbytes += getattr(getattr(product, "payload", None), "nbytes", 0)

    def advance(self, scope: Scope, debt: Debt) -> None:
        """Repays borrowed work that is done, with the stores that it was folded into."""
        if any(scope.opens):
            return
        for name in self._state.stores_of(scope.number):
            store = self._state.take_store(scope, name)
            if store:
                self.owe(debt, Fold(scope.number, name[1], store[0]))
        if not scope.calls:
            self._state.scopes.close(scope.number)
            self.repay(debt, (), {})

    def settle(self) -> None:
        """Repays what has been waiting for long enough, and says what is left."""
        self.deadline = None
        if self._alone:
            return
        now = self._state.now
        for scope in self._state.scopes.owing():
            debt = scope.debt
            if debt is None or not debt.products or not self._is_plain(scope, debt):
                continue
            due = debt.since + GATHER_S
            if debt.nbytes < GATHER_BYTES and now < due:
                self.deadline = due if self.deadline is None else min(self.deadline, due)
                continue
            self.repay(debt, self.unnamed(debt), {})

    def _is_plain(self, scope: Scope, debt: Debt) -> bool:
        """Whether pieces are all that is left: no frame is open, and no store holds anything."""
        if scope.calls or sum(scope.opens) != len(debt.pieces):
            return False
        return not self._state.stores_of(scope.number)

    def closing(self, debt: Debt) -> dict[int, Piece]:
        """The units that the next repayment closes."""
        return {name: piece for piece, name in debt.names.items() if piece not in debt.pieces}

    def unnamed(self, debt: Debt) -> tuple[Piece, ...]:
        """The pieces that the lender does not know yet."""
        return tuple(piece for piece in debt.pieces if piece not in debt.names)

    def repay(self, debt: Debt, new: tuple[Piece, ...], frames: dict[int, int]) -> None:
        """Repays what has come of borrowed work so far, and says what is left.

        Args:
            debt: what to repay of.
            new: the pieces that are left and have no names yet.
            frames: what stands for their scopes in this repayment, where these are frames that go home with it.
        """
        closing = self.closing(debt)
        if not closing:
            return  # what has come is of units that are not done; there is no saying so without naming them
        known = {id(piece.work.payload): name for name, piece in closing.items() if piece.work.payload is not None}
        for piece in closing.values():
            del debt.names[piece]
        kept = []
        for piece in new:
            same = known.get(id(piece.work.payload))
            payload = piece.work.payload if same is None else Same(same)
            self._last_name += 1  # of all this rank has given: several scopes may owe the same loan
            owner = self._state.scopes[piece.work.scope].debt
            assert owner is not None
            owner.names[piece] = self._last_name
            scope = frames.get(piece.work.scope, HOME)
            kept.append((self._last_name, piece.work._replace(scope=scope, payload=payload)))
        closed = ((debt.loan, tuple(closing)),)
        repaid = Repaid(0, debt.loan, closed, tuple(debt.products), kept=tuple(kept), samples=self._take_samples())
        debt.products, debt.nbytes = [], 0
        self._state.actions.append(Send(debt.lender, repaid))

    def _take_samples(self) -> tuple[tuple[int, int, float], ...]:
        samples = tuple((place, int(items), seconds) for place, (items, seconds) in self._samples.items())
        self._samples.clear()
        return samples
