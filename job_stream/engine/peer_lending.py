"""Lending between ranks: who waits for work here, what they are given, and whom this rank asks itself.

**What has to come out.** All lanes of all ranks busy until the last moment, at the price of few messages: one costs as
much as some hundred microseconds of work, is looked for by polling, and arrives late where the receiver is busy.

**The way of a loan.** Work spreads from whoever has it to whoever has told that it *needs* some (``Ask``). A need is
kept here until it is met; meeting it is part of each turn of the engine (``serve``, called by ``scheduling``), after
each lane here has been given one loan and before any is given a second one. So nobody has to ask twice, and nothing is
sent where nothing has changed.
An ask is of one of two kinds:

- *I wait* (``wait``): lend when you have something. It is told along the tree and to lifelines (``victims``), which may
  be hours before anything is lent. It is answered by a loan or never.
- *I am idle* (not ``wait``): lend now or say no. One such ask is on its way at a time, so the answer has to come: a
  loan, or a ``Refuse`` after 2 ms at most. These 2 ms are for lanes that may hand over what they have (they see a flag
  while a need is *urgent*); an immediate "no" would be true and useless.

**How much.** Of what waits here, so much that both sides will be busy for equally long, by what items took and not by
their number: the side that asks has said until when its lanes have something to do (``left``). Why not half, as is
usual in stealing: a rank with two lanes asks one with sixteen. Why at least 4 ms: a loan costs an ask, a loan and a
repayment, and whoever is lent less asks again at once. Why from the source no more than a second a lane: what is folded
comes home once for each loan, and what a rank holds is lost with it. Why three quarters of a fair share: costs are
estimates, and late comers find something.

**What must not happen.**

- *Ping-pong*: work lent to and fro. Hence who owes something here is not asked (``Asking``), lanes are not disturbed
  before the other runs dry in 10 ms, and handing over is worth it only when the other would be given something
  (``urgent`` is False while ``_measures``).
- *Everybody asks rank 0.* A thousand asks a millisecond would be all that it does. Hence the tree, and no random asks
  of rank 0; and in the first 30 ms, when nobody else can have work, no random asks at all.
- *A large first loan of unknown cost.* Until the first items have told what they cost (20 ms at most), nobody is lent
  anything from the source.
- *Waiting for each other.* A need that is kept obliges nobody to anything, so ranks that wait at each other in a circle
  are no deadlock: the first that has work lends it. A dead rank's needs are dropped; what was asked of it counts as
  answered.

What is due later is not waited for by anybody: ``remind`` sets the time at which the engine wants to be called again,
and everything is decided anew then. There is no state "about to lend".
"""

from __future__ import annotations

from .backlog import Backlog, is_counted
from .lane_table import LaneTable
from .ledger import Piece, holder_of
from .messages import Ask, Lend, Refuse, Send, WorkBatch
from .rank_state import RankState
from .victims import Asking, Told, behind, tree_parent

__all__ = ["ANSWER_S", "PeerLending"]

ANSWER_S = 0.01
"""What an answer of another rank may take; whoever will have nothing to do by then needs work now."""
FAIR = 0.75
"""Of what would be a fair share of the source, so much is lent, so that something is left for those who come later."""
LOAN_S = 1.0
"""Work from the source that a loan holds for each lane at most. What is folded there comes home once for each loan, and
large stores take long to merge; what a rank holds is lost with it."""
LOAN_BYTES = 32 << 20
WORTH_S = 3e-4
AHEAD, AHEAD_BYTES = 4, 64 << 20
"""So many pulled pieces for each lane are lent at once; so much may wait for that."""
LEAST_S = 4e-3
"""A loan to another rank holds so much work, where there is as much."""
TINY_S = 1.5e-3
"""A piece is not cut to leave less work than that."""
MEASURE_S = 0.02
EARLY_S = 0.03
PATIENCE_S = 0.002
"""So long a rank that asks is kept waiting for what lanes may hand over."""
UNITS_PER_LANE = 64
"""A loan is cut into so many units for each lane of the borrower at most."""


class _Need:
    """What another rank wants work for.

    Attributes:
        lanes: that it wants work for.
        idle_at: until then its own lanes have something to do.
        waits: whether it waits until there is work.
        answer_by: when to refuse; None: it has asked for no answer.
    """

    __slots__ = ("answer_by", "idle_at", "lanes", "waits")

    def __init__(self) -> None:
        self.lanes = 0
        self.idle_at = 0.0
        self.waits = False
        self.answer_by: float | None = None


class PeerLending:
    """The side of a rank that other ranks see while it lends and asks.

    Args:
        state: of this rank.
        lane_table: of its lanes.
        lanes_of: how many lanes each rank has.
    """

    def __init__(self, state: RankState, lane_table: LaneTable, lanes_of: tuple[int, ...]) -> None:
        self._state = state
        self._lane_table = lane_table
        self._plan = state.plan
        self._number = state.number
        self._lanes_of = lanes_of
        self._costs = state.costs
        self._source = state.source
        self._cluster = sum(lanes_of)
        self._needs: dict[int, _Need] = {}
        self.behind = behind(self._number, lanes_of)
        self.asking = Asking(self._number, len(lanes_of), state.ledger.debtors)
        self.deadline: float | None = None
        self._begin = 0.0
        self._measures = False
        self._first_ask: float | None = None

    @property
    def alone(self) -> bool:
        return len(self._lanes_of) == 1

    @property
    def wanted(self) -> bool:
        """Whether another rank wants work."""
        return bool(self._needs)

    @property
    def urgent(self) -> bool:
        """Whether another rank needs work now, and would be given some: what lanes had to hand over for one that is
        kept waiting would be lent to them again, to and fro."""
        return not self._measures and any(map(self._is_urgent, self._needs.values()))

    @property
    def lanes_waiting(self) -> int:
        """How many lanes other ranks want work for."""
        return sum(need.lanes for need in self._needs.values())

    @property
    def pulls(self) -> bool:
        """Whether more should be pulled from the source, with all the lanes in mind that it may be for."""
        waiting = self._source.waiting
        if waiting <= self._state.lanes + self.lanes_waiting:
            return True
        return not self.alone and waiting < AHEAD * self._cluster and self._source.waiting_bytes < AHEAD_BYTES

    @property
    def others(self) -> list[int]:
        """The other ranks that live."""
        return [rank for rank in range(len(self._lanes_of)) if rank != self._number and rank not in self.asking.dead]

    # lending ----------------------------------------------------------------------------------------------------------

    def heard_ask(self, rank: int, ask: Ask) -> None:
        if rank in self.asking.dead:
            return
        if not (self._needs or self._costs.known(0)):
            self._begin = self._state.now
        need = self._needs.setdefault(rank, _Need())
        need.idle_at = self._state.now + ask.left
        if ask.wait or not need.waits:
            need.lanes = ask.lanes
        need.waits = need.waits or ask.wait
        if not ask.wait:
            need.answer_by = self._state.now + PATIENCE_S

    def died(self, rank: int) -> None:
        self._needs.pop(rank, None)
        self.asking.died(rank)

    def serve(self, full: bool, busy: bool) -> None:
        """Lends to those who wait; refuses those who wanted an answer soon, unless lanes that are ``busy`` may yet hand
        something over."""
        self.deadline = None
        self._measures = bool(self._needs) and self._is_measuring()
        if not self._needs or self._measures:
            return
        if any(self._state.backlogs.values()) or (self._lends_source and not full):
            self._lend_to_all(full)
        for rank, need in list(self._needs.items()):
            self._answer(rank, need, busy)

    def _lend_to_all(self, full: bool) -> None:
        for rank, need in list(self._needs.items()):
            pieces = self._share(need, full)
            if pieces:
                del self._needs[rank]
                self.lend(rank, pieces)

    def _answer(self, rank: int, need: _Need, busy: bool) -> None:
        """Refuses, if it is time; sees to it that the need is looked at again."""
        if need.answer_by is not None:
            if busy and self._state.now < need.answer_by:
                self.remind(need.answer_by)
                return
            need.answer_by = None
            self._state.actions.append(Send(rank, Refuse()))
        if not need.waits:
            del self._needs[rank]
        elif not self._is_urgent(need):
            self.remind(need.idle_at - ANSWER_S)

    def _is_urgent(self, need: _Need) -> bool:
        return need.idle_at <= self._state.now + ANSWER_S

    @property
    def _lends_source(self) -> bool:
        """Whether there is initial work that other ranks may do."""
        return self._source.ready and not self._plan.places[0].primary

    def _is_measuring(self) -> bool:
        """Whether the first items are about to tell what they cost, so that the first loans may be large."""
        if self._costs.known(0) or not self._lends_source or self._state.now >= self._begin + MEASURE_S:
            return False
        self.remind(self._begin + MEASURE_S)
        return True

    def lend(self, rank: int, pieces: list[Piece]) -> None:
        """Lends these to another rank, whether it has asked or not."""
        loan = self._state.ledger.lend(holder_of(rank), pieces)
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._state.actions.append(Send(rank, Lend(0, loan, units)))

    def _share(self, need: _Need, full: bool) -> list[Piece]:
        pieces = [piece for backlog in self._state.backlogs.values() for piece in self._from_backlog(backlog, need)]
        return pieces or ([] if full else self._from_source(need.lanes))

    def _from_backlog(self, backlog: Backlog, need: _Need) -> list[Piece]:
        """So much of what waits while all lanes here are busy that both will be busy for equally long, the oldest
        first; of a piece that can be cut, as much as is wanted."""
        if not backlog:
            return []
        now, lanes = self._state.now, need.lanes
        everybody = self._lanes_of[self._number] + self.lanes_waiting
        total, theirs = backlog.seconds(LEAST_S), max(need.idle_at - now, 0.0) * lanes
        wanted = (total + self._lane_table.left + theirs) * lanes / everybody - theirs
        if wanted < LEAST_S and not self._is_urgent(need):
            return []
        wanted = min(max(wanted, LEAST_S), total)
        shared: list[Piece] = []
        while (piece := backlog.oldest) is not None and (wanted > 0 or not shared):
            each = self._costs.estimate(piece.work.place, 1, LEAST_S)
            count = self._how_many(piece.work, each, wanted)
            shared.append(self._state.cut_off(piece, count) if count < piece.work.count else backlog.share())
            wanted -= each * count
        return shared

    def _how_many(self, work: WorkBatch, each: float, seconds: float) -> int:
        """How many items of a piece take so long; all, where it cannot be cut or next to nothing would stay."""
        if work.count == 1 or each <= 0 or not is_counted(work):
            return work.count
        count = max(int(seconds / each), 1)
        return count if (work.count - count) * each >= TINY_S else work.count

    def remind(self, due: float) -> None:
        self.deadline = due if self.deadline is None else min(self.deadline, due)

    def _least(self, place: int) -> int:
        """How many items a loan is worth its messages for."""
        seconds = self._costs.estimate(place, 1)
        return max(1, int(LEAST_S / seconds)) if seconds > 0 else 1

    def _from_source(self, lanes: int) -> list[Piece]:
        """A share of what is left."""
        if not self._lends_source:
            return []
        left = self._source.left
        if left is None:
            return self._take_pulled(lanes)
        if self._costs.known(0) and self._costs.estimate(0, left) < WORTH_S:
            return []
        fair = int(FAIR * left * lanes / self._cluster)
        return self._take_source(self._limited(max(fair, self._least(0)), lanes), lanes)

    def _take_pulled(self, lanes: int) -> list[Piece]:
        """A fair share of what has been pulled, so that more can be on its way at once."""
        everybody = self._lanes_of[self._number] + self.lanes_waiting
        count = min(-(-self._source.waiting * lanes // everybody), AHEAD * lanes)
        if not count:
            return self._take_source(lanes, lanes)
        pieces = []
        for _ in range(count):
            self._state.enter_source()
            pieces.append(self._source.take(1))
        return pieces

    def _limited(self, items: int, lanes: int) -> int:
        if not self._costs.known(0):
            return min(items, 2 * lanes)
        if self._source.item_bytes:
            items = min(items, LOAN_BYTES * lanes // self._source.item_bytes)
        seconds = self._costs.estimate(0, 1)
        return max(1, min(items, int(LOAN_S * lanes / seconds) if seconds > 0 else items))

    def _take_source(self, items: int, lanes: int) -> list[Piece]:
        size = 1
        if self._source.counted:  # the borrower can cut it as it likes
            size = items
        elif not self._plan.places[0].alone:
            size = max(self._costs.size(0, items, lanes), items // (UNITS_PER_LANE * lanes))
        pieces: list[Piece] = []
        while items > 0 and self._source.ready:
            self._state.enter_source()
            piece = self._source.take(min(size, items))
            pieces.append(piece)
            items -= piece.work.count
        return pieces

    # asking -----------------------------------------------------------------------------------------------------------

    def ask(self, idle: bool) -> None:
        """This rank, or one that waits at it, could do with work. ``idle``: a lane has nothing to do already."""
        asking, own = self.asking, self._lanes_of[self._number]
        if self.alone:
            return
        self._wait_at(tree_parent(self._number), self.behind)  # for all behind it, idle or not: they wait at this rank
        if not idle or asking.asked is not None or self._is_early():
            return
        victim = asking.next()
        if victim is None:  # enough have said no: now it waits, and asks nobody until it is lent something
            for other in (*asking.lifelines(), *asking.retry(self._state.now)):
                self._wait_at(other, own)
            self.remind(asking.retry_at)
            return
        asking.asked = victim
        self._state.actions.append(Send(victim, Ask(own, False, self._left)))

    def _is_early(self) -> bool:
        """Whether nobody but rank 0 can have work yet, so that there is no sense in asking others."""
        if self._first_ask is None:
            self._first_ask = self._state.now
        early = not self.asking.ever_lent and self._state.now < self._first_ask + EARLY_S
        if early:
            self.remind(self._first_ask + EARLY_S)
        return early

    def _wait_at(self, rank: int, lanes: int) -> None:
        """Registers; again when many more have come to wait here, or when it runs dry sooner than it had said."""
        if rank == self._number or rank in self.asking.dead:
            return
        told, now = self.asking.waiting_at.get(rank), self._state.now
        if told is None or lanes >= 2 * told.lanes or (told.idle_at > now + ANSWER_S and not self._seconds_here):
            left = self._left
            self.asking.waiting_at[rank] = Told(lanes, now + left)
            self._state.actions.append(Send(rank, Ask(lanes, True, left)))

    @property
    def _left(self) -> float:
        """How long the lanes here will have something to do, if nobody else takes it."""
        return 0.0 if self.urgent else self._seconds_here / self._lanes_of[self._number]

    @property
    def _seconds_here(self) -> float:
        """About how much work there is, waiting or with lanes."""
        return self._state.seconds_waiting(LEAST_S) + self._lane_table.left
