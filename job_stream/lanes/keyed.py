"""The evaluator of a stream with a seed: every value travels with a key that says where in the stream it came from.

A value is a ``Pair`` here. The key depends only on the item's position in the source and on the way from
there, never on which process does the work or when, so random numbers drawn from (seed, stage, key) are the same on
any number of lanes. The keys of a reduction's recurrences depend on the works only; what ``others`` recur cannot have
such a key, since the grouping is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

from ..plan import Kind, Place
from . import calls
from .calls import Stop
from .evaluator import Context, Evaluator, Frame, Rest, Run

__all__ = ["KeyedEvaluator", "Pair", "mix"]

END, EMIT = 1 << 40, 1 << 41


def mix(key: int, *numbers: int) -> int:
    """A new key from a key and how its child differs from it."""
    text = ",".join(map(str, (key, *numbers))).encode()
    return int.from_bytes(blake2b(text, digest_size=12).digest(), "little")


class Pair(NamedTuple):
    """A value and its key."""

    key: int
    value: Any


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
        if answer is None or (type(answer) is calls.Multiple and not calls.small(answer)):
            return answer
        if type(answer) is calls.Multiple:
            return calls.Multiple([Pair(mix(key, i), v) for i, v in enumerate(answer.workList) if v is not None])
        return Pair(key, answer)

    def callJob(self, run: Run, values: Iterator[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def job(pair: Pair) -> Any:
            return self._jobAnswers(place, pair)

        if place.solo:
            return self.failures.timed(calls.callJob, job, values, outputs)
        return calls.callJob(job, values, outputs)

    def retryJob(self, place: Place, item: Any) -> Any:
        return self._mapAnswer(place, item) if place.kind == Kind.MAP else self._jobAnswers(place, item)

    def children(self, rest: Rest, values: list[Any], first: int) -> list[Any]:
        key = rest.item[0] if rest.key == 0 else mix(rest.context.key, rest.key)
        return [Pair(mix(key, first + i), value) for i, value in enumerate(values) if value is not None]

    def _mapAnswer(self, place: Place, pair: Pair) -> Any:
        self._begin(place, pair[0])
        return place.function(pair[1])

    def callMap(self, run: Run, base: int, values: list[Any], outputs: list[Any]) -> Stop | None:
        place = self.places[run.place]

        def one(pair: Pair) -> Any:
            return self._mapAnswer(place, pair)

        if place.solo:
            return self.failures.timed(calls.callMap, one, values, outputs)
        return calls.callMap(one, values, outputs)

    def fold(self, context: Context, place: Place, values: list[Any]) -> list[Any]:
        recurred = []
        for key, value in values:
            self._begin(place, key)
            recurred += [Pair(mix(key, END, i), v) for i, v in enumerate(super().fold(context, place, [value]))]
        return recurred

    def storeOf(self, context: Context, place: Place) -> Any:
        if place.number not in context.stores:
            self._begin(place, context.key)
        return super().storeOf(context, place)

    def emitted(self, scope: Context, place: Place, values: list[Any]) -> list[Any]:
        round = scope.round if isinstance(scope, Frame) else 0
        return [Pair(mix(scope.key, EMIT, place.number, round, i), value) for i, value in enumerate(values)]

    def newFrame(self, context: Context, place: Place, store: Any, first: Any) -> Frame:
        return Frame(context, place, store, first[1], first[0])

    def callFrame(self, frame: Frame) -> Any:
        self._begin(frame.place, mix(frame.key, frame.round) if frame.round else frame.key)
        return super().callFrame(frame)

    def roundValues(self, frame: Frame, values: list[Any]) -> list[Any]:
        key = mix(frame.key, frame.round + 1)
        return [Pair(mix(key, i), value) for i, value in enumerate(values)]

    def frameOutputs(self, frame: Frame, values: list[Any]) -> list[Any]:
        if len(values) == 1:
            return [Pair(frame.key, values[0])]
        return [Pair(mix(frame.key, EMIT, i), value) for i, value in enumerate(values)]

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
        answers = calls.answers(calls.applyWithStore, place.function, frame.store, value)
        return [Pair(mix(key, END, i), answer) for i, answer in enumerate(answers)]

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return [value for _, value in values]
