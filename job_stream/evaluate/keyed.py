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
from .entries import Rest, Run
from .evaluator import Evaluator
from .scopes import Context, Frame

__all__ = ["KeyedEvaluator", "mix", "newEvaluator", "pairs", "roundKey"]

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


def roundKey(frame: Frame) -> int:
    """The key of a frame in its present round."""
    return mix(frame.key, frame.round)


def _keyOf(scope: Context) -> int:
    return roundKey(scope) if isinstance(scope, Frame) else scope.key


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

    def _jobAnswers(self, place: Place, pair: Pair) -> Any:
        key, value = pair
        self._begin(place, key)
        answer = calls.apply(place.function, value)
        if answer is None or (type(answer) is Multiple and not calls.small(answer)):
            return answer
        if type(answer) is Multiple:
            return Multiple([Pair(mix(key, i), v) for i, v in enumerate(answer.workList) if v is not None])
        return Pair(key, answer)

    def callJob(self, run: Run, values: Iterator[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def job(pair: Pair) -> Any:
            return self._jobAnswers(place, pair)

        if place.solo:
            return self.failures.timed(calls.callJob, job, values, outputs)  # type: ignore[no-any-return]
        return calls.callJob(job, values, outputs)

    def routed(self, place: Place, value: Any) -> tuple[int, Any]:
        goal, bare = super().routed(place, value[1])
        return goal, Pair(value[0], bare)

    def retryJob(self, place: Place, item: Any) -> Any:
        return self._mapAnswer(place, item) if place.kind == Kind.MAP else self._jobAnswers(place, item)

    def hold(self, rest: Rest) -> None:
        rest.draws = (self.stage, self.key, self.generator)
        super().hold(rest)

    def next(self, rest: Rest, count: int) -> list[Any]:
        if rest.draws is not None:  # a generator draws on with the call that made it
            self.stage, self.key, self.generator = rest.draws
        try:
            return super().next(rest, count)
        finally:
            rest.draws = (self.stage, self.key, self.generator)

    def madeAgain(self, rest: Rest) -> Any:
        try:
            return super().madeAgain(rest)
        finally:
            rest.draws = (self.stage, self.key, self.generator)

    def children(self, rest: Rest, values: list[Any], first: int) -> list[Any]:
        return [Pair(mix(rest.key, first + i), value) for i, value in enumerate(values) if value is not None]

    def _mapAnswer(self, place: Place, pair: Pair) -> Any:
        self._begin(place, pair[0])
        return place.function(pair[1])

    def callMap(self, run: Run, values: list[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def one(pair: Pair) -> Any:
            return self._mapAnswer(place, pair)

        if place.solo:
            return self.failures.timed(calls.callMap, one, values, outputs)  # type: ignore[no-any-return]
        return calls.callMap(one, values, outputs)

    def fold(self, context: Context, place: Place, values: list[Any]) -> list[Any]:
        recurred = []
        for key, value in values:
            self._begin(place, key)
            recurred += pairs(super().fold(context, place, [value]), key, END)
        return recurred

    def storeOf(self, context: Context, place: Place) -> Any:
        if place.number not in context.stores:
            self._begin(place, context.key)
        return super().storeOf(context, place)

    def emitStore(self, scope: Context, place: Place, store: Any) -> list[Any]:
        rounds = [store.rounds] if type(store) is Reduction and store.rounds else []
        self._begin(place, mix(_keyOf(scope), EMIT, *rounds))
        return super().emitStore(scope, place, store)

    def emitted(self, scope: Context, place: Place, values: list[Any], *number: int) -> list[Any]:
        return pairs(values, _keyOf(scope), EMIT, place.number, *number)

    def _firstOf(self, place: Place, first: Pair) -> Pair:
        """What opens a frame, with the key that the user wants for it, if there is one."""
        if place.key is None:
            return first
        return Pair(mix(self.failures.call(place, "key", first, _number, place, first.value), KEY), first.value)

    def storeOfFrame(self, place: Place, first: Any) -> Any:
        first = self._firstOf(place, first)
        self._begin(place, mix(first.key, EMIT))
        return super().storeOfFrame(place, first)

    def emitFrameStore(self, frame: Frame) -> list[Any]:
        self._begin(frame.place, mix(frame.key, EMIT))
        return super().emitFrameStore(frame)

    def newFrame(self, context: Context, place: Place, store: Any, first: Any) -> Frame:
        key, value = self._firstOf(place, first)
        return Frame(context, place, store, value, key)

    def callFrame(self, frame: Frame) -> Any:
        self._begin(frame.place, roundKey(frame) if frame.round else frame.key)
        return super().callFrame(frame)

    def roundValues(self, frame: Frame, values: list[Any]) -> list[Any]:
        return pairs(values, frame.key, frame.round + 1)

    def frameOutputs(self, frame: Frame, values: list[Any]) -> list[Any]:
        if len(values) == 1 and type(values[0]) is not calls.Lazy:
            return [Pair(frame.key, values[0])]
        return pairs(values, frame.key, EMIT)

    def callEnd(self, frame: Frame, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        pair = None
        try:
            for pair in values:
                recurred += self.endOne(frame, place, pair)
        except BaseException as error:
            return Stop(pair, values, error)
        return None

    def endOne(self, frame: Frame, place: Place, item: Any) -> list[Any]:
        key, value = item
        self._begin(place, key)
        return pairs(calls.answers(calls.applyWithStore, place.function, frame.store, value), key, END)

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return [value for _, value in values]


def newEvaluator(plan: Plan, processes: bool | None, note: Any, seed: int | None) -> Evaluator:
    """The evaluator for a stream with or without a seed."""
    return (Evaluator if seed is None else KeyedEvaluator)(plan, processes, note, seed)
