"""The evaluator of a stream with a seed: every value travels with a key that says where in the stream it came from.

A value is a ``Pair`` here. The key depends only on the item's position in the source and on the way from
there, never on which process does the work or when, so random numbers drawn from (seed, stage, key) are the same on
any number of lanes. The keys of a reduction's recurrences depend on the works only; what ``others`` recur cannot have
such a key, since the grouping is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Integral
from typing import Any

from ..errors import PlanError
from ..ground.texts import shorten
from ..stream.plan import Kind, Place, Plan
from ..values import Multiple, Pair, Reduction
from . import calls
from .calls import Stop
from .entries import PendingMultiple, PendingValues
from .evaluator import Evaluator
from .outboxes import FrameScope, ScopeContext

__all__ = ["KeyedEvaluator", "mix", "new_evaluator", "pairs", "round_key"]

END, EMIT, KEY = 1 << 40, 1 << 41, 1 << 42


def mix(key: int, *numbers: int) -> int:
    """A new key from a key and how its child differs from it."""
    from hashlib import blake2b  # slow to load, and only streams with a seed need it

    text = ",".join(map(str, (key, *numbers))).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "little") >> 1


def pairs(values: list[Any], key: int, *more: int) -> list[Any]:
    """Values with keys made from ``key`` and their numbers."""
    for value in values:
        if type(value) is calls.Lazy:
            value.key = mix(key, *more)
    return [v if type(v) is calls.Lazy else Pair(mix(key, *more, i), v) for i, v in enumerate(values)]


def round_key(frame: FrameScope) -> int:
    """The key of a frame in its present round."""
    return mix(frame.key, frame.round)


def _key_of(scope: ScopeContext) -> int:
    return round_key(scope) if isinstance(scope, FrameScope) else scope.key


def _number(place: Place, value: Any) -> int:
    number = calls.apply(place.key, value)  # type: ignore[arg-type]
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise PlanError(f"frame {place.name!r}: key must give a whole number, not {shorten(number, 80)}")
    return int(number)


class KeyedEvaluator(Evaluator):
    """Runs pairs of key and value, and tells ``rng()`` the key of the call under way."""

    keyed = True
    key = 0
    stage = 0

    def _begin(self, place: Place, key: int) -> None:
        self.stage, self.key, self.generator = place.number, key, None

    def _job_answers(self, place: Place, pair: Pair) -> Any:
        key, value = pair
        self._begin(place, key)
        answer = calls.apply(place.function, value)
        if answer is None or (type(answer) is Multiple and not calls.small(answer)):
            return answer
        if type(answer) is Multiple:
            return Multiple([Pair(mix(key, i), v) for i, v in enumerate(answer.workList) if v is not None])
        return Pair(key, answer)

    def call_job(self, run: PendingValues, values: Iterator[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def job(pair: Pair) -> Any:
            return self._job_answers(place, pair)

        if place.time_limited:
            return self.failures.timed(calls.call_job, job, values, outputs)  # type: ignore[no-any-return]
        return calls.call_job(job, values, outputs)

    def routed(self, place: Place, value: Any) -> tuple[int, Any]:
        goal, bare = super().routed(place, value[1])
        return goal, Pair(value[0], bare)

    def retry_job(self, place: Place, item: Any) -> Any:
        return self._map_answer(place, item) if place.kind == Kind.MAP else self._job_answers(place, item)

    def hold(self, rest: PendingMultiple) -> None:
        rest.draws = (self.stage, self.key, self.generator)
        super().hold(rest)

    def next(self, rest: PendingMultiple, count: int) -> list[Any]:
        if rest.draws is not None:  # a generator draws on with the call that made it
            self.stage, self.key, self.generator = rest.draws
        try:
            return super().next(rest, count)
        finally:
            rest.draws = (self.stage, self.key, self.generator)

    def made_again(self, rest: PendingMultiple) -> Any:
        try:
            return super().made_again(rest)
        finally:
            rest.draws = (self.stage, self.key, self.generator)

    def children(self, rest: PendingMultiple, values: list[Any], first: int) -> list[Any]:
        return [Pair(mix(rest.key, first + i), value) for i, value in enumerate(values) if value is not None]

    def _map_answer(self, place: Place, pair: Pair) -> Any:
        self._begin(place, pair[0])
        return place.function(pair[1])

    def call_map(self, run: PendingValues, values: list[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def one(pair: Pair) -> Any:
            return self._map_answer(place, pair)

        if place.time_limited:
            return self.failures.timed(calls.call_map, one, values, outputs)  # type: ignore[no-any-return]
        return calls.call_map(one, values, outputs)

    def fold(self, context: ScopeContext, place: Place, values: list[Any]) -> list[Any]:
        recurred = []
        for key, value in values:
            self._begin(place, key)
            recurred += pairs(super().fold(context, place, [value]), key, END)
        return recurred

    def store_of(self, context: ScopeContext, place: Place) -> Any:
        if place.number not in context.stores:
            self._begin(place, context.key)
        return super().store_of(context, place)

    def emit_store(self, scope: ScopeContext, place: Place, store: Any) -> list[Any]:
        rounds = [store.rounds] if type(store) is Reduction and store.rounds else []
        self._begin(place, mix(_key_of(scope), EMIT, *rounds))
        return super().emit_store(scope, place, store)

    def emitted(self, scope: ScopeContext, place: Place, values: list[Any], *number: int) -> list[Any]:
        return pairs(values, _key_of(scope), EMIT, place.number, *number)

    def _first_of(self, place: Place, first: Pair) -> Pair:
        """What opens a frame, with the key that the user wants for it, if there is one."""
        if place.key is None:
            return first
        return Pair(mix(self.failures.call(place, "key", first, _number, place, first.value), KEY), first.value)

    def store_of_frame(self, place: Place, first: Any) -> Any:
        first = self._first_of(place, first)
        self._begin(place, mix(first.key, EMIT))
        return super().store_of_frame(place, first)

    def emit_frame_store(self, frame: FrameScope) -> list[Any]:
        self._begin(frame.place, mix(frame.key, EMIT))
        return super().emit_frame_store(frame)

    def new_frame(self, context: ScopeContext, place: Place, store: Any, first: Any) -> FrameScope:
        key, value = self._first_of(place, first)
        return FrameScope(context, place, store, value, key)

    def call_frame(self, frame: FrameScope) -> Any:
        self._begin(frame.place, round_key(frame) if frame.round else frame.key)
        return super().call_frame(frame)

    def round_values(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        return pairs(values, frame.key, frame.round + 1)

    def frame_outputs(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        if len(values) == 1 and type(values[0]) is not calls.Lazy:
            return [Pair(frame.key, values[0])]
        return pairs(values, frame.key, EMIT)

    def call_end(self, frame: FrameScope, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        pair = None
        try:
            for pair in values:
                recurred += self.end_one(frame, place, pair)
        except BaseException as error:
            return Stop(pair, values, error)
        return None

    def end_one(self, frame: FrameScope, place: Place, item: Any) -> list[Any]:
        key, value = item
        self._begin(place, key)
        return pairs(calls.answers(calls.apply_with_store, place.function, frame.store, value), key, END)

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return [value for _, value in values]


def new_evaluator(plan: Plan, processes: bool | None, note: Any, seed: int | None) -> Evaluator:
    """The evaluator for a stream with or without a seed."""
    return (Evaluator if seed is None else KeyedEvaluator)(plan, processes, note, seed)
