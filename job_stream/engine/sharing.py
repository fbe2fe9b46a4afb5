"""Lending between ranks: who waits for work here, what they are given, and whom this rank asks itself."""

from __future__ import annotations

from collections.abc import Callable

from ..plan import Plan
from .backlog import Backlog, Source
from .ledger import Ledger, Piece, holderOf
from .messages import Action, Ask, Lend, Refuse, Send
from .parcels import Costs
from .stealing import Asking, treeParent

__all__ = ["Sharing"]

LOAN_S = 0.5
LOAN_BYTES = 32 << 20
WORTH_S = 3e-4
UNITS_PER_LANE = 64
"""A loan is cut into so many units for each lane of the borrower at most."""


class Sharing:
    """The side of a rank that other ranks see while it lends and asks.

    Args:
        plan: the stream.
        number: of this rank.
        lanesOf: how many lanes each rank has.
        costs, backlogs, source, ledger: of this rank.
        enter: counts a piece from the source as open.
    """

    def __init__(self, plan: Plan, number: int, lanesOf: tuple[int, ...], costs: Costs, backlogs: dict[bool, Backlog],
                 source: Source, ledger: Ledger, enter: Callable[[], None]) -> None:  # fmt: skip
        self._plan = plan
        self._number = number
        self._lanesOf = lanesOf
        self._costs = costs
        self._backlogs = backlogs
        self._source = source
        self._ledger = ledger
        self._enter = enter
        self._cluster = sum(lanesOf)
        self._waiting: dict[int, int] = {}
        self._refuse: list[int] = []
        self.asking = Asking(number, len(lanesOf))

    @property
    def alone(self) -> bool:
        return len(self._lanesOf) == 1

    @property
    def wanted(self) -> bool:
        """Whether another rank is waiting for work."""
        return bool(self._waiting)

    @property
    def lanesWaiting(self) -> int:
        """How many lanes other ranks want work for."""
        return sum(self._waiting.values())

    @property
    def others(self) -> list[int]:
        """The other ranks that live."""
        return [rank for rank in range(len(self._lanesOf)) if rank != self._number and rank not in self.asking.dead]

    # lending ----------------------------------------------------------------------------------------------------------

    def heardAsk(self, rank: int, ask: Ask) -> None:
        if rank in self.asking.dead:
            return
        self._waiting[rank] = ask.lanes
        if not ask.wait:
            self._refuse.append(rank)

    def died(self, rank: int) -> None:
        self._waiting.pop(rank, None)
        self.asking.died(rank)

    def serve(self, full: bool) -> list[Action]:
        """Lends to those who wait; refuses those who wanted an answer at once."""
        actions: list[Action] = []
        for rank, lanes in list(self._waiting.items()):
            pieces = self._share(lanes, full)
            if pieces:
                del self._waiting[rank]
                actions.append(self._lend(rank, pieces))
        for rank in self._refuse:
            if self._waiting.pop(rank, None) is not None:
                actions.append(Send(rank, Refuse()))
        self._refuse.clear()
        return actions

    def _lend(self, rank: int, pieces: list[Piece]) -> Action:
        loan = self._ledger.lend(holderOf(rank), pieces)
        return Send(rank, Lend(0, loan, tuple((name, piece.work) for name, piece in enumerate(pieces))))

    def _share(self, lanes: int, full: bool) -> list[Piece]:
        pieces = [piece for backlog in self._backlogs.values() for piece in self._fromBacklog(backlog, lanes)]
        return pieces or ([] if full else self._fromSource(lanes))

    def _fromBacklog(self, backlog: Backlog, lanes: int) -> list[Piece]:
        everybody = self._lanesOf[self._number] + sum(self._waiting.values())
        count = backlog.shareable
        return backlog.share(-(-count * lanes // everybody)) if count else []

    def _fromSource(self, lanes: int) -> list[Piece]:
        """A share of what is left: half of what would be fair, so that something is left for those who come later."""
        if not self._source.ready:
            return []
        left = self._source.left
        if left is None:
            return self._take(lanes, lanes)
        if self._costs.known(0) and self._costs.estimate(0, left) < WORTH_S:
            return []
        return self._take(self._limited(max(left * lanes // (2 * self._cluster), 1), lanes), lanes)

    def _limited(self, items: int, lanes: int) -> int:
        if not self._costs.known(0):
            return min(items, 2 * lanes)
        if self._source.itemBytes:
            items = min(items, LOAN_BYTES * lanes // self._source.itemBytes)
        seconds = self._costs.estimate(0, 1)
        return max(1, min(items, int(LOAN_S * lanes / seconds) if seconds > 0 else items))

    def _take(self, items: int, lanes: int) -> list[Piece]:
        size = 1
        if not self._plan.places[0].solo:
            size = max(self._costs.size(0, items, lanes), items // (UNITS_PER_LANE * lanes))
        pieces: list[Piece] = []
        while items > 0 and self._source.ready:
            self._enter()
            piece = self._source.take(min(size, items))
            pieces.append(piece)
            items -= piece.work.count
        return pieces

    # asking -----------------------------------------------------------------------------------------------------------

    def ask(self) -> list[Action]:
        """This rank could do with work: asks the next one, or waits at its lifelines."""
        asking = self.asking
        if self.alone or asking.asked is not None:
            return []
        victim = asking.next()
        if victim is not None:
            asking.asked = victim
            return [Send(victim, Ask(self._lanesOf[self._number], False))]
        return self._wait()

    def _wait(self) -> list[Action]:
        """Registers at the lifelines, again at the one before this rank when many more have come to wait here."""
        actions: list[Action] = []
        own, before = self._lanesOf[self._number], treeParent(self._number)
        behind = sum(lanes for rank, lanes in self._waiting.items() if rank and treeParent(rank) == self._number)
        for rank in self.asking.lifelines():
            lanes = own + behind if rank == before and self._number else own
            if lanes >= 2 * self.asking.waitingAt.get(rank, 0):
                self.asking.waitingAt[rank] = lanes
                actions.append(Send(rank, Ask(lanes, True)))
        return actions
