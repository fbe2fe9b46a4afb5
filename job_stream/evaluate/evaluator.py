"""The evaluator runs work through the stages of a plan, depth first, with an explicit stack.

Rules:

1. The stack holds entries; the top entry is worked on, one batch a step, and what comes of it is pushed above it. So
   work under way goes on before new work begins, and few values wait at any moment.
2. Between two steps the stack says everything: it can be stopped there, looked at, and handed over (``rest``).
3. A scope that lives in here (a frame, or a whole stream when it runs serially) puts a ``ScopeMark`` under its work.
   When the mark is on top, everything above it has been done: the scope has drained.
4. Batches grow until they take about half a millisecond, so that the time between two steps stays short for slow
   functions and the cost of a step is spread over many values for fast ones.

It is built in layers: the stack and what is left of long Multiples (``stack``), frames and reductions that live here
(``rounds``), the steps (this module), and for streams with a seed the keys of values (``keyed``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from ..memory.words import NOTE_PLACE
from ..stream.plan import Kind, Place, Plan
from ..values import Multiple, Sent
from . import calls
from .calls import Stop
from .entries import PendingMultiple, PendingValues
from .failures import ItemSkipped
from .outboxes import FrameScope, Outbox, ScopeContext, StreamScope
from .rounds import Rounds

__all__ = ["Evaluator"]


class Evaluator(Rounds):
    """Runs values through a plan.

    Args:
        plan: the stream.
        processes: which stages are run here: those for processes, those for threads, or (None) all.
        note: where the place under work is written down, for whoever looks when this process has died.
        seed: of ``rng()``; None: not reproducible.
    """

    keyed = False

    def __init__(self, plan: Plan, processes: bool | None, note: Any, seed: int | None = None) -> None:
        super().__init__(plan, note, seed)
        steps = {Kind.JOB: self._job, Kind.MAP: self._map, Kind.SWITCH: self._switch, Kind.FRAME: self._frame,
                 Kind.FOLD: self._fold, Kind.END: self._end}  # fmt: skip
        self._steps = [steps[place.kind] for place in plan.places]
        self._foreign = [
            processes is not None and place.kind not in (Kind.END, Kind.SWITCH) and place.processes != processes
            for place in plan.places
        ]
        self._alone = [place.time_limited and processes is not None for place in plan.places]

    def step(self) -> None:
        """Works on the top entry for one batch. The stack must not be empty."""
        entry = self.stack[-1]
        if type(entry) is PendingValues:
            place = entry.place
            self._note[NOTE_PLACE] = place
            if self._foreign[place] or (self._alone[place] and entry.base is None):
                self.stack.pop()
                self.parked.append(entry)
            else:
                self._steps[place](entry)
        elif type(entry) is PendingMultiple:
            self._pull(entry)
        else:
            self._drained(entry.scope)  # type: ignore[union-attr]

    def _pull(self, rest: PendingMultiple) -> None:
        """Takes the next elements of a Multiple."""
        count = self._batches[rest.target] if not self._foreign[rest.target] else 256
        self.pull(rest, count)

    # steps ------------------------------------------------------------------------------------------------------------

    def _job(self, run: PendingValues) -> None:
        values = self._batch(run)
        started = self.now
        outputs: list[Any] = []
        iterator = iter(values)
        stop = self.call_job(run, iterator, outputs)
        if stop is not None:
            self._job_stopped(run, stop, outputs)
        elif outputs:
            self.stack.append(PendingValues(run.context, self.places[run.place].next, outputs))
        self._measure(run.place, started, len(values))

    def call_job(self, run: PendingValues, values: Iterator[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]
        if place.time_limited:
            return self.failures.timed(calls.call_job, place.function, values, outputs)  # type: ignore[no-any-return]
        return calls.call_job(place.function, values, outputs)

    def _job_stopped(self, run: PendingValues, stop: Stop, outputs: list[Any]) -> None:
        """Goes on after a failure or in front of a long Multiple; what is left of the batch waits below."""
        place, context = self.places[run.place], run.context
        left = list(stop.left)
        if left:
            self.stack.append(PendingValues(context, run.place, left, 0 if place.time_limited else None))
        if outputs:
            self.stack.append(PendingValues(context, place.next, outputs))
        if stop.error is None:
            assert stop.multiple is not None
            self.spread(context, place, stop.item, stop.multiple.workList)
            return
        try:
            answer = self.failures.again(place, stop.item, stop.error, partial(self.retry_job, place, stop.item))
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return
        if type(answer) is Multiple and not calls.small(answer):
            self.spread(context, place, stop.item, answer.workList, self.failures.attempts)
        elif values := calls.elements(answer):
            self.stack.append(PendingValues(context, place.next, values))

    def _switch(self, run: PendingValues) -> None:
        """Passes values on to the targets that they name."""
        place = self.places[run.place]
        parts: dict[int, list[Any]] = {}
        for value in self._batch(run):
            goal, bare = self.routed(place, value)
            parts.setdefault(goal, []).append(bare)
        for goal, values in parts.items():
            self.stack.append(PendingValues(run.context, goal, values))
        self._resemble(place)

    def routed(self, place: Place, value: Any) -> tuple[int, Any]:
        """Where a value goes from a switch, and what arrives there."""
        return (place.routes[value.target], value.work) if type(value) is Sent else (place.next, value)

    def _map(self, run: PendingValues) -> None:
        base = (run.base or 0) + run.index
        values = self._batch(run)
        started = self.now
        outputs: list[Any] = []
        stop = self.call_map(run, list(values), outputs)
        while stop is not None:
            outputs.append(self._map_again(self.places[run.place], stop))
            stop = self.call_map(run, list(stop.left), outputs)
        context = run.context
        if isinstance(context, StreamScope):
            context.deliver(outputs)
        elif isinstance(context, Outbox):
            context.outputs.extend(outputs)
            context.positions.append((base, len(outputs)))
        self._measure(run.place, started, len(values))

    def _map_again(self, place: Place, stop: Stop) -> Any:
        """What a retry gives; None for an item that is skipped."""
        assert stop.error is not None
        try:
            return self.failures.again(place, stop.item, stop.error, partial(self.retry_job, place, stop.item))
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return None

    def call_map(self, run: PendingValues, values: list[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]
        if place.time_limited:
            return self.failures.timed(calls.call_map, place.function, values, outputs)  # type: ignore[no-any-return]
        return calls.call_map(place.function, values, outputs)

    def _fold(self, run: PendingValues) -> None:
        values = list(self._batch(run))
        started = self.now
        recurred = self.fold(run.context, self.places[run.place], values)
        if recurred:
            self.go(run.context, run.place, self.places[run.place].first, recurred, values)
        self._measure(run.place, started, len(values))

    def fold(self, context: ScopeContext, place: Place, values: list[Any]) -> list[Any]:
        """Gives values to a reduce; returns what it recurs."""
        context.active.add(place.segment)
        store = self.store_of(context, place)
        if place.policy.skip or place.policy.retries or place.time_limited:
            return self._fold_singly(place, store, values)
        answer: list[Any] = self.failures.call(place, "", values, calls.answers, place.function, store, values, [])
        return answer

    def _fold_singly(self, place: Place, store: Any, values: list[Any]) -> list[Any]:
        recurred = []
        for value in values:
            try:
                recurred += self.failures.call(place, "", value, calls.answers, place.function, store, [value], [])
            except ItemSkipped as skipped:
                self.failures.record(skipped)
        return recurred

    def _end(self, run: PendingValues) -> None:
        context = run.context
        if type(context) is Outbox:
            self.stack.pop()
            started = self.now
            context.outputs.extend(run.values[run.index :] if run.index else run.values)
            self._measure(run.place, started, len(run.values))
        elif type(context) is FrameScope:
            values = self._batch(run)
            started = self.now
            recurred = self.end_frame(context, self.places[run.place], values)
            if recurred:
                self._recur(context, recurred)
            self._measure(run.place, started, len(values))
        else:
            self.stack.pop()
            context.deliver(self.bare(run.values[run.index :]))  # type: ignore[attr-defined]

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return list(values)

    def _recur(self, frame: FrameScope, values: list[Any]) -> None:
        body = self.plan.bodies[frame.place.inner]
        if body.segments[0].folds:
            frame.active.add(0)
        self.go(frame, body.end, body.segments[0].first, values, frame)

    def end_frame(self, frame: FrameScope, place: Place, values: Sequence[Any]) -> list[Any]:
        """Gives values to a frameEnd; returns what it recurs."""
        recurred: list[Any] = []
        if place.time_limited:
            return self._end_singly(frame, place, values)
        stop = self.call_end(frame, place, iter(values), recurred)
        while stop is not None:
            assert stop.error is not None
            try:
                recurred += self.failures.again(place, stop.item, stop.error,
                                                partial(self.end_one, frame, place, stop.item))  # fmt: skip
            except ItemSkipped as skipped:
                self.failures.record(skipped)
            stop = self.call_end(frame, place, stop.left, recurred)
        return recurred

    def _end_singly(self, frame: FrameScope, place: Place, values: Sequence[Any]) -> list[Any]:
        recurred: list[Any] = []
        for value in values:
            try:
                recurred += self.failures.call(place, "", value, self.end_one, frame, place, value)
            except ItemSkipped as skipped:
                self.failures.record(skipped)
        return recurred

    def call_end(self, frame: FrameScope, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        return calls.call_end(place.function, frame.store, values, recurred)

    def end_one(self, frame: FrameScope, place: Place, item: Any) -> list[Any]:
        """What a frameEnd recurs for one value."""
        return calls.answers(calls.apply_with_store, place.function, frame.store, item)
