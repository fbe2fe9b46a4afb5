"""Lending between ranks: who waits for work here, what they are given, and whom this rank asks itself."""

from __future__ import annotations

from .backlog import Backlog, isCounted
from .books import Books
from .ledger import Piece, holderOf
from .messages import Ask, Lend, Refuse, Send
from .stealing import Asking, behind, treeParent

__all__ = ["Sharing"]

LOAN_S = 0.5
LOAN_BYTES = 32 << 20
WORTH_S = 3e-4
AHEAD, AHEAD_BYTES = 4, 64 << 20
"""So many pulled pieces for each lane are lent at once; so much may wait for that."""
LEAST_S = 4e-3
"""A loan to another rank holds so much work, where there is as much."""
TINY_S = 1.5e-3
"""A piece is not cut to leave less work than that."""
SAMPLE = 32
MEASURE_S = 0.02
EARLY_S = 0.03
PATIENCE_S = 0.002
"""So long a rank that asks is kept waiting for what lanes may hand over."""
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
        self._asking: dict[int, int] = {}
        self._patience: dict[int, float] = {}
        self.behind = behind(self._number, lanesOf)
        self.asking = Asking(self._number, len(lanesOf))
        self.deadline: float | None = None
        self._begin = 0.0
        self._firstAsk: float | None = None

    @property
    def alone(self) -> bool:
        return len(self._lanesOf) == 1

    @property
    def wanted(self) -> bool:
        """Whether another rank is waiting for work."""
        return bool(self._waiting or self._asking)

    @property
    def lanesWaiting(self) -> int:
        """How many lanes other ranks want work for."""
        return sum(self._waiting.values()) + sum(self._asking.values())

    @property
    def pulls(self) -> bool:
        """Whether more should be pulled from the source, with all the lanes in mind that it may be for."""
        waiting = self._source.waiting
        if waiting <= self._books.lanes + self.lanesWaiting:
            return True
        return not self.alone and waiting < AHEAD * self._cluster and self._source.waitingBytes < AHEAD_BYTES

    @property
    def others(self) -> list[int]:
        """The other ranks that live."""
        return [rank for rank in range(len(self._lanesOf)) if rank != self._number and rank not in self.asking.dead]

    # lending ----------------------------------------------------------------------------------------------------------

    def heardAsk(self, rank: int, ask: Ask) -> None:
        if rank in self.asking.dead:
            return
        if not (self._waiting or self._asking or self._costs.known(0)):
            self._begin = self._books.now
        if ask.wait:
            self._waiting[rank] = ask.lanes
        else:
            self._asking[rank] = ask.lanes
            self._patience[rank] = self._books.now + PATIENCE_S

    def died(self, rank: int) -> None:
        self._waiting.pop(rank, None)
        self._asking.pop(rank, None)
        self._patience.pop(rank, None)
        self.asking.died(rank)

    def serve(self, full: bool, busy: bool) -> None:
        """Lends to those who wait; refuses those who wanted an answer soon, unless lanes that are ``busy`` may yet hand
        something over."""
        self.deadline = None
        if (self._waiting or self._asking) and self._isMeasuring():
            return
        for rank, lanes in {**self._asking, **self._waiting}.items():
            pieces = self._share(lanes, full)
            if pieces:
                self._waiting.pop(rank, None)
                self._asking.pop(rank, None)
                self._lend(rank, pieces)
        self._refuse(busy)

    def _refuse(self, busy: bool) -> None:
        now = self._books.now
        for rank, due in list(self._patience.items()):
            if rank not in self._asking:
                del self._patience[rank]
            elif not busy or now >= due:
                del self._asking[rank], self._patience[rank]
                self._books.actions.append(Send(rank, Refuse()))
        if self._patience:
            self._remind(min(self._patience.values()))

    def _isMeasuring(self) -> bool:
        """Whether the first items are about to tell what they cost, so that the first loans may be large."""
        if self._costs.known(0) or not self._source.ready or self._books.now >= self._begin + MEASURE_S:
            return False
        self._remind(self._begin + MEASURE_S)
        return True

    def _lend(self, rank: int, pieces: list[Piece]) -> None:
        loan = self._books.ledger.lend(holderOf(rank), pieces)
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._books.actions.append(Send(rank, Lend(0, loan, units)))

    def _share(self, lanes: int, full: bool) -> list[Piece]:
        pieces = [piece for backlog in self._books.backlogs.values() for piece in self._fromBacklog(backlog, lanes)]
        return pieces or ([] if full else self._fromSource(lanes))

    def _fromBacklog(self, backlog: Backlog, lanes: int) -> list[Piece]:
        """A fair share of what waits while all lanes here are busy, the oldest first; of a piece that can be cut, as
        much as is wanted."""
        if not backlog.shareable:
            return []
        everybody = max(self._lanesOf[self._number] + self.lanesWaiting, self.behind // 2)
        total = self._secondsIn(backlog.shareable)
        wanted = max(total * lanes / everybody, min(total, LEAST_S))
        shared: list[Piece] = []
        while backlog.shareable and (wanted > 0 or not shared):
            piece = self._take(backlog, wanted)
            wanted -= self._secondsOf(piece)
            shared.append(piece)
        return shared

    def _secondsIn(self, pieces: list[Piece]) -> float:
        """About how much work that is."""
        return sum(self._secondsOf(piece) for piece in pieces[:SAMPLE]) * max(len(pieces) / SAMPLE, 1.0)

    def _secondsOf(self, piece: Piece) -> float:
        return self._each(piece.work.place) * piece.work.count

    def _each(self, place: int) -> float:
        """Seconds for an item; a guess while nothing is known."""
        return self._costs.estimate(place, 1, LEAST_S)

    def _take(self, backlog: Backlog, seconds: float) -> Piece:
        """The oldest piece, or so much of it."""
        piece = backlog.shareable[0]
        work = piece.work
        each = self._each(work.place)
        if work.count == 1 or each <= 0 or not isCounted(work):
            return backlog.share(1)[0]
        count = max(int(seconds / each), 1)
        if (work.count - count) * each < TINY_S:
            return backlog.share(1)[0]
        return self._books.cutOff(piece, count)

    def _remind(self, due: float) -> None:
        self.deadline = due if self.deadline is None else min(self.deadline, due)

    def _least(self, place: int) -> int:
        """How many items a loan is worth its messages for."""
        seconds = self._costs.estimate(place, 1)
        return max(1, int(LEAST_S / seconds)) if seconds > 0 else 1

    def _fromSource(self, lanes: int) -> list[Piece]:
        """A share of what is left: half of what would be fair, so that something is left for those who come later."""
        if not self._source.ready:
            return []
        left = self._source.left
        if left is None:
            return self._takePulled(lanes)
        if self._costs.known(0) and self._costs.estimate(0, left) < WORTH_S:
            return []
        return self._takeSource(self._limited(max(left * lanes // (2 * self._cluster), self._least(0)), lanes), lanes)

    def _takePulled(self, lanes: int) -> list[Piece]:
        """A fair share of what has been pulled, so that more can be on its way at once."""
        everybody = self._lanesOf[self._number] + self.lanesWaiting
        count = min(-(-self._source.waiting * lanes // everybody), AHEAD * lanes)
        if not count:
            return self._takeSource(lanes, lanes)
        pieces = []
        for _ in range(count):
            self._books.enterSource()
            pieces.append(self._source.take(1))
        return pieces

    def _limited(self, items: int, lanes: int) -> int:
        if not self._costs.known(0):
            return min(items, 2 * lanes)
        if self._source.itemBytes:
            items = min(items, LOAN_BYTES * lanes // self._source.itemBytes)
        seconds = self._costs.estimate(0, 1)
        return max(1, min(items, int(LOAN_S * lanes / seconds) if seconds > 0 else items))

    def _takeSource(self, items: int, lanes: int) -> list[Piece]:
        size = 1
        if self._source.counted:  # the borrower can cut it as it likes
            size = items
        elif not self._plan.places[0].solo:
            size = max(self._costs.size(0, items, lanes), items // (UNITS_PER_LANE * lanes))
        pieces: list[Piece] = []
        while items > 0 and self._source.ready:
            self._books.enterSource()
            piece = self._source.take(min(size, items))
            pieces.append(piece)
            items -= piece.work.count
        return pieces

    # asking -----------------------------------------------------------------------------------------------------------

    def ask(self, idle: bool) -> None:
        """This rank, or one that waits at it, could do with work. ``idle``: a lane has nothing to do already."""
        asking = self.asking
        if self.alone:
            return
        self._waitAt(treeParent(self._number), self.behind)
        if not idle or asking.asked is not None or self._isEarly():
            return
        victim = asking.next()
        if victim is None:
            for rank in (*asking.lifelines(), *asking.retry(self._books.now)):
                self._waitAt(rank, self._lanesOf[self._number])
            self._remind(asking.retryAt)
            return
        asking.asked = victim
        self._books.actions.append(Send(victim, Ask(self._lanesOf[self._number], False)))

    def _isEarly(self) -> bool:
        """Whether nobody but rank 0 can have work yet, so that there is no sense in asking others."""
        if self._firstAsk is None:
            self._firstAsk = self._books.now
        early = not self.asking.everLent and self._books.now < self._firstAsk + EARLY_S
        if early:
            self._remind(self._firstAsk + EARLY_S)
        return early

    def _waitAt(self, rank: int, lanes: int) -> None:
        """Registers, again when many more have come to wait here."""
        if rank == self._number or rank in self.asking.dead or lanes < 2 * self.asking.waitingAt.get(rank, 0):
            return
        self.asking.waitingAt[rank] = lanes
        self._books.actions.append(Send(rank, Ask(lanes, True)))
