"""The lanes of a rank: how busy they are, whom to lend to next, and when they are asked for what they hold.

There may be hundreds, and each event concerns one of them. So nothing that is done at every event goes through all:
lanes are sorted by how much they have to do whenever that changes.
"""

from __future__ import annotations

from itertools import islice

from .forecast import Forecast
from .growth import Growth
from .ledger import Piece
from .messages import Flush, Lend, Resume, Signal, StartLane, TakeBack
from .priorities import Lowest
from .rank_state import RankState
from .scopes import STREAM

__all__ = ["LOANS_PER_LANE", "LaneTable"]

LOANS_PER_LANE = 2


class _LaneEntry:
    """What the rank knows of a lane."""

    __slots__ = ("computed", "flushing", "processes", "running", "taking_back")

    def __init__(self, processes: bool) -> None:
        self.processes = processes
        self.running = 0
        self.computed = 0
        self.flushing = False
        self.taking_back = False


class _Lanes:
    """The lanes of one kind, by how much they have to do.

    Attributes:
        started: how many there are.
        idle: those with nothing to do.
        single: those with one parcel.
        deep: those with more, which may be asked to give one back; who has been so for longest comes first.
        awaited: those that have been asked, and have not answered.
        framed: idle ones with frames in what they have computed.
        stored: idle ones that have computed something else.
        growth: how many there may be.
    """

    def __init__(self, most: int) -> None:
        self.started = 0
        self.idle = Lowest()
        self.single = Lowest()
        self.deep: dict[int, None] = {}
        self.awaited: set[int] = set()
        self.framed: set[int] = set()
        self.stored: set[int] = set()
        self.growth = Growth(most)

    def forget(self, number: int) -> None:
        """Takes a lane out of all that it may be in, but for ``awaited``."""
        self.idle.discard(number)
        self.single.discard(number)
        self.deep.pop(number, None)
        self.framed.discard(number)
        self.stored.discard(number)

    def file(self, number: int, lane: _LaneEntry) -> None:
        """Puts a lane where it belongs, whatever it was before; what an idle one has computed is not looked at."""
        self.forget(number)
        if not lane.running:
            self.idle.add(number)
        elif lane.running == 1:
            self.single.add(number)
        elif not lane.taking_back:
            self.deep[number] = None

    @property
    def starved(self) -> int:
        """How many more could do with work at once: that have nothing, or may be started."""
        return len(self.idle) + self.growth.room(self.started)


class LaneTable:
    """All lanes that have been started and live.

    Args:
        state: of the rank.
        alone: there are no other ranks.

    Attributes:
        running: how many parcels are with lanes.
    """

    def __init__(self, state: RankState, alone: bool = True) -> None:
        self.running = 0
        self._state = state
        self._lanes: dict[int, _LaneEntry] = {}
        self._kinds = {processes: _Lanes(state.lanes) for processes in state.kinds}
        self._forecast = None if alone else Forecast(state.costs)
        self._pins = any(place.primary or place.allotted for place in state.plan.places)
        self._allots = any(place.allotted for place in state.plan.places)
        self._last = 0
        self._awaiting: dict[int, None] = {}
        self._signal = Signal(False, False)

    def __contains__(self, lane: int) -> bool:
        return lane in self._lanes

    # lending ----------------------------------------------------------------------------------------------------------

    def idlest(self, processes: bool, depth: int) -> int | None:
        """The lane to lend to: an idle one, a new one, or one with room for one more of ``depth`` parcels."""
        lanes = self._kinds[processes]
        number = lanes.idle.first
        if number is not None:
            return number
        if lanes.started < self._state.lanes and self._is_worth_one_more(processes, lanes):
            return self._start(processes, lanes)
        return lanes.single.first if depth > 1 else None

    def _is_worth_one_more(self, processes: bool, lanes: _Lanes) -> bool:
        if lanes.growth.room(lanes.started):
            return True
        return lanes.growth.is_worth(lanes.started, self._state.seconds_for(processes))

    def _start(self, processes: bool, lanes: _Lanes) -> int:
        self._last += 1
        lane = self._lanes[self._last] = _LaneEntry(processes)
        lanes.started += 1
        lanes.growth.starts(self._last, self._state.now)
        if not processes:
            lanes.growth.heard_of(self._last, self._state.now)  # a thread is there at once
        lanes.file(self._last, lane)
        self._state.actions.append(StartLane(self._last, processes))
        return self._last

    def lend(self, number: int, pieces: list[Piece]) -> None:
        loan = self._state.ledger.lend(number, pieces)
        lane = self._lanes[number]
        if self._forecast is not None:
            self._forecast.lent(number, pieces, lane.running > 0, self._state.now)
        if self._allots:
            self._state.hold(pieces)
        lane.running += 1
        self.running += 1
        self._kinds[lane.processes].file(number, lane)
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._state.actions.append(Lend(number, loan, units, pieces[0].one_by_one))

    @property
    def idle_at(self) -> float | None:
        """When the next lane will have nothing to do, if it is known and not long past; None: it is not."""
        return None if self._forecast is None else self._forecast.idle_at(self._state.now)

    @property
    def left(self) -> float:
        """About how many seconds of work lanes hold, where other ranks are told of that."""
        return 0.0 if self._forecast is None else self._forecast.left(self._state.now)

    def look(self) -> None:
        """Takes in that time has passed: there may be more lanes by now."""
        for lanes in self._kinds.values():
            lanes.growth.look(lanes.started, len(lanes.idle), self._state.now)

    @property
    def deadline(self) -> float | None:
        """When there may be more lanes."""
        deadlines = [lanes.growth.deadline for lanes in self._kinds.values()]
        return min((due for due in deadlines if due is not None), default=None)

    # news of lanes ----------------------------------------------------------------------------------------------------

    def forked(self, number: int) -> None:
        """A lane that was started is there."""
        lane = self._lanes.get(number)
        if lane is not None:
            self._kinds[lane.processes].growth.heard_of(number, self._state.now)

    def repaid(self, number: int) -> None:
        """A lane has said what became of a parcel."""
        self._lanes[number].taking_back = False
        self._recount(number)

    def _recount(self, number: int) -> None:
        lane, loans = self._lanes[number], self._state.ledger.of(number)
        running = [loan for _, loan in loans if loan.running]
        self.running += len(running) - lane.running
        lane.running = len(running)
        if self._forecast is not None:
            self._forecast.has_left(number, running, self._state.now)
        lane.computed = len(loans) - lane.running
        lane.flushing = lane.flushing and lane.computed > 0
        self._file(number, lane)

    def _file(self, number: int, lane: _LaneEntry) -> None:
        lanes = self._kinds[lane.processes]
        lanes.growth.heard_of(number, self._state.now)
        lanes.file(number, lane)
        if lane.computed and not (lane.running or lane.flushing):
            (lanes.framed if self._holds_frames(number) else lanes.stored).add(number)

    def awaits(self, number: int) -> None:
        """A lane waits until it is told to go on."""
        if number in self._lanes:
            self._awaiting[number] = None

    def resume(self) -> None:
        """Has all lanes go on that wait for that."""
        for number in self._awaiting:
            self._state.actions.append(Resume(number))
        self._awaiting.clear()

    def returned(self, number: int, loans: tuple[int, ...]) -> None:
        """Parcels were taken back out of a lane's inbox."""
        for loan in loans:
            self._state.give_back(list(self._state.ledger.drop(loan).units.values()))
        lane = self._lanes[number]
        lane.taking_back = not loans
        self._kinds[lane.processes].awaited.discard(number)
        self._recount(number)

    def died(self, number: int) -> None:
        lane = self._lanes.pop(number)
        self._awaiting.pop(number, None)
        lanes = self._kinds[lane.processes]
        lanes.started -= 1
        lanes.growth.heard_of(number, self._state.now)
        lanes.forget(number)
        lanes.awaited.discard(number)
        self.running -= lane.running
        if self._forecast is not None:
            self._forecast.died(number)

    # asking for what lanes hold ---------------------------------------------------------------------------------------

    def serve_hungry(self, available: dict[bool, bool], wanted: bool) -> bool:
        """Whether somebody could do with work that lanes have; asks for it back.

        Args:
            available: whether there is work that waits, for both kinds of lanes.
            wanted: other ranks wait for work.
        """
        hungry = False
        for processes, lanes in self._kinds.items():
            self._flush(lanes)
            starved = lanes.starved
            is_busy = lanes.started > len(lanes.idle)
            if not is_busy or available[processes] or not (starved or wanted):
                continue
            hungry = True
            if wanted:
                self._take_back(lanes, [number for number in lanes.deep if starved or self._may_leave(number)])
            else:  # no more than can be used, or parcels would go to and fro
                self._take_back(lanes, list(islice(lanes.deep, max(starved - len(lanes.awaited), 0))))
        return hungry

    def _may_leave(self, number: int) -> bool:
        """Whether another rank could do anything of what a lane has been lent, and has not begun."""
        if not self._pins:
            return True
        places = self._state.plan.places
        running = [loan for _, loan in self._state.ledger.of(number) if loan.running]
        waiting = (places[piece.work.place] for loan in running[1:] for piece in loan.units.values())
        return any(not (place.primary or place.allotted) for place in waiting)

    def _take_back(self, lanes: _Lanes, numbers: list[int]) -> None:
        for number in numbers:
            self._lanes[number].taking_back = True
            del lanes.deep[number]
            lanes.awaited.add(number)
            self._state.actions.append(TakeBack(number))

    def _flush(self, lanes: _Lanes) -> None:
        """Asks idle lanes for what they have computed, unless more of the same may still come."""
        asked = lanes.framed | lanes.stored if self._state.source.exhausted else lanes.framed
        for number in sorted(asked):
            lanes.framed.discard(number)
            lanes.stored.discard(number)
            self._ask_for_computed(number, self._lanes[number])

    def _ask_for_computed(self, number: int, lane: _LaneEntry) -> None:
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
        for lanes in self._kinds.values():
            lanes.awaited.clear()
        for number, lane in self._lanes.items():
            lane.flushing = lane.taking_back = False
            self._file(number, lane)

    def flush_all(self) -> None:
        """Asks all lanes for what they have computed."""
        for number, lane in self._lanes.items():
            if lane.computed and not lane.flushing:
                self._ask_for_computed(number, lane)
                self._file(number, lane)

    def _holds_frames(self, number: int) -> bool:
        loans = self._state.ledger.of(number)
        return any(piece.work.scope != STREAM for _, loan in loans for piece in loan.units.values())

    def signal(self, signal: Signal) -> None:
        """Tells lanes what they are to look at between two steps."""
        if signal != self._signal:
            self._signal = signal
            self._state.actions.append(signal)
