"""The evaluator runs work through the stages of a plan, depth first, with an explicit stack.

Rules:

1. The stack holds entries; the top entry is worked on, one batch a step, and what comes of it is pushed above it. So
   work under way goes on before new work begins, and few values wait at any moment.
2. Between two steps the stack says everything: it can be stopped there, looked at, and handed over (``rest``).
3. A scope that lives in here (a frame, or a whole stream when it runs serially) puts a ``Mark`` under its work. When
   the mark is on top, everything above it has been done: the scope has drained.
4. Batches grow until they take about half a millisecond, so that the time between two steps stays short for slow
   functions and the cost of a step is spread over many values for fast ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from time import perf_counter
from typing import Any

from ..plan import Kind, Place, Plan
from ..values import Multiple, Object
from . import calls
from .calls import Lazy, Stop
from .failures import Failed, Failures, Skipped

__all__ = ["Context", "Evaluator", "Frame", "Home", "Mark", "Rest", "Run", "Stream"]

BATCH_S = 5e-4
BATCH_MOST = 4096


class Context:
    """Where values at some places of a body belong: the stores of its reductions hang here."""

    __slots__ = ("active", "key", "stores")

    def __init__(self, key: int = 0) -> None:
        self.key = key
        self.stores: dict[int, Any] = {}
        self.active: set[int] = set()


class Home(Context):
    """A scope that lives elsewhere; what leaves it is collected for the way home."""

    __slots__ = ("end", "outputs", "positions", "scope")

    def __init__(self, scope: int, end: int) -> None:
        super().__init__()
        self.scope = scope
        self.end = end
        self.outputs: list[Any] = []
        self.positions: list[tuple[int, int]] = []


class Frame(Context):
    """A frame that lives in this evaluator."""

    __slots__ = ("context", "first", "place", "round", "store")

    def __init__(self, context: Context, place: Place, store: Any, first: Any, key: int) -> None:
        super().__init__(key)
        self.context = context
        self.place = place
        self.store = store
        self.first = first
        self.round = 0

    @property
    def state(self) -> list[Any]:
        """What it takes to go on with the frame elsewhere, between two rounds."""
        return [self.store, self.first, self.round, self.key]

    @classmethod
    def restored(cls, context: Context, place: Place, state: list[Any]) -> Frame:
        """The frame of a ``state``."""
        store, first, round, key = state
        frame = cls(context, place, store, first, key)
        frame.round = round
        return frame


class Stream(Context):
    """A whole stream that lives in this evaluator: a Work inside a job."""

    __slots__ = ("deliver",)

    def __init__(self, deliver: Callable[[list[Any]], None]) -> None:
        super().__init__()
        self.deliver = deliver


class Run:
    """Values waiting at a place; those before ``index`` are done. ``base``: position of the first in the source."""

    __slots__ = ("base", "context", "index", "place", "values")

    def __init__(self, context: Context, place: int, values: Sequence[Any], base: int | None = None) -> None:
        self.context = context
        self.place = place
        self.values = values
        self.index = 0
        self.base = base


class Rest:
    """What is left of a Multiple, on its way to ``target``; ``taken`` elements of it have gone on.

    ``item`` at ``place`` gave it: the value that a job was given, or the frame that emitted it. If ``again``, whoever
    has that can have the Multiple made once more; otherwise only this evaluator has what is left.
    """

    __slots__ = ("again", "bound", "context", "draws", "item", "iterator", "key", "place", "taken", "target")

    def __init__(self, context: Context, place: int, target: int, item: Any, work: Any, again: bool = False) -> None:
        self.context = context
        self.place = place
        self.target = target
        self.item = item
        self.iterator: Iterator[Any] = iter(work)
        self.again = again and type(context) is Home
        self.bound = False
        self.taken = 0
        self.key = 0
        self.draws: Any = None


class Mark:
    """Everything above belongs to this frame or stream."""

    __slots__ = ("scope",)

    def __init__(self, scope: Frame | Stream) -> None:
        self.scope = scope


class Evaluator:
    """Runs values through a plan.

    Args:
        plan: the stream.
        processes: which stages are run here: those for processes, those for threads, or (None) all.
        note: where the place under work is written down, for whoever looks when this process has died.
        seed: of ``rng()``; None: not reproducible.
    """

    keyed = False

    def __init__(self, plan: Plan, processes: bool | None, note: Any, seed: int | None = None) -> None:
        self.plan = plan
        self.places = plan.places
        self.seed = seed
        self.stack: list[Run | Rest | Mark] = []
        self.marks = 0
        self.now = perf_counter()
        self.costs: list[float | None] = [None] * len(plan.places)
        self.failures = Failures(note)
        self.generator: Any = None
        self.cpus = 1
        self.allCpus = 1
        self._note = note
        self._batches = [1] * len(plan.places)
        steps = {Kind.JOB: self._job, Kind.MAP: self._map, Kind.FRAME: self._frame, Kind.FOLD: self._fold,
                 Kind.END: self._end}  # fmt: skip
        self._steps = [steps[place.kind] for place in plan.places]
        self._foreign = [
            processes is not None and place.kind != Kind.END and place.processes != processes for place in plan.places
        ]
        self._alone = [place.solo and processes is not None for place in plan.places]
        self.parked: list[Run] = []

    # the stack -------------------------------------------------------------------------------------------------------

    def push(self, context: Context, place: int, values: Sequence[Any], base: int | None = None) -> None:
        """Puts values at a place on top of the stack."""
        self.stack.append(Run(context, place, values, base))

    def step(self) -> None:
        """Works on the top entry for one batch. The stack must not be empty."""
        entry = self.stack[-1]
        if type(entry) is Run:
            place = entry.place
            self._note[1] = place
            if self._foreign[place] or (self._alone[place] and entry.base is None):
                self.stack.pop()
                self.parked.append(entry)
            else:
                self._steps[place](entry)
        elif type(entry) is Rest:
            self._pull(entry)
        else:
            self._drained(entry.scope)  # type: ignore[union-attr]

    def _batch(self, run: Run) -> Sequence[Any]:
        """The next values of an entry; the entry leaves the stack with the last of them."""
        size, values, index = self._batches[run.place], run.values, run.index
        if len(values) - index <= size:
            self.stack.pop()
            return values[index:] if index else values
        run.index = index + size
        return values[index : run.index]

    def _measure(self, place: int, started: float, count: int) -> None:
        """Takes the time of a batch and adapts the next one's size."""
        self.now = now = perf_counter()
        took = now - started
        if took < BATCH_S / 2:
            if count >= self._batches[place] < BATCH_MOST:
                self._batches[place] *= 2
        elif took > 2 * BATCH_S:
            self._batches[place] = max(1, int(BATCH_S * count / took))
        cost, before = took / max(count, 1), self.costs[place]
        self.costs[place] = cost if before is None else before + 0.3 * (cost - before)

    # steps -----------------------------------------------------------------------------------------------------------

    def _job(self, run: Run) -> None:
        values = self._batch(run)
        started = self.now
        outputs: list[Any] = []
        iterator = iter(values)
        stop = self.callJob(run, iterator, outputs)
        if stop is not None:
            self._jobStopped(run, stop, outputs)
        elif outputs:
            self.stack.append(Run(run.context, run.place + 1, outputs))
        self._measure(run.place, started, len(values))

    def callJob(self, run: Run, values: Iterator[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]
        if place.solo:
            return self.failures.timed(calls.callJob, place.function, values, outputs)  # type: ignore[no-any-return]
        return calls.callJob(place.function, values, outputs)

    def _jobStopped(self, run: Run, stop: Stop, outputs: list[Any]) -> None:
        """Goes on after a failure or in front of a long Multiple; what is left of the batch waits below."""
        place, context = self.places[run.place], run.context
        left = list(stop.left)
        if left:
            self.stack.append(Run(context, run.place, left, 0 if place.solo else None))
        if outputs:
            self.stack.append(Run(context, run.place + 1, outputs))
        if stop.error is None:
            self._spread(context, run.place, stop.item, stop.multiple)
            return
        try:
            answer = self.failures.again(place, stop.item, stop.error, partial(self.retryJob, place, stop.item))
        except Skipped as skipped:
            self.failures.record(skipped)
            return
        if type(answer) is Multiple and not calls.small(answer):
            self._spread(context, run.place, stop.item, answer)
        elif values := calls.elements(answer):
            self.stack.append(Run(context, run.place + 1, values))

    def retryJob(self, place: Place, item: Any) -> Any:
        return place.function(item) if place.kind == Kind.MAP else calls.apply(place.function, item)

    def _spread(self, context: Context, place: int, item: Any, multiple: Any) -> None:
        rest = Rest(context, place, place + 1, item, multiple.workList, again=True)
        rest.key = calls.keyOf(item)
        self.hold(rest)

    def hold(self, rest: Rest) -> None:
        """Puts a Multiple on the stack that the last call has given."""
        self.stack.append(rest)

    def go(self, context: Context, origin: int, target: int, values: list[Any], item: Any = None,
           again: bool = False) -> None:  # fmt: skip
        """Puts values on the stack, some of which may be lazy."""
        plain = [value for value in values if type(value) is not Lazy]
        if len(plain) < len(values):
            for lazy in values:
                if type(lazy) is Lazy:
                    rest = Rest(context, origin, target, item, lazy.work, again)
                    rest.key = lazy.key
                    self.hold(rest)
        if plain:
            self.stack.append(Run(context, target, plain))

    def _pull(self, rest: Rest) -> None:
        """Takes the next elements of a Multiple."""
        count = self._batches[rest.target] if not self._foreign[rest.target] else 256
        self.pull(rest, count)

    def pull(self, rest: Rest, count: int) -> bool:
        """Puts the next ``count`` elements of a Multiple on the stack; False: there are no more."""
        values, more = self.take(rest, count)
        if not more:
            self.stack.remove(rest)
        if values:
            self.stack.append(Run(rest.context, rest.target, values))
        return more

    def take(self, rest: Rest, count: int) -> tuple[list[Any], bool]:
        """What goes on of the next ``count`` elements of a Multiple, and whether there may be more."""
        try:
            raw = self.next(rest, count)
        except BaseException as error:
            self._takeFailed(rest, error)
            return [], False
        values = self.children(rest, raw, rest.taken)
        rest.taken += len(raw)
        return values, len(raw) == count

    def children(self, rest: Rest, values: list[Any], first: int) -> list[Any]:
        """What goes on of the elements of a Multiple from number ``first`` on."""
        return [value for value in values if value is not None]

    def next(self, rest: Rest, count: int) -> list[Any]:
        """The next elements of a Multiple as they are: here its code runs, if it is a generator."""
        return list(islice(rest.iterator, count))

    def _takeFailed(self, rest: Rest, error: BaseException) -> None:
        place, item = self.places[rest.place], rest.item
        try:
            self.failures.again(place, item.first if type(item) is Frame else item, error, None)
        except Skipped as skipped:
            self.failures.record(skipped)

    def _map(self, run: Run) -> None:
        base = (run.base or 0) + run.index
        values = self._batch(run)
        started = self.now
        outputs: list[Any] = []
        place = self.places[run.place]
        stop = self.callMap(run, base, list(values), outputs)
        while stop is not None:
            assert stop.error is not None
            try:
                outputs.append(self.failures.again(place, stop.item, stop.error,
                                                   partial(self.retryJob, place, stop.item)))  # fmt: skip
            except Skipped as skipped:
                self.failures.record(skipped)
                outputs.append(None)
            stop = self.callMap(run, base + len(outputs), list(stop.left), outputs)
        context = run.context
        if isinstance(context, Stream):
            context.deliver(outputs)
        elif isinstance(context, Home):
            context.outputs.extend(outputs)
            context.positions.append((base, len(outputs)))
        self._measure(run.place, started, len(values))

    def callMap(self, run: Run, base: int, values: list[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]
        if place.solo:
            return self.failures.timed(calls.callMap, place.function, values, outputs)  # type: ignore[no-any-return]
        return calls.callMap(place.function, values, outputs)

    def _fold(self, run: Run) -> None:
        values = list(self._batch(run))
        started = self.now
        recurred = self.fold(run.context, self.places[run.place], values)
        if recurred:
            self.go(run.context, run.place, self.places[run.place].first, recurred, values)
        self._measure(run.place, started, len(values))

    def storeOf(self, context: Context, place: Place) -> Any:
        """The store of a reduction, made when it is needed first."""
        store = context.stores.get(place.number, self)
        if store is self:
            store = context.stores[place.number] = self.failures.call(place, "store", None, place.store or Object)
        return store

    def fold(self, context: Context, place: Place, values: list[Any]) -> list[Any]:
        """Gives values to a reduce; returns what it recurs."""
        context.active.add(place.segment)
        store = self.storeOf(context, place)
        if place.policy.skip or place.policy.retries or place.solo:
            return self._foldSingly(place, store, values)
        answer: list[Any] = self.failures.call(place, "", values, calls.answers, place.function, store, values, [])
        return answer

    def _foldSingly(self, place: Place, store: Any, values: list[Any]) -> list[Any]:
        recurred = []
        for value in values:
            try:
                recurred += self.failures.call(place, "", value, calls.answers, place.function, store, [value], [])
            except Skipped as skipped:
                self.failures.record(skipped)
        return recurred

    def _end(self, run: Run) -> None:
        context = run.context
        if type(context) is Home:
            self.stack.pop()
            started = self.now
            context.outputs.extend(run.values[run.index :] if run.index else run.values)
            self._measure(run.place, started, len(run.values))
        elif type(context) is Frame:
            values = self._batch(run)
            started = self.now
            recurred = self.endFrame(context, self.places[run.place], values)
            if recurred:
                self._recur(context, recurred)
            self._measure(run.place, started, len(values))
        else:
            self.stack.pop()
            context.deliver(self.bare(run.values[run.index :]))  # type: ignore[attr-defined]

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def _recur(self, frame: Frame, values: list[Any]) -> None:
        body = self.plan.bodies[frame.place.inner]
        if body.segments[0].folds:
            frame.active.add(0)
        self.go(frame, body.end, body.segments[0].first, values, frame)

    def endFrame(self, frame: Frame, place: Place, values: Sequence[Any]) -> list[Any]:
        """Gives values to a frameEnd; returns what it recurs."""
        recurred: list[Any] = []
        if place.solo:
            return self._endSingly(frame, place, values)
        stop = self.callEnd(frame, place, iter(values), recurred)
        while stop is not None:
            assert stop.error is not None
            try:
                recurred += self.failures.again(place, stop.item, stop.error,
                                                partial(self.endOne, frame, place, stop.item))  # fmt: skip
            except Skipped as skipped:
                self.failures.record(skipped)
            stop = self.callEnd(frame, place, stop.left, recurred)
        return recurred

    def _endSingly(self, frame: Frame, place: Place, values: Sequence[Any]) -> list[Any]:
        recurred: list[Any] = []
        for value in values:
            try:
                recurred += self.failures.call(place, "", value, self.endOne, frame, place, value)
            except Skipped as skipped:
                self.failures.record(skipped)
        return recurred

    def callEnd(self, frame: Frame, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        return calls.callEnd(place.function, frame.store, values, recurred)

    def endOne(self, frame: Frame, place: Place, item: Any) -> list[Any]:
        """What a frameEnd recurs for one value."""
        return calls.answers(calls.applyWithStore, place.function, frame.store, item)

    # frames and drained scopes ----------------------------------------------------------------------------------------

    def _frame(self, run: Run) -> None:
        """Opens the frame of one item."""
        first = run.values[run.index]
        run.index += 1
        if run.index >= len(run.values):
            self.stack.pop()
        place = self.places[run.place]
        try:
            store = self.storeOfFrame(place, first)
            frame = self.newFrame(run.context, place, store, first)
        except Skipped as skipped:
            self.failures.record(skipped)
            return
        self.enter(frame)

    def storeOfFrame(self, place: Place, first: Any) -> Any:
        return self.failures.call(place, "store", first, place.store or Object)

    def newFrame(self, context: Context, place: Place, store: Any, first: Any) -> Frame:
        return Frame(context, place, store, first, 0)

    def enter(self, scope: Frame | Stream) -> None:
        """Puts a scope on the stack; its next round begins with the next step."""
        self.stack.append(Mark(scope))
        self.marks += 1

    def _leave(self) -> None:
        self.stack.pop()
        self.marks -= 1

    def _drained(self, scope: Frame | Stream) -> None:
        body = self.plan.bodies[scope.place.inner if type(scope) is Frame else 0]
        if scope.active:
            segment = min(scope.active)
            scope.active.discard(segment)
            self._emitFold(scope, self.places[body.segments[segment].last], body.segments[segment + 1].folds)
        elif type(scope) is Frame:
            self._nextRound(scope)
        else:
            self._leave()

    def _emitFold(self, scope: Context, place: Place, nextFolds: bool) -> None:
        if nextFolds:
            scope.active.add(place.segment + 1)
        self.go(scope, place.number, place.number + 1, self.emitFold(scope, place))

    def emitFold(self, scope: Context, place: Place) -> list[Any]:
        """What a drained reduction emits."""
        try:
            store = self.storeOf(scope, place)
            del scope.stores[place.number]
            values = self.failures.call(place, "emit", store, calls.answers, place.emit or calls.same, store)
        except Skipped as skipped:
            self.failures.record(skipped)
            return []
        return self.emitted(scope, place, values)

    def emitted(self, scope: Context, place: Place, values: list[Any]) -> list[Any]:
        return values

    def _nextRound(self, frame: Frame) -> None:
        place = frame.place
        self._note[1] = place.number
        try:
            answer = self.failures.call(place, "", frame.first, self.callFrame, frame)
            if answer is None or not self._begins(frame, answer):
                self._finish(frame)
        except Skipped as skipped:
            self._abandon(frame)
            self.failures.record(skipped)
        self.now = perf_counter()

    def _finish(self, frame: Frame) -> None:
        """Emits a frame that recurred nothing; its mark is on top."""
        values = self.emission(frame)
        self._leave()
        self._goOn(frame, values)

    def emission(self, frame: Frame) -> list[Any]:
        place = frame.place
        values: list[Any] = self.failures.call(
            place, "emit", frame.first, calls.answers, place.emit or calls.same, frame.store
        )
        return values

    def _goOn(self, frame: Frame, values: list[Any]) -> None:
        number = frame.place.number
        self.go(frame.context, number, number + 1, self.frameOutputs(frame, values), frame, again=True)

    def emitFrame(self, frame: Frame) -> None:
        """Emits a frame once more, to get at the rest of a long Multiple."""
        self._goOn(frame, self.emission(frame))

    def _abandon(self, frame: Frame) -> None:
        while True:
            entry = self.stack[-1]
            if type(entry) is Mark and entry.scope is frame:
                return self._leave()
            self.stack.pop()

    def _begins(self, frame: Frame, answer: Any) -> bool:
        try:
            return self._beginRound(frame, answer)
        except (Failed, Skipped):
            raise
        except Exception as error:
            self.failures.again(frame.place, frame.first, error, None)
            return False

    def callFrame(self, frame: Frame) -> Any:
        return calls.applyWithStore(frame.place.function, frame.store, frame.first)

    def _beginRound(self, frame: Frame, answer: Any) -> bool:
        """Puts what a frame recurred on the stack. False: it recurred nothing."""
        body = self.plan.bodies[frame.place.inner]
        values = self.roundValues(frame, calls.elements(answer))
        self.go(frame, frame.place.number, body.segments[0].first, values, frame)
        if values and type(values[0]) is Lazy and not self._hasElements(frame):
            values = []
        if not values:
            return False
        frame.round += 1
        if body.segments[0].folds:
            frame.active.add(0)
        return True

    def _hasElements(self, frame: Frame) -> bool:
        """Whether a long Multiple that a frame recurred has an element at all; takes the first ones."""
        rest = self.stack[-1]
        assert type(rest) is Rest
        while self.pull(rest, 256):
            if self.stack[-1] is not rest:
                break
        return type(self.stack[-1]) is not Mark

    def roundValues(self, frame: Frame, values: list[Any]) -> list[Any]:
        return values

    def frameOutputs(self, frame: Frame, values: list[Any]) -> list[Any]:
        return values
