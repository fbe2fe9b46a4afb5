"""Whether values travel with keys: the two ways that an evaluator may go, of which it has one.

In a stream with a seed a value is a ``Pair``: the key says where in the stream it came from. It depends only on the
item's position in the source and on the way from there, never on which process does the work or when, so random
numbers drawn from (seed, stage, key) are the same on any number of workers. The keys of a reduction's recurrences
depend on the works only; what ``others`` recur cannot have such a key, since the grouping is free.

So all calls of user functions go through here. Without a seed they are just that, and values stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from ..errors import PlanError
from ..ground.texts import shorten
from ..stream.plan import Kind, Place
from ..values import Args, Failure, Multiple, Object, Pair, Reduction, Sent
from . import calls
from .calls import Stop
from .entries import PendingMultiple
from .outboxes import FrameScope, ScopeContext

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Keys", "Unkeyed", "mix", "pairs"]

END, EMIT, KEY = 1 << 40, 1 << 41, 1 << 42


class Unkeyed:
    """The way of values in a stream without a seed."""

    def __init__(self) -> None:
        self._generator: Generator | None = None

    # rng() ------------------------------------------------------------------------------------------------------------

    def generator(self) -> Generator:
        """What ``rng()`` gives to the call under way."""
        if self._generator is None:
            from numpy.random import default_rng

            self._generator = default_rng()
        return self._generator

    def resume(self, rest: PendingMultiple) -> None:
        """What made a Multiple goes on."""

    def suspend(self, rest: PendingMultiple) -> None:
        """It has given some elements, and others will follow."""

    # what is called ---------------------------------------------------------------------------------------------------

    def job(self, place: Place) -> Callable[..., Any]:
        """What is called with each value of a job."""
        return place.function

    def map(self, place: Place) -> Callable[..., Any]:
        """What is called with each value of a map."""
        return place.function

    def needs(self, place: Place, item: Any) -> Any:
        """What an item needs, as the function of a place says that asks for it."""
        return place.function(item)

    def answer(self, place: Place, item: Any) -> Any:
        """What a job or the function of a map gives for an item."""
        return place.function(item) if place.kind == Kind.MAP else calls.apply(place.function, item)

    def passed(self, item: Any, failure: Failure) -> Any:
        """What goes on in the place of an item that has failed."""
        return failure

    def portions(self, place: Place, values: list[Any]) -> Iterable[tuple[int, list[Any]]]:
        """How values are given to a reduce: in one call, or one by one, each with its key."""
        return ((0, values),)

    def recurred(self, key: int, values: list[Any]) -> list[Any]:
        """What a reduce has recurred for a portion."""
        return values

    def end(self, frame: FrameScope, place: Place, item: Any) -> list[Any]:
        """What a frameEnd recurs for one value."""
        return calls.answers(calls.apply_with_store, place.function, frame.store, item)

    def end_all(self, frame: FrameScope, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        """The same for many."""
        return calls.call_end(place.function, frame.store, values, recurred)

    def new_store(self, place: Place, scope: ScopeContext) -> Any:
        """The store of a reduction; it may be an object that is false."""
        return Object() if place.store is None else place.store()

    def emit_store(self, place: Place, scope: ScopeContext, store: Any) -> list[Any]:
        """What it stands for."""
        return calls.answers(calls.same if place.emit is None else place.emit, store)

    def new_frame_store(self, place: Place, first: Any) -> Any:
        """The store of a frame."""
        return Object() if place.store is None else place.store()

    def begin_round(self, frame: FrameScope) -> Any:
        """What a frame gives at the begin of a round."""
        function, first = frame.place.function, frame.first
        if type(first) is Args:
            return calls.apply_with_store(function, frame.store, first)
        return function(frame.store, first)

    def emit_frame(self, frame: FrameScope) -> list[Any]:
        """What its store stands for."""
        emit = frame.place.emit
        return calls.answers(calls.same if emit is None else emit, frame.store)

    # what travels -----------------------------------------------------------------------------------------------------

    def source(self, values: Any, base: int | None) -> Any:
        """Values that come from the source, from position ``base`` on (None: from elsewhere)."""
        return values

    def bare(self, values: Sequence[Any]) -> list[Any]:
        """Values as they leave the stream."""
        return list(values)

    def routed(self, place: Place, value: Any) -> tuple[int, Any]:
        """Where a value goes from a switch, and what arrives there."""
        return _routed(place, value)

    def children(self, rest: PendingMultiple, values: list[Any], first: int) -> list[Any]:
        """What goes on of the elements of a Multiple from number ``first`` on."""
        return [value for value in values if value is not None]

    def emitted(self, place: Place, scope: ScopeContext, values: list[Any], *number: int) -> list[Any]:
        """What is to go on of values that the end of a reduction gave; ``number`` tells one set of them from others."""
        return values

    def merged(self, place: Place, call: int, values: list[Any]) -> list[Any]:
        """What a reduce has recurred for the stores of others."""
        return values

    def first(self, place: Place, item: Any) -> Any:
        """What opens a frame, with the key that the user wants for it."""
        return item

    def frame(self, context: ScopeContext, place: Place, store: Any, first: Any) -> FrameScope:
        """The frame that it opens."""
        return FrameScope(context, place, store, first, 0)

    def round_key(self, frame: FrameScope) -> int:
        """The key of a frame in its present round."""
        return 0

    def begun(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        """What a frame recurs at the begin of its next round."""
        return values

    def outputs(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        """What a frame has emitted."""
        return values


class Keys(Unkeyed):
    """The way of values in a stream with a seed.

    Args:
        seed: of ``rng()``.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self._seed = seed
        self._stage = 0
        self._key = 0

    def generator(self) -> Generator:
        if self._generator is None:
            from numpy.random import SeedSequence, default_rng

            self._generator = default_rng(SeedSequence(self._seed, spawn_key=(self._stage, self._key)))
        return self._generator

    def _about(self, place: Place, key: int) -> None:
        """The next call is one of this place, for this key."""
        self._stage, self._key, self._generator = place.number, key, None

    def resume(self, rest: PendingMultiple) -> None:
        """A generator draws on with the call that made it."""
        if rest.draws is not None:
            self._stage, self._key, self._generator = rest.draws

    def suspend(self, rest: PendingMultiple) -> None:
        rest.draws = (self._stage, self._key, self._generator)

    def new_store(self, place: Place, scope: ScopeContext) -> Any:
        self._about(place, scope.key)
        return super().new_store(place, scope)

    def emit_store(self, place: Place, scope: ScopeContext, store: Any) -> list[Any]:
        rounds = [store.rounds] if type(store) is Reduction and store.rounds else []
        self._about(place, mix(self._key_of(scope), EMIT, *rounds))
        return super().emit_store(place, scope, store)

    def new_frame_store(self, place: Place, first: Any) -> Any:
        self._about(place, mix(first.key, EMIT))
        return super().new_frame_store(place, first)

    def begin_round(self, frame: FrameScope) -> Any:
        self._about(frame.place, self.round_key(frame) if frame.round else frame.key)
        return super().begin_round(frame)

    def emit_frame(self, frame: FrameScope) -> list[Any]:
        self._about(frame.place, mix(frame.key, EMIT))
        return super().emit_frame(frame)

    def job(self, place: Place) -> Callable[..., Any]:
        return lambda pair: self._job_answer(place, pair)

    def _job_answer(self, place: Place, pair: Pair) -> Any:
        key, value = pair
        self._about(place, key)
        answer = calls.apply(place.function, value)
        if answer is None or (type(answer) is Multiple and not calls.small(answer)):
            return answer
        if type(answer) is Multiple:
            return Multiple([Pair(mix(key, i), v) for i, v in enumerate(answer.workList) if v is not None])
        return Pair(key, answer)

    def map(self, place: Place) -> Callable[..., Any]:
        return lambda pair: self._map_answer(place, pair)

    def _map_answer(self, place: Place, pair: Pair) -> Any:
        self._about(place, pair[0])
        return place.function(pair[1])

    def needs(self, place: Place, item: Any) -> Any:
        self._about(place, item.key)
        return place.function(item.value)

    def answer(self, place: Place, item: Any) -> Any:
        return self._map_answer(place, item) if place.kind == Kind.MAP else self._job_answer(place, item)

    def passed(self, item: Any, failure: Failure) -> Any:
        return Pair(item.key, failure)

    def portions(self, place: Place, values: list[Any]) -> Iterator[tuple[int, list[Any]]]:
        for key, value in values:
            self._about(place, key)
            yield key, [value]

    def recurred(self, key: int, values: list[Any]) -> list[Any]:
        return pairs(values, key, END)

    def end(self, frame: FrameScope, place: Place, item: Any) -> list[Any]:
        key, value = item
        self._about(place, key)
        return pairs(super().end(frame, place, value), key, END)

    def end_all(self, frame: FrameScope, place: Place, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
        pair = None
        try:
            for pair in values:
                recurred += self.end(frame, place, pair)
        except BaseException as error:
            return Stop(pair, values, error)
        return None

    def source(self, values: Any, base: int | None) -> Any:
        if base is None:
            return values
        return [value if type(value) is Pair else Pair(base + i, value) for i, value in enumerate(values)]

    def bare(self, values: Sequence[Any]) -> list[Any]:
        return [value for _, value in values]

    def routed(self, place: Place, value: Any) -> tuple[int, Any]:
        goal, bare = _routed(place, value[1])
        return goal, Pair(value[0], bare)

    def children(self, rest: PendingMultiple, values: list[Any], first: int) -> list[Any]:
        return [Pair(mix(rest.key, first + i), value) for i, value in enumerate(values) if value is not None]

    def emitted(self, place: Place, scope: ScopeContext, values: list[Any], *number: int) -> list[Any]:
        return pairs(values, self._key_of(scope), EMIT, place.number, *number)

    def merged(self, place: Place, call: int, values: list[Any]) -> list[Any]:
        return pairs(values, call, place.number)

    def first(self, place: Place, item: Any) -> Any:
        return Pair(mix(_number(place, item.value), KEY), item.value)

    def frame(self, context: ScopeContext, place: Place, store: Any, first: Any) -> FrameScope:
        return FrameScope(context, place, store, first.value, first.key)

    def round_key(self, frame: FrameScope) -> int:
        return mix(frame.key, frame.round)

    def begun(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        return pairs(values, frame.key, frame.round + 1)

    def outputs(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        if len(values) == 1 and type(values[0]) is not calls.Lazy:
            return [Pair(frame.key, values[0])]
        return pairs(values, frame.key, EMIT)

    def _key_of(self, scope: ScopeContext) -> int:
        return self.round_key(scope) if isinstance(scope, FrameScope) else scope.key


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


def _routed(place: Place, value: Any) -> tuple[int, Any]:
    return (place.routes[value.target], value.work) if type(value) is Sent else (place.next, value)


def _number(place: Place, value: Any) -> int:
    number = calls.apply(place.key, value)  # type: ignore[arg-type]
    if isinstance(number, bool) or not isinstance(number, Integral):
        raise PlanError(f"frame {place.name!r}: key must give a whole number, not {shorten(number, 80)}")
    return int(number)
