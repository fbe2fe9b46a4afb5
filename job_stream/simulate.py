"""Many ranks of the real engine in one process and in virtual time, from one seed.

A random plan is run by a random number of ranks, whose lanes and keepers are simulated: they hand work back, keep
stores, report what is left, and die; messages between two ranks keep their order and take any time; ranks die. What
comes out is compared with a serial interpreter of the same plan. A failure prints the command that replays it.

Example:
    python -m job_stream.simulate --seeds 2000
"""

from __future__ import annotations

import argparse
import heapq
import random
import sys
from collections import Counter
from typing import Any, NamedTuple

from .engine import messages as m
from .engine.backlog import Part
from .engine.rank import Rank
from .plan import Builder, Kind, Place, Plan, Stage

__all__ = ["Case", "Cluster", "main", "serial"]

EVENTS_MOST = 400_000


# user code: functions of their input and of nothing else --------------------------------------------------------------


def mix(*values: Any) -> int:
    """A number that depends on all the others."""
    state = 0x9E3779B9
    for value in values:
        state = (state ^ int(value)) * 0x85EBCA6B & 0xFFFFFFFFFFFF
        state ^= state >> 17
    return state & 0xFFFFFFFF


class Values:
    """A payload of the simulation."""

    nbytes = 64

    def __init__(self, values: list[Any]) -> None:
        self.values = values


class Store(NamedTuple):
    """A store of a frame or of a reduction; it is never changed, so copies are free."""

    first: int = 0
    rounds: int = 0
    total: int = 0
    count: int = 0  # type: ignore[assignment]
    seen: frozenset[int] = frozenset()


def jobOutputs(place: Place, value: int) -> list[int]:
    return [mix(place.number, value, 7, i) for i in range(mix(place.number, value, 1) % 3)]


def frameBegin(place: Place, store: Store) -> tuple[Store, list[int]]:
    """What a frame recurs at the begin of a round; nothing: it ends."""
    if store.rounds >= mix(place.number, store.first, 3) % 3:
        return store, []
    store = store._replace(rounds=store.rounds + 1)
    return store, [mix(place.number, store.first, store.rounds, i) for i in range(1 + mix(store.first, 5) % 4)]


def frameTake(plan: Plan, end: Place, store: Store, value: int) -> tuple[Store, list[int]]:
    """``frameEnd``: recurs some values once, unless the frame holds a reduction, which would make that a matter of
    timing."""
    store = store._replace(total=(store.total + value) & 0xFFFFFFFF, count=store.count + 1)
    if value % 11 or value in store.seen or len(plan.bodies[end.body].segments) > 1:
        return store, []
    return store._replace(seen=store.seen | {value}), [mix(end.number, value)]


def frameEmit(place: Place, store: Store) -> int:
    return mix(place.number, store.first, store.total, store.count)


def foldTake(store: Store, value: int) -> tuple[Store, list[int]]:
    store = store._replace(total=(store.total + value) & 0xFFFFFFFF, count=store.count + 1)
    return store, [mix(value, 13)] if value % 13 == 0 else []


def merged(store: Store, other: Store) -> Store:
    return store._replace(total=(store.total + other.total) & 0xFFFFFFFF, count=store.count + other.count)


def foldEmit(place: Place, store: Store) -> int:
    return mix(place.number, store.total, store.count)


# the oracle -----------------------------------------------------------------------------------------------------------


def serial(plan: Plan, body: int, values: list[int]) -> list[int]:
    """What leaves a body that these values enter, in no particular order."""
    for segment in plan.bodies[body].segments:
        if not segment.folds:
            return [out for value in values for out in through(plan, segment.first, segment.last, value)]
        store, entered = Store(), bool(values)
        while values:
            for out in through(plan, segment.first, segment.last, values.pop()):
                store, again = foldTake(store, out)
                values += again
        values = [foldEmit(plan.places[segment.last], store)] if entered or body == 0 else []
    raise AssertionError("a body ends with a segment that does not fold")


def through(plan: Plan, first: int, last: int, value: int) -> list[int]:
    values = [value]
    for number in range(first, last):
        place = plan.places[number]
        if place.kind == Kind.FRAME:
            values = [frameEmit(place, loop(plan, place, Store(first=value))) for value in values]
        else:
            values = [out for value in values for out in jobOutputs(place, value)]
    return values


def loop(plan: Plan, place: Place, store: Store) -> Store:
    """A frame to its end."""
    end = plan.places[plan.bodies[place.inner].end]
    store, values = frameBegin(place, store)
    while values:
        recurred: list[int] = []
        for value in serial(plan, place.inner, values):
            store, again = frameTake(plan, end, store, value)
            recurred += again
        values = recurred
        if not values:
            store, values = frameBegin(place, store)
    return store


# a lane and a keeper --------------------------------------------------------------------------------------------------


class Lane:
    """Does units, and leaves some of the work to others."""

    def __init__(self, plan: Plan, chance: random.Random) -> None:
        self.plan = plan
        self.chance = chance
        self.inbox: list[m.Lend] = []
        self.retained: list[tuple[int, tuple[int, ...]]] = []
        self.folds: dict[tuple[int, int], Store] = {}
        self.working: m.Lend | None = None
        self.products: list[m.Product] = []
        self.last = 0

    def finish(self, number: int, lend: m.Lend) -> tuple[m.Repaid, m.Lend | None]:
        """Repays a parcel, or some of it; the rest stays."""
        units, kept, rest = list(lend.units), [], None
        samples = tuple((work.place, work.count, 1e-3 * work.count) for _, work in units)
        if len(units) == 1 and units[0][1].count > 1 and not lend.careful and self.chance.random() < 0.3:
            ((_, work),) = units
            done = self.chance.randrange(1, work.count)
            self.run(work, self.values(work)[:done])
            left = work._replace(count=work.count - done, skip=work.skip + done)
            self.last += 1
            kept.append((1000 + self.last, left._replace(payload=None)))
            rest = m.Lend(number, lend.loan, ((1000 + self.last, left),))
        else:
            for _, work in units:
                self.run(work, self.values(work))
        names = tuple(name for name, _ in units)
        if self.folds and not self.products and not kept and self.chance.random() < 0.5:
            self.retained.append((lend.loan, names))
            return m.Repaid(number, lend.loan, (), computed=names, samples=samples), None
        return self.repay(number, lend.loan, ((lend.loan, names),), tuple(kept), samples), rest

    def repay(self, number: int, loan: int, closed: Any = (), kept: Any = (), samples: Any = ()) -> m.Repaid:
        folds = [m.Fold(scope, place, Values([store])) for (scope, place), store in self.folds.items()]
        products = (*self.products, *folds)
        closed = (*self.retained, *closed)
        self.retained, self.folds, self.products = [], {}, []
        return m.Repaid(number, loan, closed, products, kept=kept, samples=samples)

    def values(self, work: m.Work) -> list[Any]:
        payload = work.payload
        values = list(range(payload.start, payload.stop)) if type(payload) is m.Span else payload and payload.values
        return values[work.skip :] if values is not None else [Store()]

    def run(self, work: m.Work, values: list[Any]) -> None:
        place = self.plan.places[work.place]
        if work.resume and place.kind == Kind.FOLD:
            self.put(work.scope, place.number + 1, foldEmit(place, values[0]))
            return
        for value in values:
            if work.resume:
                self.frame(work.scope, place, value)
            else:
                self.do(work.scope, place, value)

    def put(self, scope: int, number: int, value: int) -> None:
        """A value arrives at a place: it goes on here, or is handed back."""
        place = self.plan.places[number]
        if place.kind not in (Kind.END, Kind.FOLD) and self.chance.random() < 0.4:
            self.products.append(m.Work(scope, number, 1, Values([value])))
        else:
            self.do(scope, place, value)

    def do(self, scope: int, place: Place, value: int) -> None:
        if place.kind == Kind.JOB:
            for out in jobOutputs(place, value):
                self.put(scope, place.number + 1, out)
        elif place.kind == Kind.FRAME:
            self.frame(scope, place, Store(first=value))
        elif place.kind == Kind.END:
            self.products.append(m.Output(scope, place.number, 1, Values([value])))
        else:
            store, again = foldTake(self.folds.get((scope, place.number), Store()), value)
            self.folds[scope, place.number] = store
            self.products += [m.Work(scope, place.first, 1, Values([one])) for one in again]

    def frame(self, scope: int, place: Place, store: Store) -> None:
        """Runs a frame to its end, or hands it over at the begin of a round."""
        if self.chance.random() < 0.3:
            self.put(scope, place.number + 1, frameEmit(place, loop(self.plan, place, store)))
            return
        store, children = frameBegin(place, store)
        if not children:
            self.put(scope, place.number + 1, frameEmit(place, store))
            return
        self.last += 1
        first = self.plan.bodies[place.inner].segments[0].first
        self.products.append(m.Open(-self.last, scope, place.number, Values([store]), ()))
        if self.plan.places[first].kind == Kind.END:
            self.products.append(m.Output(-self.last, first, len(children), Values(children)))
        else:
            self.products += [m.Work(-self.last, first, 1, Values([child])) for child in children]


class Keeper:
    """Holds stores and answers calls in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stores: dict[tuple[int, int], Store] = {}

    def answer(self, call: m.Call) -> m.Answered:
        place, name = self.plan.places[call.place], call.store
        products: tuple[m.Product, ...] = ()
        payload = None
        if call.kind == "adopt":
            self.stores[name] = call.payload.values[0] if call.payload else Store()
        elif call.kind == "merge":
            self.stores[name] = merged(self.stores[name], call.payload.values[0])
        elif call.kind == "end":
            products = self.end(place, name, call.payload.values)
        else:
            payload = Values([self.stores[name]])
        if call.kind == "checkout":
            del self.stores[name]
        return m.Answered(call.call, products, payload)

    def end(self, place: Place, name: tuple[int, int], values: list[int]) -> tuple[m.Product, ...]:
        recurred: list[int] = []
        for value in values:
            self.stores[name], again = frameTake(self.plan, place, self.stores[name], value)
            recurred += again
        first = self.plan.bodies[place.body].segments[0].first
        kind = m.Output if self.plan.places[first].kind == Kind.END else m.Work
        return tuple(kind(name[0], first, 1, Values([value])) for value in recurred)


# virtual time ---------------------------------------------------------------------------------------------------------


class Case(NamedTuple):
    """What a seed stands for."""

    plan: Plan
    items: int
    pulled: bool
    size: int
    lanes: int
    rankDeaths: tuple[tuple[float, int], ...]
    laneDeaths: float
    slow: dict[int, float]


def caseOf(seed: int) -> Case:
    chance = random.Random(seed)
    builder = Builder()
    for _ in range(chance.randint(0, 2)):
        _addStages(builder, chance, 0)
        builder.add(Stage(Kind.FOLD, "reduce", print))
    _addStages(builder, chance, 0)
    size = chance.choice([1, 2, 3, 4, 9])
    deaths = tuple((chance.random() * 0.2, rank) for rank in range(1, size) if chance.random() < 0.4)
    items, pulled, lanes = chance.choice([0, 1, 5, 40, 150]), chance.random() < 0.3, chance.choice([1, 2, 4])
    slow = {chance.randrange(size): 20.0} if chance.random() < 0.3 else {}
    return Case(builder.plan(), items, pulled, size, lanes, deaths, chance.choice([0.0, 0.0, 0.05]), slow)


def _addStages(builder: Builder, chance: random.Random, depth: int) -> None:
    for _ in range(chance.randint(1, 2)):
        if depth < 2 and chance.random() < 0.35:
            builder.openFrame(Stage(Kind.FRAME, "frame", print))
            if chance.random() < 0.85:
                _addStages(builder, chance, depth + 1)
            if chance.random() < 0.3:
                builder.add(Stage(Kind.FOLD, "reduce", print))
                builder.add(Stage(Kind.JOB, "job", print))
            builder.closeFrame(Stage(Kind.END, "frameEnd", print))
        else:
            builder.add(Stage(Kind.JOB, "job", print))


class Cluster:
    """Ranks, their lanes and keepers, and the messages under way.

    Args:
        seed: of everything that is left to chance.
    """

    def __init__(self, seed: int) -> None:
        self.case = case = caseOf(seed)
        self.chance = random.Random(seed + 1)
        self.plan = case.plan
        self.now = 0.0
        self.counts: Counter[str] = Counter()
        self.results: list[int] = []
        self.dead: set[int] = set()
        self._heap: list[tuple[float, int, int, Any]] = []
        self._sequence = 0
        self._arrivals: dict[tuple[int, int], float] = {}
        self._left = case.items
        parts = (Part(None if case.pulled else case.items),)
        lanesOf = (case.lanes,) * case.size
        self.ranks = [
            Rank(case.plan, parts if number == 0 else (), case.lanes, number, lanesOf) for number in range(case.size)
        ]
        self._lanes: list[dict[int, Lane]] = [{} for _ in self.ranks]
        self._keepers = [Keeper(case.plan) for _ in self.ranks]
        self._keeperFree = [0.0] * case.size
        for number in range(case.size):
            self._later(self.chance.random() * 0.01, number, m.Nothing())
        for time, number in case.rankDeaths:
            self._later(time, number, "die")

    def run(self) -> list[int] | str:
        """The results, sorted; or why there are none."""
        while self._heap and not self.ranks[0].halted:
            self.now, _, number, event = heapq.heappop(self._heap)
            self.counts["events"] += 1
            if self.counts["events"] > EVENTS_MOST:
                return "endless"
            if number in self.dead:
                continue
            if event == "die":
                self._die(number)
            elif type(event) is tuple:
                self._laneWorked(number, *event)
            else:
                self._handle(number, event)
        return sorted(self.results) if self.ranks[0].halted else "stuck"

    def _later(self, delay: float, number: int, event: Any) -> None:
        self._sequence += 1
        heapq.heappush(self._heap, (self.now + delay, self._sequence, number, event))

    def _die(self, number: int) -> None:
        self.dead.add(number)
        self.counts["rank deaths"] += 1
        for other in range(self.case.size):
            if other not in self.dead:
                soonest = self._arrivals.get((number, other), 0.0) - self.now
                self._later(max(soonest, 0.0) + self.chance.random() * 0.05, other, m.RankDied(number))

    def _handle(self, number: int, event: Any) -> None:
        rank = self.ranks[number]
        for action in rank.handle(event, self.now):
            self._perform(number, action)
        if rank.deadline is not None and not rank.halted:
            self._later(max(rank.deadline - self.now, 0.0) + 1e-6, number, m.Nothing())

    def _perform(self, number: int, action: Any) -> None:
        kind = type(action)
        if kind is m.Send:
            self._send(number, action)
        elif kind is m.StartLane:
            self._lanes[number][action.lane] = Lane(self.plan, self.chance)
        elif kind is m.Lend:
            lane = self._lanes[number][action.lane]
            lane.inbox.append(action)
            self._laneGoes(number, action.lane, lane)
        elif kind is m.TakeBack:
            lane = self._lanes[number][action.lane]
            taken, lane.inbox = lane.inbox, []
            self._later(0.0, number, m.Returned(action.lane, tuple(lend.loan for lend in taken)))
        elif kind is m.Flush:
            self._later(1e-4, number, (action.lane, "flush"))
        elif kind is m.Call:
            self._keeperFree[number] = max(self._keeperFree[number], self.now) + self.chance.random() * 1e-3
            self._later(self._keeperFree[number] - self.now, number, self._keepers[number].answer(action))
        elif kind is m.Deliver:
            self.results += action.payload.values
            self._later(self.chance.random() * 0.01, number, m.ResultsTaken(action.count, action.payload.nbytes))
        elif kind is m.Pull:
            self._pull(action.items)

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
            message = message._replace(units=tuple((name, _ashore(work)) for name, work in message.units))
            self.counts["pieces lent"] += len(message.units)
        pair = (number, action.rank)
        delay = self.chance.random() * self.chance.choice([1e-4, 1e-3, 2e-2])
        arrival = max(self.now + delay, self._arrivals.get(pair, 0.0) + 1e-9)
        self._arrivals[pair] = arrival
        self._later(arrival - self.now, action.rank, m.Heard(number, message))

    def _laneGoes(self, number: int, name: int, lane: Lane) -> None:
        if lane.working is None and lane.inbox:
            lane.working = lane.inbox.pop(0)
            slow = self.case.slow.get(number, 1.0)
            self._later(self.chance.expovariate(1) * 2e-3 * slow, number, (name, lane.working))

    def _laneWorked(self, number: int, name: int, lend: Any) -> None:
        lane = self._lanes[number].get(name)
        if lane is None:
            return
        if lend == "flush":
            if lane.retained:
                self._handle(number, lane.repay(name, lane.retained[-1][0]))
            return
        if lane.working is None or lend is not lane.working:
            return
        if self.chance.random() < self.case.laneDeaths:
            del self._lanes[number][name]
            self.counts["lane deaths"] += 1
            self._handle(number, m.LaneDied(name, 0, 0, 0, "chance"))
            return
        repaid, lane.working = lane.finish(name, lane.working)
        if lane.working is not None:
            self._later(self.chance.expovariate(1) * 2e-3, number, (name, lane.working))
        self._handle(number, repaid)
        if name in self._lanes[number]:
            self._laneGoes(number, name, lane)


def _ashore(work: m.Work) -> m.Work:
    payload = work.payload
    if type(payload) is not m.Span:
        return work
    return work._replace(payload=Values(list(range(payload.start, payload.stop))))


def failure(seed: int, counts: Counter[str] | None = None) -> str | None:
    """What is wrong with the run of a seed; None: nothing."""
    cluster = Cluster(seed)
    try:
        found = cluster.run()
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if counts is not None:
        counts += cluster.counts
    expected = sorted(serial(cluster.plan, 0, list(range(cluster.case.items))))
    if found == expected:
        return None
    what = found if isinstance(found, str) else f"{len(found)} results, expected {len(expected)}"
    return f"seed {seed}: {what}; replay it with: python -m job_stream.simulate --first {seed} --seeds 1"


def main(arguments: list[str] | None = None) -> int:
    """Runs seeds and prints those that fail; the exit code says whether any did."""
    parser = argparse.ArgumentParser(prog="python -m job_stream.simulate", description=(__doc__ or '').splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    given = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    failures = [text for seed in range(given.first, given.first + given.seeds) if (text := failure(seed, counts))]
    for text in failures:
        print(text)
    print(f"{given.seeds - len(failures)} of {given.seeds} seeds gave the serial results;", dict(counts))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
