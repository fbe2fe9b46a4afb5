"""A lane: takes parcels from its link, runs them through the evaluator and repays them.

When it repays:

- at the end of a parcel, all of it at once; but if stores that were folded into are dear to pickle beside the work they
  cover, they stay here over several parcels, which remain lent until they are repaid (``Repaid.computed``);
- at the end of a slice (5 ms) of a parcel that goes on, what has come of it so far, keeping the rest;
- as soon as others have nothing to do (``wanted``): the rest is handed over, if it is worth a journey.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from ..engine.messages import Flush, Fold, Lend, Open, Output, Product, Repaid, Resume, Skip, Span, Work
from ..errors import PlanError
from ..plan import Kind, Place, Plan
from .context import enter
from .evaluator import Evaluator, Frame, Home, Mark, Rest, Run, perf_counter
from .failures import Failed, Skipped, describe, failureOf
from .keyed import KeyedEvaluator, Pair, roundKey
from .packing import Packing, unpackAny

__all__ = ["PAUSED", "WANTED", "Lane", "newEvaluator"]

WANTED, PAUSED = 0, 1
SLICE_S = 5e-3
WORTH_S = 1e-3
GROUP_S = 1e-3
GULP = 4096
LOOSEN_MOST = 1 << 16
FOLD_SHARE = 20
NOTE_UNIT, NOTE_PLACE, NOTE_LOAN = 0, 1, 3


def newEvaluator(plan: Plan, processes: bool | None, note: Any, seed: int | None) -> Evaluator:
    """The evaluator for a stream with or without a seed."""
    return (Evaluator if seed is None else KeyedEvaluator)(plan, processes, note, seed)


class Lane:
    """Runs parcels until the link ends.

    Args:
        number: of the lane.
        link: to the rank.
        evaluator: runs the values.
        packing: of values into payloads.
        source: the initial work, for spans of it.
        note: four numbers that others see when this lane has died: unit, place, start of a timed call, loan.
        flags: two numbers that the rank sets: wanted and paused.
        drop: results are of no interest to anybody.
    """

    def __init__(self, number: int, link: Any, evaluator: Evaluator, packing: Packing, source: Any, note: Any,
                 flags: Any, drop: bool) -> None:  # fmt: skip
        self._number = number
        self._link = link
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._packing = packing
        self._source = source
        self._note = note
        self._flags = flags
        self._drop = drop
        self._homes: dict[int, Home] = {}
        self._ends: dict[int, int] = {}
        self._ahead: deque[Any] = deque()
        self._waiting: deque[tuple[int, Work]] = deque()
        self._loan = 0
        self._closing: list[int] = []
        self._retained: list[tuple[int, tuple[int, ...]]] = []
        self._samples: dict[int, list[float]] = {}
        self._products: list[Product] = []
        self._kept = 0
        self._foldCost = 0.0
        self._worked = 0.0
        self._sliceStart = 0.0
        self._origin: Run | None = None
        self._originWork: Work | None = None

    def run(self) -> None:
        """Works until the rank closes the link."""
        enter(self._evaluator)
        while True:
            message = self._ahead.popleft() if self._ahead else self._link.receive()
            if message is None:
                return
            try:
                self._take(message)
            except Failed as failed:
                self._link.send(failureOf(failed))

    def _take(self, message: Any) -> None:
        kind = type(message)
        if kind is Lend:
            self._parcel(message)
        elif kind is Flush:
            self._repay()

    # one parcel -------------------------------------------------------------------------------------------------------

    def _parcel(self, lend: Lend) -> None:
        self._loan, self._closing, self._kept = lend.loan, [], len(lend.units)
        self._note[NOTE_LOAN] = lend.loan
        self._sliceStart = self._evaluator.now = perf_counter()
        self._waiting.extend(lend.units)
        while self._waiting:
            number, work = self._waiting.popleft()
            self._unit(number, work, lend.careful)
        self._endParcel()
        self._note[NOTE_LOAN] = 0

    def _returnWaiting(self) -> None:
        """Gives back the units that have not been begun."""
        names = tuple(number for number, _ in self._waiting)
        self._waiting.clear()
        self._link.send(Repaid(self._number, self._loan, (), returned=names))

    def _unit(self, number: int, work: Work, careful: bool) -> None:
        """Runs one unit to its end, or as far as it is to be run here."""
        started = self._evaluator.now
        self._note[NOTE_UNIT] = number
        self._note[NOTE_PLACE] = -1 - work.place
        self._closing.append(number)
        home = self._home(work)
        if careful:
            return self._carefully(home, work)
        self._load(home, work)
        self._drain()
        self._evaluator.now = now = perf_counter()
        self._worked += now - started
        sample = self._samples.setdefault(work.place, [0, 0.0])
        sample[0] += work.count
        sample[1] += now - started

    def _home(self, work: Work) -> Home:
        home = self._homes.get(work.scope)
        if home is None:
            home = self._homes[work.scope] = Home(work.scope)
            self._ends[work.scope] = self._plan.bodies[self._plan.places[work.place].body].end
        return home

    def _drain(self) -> None:
        evaluator, flags = self._evaluator, self._flags
        stack, step = evaluator.stack, evaluator.step
        while stack:
            step()
            if evaluator.parked:
                self._partWithParked()
            elif flags[WANTED] and stack:
                if self._waiting:
                    self._returnWaiting()
                if self._worth():
                    self._handOver()
            elif evaluator.now - self._sliceStart > SLICE_S:
                self._report()

    def _load(self, home: Home, work: Work) -> None:
        """Puts a unit on the evaluator's stack."""
        evaluator = self._evaluator
        self._origin = None
        if work.resume and self._plan.places[work.place].kind == Kind.FOLD:
            self._loadEmission(home, work)
        elif work.resume:
            store, first, round, key = unpackAny(work.payload)
            frame = Frame(home, self._plan.places[work.place], store, first, key)
            frame.round = round
            if work.inner:
                self._loadFrameRest(frame, work)
            else:
                evaluator.enter(frame)
        elif work.inner:
            self._loadRest(home, work)
        else:
            values = self._values(work)
            evaluator.push(home, work.place, values, (work.base or 0) + work.skip)
            self._origin, self._originWork = evaluator.stack[-1], work  # type: ignore[assignment]
        self._note[NOTE_PLACE] = work.place

    def _values(self, work: Work) -> Any:
        payload = work.payload
        if type(payload) is Span:
            values = self._source.values(payload.part, payload.start + work.skip, payload.stop)
        else:
            values = self._unpack(work)
            if work.skip:
                values = values[work.skip :]
        if self._evaluator.keyed and work.base is not None:
            base = work.base + work.skip
            return [Pair(base + i, value) for i, value in enumerate(values)]
        return values

    def _unpack(self, work: Work) -> Any:
        try:
            return unpackAny(work.payload)
        except Exception as error:
            place = self._plan.places[work.place]
            items = f"{work.count} items" if work.count > 1 else "an item"
            raise Failed(place.name, _Unreadable(f"<{items} that could not be unpickled>"), 1, error, work.place) from error

    def _loadRest(self, home: Home, work: Work) -> None:
        """Has the Multiple of an item made again, and passes over what has gone on already."""
        evaluator, place = self._evaluator, self._plan.places[work.place]
        (item,) = self._values(work)
        answer = evaluator.failures.call(place, "", item, evaluator.retryJob, place, item)
        rest = Rest(home, work.place, work.place + 1, item, getattr(answer, "workList", ()), again=True)
        rest.key = getattr(item, "key", 0) if evaluator.keyed else 0
        evaluator.hold(rest)
        self._passOver(rest, work)

    def _loadFrameRest(self, frame: Frame, work: Work) -> None:
        """Has the Multiple that a frame emitted made again."""
        evaluator = self._evaluator
        evaluator.emitFrame(frame)
        rest = evaluator.stack[-1] if evaluator.stack else None
        if type(rest) is Rest:
            self._passOver(rest, work)

    def _passOver(self, rest: Rest, work: Work) -> None:
        while rest.taken < work.inner:
            rest.taken += len(self._evaluator.next(rest, min(GULP, work.inner - rest.taken))) or work.inner

    def _loadEmission(self, home: Home, work: Work) -> None:
        """Emits the store of a reduction that has drained."""
        evaluator, place = self._evaluator, self._plan.places[work.place]
        context = Home(home.scope)
        context.key = work.key
        if work.payload is not None:
            (context.stores[place.number],) = unpackAny(work.payload)
        self._note[NOTE_PLACE] = work.place
        values = evaluator.emitFold(context, place)
        evaluator.go(home, work.place, work.place + 1, values, _Emitted(work), again=True)
        rest = evaluator.stack[-1] if evaluator.stack else None
        if type(rest) is Rest:
            self._passOver(rest, work)

    def _carefully(self, home: Home, work: Work) -> None:
        """Makes one call and repays everything that came of it; several items are only told apart."""
        if work.count > 1:
            self._file(home, work.place, self._values(work), parts=8, careful=True)
            return
        self._load(home, work)
        evaluator = self._evaluator
        evaluator.step()
        if evaluator.stack and type(evaluator.stack[-1]) is Mark and not work.resume:
            evaluator.step()
        self._handOver()
        while evaluator.stack:
            self._fileElements(evaluator.stack[-1])  # type: ignore[arg-type]

    def _fileElements(self, rest: Rest) -> None:
        """Takes the next elements of a Multiple and repays them without running them."""
        raw = self._evaluator.next(rest, 256)
        values = self._evaluator.children(rest, raw, rest.taken)
        rest.taken += len(raw)
        self._file(rest.context, rest.target, values)
        if len(raw) < 256:
            self._evaluator.stack.pop()
        self._handOver()

    # leaving a parcel -------------------------------------------------------------------------------------------------

    def _endParcel(self) -> None:
        stores = sum(len(home.stores) for home in self._homes.values())
        if stores and not self._hasProducts() and self._worked < FOLD_SHARE * self._foldCost:
            self._retain()
        else:
            self._repay()

    def _hasProducts(self) -> bool:
        outputs = any(home.outputs for home in self._homes.values())
        return outputs or bool(self._products) or bool(self._evaluator.failures.skipped)

    def _retain(self) -> None:
        names = tuple(self._closing)
        self._retained.append((self._loan, names))
        self._closing = []
        self._link.send(Repaid(self._number, self._loan, (), computed=names, samples=self._takeSamples()))

    def _repay(self, kept: tuple[tuple[int, Work], ...] = ()) -> None:
        """Repays everything that has been closed, with all that came of it."""
        self._collect()
        closed = list(self._retained)
        if self._closing:
            closed.append((self._loan, tuple(self._closing)))
        products, self._products = tuple(self._products), []
        self._retained, self._closing, self._worked = [], [name for name, _ in kept], 0.0
        if kept:
            self._note[NOTE_UNIT] = kept[0][0]  # of what is on top of the stack
        self._link.send(Repaid(self._number, self._loan, tuple(closed), products, (), (), kept,
                               self._takeSamples()))  # fmt: skip

    def _takeSamples(self) -> tuple[tuple[int, int, float], ...]:
        samples, self._samples = self._samples, {}
        return tuple((place, int(items), seconds) for place, (items, seconds) in samples.items())

    def _collect(self) -> None:
        """Turns what the homes hold into products."""
        for home in self._homes.values():
            if home.outputs:
                self._output(home)
            for number, store in home.stores.items():
                self._fold(home.scope, number, store)
            home.stores.clear()
            home.outputs, home.positions = [], []
        self._homes = {entry.context.scope: entry.context for entry in self._evaluator.stack}  # type: ignore[union-attr]
        for skipped in self._evaluator.failures.drain():
            item = self._packing.packItem(skipped.item)
            self._products.append(
                Skip(skipped.number, skipped.stage, item, skipped.attempts, describe(skipped.error))
            )

    def _fold(self, scope: int, place: int, store: Any) -> None:
        started = perf_counter()
        self._products.append(Fold(scope, place, self._pack(place, [store], "store")))
        self._foldCost = perf_counter() - started

    def _pack(self, place: int, values: Any, what: str) -> Any:
        """Packs values that came from the stage before ``place``; an error names that stage."""
        try:
            return self._packing.pack(values)
        except Exception as error:
            origin = self._originOf(place) if what == "output" else self._plan.places[place]
            name = origin.name if origin else "initial work"
            raise Failed(name, _Unreadable(f"<its {what}>"), 1, error, place) from error

    def _output(self, home: Home) -> None:
        end, values = self._ends[home.scope], home.outputs
        if home.scope == 0 and self._drop:
            return
        if home.positions:
            self._outputInOrder(home, end)
            return
        if home.scope == 0:
            values = self._evaluator.bare(values)
        self._append(Output(home.scope, end, len(values), None), values)

    def _append(self, product: Output | Work, values: Any, inOrder: bool = False) -> None:
        """Packs the values of a product; those that cannot be are skipped where the policy is to skip."""
        try:
            payload = self._packing.pack(values)
        except Exception as error:
            origin = self._originOf(product.place)
            if origin is None or not origin.policy.skip:
                raise Failed(origin.name if origin else "initial work", _Unreadable("<its output>"), 1, error,
                             product.place) from error  # fmt: skip
            values = self._onlyPackable(origin, values, inOrder)
            payload = self._packing.pack(values)
        if len(values):
            self._products.append(product._replace(count=len(values), payload=payload))

    def _onlyPackable(self, origin: Place, values: Any, inOrder: bool) -> list[Any]:
        good: list[Any] = []
        for value in values:
            try:
                self._packing.pack(value)
                good.append(value)
            except Exception as error:
                self._evaluator.failures.record(Skipped(origin.name, value, 1, error, origin.number))
                good += [None] if inOrder else []
        return good

    def _originOf(self, number: int) -> Place | None:
        """The stage whose outputs wait at a place; None: nobody's, it is initial work."""
        place = self._plan.places[number]
        body = self._plan.bodies[place.body]
        if number > body.segments[0].first:
            return self._plan.places[number - 1]
        return None if body.frame is None else self._plan.places[body.frame]

    def _outputInOrder(self, home: Home, end: int) -> None:
        """One product for each run of neighbours."""
        start, runs = 0, []
        for base, count in home.positions:
            if runs and runs[-1][0] + runs[-1][1] == base:
                runs[-1][1] += count
            else:
                runs.append([base, count])
        for base, count in runs:
            values = home.outputs[start : start + count]
            self._append(Output(home.scope, end, count, None, base), values, inOrder=True)
            start += count

    # leaving in the middle --------------------------------------------------------------------------------------------

    def _worth(self) -> bool:
        """Whether what is left is worth a journey to another lane."""
        evaluator = self._evaluator
        items, seconds = 0, 0.0
        for entry in evaluator.stack:
            if type(entry) is Run:
                left = len(entry.values) - entry.index
                cost = evaluator.costs[entry.place]
                if entry is self._origin and entry.index:
                    cost = (evaluator.now - self._sliceStart) / entry.index
                items += left
                seconds += left * (WORTH_S if cost is None else cost)
            elif type(entry) is Rest and not entry.again:
                items += 2
                seconds += WORTH_S
        return items > 1 and seconds >= WORTH_S and self._loosen()

    def _loosen(self) -> bool:
        """Takes all that is left of Multiples that only this lane has; False: there is too much of it."""
        evaluator = self._evaluator
        for rest in [entry for entry in evaluator.stack if type(entry) is Rest and not entry.again]:
            if rest.bound:
                return False
            runs: list[Any] = []
            while evaluator.pull(rest, GULP) and len(runs) * GULP < LOOSEN_MOST:
                runs.append(None)
            rest.bound = rest in evaluator.stack
            if rest.bound:
                return False
        return True

    def _partWithParked(self) -> None:
        """Hands over values whose next stage is not run here; a frame they belong to goes with them."""
        evaluator = self._evaluator
        if evaluator.marks and self._loosen():
            self._handOver()
            return
        if evaluator.marks:
            name = self._plan.places[evaluator.parked[0].place].name
            error = PlanError(f"a frame recurred a Multiple of more than {LOOSEN_MOST} elements, which do not fit beside "
                              f"stage {name!r}: it has a time limit, or runs in threads where others do not")  # fmt: skip
            raise Failed(name, "<an element of the Multiple>", 1, error, evaluator.parked[0].place)
        parked, evaluator.parked = evaluator.parked, []
        for run in parked:
            self._file(run.context, run.place, run.values[run.index :])

    def _handOver(self) -> None:
        """Repays the unit under way with everything that is left of it."""
        kept = self._surrender()
        self._repay(kept=kept)

    def _surrender(self) -> tuple[tuple[int, Work], ...]:
        """Turns the whole stack into products, but for what is left of Multiples, which stays and is returned."""
        evaluator = self._evaluator
        names: dict[int, int] = {}
        stay: list[Rest] = []
        for entry in [*evaluator.stack, *evaluator.parked]:
            if type(entry) is Mark:
                names[id(entry.scope)] = self._openFrame(entry.scope, names)
            elif type(entry) is Run:
                self._file(entry.context, entry.place, entry.values[entry.index :], names, base=self._baseOf(entry))
            else:
                stay.append(entry)
        evaluator.stack[:] = stay
        evaluator.parked, evaluator.marks, self._origin = [], 0, None
        return tuple(self._keepRest(rest) for rest in reversed(stay))

    def _baseOf(self, run: Run) -> int | None:
        work = self._originWork
        if run is not self._origin or work is None or work.base is None:
            return None
        return work.base + work.skip + run.index

    def _openFrame(self, frame: Any, names: dict[int, int]) -> int:
        name = -1 - len(names)
        payload = self._pack(frame.place.number, [frame.store, frame.first, frame.round, frame.key], "store")
        key = roundKey(frame) if self._evaluator.keyed else 0
        self._products.append(Open(name, self._scopeOf(frame.context, names), frame.place.number, payload,
                                   tuple(sorted(frame.active)), key))  # fmt: skip
        for number, store in frame.stores.items():
            self._fold(name, number, store)
        return name

    def _scopeOf(self, context: Any, names: dict[int, int]) -> int:
        return context.scope if type(context) is Home else names[id(context)]

    def _file(self, context: Any, place: int, values: Any, names: dict[int, int] | None = None, parts: int = 0,
              base: int | None = None, careful: bool = False) -> None:  # fmt: skip
        """Makes products of values at a place, in groups that can be lent one by one."""
        scope, kind = self._scopeOf(context, names or {}), self._plan.places[place].kind
        if kind == Kind.END:
            if len(values) and not (scope == 0 and self._drop):
                self._append(Output(scope, place, len(values), None), self._evaluator.bare(values) if scope == 0 else values)
            return
        if base is not None and self._evaluator.keyed:
            base = None
        size = -(-len(values) // parts) if parts else self._groupSize(place, len(values))
        for start in range(0, len(values), size):
            group = values[start : start + size]
            position = None if base is None else base + start
            self._append(Work(scope, place, len(group), None, position, careful=careful), group)

    def _groupSize(self, place: int, count: int) -> int:
        cost = self._evaluator.costs[place]
        if self._plan.places[place].solo:
            return 1
        size = 1 if cost is None else int(GROUP_S / max(cost, 1e-9))
        return max(1, size, -(-count // 4096)) if count else 1

    def _keepRest(self, rest: Rest) -> tuple[int, Work]:
        """What is left of a Multiple, with what is needed to have it made again."""
        item, scope = rest.item, self._scopeOf(rest.context, {})
        if type(item) is _Emitted:
            return self._keep(item.work._replace(inner=rest.taken))
        if type(item) is Frame:
            payload = self._pack(rest.place, [item.store, item.first, item.round, item.key], "store")
            return self._keep(Work(scope, rest.place, 1, payload, inner=rest.taken, resume=True))
        return self._keep(Work(scope, rest.place, 1, self._pack(rest.place, [item], "item"), inner=rest.taken))

    def _keep(self, work: Work) -> tuple[int, Work]:
        self._kept += 1
        return self._kept, work

    def _report(self) -> None:
        """At the end of a slice: repays what has come so far and goes on with the rest."""
        self._sliceStart = self._evaluator.now
        if self._drop:
            for home in self._homes.values():
                if home.scope == 0:
                    home.outputs, home.positions = [], []
        evaluator = self._evaluator
        if evaluator.marks or not evaluator.stack or not self._hasProducts():
            return
        if any(type(entry) is Rest and not entry.again for entry in evaluator.stack):
            return
        if any(home.stores for home in self._homes.values()):
            return
        self._repay(kept=tuple(self._keepEntry(entry) for entry in reversed(evaluator.stack)))
        while self._flags[PAUSED]:
            message = self._link.receive()
            if message is None:
                raise SystemExit
            if type(message) is Resume:
                break
            self._ahead.append(message)

    def _keepEntry(self, entry: Any) -> tuple[int, Work]:
        if type(entry) is Rest:
            return self._keepRest(entry)
        scope, left = entry.context.scope, len(entry.values) - entry.index
        work = self._originWork
        if entry is self._origin and work is not None:
            skip = work.skip + entry.index
            return self._keep(work._replace(count=left, payload=None, skip=skip))
        return self._keep(Work(scope, entry.place, left, self._pack(entry.place, entry.values[entry.index :], "output")))


class _Emitted:
    """Stands for the item of a Multiple that a reduction emitted: the work that had it emitted."""

    __slots__ = ("work",)

    def __init__(self, work: Work) -> None:
        self.work = work


class _Unreadable:
    """Stands for an item in messages."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text
