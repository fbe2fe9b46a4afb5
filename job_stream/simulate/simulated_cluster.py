"""Ranks of the real engine in virtual time, and what becomes of their messages."""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from ..engine import messages as m
from ..engine.backlog import Part
from ..engine.capture import State
from ..engine.rank import Rank
from .cases import Case, case_of, host_of
from .functions import Values
from .story import line_of
from .workers import SimulatedKeeper, SimulatedLane

__all__ = ["SimulatedCluster", "for_rank"]

EVENTS_MOST = 400_000


class SimulatedCluster:
    """Ranks, their lanes and keepers, and the messages under way.

    Args:
        seed: of everything that is left to chance.
        case: what is run; by default what the seed stands for.
        tell: takes a line for each message and each death.
    """

    def __init__(self, seed: int, case: Case | None = None, tell: Callable[[str], None] | None = None) -> None:
        self.case = case = case or case_of(seed)
        self._tell = tell
        self.chance = random.Random(seed + 1)
        self.plan = case.plan
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.results: list[int] = []
        self._saved: tuple[State | None, list[int]] = (None, [])
        self._crashes = list(case.crashes)
        self._start(case.size, case.lanes, case.rank_deaths)

    def _start(self, size: int, lanes: int, rank_deaths: tuple[tuple[float, int], ...]) -> None:
        """Starts ranks that go on from what was saved last."""
        state, taken = self._saved
        self.results, self._undelivered = list(taken), deque[list[int]]()
        self.dead: set[int] = set()
        self._heap: list[tuple[float, int, int, Any]] = []
        self._sequence = 0
        self._news_of_pauses = 0
        self._arrivals: dict[tuple[int, int], float] = {}
        self._handled = self.now
        self._lanes_of = (lanes,) * size
        self.ranks = self._new_ranks(self._lanes_of, state)
        self._lanes: list[dict[int, SimulatedLane]] = [{} for _ in self.ranks]
        self._keepers = [SimulatedKeeper(self.plan) for _ in self.ranks]
        self._keeper_free = [0.0] * size
        for number in range(size):
            self._later(self.chance.random() * 0.01, number, m.Nothing())
        for time, number in rank_deaths:
            self._later(time, number, "die")
        self._plot_crash()

    def _new_ranks(self, lanes_of: tuple[int, ...], state: State | None) -> list[Rank]:
        case = self.case
        self._left = case.items - (state.source.position if state else 0)
        parts = (Part(None if case.pulled else case.items, counted=case.counted and not case.pulled),)
        hosts_of = tuple(host_of(number) for number in range(len(lanes_of)))
        first = Rank(case.plan, parts, lanes_of[0], 0, lanes_of, state, hosts_of)
        return [first, *(Rank(case.plan, (), lanes, 1 + number, lanes_of) for number, lanes in enumerate(lanes_of[1:]))]

    def _plot_crash(self) -> None:
        """Has the state saved, and everything die, at the times that the case names."""
        for time in self.case.saves:
            self._later(time, 0, m.Save())
        for time in self.case.snapshots:
            self._later(time, 0, "snapshot")
        if self._crashes:
            self._later(self._crashes[0].after, 0, "crash")

    def _crash(self) -> None:
        """Everything dies; other ranks go on."""
        self.counts["crashes"] += 1
        self.counts["resumed"] += self._saved[0] is not None
        crash = self._crashes.pop(0)
        self._start(crash.size, crash.lanes, crash.rank_deaths)

    def _save(self, state: State) -> None:
        """What is saved goes on later; results that were taken by now will not come again."""
        undelivered = sum(map(len, self._undelivered))
        self._saved = (state, self.results[: len(self.results) - undelivered])

    def run(self) -> list[int] | str:
        """The results, sorted; or why there are none."""
        while self.counts["events"] <= EVENTS_MOST:
            if not self.step():
                return sorted(self.results) if self.ranks[0].halted else "stuck"
        return "endless"

    def step(self, until_s: float = math.inf) -> bool:
        """Has the next event happen, unless it is over or nothing is to happen before ``until_s``; whether one did."""
        if not self._heap or self.ranks[0].halted or self._heap[0][0] > until_s:
            return False
        self.now, _, number, event = heapq.heappop(self._heap)
        self.counts["events"] += 1
        self._news_of_pauses -= _changes_pauses(event)
        if number not in self.dead:
            self._happen(number, event)
        return True

    def happen(self, number: int, event: Any, at_s: float) -> None:
        """Has an event happen to a rank at a time that has come."""
        self.now = at_s
        self._happen(number, event)

    def _happen(self, number: int, event: Any) -> None:
        if event == "die":
            self._die(number)
        elif event == "crash":
            self._crash()
        elif event == "snapshot":
            self.counts["snapshots"] += 1
            self._save(self.ranks[0].capture())
        elif type(event) is tuple:
            self._lane_worked(number, *event)
        else:
            self._handle(number, event)

    def _later(self, delay: float, number: int, event: Any) -> None:
        self._sequence += 1
        self._news_of_pauses += _changes_pauses(event)
        heapq.heappush(self._heap, (self.now + delay, self._sequence, number, event))

    def _die(self, number: int) -> None:
        self.dead.add(number)
        if self._tell:
            self._tell(f"{self.now * 1000:7.2f} ms  rank {number} dies")
        self.counts["rank deaths"] += 1
        for other in range(len(self.ranks)):
            if other not in self.dead:
                soonest = self._arrivals.get((number, other), 0.0) - self.now
                self._later(max(soonest, 0.0) + self.chance.random() * 0.05, other, m.RankLost(number))

    def _handle(self, number: int, event: m.Event) -> None:
        rank = self.ranks[number]
        if type(event) is m.ResultsTaken:
            self._undelivered.popleft()
        for action in rank.handle(event, self.now):
            self._perform(number, action)
        if rank.deadline is not None and not rank.halted:
            self._later(max(rank.deadline - self.now, 0.0) + 1e-6, number, m.Nothing())
        if not (self._news_of_pauses or self.ranks[0].full or self.ranks[0].halted):
            self._check_pauses()

    def _check_pauses(self) -> None:
        """Results do not pile up, and everybody has heard so: nobody may pause."""
        paused = [number for number, rank in enumerate(self.ranks) if rank.paused and number not in self.dead]
        if paused:
            raise AssertionError(f"ranks {paused} pause, and nobody is full")

    def _perform(self, number: int, action: m.Action) -> None:
        if isinstance(action, m.Send):
            self._send(number, action)
        elif isinstance(action, m.StartLane):
            self._lanes[number][action.lane] = SimulatedLane(self.case, self.chance, number)
        elif isinstance(action, m.Lend):
            lane = self._lanes[number][action.lane]
            lane.inbox.append(action)
            self._lane_goes(number, action.lane, lane)
        elif isinstance(action, m.Resume):
            self._resume(number, action.lane, self._lanes[number][action.lane])
        elif isinstance(action, m.TakeBack):
            lane = self._lanes[number][action.lane]
            taken, lane.inbox = lane.inbox, []
            self._later(0.0, number, m.Returned(action.lane, tuple(lend.loan for lend in taken)))
        elif isinstance(action, m.Flush):
            self._later(1e-4, number, (action.lane, "flush"))
        elif isinstance(action, m.Call):
            self._keeper_free[number] = max(self._keeper_free[number], self.now) + self.chance.random() * 1e-3
            self._later(self._keeper_free[number] - self.now, number, self._keepers[number].answer(action))
        elif isinstance(action, m.Deliver):
            self._deliver(action)
        elif isinstance(action, m.Saved):
            self.counts["Saved"] += 1
            if self._tell:
                self._tell(f"{self.now * 1000:7.2f} ms  0 saves {len(action.state.pieces)} pieces")
            self._save(action.state)
        elif isinstance(action, m.Pull):
            self._pull(action.items)
        elif isinstance(action, m.Stalled):
            raise AssertionError(f"all ranks stand still; rank {number}: {action.story}")

    def _deliver(self, action: m.Deliver) -> None:
        """One delivery is handled after the other."""
        self.results += action.payload.values
        self._undelivered.append(action.payload.values)
        if self._tell:
            self._tell(f"{self.now * 1000:7.2f} ms  0 delivers {len(action.payload.values)}")
        self._handled = max(self.now + self.chance.random() * 2 * self.case.handler_s, self._handled + 1e-9)
        self._later(self._handled - self.now, 0, m.ResultsTaken(action.count, action.payload.nbytes))

    def _pull(self, items: int) -> None:
        start = self.case.items - self._left
        count = min(items, self._left)
        self._left -= count
        chunks = ((count, Values(list(range(start, start + count)))),) if count else ()
        self._later(self.chance.random() * 1e-3, 0, m.SourceGave(chunks, self._left == 0))

    def _send(self, number: int, action: m.Send) -> None:
        message = action.message
        self.counts[type(message).__name__] += 1
        if type(message) is m.Lend:
            units = tuple((name, for_rank(work, self.case.counted)) for name, work in message.units)
            message = message._replace(units=units)
            self.counts["pieces lent"] += len(message.units)
        elif type(message) is m.Repaid:
            self.counts["frames handed home"] += sum(type(product) is m.Open for product in message.products)
        if self._tell:
            self._tell(f"{self.now * 1000:7.2f} ms  {number} -> {action.rank}  {line_of(self.plan, message)}")
        pair = (number, action.rank)
        delay = self.chance.random() * self.chance.choice([1e-4, 1e-3, 2e-2])
        arrival = max(self.now + delay, self._arrivals.get(pair, 0.0) + 1e-9)
        self._arrivals[pair] = arrival
        self._later(arrival - self.now, action.rank, m.Heard(number, message))

    def _resume(self, number: int, name: int, lane: SimulatedLane) -> None:
        """A lane that has handed over much goes on with what it has kept, or with its next parcel."""
        if not lane.is_waiting:
            raise AssertionError(f"lane {name} of rank {number} is told to go on, and does not wait")
        self.counts["resumes"] += 1
        lane.is_waiting = False
        if lane.working is not None:
            self._later(self.chance.expovariate(1) * 2e-3, number, (name, lane.working))
        self._lane_goes(number, name, lane)

    def _lane_goes(self, number: int, name: int, lane: SimulatedLane) -> None:
        if lane.working is None and lane.inbox and not lane.is_waiting:
            lane.working = lane.inbox.pop(0)
            self._check_cores(number)
            slow = self.case.slow.get(number, 1.0)
            self._later(self.chance.expovariate(1) * 2e-3 * slow, number, (name, lane.working))

    def _check_cores(self, number: int) -> None:
        """What runs on a host needs no more cores than that has."""
        ranks = [rank for rank in range(number % 2, len(self.ranks), 2) if rank not in self.dead]
        busy = [lane.working for rank in ranks for lane in self._lanes[rank].values() if lane.working is not None]
        cores = sum(work.needs[1] for lend in busy for _, work in lend.units[:1] if work.needs)
        has = sum(self._lanes_of[rank] for rank in range(number % 2, len(self.ranks), 2))
        self.counts["allotted"] += cores > 0
        if cores > has:
            raise AssertionError(f"{cores} cores are needed on the host of rank {number}, which has {has}")

    def _lane_worked(self, number: int, name: int, lend: Any) -> None:
        lane = self._lanes[number].get(name)
        if lane is None:
            return
        if lend == "flush":
            if lane.is_waiting:
                self._later(1e-3, number, (name, "flush"))
            elif lane.retained:
                self._handle(number, lane.repay(name, lane.retained[-1][0]))
            return
        if lane.working is None or lend is not lane.working:
            return
        if self.chance.random() < self.case.lane_deaths:
            del self._lanes[number][name]
            self.counts["lane deaths"] += 1
            self._handle(number, m.LaneLost(name, 0, 0, 0, "chance"))
            return
        repaid, lane.working = lane.finish(name, lane.working)
        if lane.working is not None and not lane.is_waiting:
            self._later(self.chance.expovariate(1) * 2e-3, number, (name, lane.working))
        self._handle(number, repaid)
        if name in self._lanes[number]:
            self._lane_goes(number, name, lane)


def _changes_pauses(event: Any) -> bool:
    """Whether this may begin or end a pause of the rank that hears it."""
    return isinstance(event, m.RankLost) or (isinstance(event, m.Heard) and type(event.message) is m.Pause)


def for_rank(work: m.WorkBatch, counted: bool) -> m.WorkBatch:
    """Work for another rank, which does not have the source: its values, or the numbers that it consists of."""
    payload = work.payload
    if type(payload) is not m.SourceSlice:
        return work
    if counted:
        return work._replace(payload=m.RangeSlice(payload.start * 3, payload.stop * 3, 3))
    return work._replace(payload=Values(list(range(payload.start, payload.stop))))
