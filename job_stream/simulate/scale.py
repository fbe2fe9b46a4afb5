"""How the engine does on thousands of ranks: simulated time, but the real engine and what it really takes.

Each rank has one engine thread, which takes one event after the other. An event takes what ``Rank.handle`` takes on
this machine while the simulation runs, and what receiving and sending its messages takes (``ScaleCosts``, measured with
real ranks). Messages wait for the receiver to look for them, as MPI wakes nobody. Lanes take exactly as long as their
items. Memory bandwidth, the network's and other users are not simulated: figures are upper bounds of what a good
cluster does, and are to be labelled as simulated.

Two loads: ``flat``, many items of 1 ms in a reduction; ``tree``, one item that fans out into very uneven branches.

Example:
    python -m job_stream.simulate.scale --ranks 1024 --items 1000 --load tree
"""

from __future__ import annotations

import argparse
import gc
import heapq
import random
import sys
from collections import Counter, deque
from collections.abc import Callable
from time import thread_time
from typing import Any, NamedTuple

from ..engine import messages as m
from ..engine.backlog import Part
from ..engine.polling import CALM_S, HOT_PAUSE_S, pause_between_looks
from ..engine.rank import Rank
from .loads import LOADS, Load
from .steppers import Counted, Stepper

__all__ = ["ScaleCosts", "ScaleReport", "measure"]


class ScaleCosts(NamedTuple):
    """Seconds, as measured between real ranks on one host.

    Attributes:
        send, receive: of the engine thread for a message to or from another rank.
        lend, repaid: the same for a lane.
        start: until a lane has been forked.
        parcel: of a lane for a parcel, besides its items.
        wire: from one rank to another.
        merge: of a store in the keeper.
    """

    send: float = 60e-6
    receive: float = 60e-6
    lend: float = 40e-6
    repaid: float = 40e-6
    start: float = 3e-3
    parcel: float = 150e-6
    wire: float = 20e-6
    merge: float = 100e-6


NEVER = float("inf")
LOOK_S = 5e-5
"""A look itself."""


class ScaleReport(NamedTuple):
    """What came of a simulated run.

    Attributes:
        ranks, items: how many.
        efficiency: time in items, over ranks and the time until rank 0 knew the end.
        makespan_s: that time.
        messages: sent per rank, on average.
        root_load: share of that time in which rank 0's engine thread was busy.
        root_messages: that rank 0 sent and received until then.
        notice_s: from the end of the last item until rank 0 knew.
        engine_s: what an event took in ``Rank.handle``, on average.
    """

    ranks: int
    items: int
    efficiency: float
    makespan_s: float
    messages: float
    root_load: float
    root_messages: int
    notice_s: float
    engine_s: float


class Scale:
    """A run on many ranks of one lane each.

    Args:
        ranks: how many.
        load: the work.
        item_s: how long an item takes.
        costs: of messages.
    """

    def __init__(self, ranks: int, load: Load, item_s: float, costs: ScaleCosts) -> None:
        self.load, self.item_s, self.costs = load, item_s, costs
        self.chance = random.Random(ranks)
        self.now = self.engine_time = self.end = self.root_busy = 0.0
        self.root_messages = 0
        self.counts: Counter[str] = Counter()
        parts = (Part(load.source, counted=True),)
        lanes_of = (1,) * ranks
        self.ranks = [Rank(load.plan, parts if i == 0 else (), 1, i, lanes_of) for i in range(ranks)]
        self.lanes: list[dict[int, Stepper]] = [{} for _ in range(ranks)]
        self.inboxes: list[deque[Any]] = [deque() for _ in range(ranks)]
        self.unseen: list[deque[Any]] = [deque() for _ in range(ranks)]
        self.looked = [0.0] * ranks
        self.free = [0.0] * ranks
        self.last_heard = [0.0] * ranks
        self.busy = [0.0] * ranks
        self.sent = [0] * ranks
        self.received = [0] * ranks
        self.wanted = [False] * ranks
        self.deadlines = [NEVER] * ranks
        self.awakes = [NEVER] * ranks
        self.keeper_free = [0.0] * ranks
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        for number in range(ranks):
            self._post(number, m.Nothing(), self.chance.random() * 1e-3)

    @property
    def parcel_s(self) -> float:
        return self.costs.parcel

    def run(self) -> ScaleReport:
        gc.disable()  # what it collects here is not what a rank would
        try:
            while not self.ranks[0].halted:
                self.now, _, function, arguments = heapq.heappop(self._heap)
                function(*arguments)
        finally:
            gc.enable()
        return self._report()

    def _report(self) -> ScaleReport:
        ranks, end = len(self.ranks), self.end
        lanes = [lane for lanes in self.lanes for lane in lanes.values()]
        done, last = sum(lane.done for lane in lanes), max(lane.last for lane in lanes)
        events = self.counts["events"]
        return ScaleReport(
            ranks, done, done * self.item_s / (end * ranks), end, sum(self.sent) / ranks,
            self.root_busy / end, self.root_messages, end - last, self.engine_time / events,
        )  # fmt: skip

    def at(self, time: float, function: Callable[..., None], *arguments: Any) -> None:
        """Has something happen at a time."""
        self._sequence += 1
        heapq.heappush(self._heap, (time, self._sequence, function, arguments))

    # engine threads ---------------------------------------------------------------------------------------------------

    def _post(self, number: int, event: m.Event, delay: float = 0.0) -> None:
        self.at(self.now + delay, self.arrive, number, event)

    def arrive(self, number: int, event: m.Event) -> None:
        """Something has come for the engine thread of a rank."""
        is_heard = type(event) is m.Heard
        (self.unseen if is_heard else self.inboxes)[number].append(event)
        start = max(self.now, self.free[number])
        self._wake(number, start + self._poll_policy(number, start) if is_heard else start)

    def _poll_policy(self, number: int, time: float) -> float:
        """How long a message lies there until the engine thread looks for it, unless another event wakes the thread."""
        rank = self.ranks[number]
        calm, awaits = self._is_calm(rank), bool(rank.debtors) and not rank.busy
        pause = pause_between_looks(time - self.last_heard[number], calm, rank.busy, awaits)
        if calm:
            return pause - (time - self.looked[number]) % pause
        return (1.0 if pause == HOT_PAUSE_S else self.chance.random()) * (pause + LOOK_S)

    def _is_calm(self, rank: Rank) -> bool:
        return rank.busy and rank.has_plenty

    def _receive(self, number: int) -> None:
        """Takes up the messages that have come, if it is time to look for them."""
        if not self._is_calm(self.ranks[number]) or self.now >= self.looked[number] + CALM_S - 1e-9:
            self.looked[number] = self.now
            self.inboxes[number] += self.unseen[number]
            self.unseen[number].clear()

    def _wake(self, number: int, time: float) -> None:
        if time < self.awakes[number]:
            self.awakes[number] = time
            self.at(time, self._serve, number, time)

    def _serve(self, number: int, due: float) -> None:
        inbox, rank = self.inboxes[number], self.ranks[number]
        if self.awakes[number] != due:
            return  # it was woken before
        self.awakes[number] = NEVER
        if rank.halted:
            inbox.clear()
            return
        self._receive(number)
        if inbox:
            self._handle(number, rank, inbox.popleft())
        if inbox:
            self._wake(number, self.free[number])
        elif self.unseen[number]:
            self._wake(number, self.free[number] + self._poll_policy(number, self.free[number]))
        self._watch(number, rank)

    def _handle(self, number: int, rank: Rank, event: m.Event) -> None:
        taking = self._cost_of(number, event)
        started = thread_time()
        actions = rank.handle(event, self.now)
        taken = thread_time() - started
        self.engine_time += taken
        self.counts["events"] += 1
        if number == 0 and any(isinstance(action, m.Deliver) for action in actions):
            self._conclude(self.now + taking + taken)
        cost = taking + taken + sum(self._cost_to(action) for action in actions)
        self.busy[number] += cost
        self.free[number] = self.now + cost
        for action in actions:
            self._perform(number, action, self.now + cost)

    def _conclude(self, time: float) -> None:
        """Rank 0 knows the end; telling the others comes after it."""
        self.end = time
        self.root_busy = self.busy[0] + time - self.now
        self.root_messages = self.sent[0] + self.received[0]

    def _watch(self, number: int, rank: Rank) -> None:
        due = rank.deadline
        if due is not None and not rank.halted and not self.deadlines[number] <= due:
            self.deadlines[number] = due
            self.at(max(due, self.now) + 1e-4, self._tick, number)

    def _tick(self, number: int) -> None:
        self.deadlines[number] = NEVER
        self.arrive(number, m.Nothing())

    def _cost_of(self, number: int, event: m.Event) -> float:
        if type(event) is m.Heard:
            self.received[number] += 1
            self.last_heard[number] = self.now
            return self.costs.receive
        return self.costs.repaid if type(event) in (m.Repaid, m.Answered) else 0.0

    def _cost_to(self, action: m.Action) -> float:
        if isinstance(action, m.Send):
            return self.costs.send
        return self.costs.lend if type(action) in (m.Lend, m.Call) else 0.0

    def _perform(self, number: int, action: m.Action, time: float) -> None:
        if isinstance(action, m.Send):
            self._send(number, action, time)
        elif isinstance(action, m.StartLane):
            self.lanes[number][action.lane] = lane = Stepper(action.lane, number, self)
            self.at(time + self.costs.start, lane.go)
        elif isinstance(action, m.Lend):
            lane = self.lanes[number][action.lane]
            lane.inbox.append(action)
            self.at(time, lane.go)
        elif isinstance(action, m.TakeBack):
            lane = self.lanes[number][action.lane]
            taken = [lend.loan for lend in lane.inbox]
            lane.inbox.clear()
            self.at(time, self.arrive, number, m.Returned(action.lane, tuple(taken)))
        elif isinstance(action, m.Signal):
            self.wanted[number] = action.wanted
        elif isinstance(action, m.Call):
            self._keep(number, action, time)

    def _keep(self, number: int, call: m.Call, time: float) -> None:
        seconds = 0.0 if call.kind == m.CallKind.ADOPT.told else self.costs.merge
        self.keeper_free[number] = max(self.keeper_free[number], time) + seconds
        payload = Counted() if call.kind in (m.CallKind.CHECKOUT.told, m.CallKind.COPY.told) else None
        self.at(self.keeper_free[number], self.arrive, number, m.Answered(call.call, (), payload))

    def _send(self, number: int, action: m.Send, time: float) -> None:
        message = action.message
        self.sent[number] += 1
        self.counts[type(message).__name__] += 1
        if type(message) is m.Lend:
            units = tuple((name, work._replace(payload=_ashore(work.payload))) for name, work in message.units)
            message = message._replace(units=units)
        self.at(time + self.costs.wire, self.arrive, action.rank, m.Heard(number, message))


def _ashore(payload: m.Payload) -> m.Payload:
    return m.RangeSlice(payload.start, payload.stop, 1) if type(payload) is m.SourceSlice else payload


def measure(
    ranks: int, items: int, load: str = "flat", item_s: float = 1e-3, costs: ScaleCosts = ScaleCosts()  # noqa: B008
) -> ScaleReport:
    """Simulates ``items`` items for each of so many ranks."""
    return Scale(ranks, LOADS[load](ranks * items), item_s, costs).run()


def main(arguments: list[str] | None = None) -> int:
    """Prints a report for each number of ranks."""
    parser = argparse.ArgumentParser(prog="python -m job_stream.simulate.scale", description="Simulate many ranks.")
    parser.add_argument("--ranks", type=int, nargs="+", default=[64, 1024], help="how many")
    parser.add_argument("--items", type=int, default=1000, help="items for each rank")
    parser.add_argument("--item-ms", type=float, default=1.0, help="how long an item takes")
    parser.add_argument("--load", choices=sorted(LOADS), default="flat")
    given = parser.parse_args(arguments)
    for ranks in given.ranks:
        report = measure(ranks, given.items, given.load, given.item_ms / 1000)
        print(
            f"simulated, {given.load}, {ranks} ranks: efficiency {report.efficiency:.3f}, {report.makespan_s:.3f} s, "
            f"{report.messages:.1f} messages a rank, rank 0 busy {report.root_load:.0%} with {report.root_messages} "
            f"messages, end noticed after {report.notice_s * 1000:.1f} ms, {report.engine_s * 1e6:.0f} us an event"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
