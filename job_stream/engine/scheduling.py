"""What is lent next: to which lane, how much, and when other ranks are asked for more.

Lanes that have nothing come first, then other ranks that wait, then a second parcel for each lane, so that none has to
wait for its next one.
"""

from __future__ import annotations

from .allotments import Allotments
from .completion import Progress
from .lane_table import LOANS_PER_LANE, LaneTable
from .ledger import Piece
from .messages import Pull, Signal
from .pauses import Pauses
from .peer_lending import ANSWER_S, PeerLending
from .rank_state import RankState

__all__ = ["Scheduling"]

LOW_S = 0.05
"""When less work is left for each lane behind this rank, and somebody waits for some, it is time to ask for more."""
SOON_S = 0.02
"""The same where nobody waits yet."""


class Scheduling:
    """Lends what waits.

    Args:
        state: of the rank.
        lane_table: of its lanes.
        sharing: lends to other ranks, and asks them.
        progress: has the keeper go on with long Multiples.
        pauses: whether anything new may be begun.
        most_bytes: more of the source is begun only while less than that lies in what waits for a stage. What waits
            needs nothing of the source, so this comes to an end by itself.
    """

    def __init__(
        self, state: RankState, lane_table: LaneTable, peer_lending: PeerLending, progress: Progress, pauses: Pauses,
        most_bytes: int,
    ) -> None:  # fmt: skip
        self._state = state
        self._lane_table = lane_table
        self._peer_lending = peer_lending
        self._progress = progress
        self._pauses = pauses
        self._most_bytes = most_bytes
        self._source_kind = state.plan.places[0].processes
        self._has_plenty = False

    @property
    def has_plenty(self) -> bool:
        """Whether there is enough to do for some time, so that it will do to hear of other ranks a little later. Not
        so where items are pulled: of these, little is lent at once, and others come back for more soon."""
        return self._has_plenty and not self._state.source.pulled

    def advance(self) -> None:
        """Lends whatever can be lent, and asks for more before it runs out."""
        full = self._pauses.paused
        self._lane_table.look()  # there may be more lanes by now
        if self._state.allotments is not None:
            self._allot(self._state.allotments)
        for depth in range(1, LOANS_PER_LANE + 1):
            for processes in self._state.kinds:
                while self._lend_one(processes, full, depth):
                    pass
            if depth == 1 and not self._peer_lending.alone:
                self._peer_lending.serve(full, self._lane_table.running > 0)
        if not self._peer_lending.alone:
            self._ask_others(full)
            self._state.actions += self._pauses.tell(self._state.ledger.debtors)
        self._pull(full)
        self._progress.ask_for_more(full)
        available = {processes: self._available(processes, full) for processes in self._state.kinds}
        self._lane_table.look()  # and from now on, all may be busy
        hungry = self._lane_table.serve_hungry(available, self._peer_lending.urgent)
        self._lane_table.signal(Signal(hungry, full))
        if not full:  # each handover waits for this once; so what lanes have sent has been counted among the results
            self._lane_table.resume()

    def _allot(self, allotments: Allotments) -> None:
        for rank, piece in allotments.serve():
            if rank == self._state.number:
                self._state.allot(piece)
            else:
                self._peer_lending.lend(rank, [piece])

    def _available(self, processes: bool, full: bool) -> bool:
        if self._state.has_waiting(processes):
            return True
        if processes != self._source_kind or full or not self._state.source.ready:
            return False
        return sum(backlog.nbytes for backlog in self._state.waiting) <= self._most_bytes

    def _lend_one(self, processes: bool, full: bool, depth: int) -> bool:
        if not self._available(processes, full):
            return False
        if self._state.held and self._is_held(processes):
            return False
        number = self._lane_table.idlest(processes, depth)
        if number is None:
            return False
        waiting = self._state.has_waiting(processes)
        self._lane_table.lend(number, self._state.take_parcel(processes) if waiting else [self._take_source()])
        return True

    def _is_held(self, processes: bool) -> bool:
        """Whether what needs several cores leaves none to begin anything else with."""
        state = self._state
        return not state.pinned[processes] and self._lane_table.running + state.held >= state.lanes

    def _take_source(self) -> Piece:
        state = self._state
        items = 1 if state.plan.places[0].alone else state.costs.size(0, state.source.left, state.lanes)
        state.enter_source()
        return state.source.take(items)

    def _ask_others(self, full: bool) -> None:
        """Asks other ranks for work before the lanes run dry."""
        self._has_plenty = full or self._state.lasts(LOW_S * self._peer_lending.behind)
        if self._has_plenty:
            return
        has_room = self._lane_table.running < LOANS_PER_LANE * self._state.lanes
        if self._peer_lending.wanted or has_room or not self._state.lasts(SOON_S * self._peer_lending.behind):
            waits = any(self._available(processes, full) for processes in self._state.kinds)
            self._peer_lending.ask(idle=not waits and self._is_idle())

    def _is_idle(self) -> bool:
        """Whether a lane has nothing to do, or will have nothing by the time that an answer can be here."""
        if self._lane_table.running < self._state.lanes:
            return True
        idle_at = self._lane_table.idle_at
        if idle_at is None:
            return False
        if idle_at > self._state.now + ANSWER_S:
            self._peer_lending.remind(idle_at - ANSWER_S)
            return False
        return True

    def _pull(self, full: bool) -> None:
        state, source = self._state, self._state.source
        if full or not source.wants_pull or not self._peer_lending.pulls:
            return
        source.pulling = True
        alone = state.plan.places[0].alone
        state.actions.append(Pull(1 if alone else state.costs.size(0, None, state.lanes)))
