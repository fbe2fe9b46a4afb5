"""The keeper: holds the live stores of open frames and reductions, and makes the calls on them in order."""

from __future__ import annotations

from typing import Any

from ..engine.messages import Answered, Call, CallKind, Output, Product, WorkBatch
from ..evaluate import calls
from ..evaluate.attention import Attention
from ..evaluate.context import enter
from ..evaluate.entries import PendingMultiple
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import ItemSkipped, StageFailed, Unreadable, cannot_be_read, cannot_travel, failure_of, ours
from ..evaluate.outboxes import FrameScope, ScopeContext
from ..evaluate.packing import Packing, unpack_any
from ..evaluate.products import skips_of
from ..evaluate.weights import GATHER_BYTES, weigh
from ..memory.words import NOTE_LOAN, NOTE_PLACE, NOTE_UNIT, Words
from ..stream.plan import Kind, Place
from .links import Link
from .stopwatch import Stopwatch

__all__ = ["Keeper"]

GROUPS = 64
ELEMENTS, FEW = 1024, 8
"""So many elements of a long Multiple are taken at once, or fewer where they are large; a few of them in turn."""


class Keeper:
    """Answers calls until the link ends.

    Args:
        link: to the rank.
        evaluator: makes the calls of user functions.
        packing: of values into payloads.
        note: see ``Lane``; the unit is the number of the value under work.
    """

    def __init__(self, link: Link, evaluator: Evaluator, packing: Packing, note: Words) -> None:
        self._link = link
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._packing = packing
        self._note = note
        self._watch = Stopwatch(note)
        self._stores: dict[tuple[int, int], Any] = {}
        self._attention = Attention()
        self._rests: dict[int, list[PendingMultiple]] = {}
        actions = {CallKind.ADOPT: self._adopt, CallKind.END: self._end, CallKind.MERGE: self._merge,
                   CallKind.MORE: self._more, CallKind.CHECKOUT: self._checkout, CallKind.COPY: self._copy}  # fmt: skip
        self._actions = {kind.told: action for kind, action in actions.items()}

    def run(self) -> None:
        """Works until the rank closes the link."""
        enter(self._evaluator)
        while True:
            message = self._link.receive()
            if message is None:
                return
            try:
                self._answer(message)
            except StageFailed as failed:
                self._link.send(failure_of(failed, self._packing.pack_error))
            except Exception as error:
                self._link.send(failure_of(ours("the keeper", error), self._packing.pack_error))

    def _answer(self, call: Call) -> None:
        place = self._plan.places[call.place]
        self._note[NOTE_UNIT] = 0
        self._note[NOTE_PLACE] = place.number
        self._note[NOTE_LOAN] = call.call
        self._evaluator.failures.scope = call.store[0]
        self._watch.start()
        products, payload = self._actions[call.kind](call, place)
        self._watch.stop()
        skips = skips_of(self._evaluator, self._packing)
        more = (call.payload if call.kind == CallKind.MORE.told else call.call) in self._rests
        self._link.send(Answered(call.call, (*products, *skips), payload, more))
        self._note[NOTE_LOAN] = 0

    # what can be called -----------------------------------------------------------------------------------------------

    def _adopt(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        values = None if call.payload is None else self._unpack(call, place)
        if place.kind == Kind.FOLD:
            self._stores[call.store] = context = ScopeContext()
            if values is not None:
                context.stores[place.number] = values[0]
        else:
            assert values is not None
            frame = self._plan.places[self._plan.bodies[place.body].frame or 0]
            self._stores[call.store] = FrameScope.restored(ScopeContext(), frame, values)
        return [], None

    def _unpack(self, call: Call, place: Place) -> Any:
        self._note[NOTE_PLACE] = -1 - place.number
        try:
            values = unpack_any(call.payload)
        except Exception as error:
            raise cannot_be_read(place, 1, error) from error
        self._note[NOTE_PLACE] = place.number
        return values

    def _end(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        frame = self._stores[call.store]
        values = self._unpack(call, place)
        if not call.one_by_one:
            recurred = self._evaluator.end_frame(frame, place, values)
        else:
            recurred = self._end_carefully(call, frame, place, values)
        return self._work(call, place, recurred), None

    def _end_carefully(self, call: Call, frame: FrameScope, place: Place, values: list[Any]) -> list[Any]:
        """One value at a time, noting which: somebody died over one of them."""
        recurred = []
        for number, value in enumerate(values):
            if number not in call.without:
                self._note[NOTE_UNIT] = number
                recurred += self._evaluator.end_frame(frame, place, [value])
        return recurred

    def _merge(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        context, evaluator = self._stores[call.store], self._evaluator
        others = self._unpack(call, place)
        if place.number not in context.stores:
            context.stores[place.number] = others[0]
            return [], None
        store = context.stores[place.number]
        try:
            given = self._attention.given(place, others)
            recurred = evaluator.failures.call(place, "", others, calls.answers, place.function, store, [], given)
            self._attention.check(place, given)
        except ItemSkipped as skipped:
            evaluator.failures.record(skipped)
            recurred = []
        return self._work(call, place, evaluator.keys.merged(place, call.call, recurred)), None

    def _more(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        """The next elements of the long Multiples that call number ``payload`` gave."""
        rests = self._rests[call.payload]
        values: list[Any] = []
        nbytes, more = 0, True
        while more and len(values) < ELEMENTS and nbytes < GATHER_BYTES:
            some, more = self._evaluator.multiples.take(rests[-1], FEW)
            values += some
            nbytes += weigh(some)
        if not more:
            rests.pop()
        if not rests:
            del self._rests[call.payload]
        return self._work(call, place, values), None

    def _checkout(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        answer = self._copy(call, place)
        del self._stores[call.store]
        return answer

    def _copy(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        held = self._stores[call.store]
        if place.kind == Kind.FOLD:
            return [], self._pack([held.stores[place.number]], place, "store") if held.stores else None
        return [], self._pack(held.state, held.place, "store")

    # products ---------------------------------------------------------------------------------------------------------

    def _work(self, call: Call, origin: Place, values: list[Any]) -> list[Product]:
        """What was recurred, as work in groups that can be lent one by one; long Multiples are kept for later."""
        first = origin.first if origin.kind == Kind.FOLD else self._plan.bodies[origin.body].segments[0].first
        lazies = [value for value in values if type(value) is calls.Lazy]
        if lazies:
            values = [value for value in values if type(value) is not calls.Lazy]
            self._rests[call.call] = [self._rest(lazy, origin, first) for lazy in lazies]
        if not values:
            return []
        if self._plan.places[first].kind == Kind.END:
            return [Output(call.store[0], first, len(values), self._pack(values, origin, "output"))]
        size = 1 if self._plan.places[first].alone else -(-len(values) // GROUPS)
        groups = [values[start : start + size] for start in range(0, len(values), size)]
        return [WorkBatch(call.store[0], first, len(group), self._pack(group, origin, "output")) for group in groups]

    def _rest(self, lazy: calls.Lazy, origin: Place, target: int) -> PendingMultiple:
        item = Unreadable("<an element of its Multiple>")
        return PendingMultiple(ScopeContext(), origin.number, target, item, lazy.work, key=lazy.key)

    def _pack(self, values: Any, place: Place, what: str) -> Any:
        try:
            return self._packing.pack(values)
        except Exception as error:
            raise cannot_travel(place.name, what, error, place.number) from error
