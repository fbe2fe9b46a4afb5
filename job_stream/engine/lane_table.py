"""The lanes of a rank: how busy they are, whom to lend to next, and when they are asked for what they hold."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice
from math import inf

from ..stream.plan import Plan
from .ledger import Piece
from .messages import Flush, Lend, Resume, Signal, StartLane, TakeBack
from .rank_state import RankState
from .scopes import STREAM

__all__ = ["LOANS_PER_LANE", "LaneTable"]

LOANS_PER_LANE = 2
SAMPLE = 32
"""What a parcel of more pieces takes is estimated from so many of them, as it is looked at often."""
LATE_S = 5e-3
"""A lane that is so late has a longer item than was to be expected."""


class _LaneEntry:
    """What the rank knows of a lane."""

    def __init__(self, processes: bool) -> None:
        self.processes = processes
        self.running = 0
        self.until = inf
        self.computed = 0
        self.flushing = False
        self.taking_back = False


class LaneTable:
    """All lanes that have been started and live.

    Args:
        state: of the rank.

    Attributes:
        running: how many parcels are with lanes.
    """

    def __init__(self, state: RankState) -> None:
        self.running = 0
        self._state = state
        self._plan: Plan = state.plan
        self._lanes: dict[int, _LaneEntry] = {}
        self._pins = any(place.primary for place in state.plan.places)
        self._last = 0
        self._signal = Signal(False, False)

    def __contains__(self, lane: int) -> bool:
        return lane in self._lanes

    # lending ----------------------------------------------------------------------------------------------------------

    def idlest(self, processes: bool, depth: int) -> int | None:
        """The lane to lend to: an idle one, a new one, or one with room for one more of ``depth`` parcels."""
        own = [(lane.running, number) for number, lane in self._lanes.items() if lane.processes == processes]
        running, number = min(own, default=(LOANS_PER_LANE, 0))
        if running == 0:
            return number
        if len(own) < self._state.lanes:
            return self._start(processes)
        return number if running < depth else None

    def _start(self, processes: bool) -> int:
        self._last += 1
        self._lanes[self._last] = _LaneEntry(processes)
        self._state.actions.append(StartLane(self._last, processes))
        return self._last

    def lend(self, number: int, pieces: list[Piece]) -> None:
        loan = self._state.ledger.lend(number, pieces)
        self._expect(self._lanes[number], pieces)
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._state.actions.append(Lend(number, loan, units, pieces[0].one_by_one))

    def _expect(self, lane: _LaneEntry, pieces: list[Piece]) -> None:
        """Notes until when a lane will be busy with these pieces too, as far as it can be known."""
        lane.until = (lane.until if lane.running else self._state.now) + self._seconds(pieces)
        lane.running += 1
        self.running += 1

    def _seconds(self, pieces: Collection[Piece]) -> float:
        """About how long they will take."""
        estimate = self._state.costs.estimate
        sample = sum(estimate(piece.work.place, piece.work.count, inf) for piece in islice(pieces, SAMPLE))
        return sample * max(len(pieces) / SAMPLE, 1.0)

    def idle_at(self) -> float | None:
        """When the next lane will have nothing to do, if it is known and not long past; None: it is not."""
        now = self._state.now
        return min((lane.until for lane in self._lanes.values() if now - LATE_S < lane.until < inf), default=None)

    @property
    def left(self) -> float:
        """About how many seconds of work lanes hold."""
        now = self._state.now
        return sum(lane.until - now for lane in self._lanes.values() if lane.running and now < lane.until < inf)

    # news of lanes ----------------------------------------------------------------------------------------------------

    def repaid(self, number: int) -> None:
        """A lane has said what became of a parcel."""
        self._lanes[number].taking_back = False
        self._recount(number)

    def _recount(self, number: int) -> None:
        lane, loans = self._lanes[number], self._state.ledger.of(number)
        running = [loan for _, loan in loans if loan.running]
        self.running += len(running) - lane.running
        lane.running = len(running)
        lane.until = self._state.now + sum(self._seconds(loan.units.values()) for loan in running)
        lane.computed = len(loans) - lane.running
        lane.flushing = lane.flushing and lane.computed > 0

    def returned(self, number: int, loans: tuple[int, ...]) -> None:
        """Parcels were taken back out of a lane's inbox."""
        for loan in loans:
            self._state.give_back(list(self._state.ledger.drop(loan).units.values()))
        self._lanes[number].taking_back = not loans
        self._recount(number)

    def died(self, number: int) -> None:
        self.running -= self._lanes.pop(number).running

    # asking for what lanes hold ---------------------------------------------------------------------------------------

    def serve_hungry(self, available: dict[bool, bool], wanted: bool) -> bool:
        """Whether somebody could do with work that lanes have; asks for it back.

        Args:
            available: whether there is work that waits, for both kinds of lanes.
            wanted: other ranks wait for work.
        """
        hungry = False
        for processes in self._state.kinds:
            own = [(number, lane) for number, lane in self._lanes.items() if lane.processes == processes]
            idle = [(number, lane) for number, lane in own if not lane.running]
            busy = [(number, lane) for number, lane in own if lane.running]
            self._flush(idle)
            idling = bool(idle) or len(own) < self._state.lanes
            if not busy or available[processes] or not (idling or wanted):
                continue
            hungry = True
            self._take_back(busy if idling else [(number, lane) for number, lane in busy if self._may_leave(number)])
        return hungry

    def _may_leave(self, number: int) -> bool:
        """Whether another rank could do anything of what a lane has been lent, and has not begun."""
        if not self._pins:
            return True
        places = self._state.plan.places
        running = [loan for _, loan in self._state.ledger.of(number) if loan.running]
        return any(not places[piece.work.place].primary for loan in running[1:] for piece in loan.units.values())

    def _take_back(self, busy: list[tuple[int, _LaneEntry]]) -> None:
        for number, lane in busy:
            if lane.running > 1 and not lane.taking_back:
                lane.taking_back = True
                self._state.actions.append(TakeBack(number))

    def _flush(self, idle: list[tuple[int, _LaneEntry]]) -> None:
        """Asks idle lanes for what they have computed, unless more of the same may still come."""
        for number, lane in idle:
            if lane.computed and not lane.flushing and (self._state.source.exhausted or self._holds_frames(number)):
                lane.flushing = True
                self._state.actions.append(Flush(number))

    @property
    def owes(self) -> bool:
        """Whether lanes have anything to repay."""
        return any(lane.running or lane.computed for lane in self._lanes.values())

    @property
    def held(self) -> int:
        """How many pieces lanes hold."""
        loans = (loan for number in self._lanes for _, loan in self._state.ledger.of(number))
        return sum(len(loan.units) for loan in loans)

    def ask_again(self) -> None:
        """Forgets what lanes have been asked for and not answered."""
        for lane in self._lanes.values():
            lane.flushing = lane.taking_back = False

    def flush_all(self) -> None:
        """Asks all lanes for what they have computed."""
        for number, lane in self._lanes.items():
            if lane.computed and not lane.flushing:
                lane.flushing = True
                self._state.actions.append(Flush(number))

    def _holds_frames(self, number: int) -> bool:
        loans = self._state.ledger.of(number)
        return any(piece.work.scope != STREAM for _, loan in loans for piece in loan.units.values())

    def signal(self, signal: Signal) -> None:
        """Tells lanes what they are to look at between two steps."""
        if signal == self._signal:
            return
        before, self._signal = self._signal, signal
        self._state.actions.append(signal)
        if before.paused and not signal.paused:  # after the signal: a lane that still saw it raised will be told
            self._state.actions += [Resume(number) for number in self._lanes]
