"""The evaluator runs work through the stages of a plan, depth first, with an explicit stack.

Rules:

1. The stack holds entries; the top entry is worked on, one batch a step, and what comes of it is pushed above it. So
   work under way goes on before new work begins, and few values wait at any moment.
2. Between two steps the stack says everything: it can be stopped there, looked at, and handed over (``surplus``).
3. A scope that lives in here (a frame, or a whole stream when it runs serially) puts a ``ScopeMark`` under its work.
   When the mark is on top, everything above it has been done: the scope has drained.
4. Batches grow until they take about half a millisecond (``pace``), or hold much (``weights``).

It has parts: the stack, which alone knows what lies where; what is left of long Multiples (``multiples``); frames and
reductions that live here (``rounds``); and whether values travel with keys (``keys``). It makes the steps itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from ..memory.words import NOTE_PLACE, Words
from ..stream.plan import Kind, Place, Plan
from ..values import Failure, Multiple
from . import calls
from .calls import Stop
from .copies import Copies
from .division import ATOMIC, UnderWay
from .entries import Allotted, PendingMultiple, PendingValues
from .failures import Failures, ItemSkipped
from .keys import Keys, Unkeyed
from .multiples import Multiples
from .outboxes import FrameScope, Outbox, ScopeContext, StreamScope
from .pace import Pace
from .packing import Packing
from .rounds import Rounds
from .stack import Stack
from .turn import Turn
from .weights import LIGHT, Gathered, weigh
from .workplace import Workplace

__all__ = ["NOWHERE", "Evaluator"]

NOWHERE = Workplace()
_NOTHING: list[Any] = []
Loop = Callable[[Callable[..., Any], Iterator[Any], list[Any]], Stop | None]
Step = Callable[[PendingValues], None]


class Evaluator:
    """Runs values through a plan.

    Args:
        plan: the stream.
        processes: which stages are run here: those for processes, those for threads, or (None) all.
        note: where the place under work is written down, for whoever looks when this process has died.
        seed: of ``rng()``; None: not reproducible.
        elsewhere: this is another rank than the primary, and leaves to that what stays there.
        workplace: where user code finds itself.
        packing: makes copies of values that a function may change, for whoever has to tell how they were; None: nobody
            has to.

    Attributes:
        stack: what is under way.
        turn: whose it is to touch all this.
        under_way: the batch that user code is called for, if it can be divided.
        pace: how fast it goes.
        gathered: how much lies here for the way home.
        failures: what was skipped.
        keys: whether values travel with keys.
        multiples: what is left of long ones.
        rounds: of the frames that live here.
        workplace: where user code finds itself.
    """

    def __init__(
        self, plan: Plan, processes: bool | None, note: Words, seed: int | None = None, elsewhere: bool = False,
        workplace: Workplace = NOWHERE, packing: Packing | None = None,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.stack = Stack()
        self.gathered = Gathered(len(plan.places))
        self.pace = Pace(len(plan.places), self.gathered)
        self.turn = Turn()
        self.under_way = UnderWay()
        self.failures = Failures(note, self.turn)
        self.keys = Unkeyed() if seed is None else Keys(seed)
        self.multiples = Multiples(plan.places, self.stack, self.failures, self.keys, self.turn)
        self.rounds = Rounds(plan, note, self.stack, self.multiples, self.failures, self.keys)
        self.workplace = workplace
        self._copies = Copies(self.pace, packing) if packing is not None else None
        self._places = plan.places
        self._batches = self.pace.batches
        self._entries = self.stack.entries
        self._add, self._batch, self._measure = self.stack.add, self.stack.batch, self.pace.measure
        self._note = note
        self._foreign = [
            (processes is not None and place.kind not in (Kind.END, Kind.SWITCH) and place.processes != processes)
            or (elsewhere and place.primary)
            for place in plan.places
        ]
        # what is known of a place before the first value comes is not found out anew with each batch
        self._steps = [self._step_at(place, processes is not None) for place in plan.places]
        self._functions = [self.keys.job(place) for place in plan.places]

    def _step_at(self, place: Place, is_shared: bool) -> Step:
        """What is done with values at a place; ``is_shared``: there are others who could have them."""
        if self._foreign[place.number]:
            return self.stack.park
        steps: dict[str, Step] = {
            Kind.JOB: self._job, Kind.MAP: self._map, Kind.SWITCH: self._switch, Kind.FRAME: self.rounds.open,
            Kind.ALLOT: self._allot if is_shared else self._pass_on, Kind.FOLD: self._fold, Kind.END: self._end,
        }  # fmt: skip
        step = steps[place.kind]
        return _lent_only(step, self.stack.park) if place.alone and is_shared else step

    def step(self) -> None:
        """Works on the top entry for one batch. The stack must not be empty."""
        entry = self._entries[-1]
        if type(entry) is PendingValues:
            place = entry.place
            self._note[NOTE_PLACE] = place
            self._steps[place](entry)
        elif type(entry) is PendingMultiple:
            self._pull(entry)
        else:
            self.rounds.end(entry.scope)  # type: ignore[union-attr]
            self.pace.now = perf_counter()

    def _pull(self, rest: PendingMultiple) -> None:
        """Takes the next elements of a Multiple."""
        pace, target = self.pace, rest.target
        count = pace.batches[target] if not self._foreign[target] else min(256, pace.most[target])
        before = rest.taken
        self.multiples.pull(rest, count)
        top = self.stack.top
        if rest.taken > before and type(top) is PendingValues and top.place == target:
            pace.weighed(target, rest.taken - before, weigh(top.values))

    # jobs -------------------------------------------------------------------------------------------------------------

    def _job(self, run: PendingValues) -> None:
        number = run.place
        place, size, way = self._places[number], self._batches[number], self.under_way
        values = self._batch(run, size)
        outputs: list[Any] = []
        way.copy = None
        if size == 1:  # nothing is known yet, or it takes long
            self._copy(run, values[0])
        iterator = iter(values if type(values) in ATOMIC else list(values))
        stop = self._call(calls.call_job, place, self._functions[number], run, iterator, outputs)
        if stop is not None:
            self._job_stopped(run, stop, outputs)
        elif outputs:
            self._add(PendingValues(run.context, place.next, outputs))
        if way.since is None:
            self._measure(number, self.pace.now, len(values))
        else:
            self._measure_last(number)
        if outputs and not (type(outputs[0]) in LIGHT and type(outputs[-1]) in LIGHT):
            self.pace.weighed(number, len(values), weigh(outputs))

    def _copy(self, run: PendingValues, value: Any) -> None:
        """Copies a value that has not come from the rank, if that is wanted."""
        if run.base is None and self._copies is not None:
            self.under_way.copy = self._copies.take(run.place, value)

    def _call(self, loop: Loop, place: Place, function: Callable[..., Any], run: PendingValues, values: Iterator[Any],
              outputs: list[Any]) -> Stop | None:  # fmt: skip
        """Has user code called for the batch that was taken last; it may be divided meanwhile."""
        way, turn = self.under_way, self.turn
        way.run = run
        way.iterator = values
        way.outputs = outputs
        way.end = run.index
        turn.is_away = True
        try:
            if place.time_limited:
                return self.failures.timed(loop, function, values, outputs)  # type: ignore[no-any-return]
            return loop(function, values, outputs)
        finally:
            turn.is_away = False
            if turn.is_claimed:
                turn.wait()
            way.run, way.outputs = None, _NOTHING

    def _measure_last(self, place: int) -> None:
        """A batch has come to its end from which others had taken what it had not begun."""
        since, self.under_way.since = self.under_way.since, None
        assert since is not None
        self._measure(place, since, 1)

    def _job_stopped(self, run: PendingValues, stop: Stop, outputs: list[Any]) -> None:
        """Goes on after a failure or in front of a long Multiple; what is left of the batch waits below."""
        place, context = self._places[run.place], run.context
        left = list(stop.left)
        if left:
            self.stack.push(context, run.place, left, 0 if place.alone else None)
        if outputs:
            self.stack.push(context, place.next, outputs)
        if stop.error is None:
            assert stop.multiple is not None
            self.multiples.spread(context, place, stop.item, stop.multiple.workList)
            return
        try:
            answer = self.failures.again(place, stop.item, stop.error, partial(self.keys.answer, place, stop.item))
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return
        if type(answer) is Failure:  # never what the job gave, where that has a key
            answer = self.keys.passed(stop.item, answer)
        if type(answer) is Multiple and not calls.small(answer):
            self.multiples.spread(context, place, stop.item, answer.workList, self.failures.attempts)
        elif values := calls.elements(answer):
            self.stack.push(context, place.next, values)

    def part_with(self, done: int) -> None:
        """The first outputs of the batch under way leave it: they are on the stack, or at home."""
        way = self.under_way
        run, outputs = way.run, way.outputs[:done]
        assert run is not None
        if way.counts:
            assert isinstance(run.context, Outbox)
            run.context.deliver((run.base or 0) + way.first, outputs)
        elif outputs:
            self.stack.push(run.context, self._places[run.place].next, outputs)
        del way.outputs[:done]
        way.first = way.end - 1

    def contexts(self) -> list[ScopeContext]:
        """Where what is under way belongs."""
        run = self.under_way.run
        return self.stack.contexts() if run is None else [*self.stack.contexts(), run.context]

    # maps and switches ------------------------------------------------------------------------------------------------

    def _map(self, run: PendingValues) -> None:
        way, place = self.under_way, self._places[run.place]
        way.first = run.index
        values = self._batch(run, self._batches[run.place])
        outputs: list[Any] = []
        way.counts = True
        function = self.keys.map(place)
        iterator = iter(values if type(values) in ATOMIC else list(values))
        stop = self._call(calls.call_map, place, function, run, iterator, outputs)
        while stop is not None:
            outputs.append(self._map_again(place, stop))
            stop = self._call(calls.call_map, place, function, run, stop.left, outputs)
        context = run.context
        if isinstance(context, StreamScope):
            context.deliver(outputs)
        elif isinstance(context, Outbox):
            context.deliver((run.base or 0) + way.first, outputs)
            self._gather(context, outputs)
        way.counts = False
        if way.since is None:
            self._measure(run.place, self.pace.now, len(values))
        else:
            self._measure_last(run.place)
        if outputs and not (type(outputs[0]) in LIGHT and type(outputs[-1]) in LIGHT):
            self.pace.weighed(run.place, len(values), weigh(outputs))

    def _gather(self, home: Outbox, values: Sequence[Any]) -> None:
        """Values have come home: all that lies there may have to be handed over."""
        gathered = self.gathered
        if len(home.outputs) >= gathered.rooms[home.end]:
            gathered.is_full = True
        elif len(values) and not (type(values[0]) in LIGHT and type(values[-1]) in LIGHT):
            gathered.add(weigh(values))
        if gathered.is_look_due(len(values)) and 2 * gathered.growth() > gathered.limit:
            self.pace.begin_anew()

    def _map_again(self, place: Place, stop: Stop) -> Any:
        """What a retry gives; None for an item that is skipped."""
        assert stop.error is not None
        try:
            return self.failures.again(place, stop.item, stop.error, partial(self.keys.answer, place, stop.item))
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return None

    def _switch(self, run: PendingValues) -> None:
        """Passes values on to the targets that they name."""
        place = self._places[run.place]
        parts: dict[int, list[Any]] = {}
        for value in self._batch(run, self._batches[run.place]):
            goal, bare = self.keys.routed(place, value)
            parts.setdefault(goal, []).append(bare)
        for goal, values in parts.items():
            self.stack.push(run.context, goal, values)
        self.pace.resemble(place)

    # hosts and cores --------------------------------------------------------------------------------------------------

    def _allot(self, run: PendingValues) -> None:
        """Asks what a value needs at the next place, and leaves it to the primary to find that."""
        place = self._places[run.place]
        (value,) = self._batch(run, 1)
        started = self.pace.now
        try:
            needs = self.failures.call(place, "", value, self.keys.needs, place, value)
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return
        if type(needs) is Failure:
            self.pass_failure(run.context, place, value, needs)
        else:
            self.stack.set_aside(run.context, place.next, [Allotted(value, needs)])
        self._measure(run.place, started, 1)

    def _pass_on(self, run: PendingValues) -> None:
        """Where a whole stream is run by one, there is nothing to be found."""
        self.stack.pop()
        self._add(PendingValues(run.context, self._places[run.place].next, run.values[run.index :]))

    def pass_failure(self, context: ScopeContext, place: Place, item: Any, failure: Failure) -> None:
        """A failure goes on in the place of an item: behind the job, where it was to be asked what that needs."""
        goal = self._places[place.next].next if place.kind == Kind.ALLOT else place.next
        self._add(PendingValues(context, goal, [self.keys.passed(item, failure)]))

    # reductions -------------------------------------------------------------------------------------------------------

    def _fold(self, run: PendingValues) -> None:
        values = list(self._batch(run, self._batches[run.place]))
        started = self.pace.now
        place, context = self._places[run.place], run.context
        recurred: list[Any] = []
        for key, works in self.keys.portions(place, values):
            recurred += self.keys.recurred(key, self._fold_portion(context, place, works))
        if recurred:
            self.multiples.go(context, run.place, place.first, recurred, values)
        self._measure(run.place, started, len(values))

    def _fold_portion(self, context: ScopeContext, place: Place, values: list[Any]) -> list[Any]:
        """Gives values to a reduce; returns what it recurs."""
        context.active.add(place.segment)
        store = self.rounds.store_of(context, place)
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

    # ends of bodies ---------------------------------------------------------------------------------------------------

    def _end(self, run: PendingValues) -> None:
        context = run.context
        if type(context) is Outbox:
            self.stack.pop()
            started = self.pace.now
            values = run.values[run.index :] if run.index else run.values
            context.outputs.extend(values)
            self._gather(context, values)
            self._measure(run.place, started, len(run.values))
        elif type(context) is FrameScope:
            values = self._batch(run, self._batches[run.place])
            started = self.pace.now
            recurred = self.end_frame(context, self._places[run.place], values)
            if recurred:
                self.rounds.recur(context, recurred)
            self._measure(run.place, started, len(values))
        else:
            self.stack.pop()
            context.deliver(self.keys.bare(run.values[run.index :]))  # type: ignore[attr-defined]

    def end_frame(self, frame: FrameScope, place: Place, values: Sequence[Any]) -> list[Any]:
        """Gives values to a frameEnd; returns what it recurs."""
        recurred: list[Any] = []
        if place.time_limited:
            return self._end_singly(frame, place, values)
        turn, left = self.turn, iter(values)
        while True:
            turn.is_away = True
            try:
                stop = self.keys.end_all(frame, place, left, recurred)
            finally:
                turn.is_away = False
                if turn.is_claimed:
                    turn.wait()
            if stop is None:
                return recurred
            left = stop.left
            recurred += self._end_again(frame, place, stop)

    def _end_again(self, frame: FrameScope, place: Place, stop: Stop) -> list[Any]:
        """What a retry recurs; nothing for a value that is skipped."""
        assert stop.error is not None
        retry = partial(self.keys.end, frame, place, stop.item)
        try:
            answer: list[Any] = self.failures.again(place, stop.item, stop.error, retry)
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return []
        return answer

    def _end_singly(self, frame: FrameScope, place: Place, values: Sequence[Any]) -> list[Any]:
        recurred: list[Any] = []
        for value in values:
            try:
                recurred += self.failures.call(place, "", value, self.keys.end, frame, place, value)
            except ItemSkipped as skipped:
                self.failures.record(skipped)
        return recurred


def _lent_only(step: Step, park: Step) -> Step:
    """A step for values that are lent one by one: those that have come from a stage before are parked, to be lent."""

    def step_or_park(run: PendingValues) -> None:
        (park if run.base is None else step)(run)

    return step_or_park
