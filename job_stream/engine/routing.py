"""What repaid work has led to, and where each product goes: every product belongs to exactly one scope."""

from __future__ import annotations

from collections import deque
from typing import Any

from ..errors import EngineError
from ..stream.plan import Kind
from .debts import Debts
from .messages import CallKind, Deliver, Fail, Fold, Open, Output, Product, Skip, WorkBatch
from .rank_state import RankState
from .scopes import STREAM

__all__ = ["RESULTS_BYTES", "Router"]

RESULTS_BYTES = 32 << 20
RESULTS_ITEMS = 200_000


class Router:
    """Files products.

    Args:
        state: of the rank.
        debts: what belongs to another rank's scope is owed there.
        buffer: so many results may wait to be taken; None: ``RESULTS_ITEMS``.
        most_bytes: so much may be in them; one delivery may be larger.

    Attributes:
        results: how many the main thread is done with.
    """

    def __init__(self, state: RankState, debts: Debts, buffer: int | None = None,
                 most_bytes: int = RESULTS_BYTES) -> None:  # fmt: skip
        self._state = state
        self._debts = debts
        self._plan = state.plan
        self._outstanding: deque[Deliver] = deque()
        self.results = 0
        self._most = RESULTS_ITEMS if buffer is None else buffer
        self._most_bytes = most_bytes
        self._undelivered_items = 0
        self._undelivered_bytes = 0

    @property
    def full(self) -> bool:
        """Whether results pile up."""
        return self._undelivered_items > self._most or self._undelivered_bytes > self._most_bytes

    @property
    def outstanding(self) -> tuple[Deliver, ...]:
        """The deliveries that the main thread is not done with, in order."""
        return tuple(self._outstanding)

    def taken(self, count: int, nbytes: int) -> None:
        """The main thread is done with the oldest delivery."""
        delivery = self._outstanding.popleft()
        if count != delivery.count:
            raise EngineError(f"{count} results were taken of a delivery of {delivery.count}")
        self.results += count
        self._undelivered_items -= count
        self._undelivered_bytes -= nbytes

    def _deliver(self, delivery: Deliver) -> None:
        self._outstanding.append(delivery)
        self._undelivered_items += delivery.count
        self._undelivered_bytes += delivery.payload.nbytes
        self._state.actions.append(delivery)

    def restore(self, deliveries: tuple[Deliver, ...], results: int) -> None:
        """Delivers again what nobody may have seen, after ``results`` that were taken."""
        self.results = results
        for delivery in deliveries:
            self._deliver(delivery)

    def file(self, products: tuple[Product, ...], stand_ins: dict[int, int] | None = None) -> dict[int, int]:
        """Files products in order; frames that are opened stand for their scopes in the products after them.

        Args:
            products: what has come of something.
            stand_ins: scopes by what else stands for them.

        Returns:
            the scopes by all that stands for them.
        """
        opened = stand_ins or {}
        scopes = self._state.scopes
        for product in products:
            if isinstance(product, Open):
                product = product._replace(parent=opened.get(product.parent, product.parent))
                if product.parent in scopes:
                    opened[product.scope] = self._open(product)
                continue
            product = product._replace(scope=opened.get(product.scope, product.scope))
            if product.scope in scopes:
                _FILERS[type(product)](self, product)
        return opened

    def _work(self, work: WorkBatch) -> None:
        place = self._plan.places[work.place]
        if place.kind == Kind.END:
            raise EngineError(f"work at {place!r}, where there is nothing left to do")
        debt = self._state.scopes[work.scope].debt
        if debt is not None and (place.primary or (place.allotted and not work.failed)):
            self._debts.owe(debt, work)
            return
        self._state.open(work)
        self._state.push(work)

    def _output(self, output: Output) -> None:
        debt = self._state.scopes[output.scope].debt
        if debt is not None:
            self._debts.owe(debt, output)
        elif output.scope == STREAM:
            self._deliver(Deliver(output.payload, output.count, output.base))
        else:
            self._state.call(CallKind.END, (output.scope, output.place), output.place, output.payload)

    def _fold(self, fold: Fold) -> None:
        scope, name = self._state.scopes[fold.scope], (fold.scope, fold.place)
        scope.active.add(self._plan.places[fold.place].segment)
        self._state.touched.add(fold.scope)
        if self._state.stores_at(fold.place).holds(name):
            self._state.call(CallKind.MERGE, name, fold.place, fold.payload)
        else:
            self._state.stores_at(fold.place).adopt(name, fold.payload)

    def _open(self, product: Open) -> int:
        scope = self._state.scopes.open(product.parent, product.place)
        scope.active.update(product.active)
        scope.key = product.key
        self._state.stores_at(product.place).adopt((scope.number, scope.body.end), product.payload)
        self._state.touched.add(scope.number)
        return scope.number

    def notice(self, notice: Skip | Fail) -> None:
        """Something was left out: rank 0 keeps the list."""
        home = self._state.scopes.get(notice.scope)
        while home is not None and home.debt is None and home.parent >= 0:
            home = self._state.scopes.get(home.parent)
        if home is None:
            return
        if home.debt is None:
            self._state.actions.append(notice)
        else:
            self._debts.owe(home.debt, notice._replace(scope=home.number))


_FILERS: dict[type, Any] = {
    WorkBatch: Router._work,
    Output: Router._output,
    Fold: Router._fold,
    Skip: Router.notice,
    Fail: Router.notice,
}
