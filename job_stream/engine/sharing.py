"""Lending between ranks: who waits for work here, what they are given, and whom this rank asks itself."""

from __future__ import annotations

from .backlog import Backlog, isCounted
from .books import Books
from .ledger import Piece, holderOf
from .messages import Ask, Lend, Refuse, Send
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
        books: of this rank.
        lanesOf: how many lanes each rank has.
    """

    def __init__(self, books: Books, lanesOf: tuple[int, ...]) -> None:
        self._books = books
        self._plan = books.plan
        self._number = books.number
        self._lanesOf = lanesOf
        self._costs = books.costs
        self._source = books.source
        self._cluster = sum(lanesOf)
        self._waiting: dict[int, int] = {}
        self._refuse: list[int] = []
        self.asking = Asking(self._number, len(lanesOf))
        self.deadline: float | None = None

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

    def serve(self, full: bool) -> None:
        """Lends to those who wait; refuses those who wanted an answer at once."""
        for rank, lanes in list(self._waiting.items()):
            pieces = self._share(lanes, full)
            if pieces:
                del self._waiting[rank]
                self._lend(rank, pieces)
        for rank in self._refuse:
            if self._waiting.pop(rank, None) is not None:
                self._books.actions.append(Send(rank, Refuse()))
        self._refuse.clear()

    def _lend(self, rank: int, pieces: list[Piece]) -> None:
        loan = self._books.ledger.lend(holderOf(rank), pieces)
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._books.actions.append(Send(rank, Lend(0, loan, units)))

    def _share(self, lanes: int, full: bool) -> list[Piece]:
        pieces = [piece for backlog in self._books.backlogs.values() for piece in self._fromBacklog(backlog, lanes)]
        return pieces or ([] if full else self._fromSource(lanes))

    def _fromBacklog(self, backlog: Backlog, lanes: int) -> list[Piece]:
        """The oldest pieces; of one that can be cut, a fair share."""
        pieces = backlog.shareable
        if not pieces:
            return []
        everybody = self._lanesOf[self._number] + self.lanesWaiting
        work = pieces[0].work
        if not isCounted(work) or work.count == 1:
            return backlog.share(-(-len(pieces) * lanes // everybody))
        share = work.count * lanes // everybody
        if not share or (self._costs.known(work.place) and self._costs.estimate(work.place, share) < WORTH_S):
            return [] if len(pieces) == 1 else backlog.share(1)
        return [self._books.cutOff(pieces[0], share)]

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
            self._books.enterSource()
            piece = self._source.take(min(size, items))
            pieces.append(piece)
            items -= piece.work.count
        return pieces

    # asking -----------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """This rank could do with work: asks the next one, or waits at its lifelines."""
        asking = self.asking
        if self.alone or asking.asked is not None:
            return
        victim = asking.next()
        if victim is None:
            self._wait()
            return
        asking.asked = victim
        self._books.actions.append(Send(victim, Ask(self._lanesOf[self._number], False)))

    def _wait(self) -> None:
        """Registers at the lifelines, again at the one before this rank when many more have come to wait here."""
        own, before = self._lanesOf[self._number], treeParent(self._number)
        behind = sum(lanes for rank, lanes in self._waiting.items() if rank and treeParent(rank) == self._number)
        for rank in self.asking.lifelines():
            lanes = own + behind if rank == before and self._number else own
            if lanes >= 2 * self.asking.waitingAt.get(rank, 0):
                self.asking.waitingAt[rank] = lanes
                self._books.actions.append(Send(rank, Ask(lanes, True)))
