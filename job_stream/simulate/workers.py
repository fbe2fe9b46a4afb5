"""Simulated lanes and keepers: they do what the real ones may do, as chance has it."""

from __future__ import annotations

import random
from typing import Any

from ..engine import messages as m
from ..stream.plan import Kind, Place, Plan
from .cases import Case, host_of
from .functions import (
    Store,
    Values,
    fold_emit,
    fold_take,
    frame_begin,
    frame_emit,
    frame_take,
    goal_of,
    job_outputs,
    merged,
)
from .reference import loop

__all__ = ["SimulatedKeeper", "SimulatedLane"]


class SimulatedLane:
    """Does units, and leaves some of the work to others, as the case has it; its rank decides what it may do."""

    def __init__(self, case: Case, chance: random.Random, rank: int) -> None:
        self.plan = case.plan
        self.elsewhere = rank > 0
        self.host = host_of(rank)
        self.each = case.value_bytes
        self.case = case
        self.chance = chance
        self.inbox: list[m.Lend] = []
        self.retained: list[tuple[int, tuple[int, ...]]] = []
        self.folds: dict[tuple[int, int], Store] = {}
        self.working: m.Lend | None = None
        self.products: list[m.Product] = []
        self.last = 0
        self.is_waiting = False
        self._waits = random.Random(rank)

    def finish(self, number: int, lend: m.Lend) -> tuple[m.Repaid, m.Lend | None]:
        """Repays a parcel, or some of it; the rest stays."""
        units, kept, rest = list(lend.units), [], None
        samples = tuple((work.place, work.count, 1e-3 * work.count) for _, work in units)
        if len(units) == 1 and units[0][1].count > 1 and not lend.one_by_one and self.chance.random() < 0.3:
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
        self.is_waiting = self._waits.random() < self.case.waits
        return m.Repaid(number, loan, closed, products, kept=kept, samples=samples, awaits=self.is_waiting)

    def values(self, work: m.WorkBatch) -> list[Any]:
        payload = work.payload
        values = list(payload.values) if type(payload) is Values else None
        if type(payload) is m.SourceSlice:
            values = list(range(payload.start, payload.stop))
        elif type(payload) is m.RangeSlice:
            values = [number // 3 for number in range(*payload)]
        return values[work.skip : work.skip + work.count] if values is not None else [Store()]

    def run(self, work: m.WorkBatch, values: list[Any]) -> None:
        place = self.plan.places[work.place]
        assert not (place.primary and self.elsewhere), f"{place!r} is of the primary"
        assert self._is_here(work), f"{place!r} of {work} is not for {self.host}"
        if work.resume and place.kind == Kind.FOLD:
            self.put(work.scope, place.next, fold_emit(place, values[0]))
            return
        for value in values:
            if work.resume:
                self.frame(work.scope, place, value)
            else:
                self.do(work.scope, place, value)

    def _is_here(self, work: m.WorkBatch) -> bool:
        """Whether allotted work has come to the host that it needs."""
        if not self.plan.places[work.place].allotted:
            return not work.needs
        assert work.needs is not None, "nobody has asked what it needs"
        return work.needs[0] in (m.ANYWHERE, self.host) or (work.needs[0] == m.PRIMARY and not self.elsewhere)

    def put(self, scope: int, number: int, value: int) -> None:
        """A value arrives at a place: it goes on here, or is handed back."""
        place = self.plan.places[number]
        if place.allotted:
            needs = (self.case.hosts[value % len(self.case.hosts)], 1 + value % self.case.cores)
            self.products.append(m.WorkBatch(scope, number, 1, Values([value], self.each), needs=needs))
        elif place.kind not in (Kind.END, Kind.FOLD) and (self.chance.random() < 0.4 or self._is_foreign(place)):
            self.products.append(m.WorkBatch(scope, number, 1, Values([value], self.each)))
        else:
            self.do(scope, place, value)

    def _is_foreign(self, place: Place) -> bool:
        return place.primary and self.elsewhere

    def do(self, scope: int, place: Place, value: int) -> None:
        if place.kind == Kind.JOB:
            for out in job_outputs(place, value):
                self.put(scope, place.next, out)
        elif place.kind == Kind.SWITCH:
            self.put(scope, goal_of(place, value), value)
        elif place.kind == Kind.FRAME:
            self.frame(scope, place, Store(first=value))
        elif place.kind == Kind.END:
            self.products.append(m.Output(scope, place.number, 1, Values([value], self.each)))
        else:
            store, again = fold_take(self.folds.get((scope, place.number), Store()), value)
            self.folds[scope, place.number] = store
            self.products += [m.WorkBatch(scope, place.first, 1, Values([one])) for one in again]

    def frame(self, scope: int, place: Place, store: Store) -> None:
        """Runs a frame to its end, or hands it over at the begin of a round."""
        if self.chance.random() < 0.3:
            self.put(scope, place.next, frame_emit(place, loop(self.plan, place, store)))
            return
        store, children = frame_begin(place, store)
        if not children:
            self.put(scope, place.next, frame_emit(place, store))
            return
        self.last += 1
        first = self.plan.bodies[place.inner].segments[0].first
        self.products.append(m.Open(-self.last, scope, place.number, Values([store]), ()))
        if self.plan.places[first].kind == Kind.END:
            self.products.append(m.Output(-self.last, first, len(children), Values(children)))
        else:
            self.products += [m.WorkBatch(-self.last, first, 1, Values([child])) for child in children]


class SimulatedKeeper:
    """Holds stores and answers calls in order."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.stores: dict[tuple[int, int], Store] = {}
        self.rests: dict[int, list[int]] = {}

    def answer(self, call: m.Call) -> m.Answered:
        place, name, kind = self.plan.places[call.place], call.store, m.CallKind(call.kind)
        products: tuple[m.Product, ...] = ()
        payload = None
        if kind is m.CallKind.ADOPT:
            self.stores[name] = call.payload.values[0] if call.payload else Store()
        elif kind is m.CallKind.MERGE:
            self.stores[name] = merged(self.stores[name], call.payload.values[0])
        elif kind is m.CallKind.END:
            products = self.end(place, name, call)
        elif kind is m.CallKind.MORE:
            products = self.more(place, name, call.payload)
        else:
            payload = Values([self.stores[name]])
        if kind is m.CallKind.CHECKOUT:
            del self.stores[name]
        origin = call.payload if kind is m.CallKind.MORE else call.call
        return m.Answered(call.call, products, payload, origin in self.rests)

    def end(self, place: Place, name: tuple[int, int], call: m.Call) -> tuple[m.Product, ...]:
        """Takes outputs of a frame in; some of what is recurred has to be asked for, one by one."""
        recurred: list[int] = []
        for value in call.payload.values:
            self.stores[name], again = frame_take(self.plan, place, self.stores[name], value)
            recurred += again
        if recurred and recurred[0] % 2:
            self.rests[call.call], recurred = recurred, []
        return self.work(place, name, recurred)

    def more(self, place: Place, name: tuple[int, int], origin: int) -> tuple[m.Product, ...]:
        value = self.rests[origin].pop()
        if not self.rests[origin]:
            del self.rests[origin]
        return self.work(place, name, [value])

    def work(self, place: Place, name: tuple[int, int], recurred: list[int]) -> tuple[m.Product, ...]:
        first = self.plan.bodies[place.body].segments[0].first
        kind = m.Output if self.plan.places[first].kind == Kind.END else m.WorkBatch
        return tuple(kind(name[0], first, 1, Values([value])) for value in recurred)
