"""What the engine needs for a parcel where a rank has hundreds of lanes, on a machine that has not: the engine is real,
and its lanes exist in simulated time only."""

import gc
import heapq
from collections import deque
from time import thread_time
from typing import Any

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.rank import Rank
from job_stream.stream.plan import Builder, Kind, Plan, Stage

ITEM_S = 1e-3
FORK_S = 1e-3
ITEMS_PER_LANE = 400


def plan_of_one_job() -> Plan:
    builder = Builder()
    builder.add(Stage(Kind.JOB, "job", abs))
    return builder.plan()


class SimulatedLanes:
    """A rank and its lanes, which take as long as their items do, in simulated time.

    Attributes:
        parcels: how many have been lent.
        cpu_s: what ``Rank.handle`` has taken of this machine.
    """

    def __init__(self, lanes: int) -> None:
        self.rank = Rank(plan_of_one_job(), (Part(lanes * ITEMS_PER_LANE),), lanes)
        self.parcels = 0
        self.cpu_s = 0.0
        self._now = 0.0
        self._order = 0
        self._events: list[tuple[float, int, Any]] = []
        self._inboxes: dict[int, deque[m.Lend]] = {}

    def run(self) -> None:
        self._take(m.Nothing())
        while not self.rank.halted:
            deadline = self.rank.deadline
            if deadline is not None and (not self._events or deadline < self._events[0][0]):
                self._now = max(self._now, deadline)
                self._take(m.Nothing())
                continue
            self._now, _, event = heapq.heappop(self._events)
            if type(event) is m.Repaid:
                self._begin_next(event.lane)
            self._take(event)

    def _take(self, event: Any) -> None:
        begin = thread_time()
        actions = self.rank.handle(event, self._now)
        self.cpu_s += thread_time() - begin
        for action in actions:
            if type(action) is m.Lend:
                self._lent(action)
            elif type(action) is m.StartLane:
                self._later(FORK_S, m.LaneForked(action.lane))
            elif type(action) is m.TakeBack:
                self._taken_back(action.lane)

    def _lent(self, lend: m.Lend) -> None:
        self.parcels += 1
        inbox = self._inboxes.setdefault(lend.lane, deque())
        inbox.append(lend)
        if len(inbox) == 1:
            self._begin(lend)

    def _begin(self, lend: m.Lend) -> None:
        seconds = sum(work.count for _, work in lend.units) * ITEM_S
        samples = tuple((work.place, work.count, work.count * ITEM_S) for _, work in lend.units)
        names = tuple(name for name, _ in lend.units)
        self._later(seconds, m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), samples=samples))

    def _begin_next(self, lane: int) -> None:
        inbox = self._inboxes[lane]
        inbox.popleft()
        if inbox:
            self._begin(inbox[0])

    def _taken_back(self, lane: int) -> None:
        inbox = self._inboxes[lane]
        loans = [inbox.pop().loan for _ in range(len(inbox) - 1)]
        self._later(0.0, m.Returned(lane, tuple(loans)))

    def _later(self, seconds: float, event: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (self._now + seconds, self._order, event))


def cpu_s_per_parcel(lanes: int) -> float:
    """CPU seconds that the engine takes for each parcel, all events that it leads to included."""
    simulated = SimulatedLanes(lanes)
    gc.collect()
    simulated.run()
    return simulated.cpu_s / simulated.parcels
