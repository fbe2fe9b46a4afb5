"""The keeper: holds the live stores of open frames and reductions, and makes the calls on them in order."""

from __future__ import annotations

from typing import Any

from ..engine.messages import Answered, Call, Output, Product, Skip, Work
from ..plan import Kind, Place
from . import calls
from .context import enter
from .evaluator import Context, Evaluator, Frame
from .failures import Failed, Skipped, describe, failureOf
from .keyed import Pair, mix
from .lane import NOTE_LOAN, NOTE_PLACE, NOTE_UNIT
from .packing import Packing, unpackAny

__all__ = ["Keeper"]

GROUPS = 64


class Keeper:
    """Answers calls until the link ends.

    Args:
        link: to the rank.
        evaluator: makes the calls of user functions.
        packing: of values into payloads.
        note: see ``Lane``; the unit is the number of the value under work.
    """

    def __init__(self, link: Any, evaluator: Evaluator, packing: Packing, note: Any) -> None:
        self._link = link
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._packing = packing
        self._note = note
        self._stores: dict[tuple[int, int], Any] = {}
        self._actions = {"adopt": self._adopt, "end": self._end, "merge": self._merge, "emit": self._emit,
                         "checkout": self._checkout, "copy": self._copy}  # fmt: skip

    def run(self) -> None:
        """Works until the rank closes the link."""
        enter(self._evaluator)
        while True:
            message = self._link.receive()
            if message is None:
                return
            try:
                self._answer(message)
            except Failed as failed:
                self._link.send(failureOf(failed))

    def _answer(self, call: Call) -> None:
        place = self._plan.places[call.place]
        self._note[NOTE_UNIT] = 0
        self._note[NOTE_PLACE] = place.number
        self._note[NOTE_LOAN] = call.call
        products, payload = self._actions[call.kind](call, place)
        skips = [self._skip(skipped) for skipped in self._evaluator.failures.drain()]
        self._link.send(Answered(call.call, (*products, *skips), payload))
        self._note[NOTE_LOAN] = 0

    def _skip(self, skipped: Skipped) -> Skip:
        item = self._packing.packItem(skipped.item)
        return Skip(skipped.number, skipped.stage, item, skipped.attempts, describe(skipped.error))

    # what can be called -----------------------------------------------------------------------------------------------

    def _adopt(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        self._note[NOTE_PLACE] = -1 - place.number
        values = None if call.payload is None else unpackAny(call.payload)
        if place.kind == Kind.FOLD:
            self._stores[call.store] = context = Context()
            if values is not None:
                context.stores[place.number] = values[0]
        else:
            assert values is not None
            store, first, round, key = values
            frame = self._plan.places[self._plan.bodies[place.body].frame or 0]
            self._stores[call.store] = self._frame(frame, store, first, round, key)
        return [], None

    def _frame(self, place: Place, store: Any, first: Any, round: int, key: int) -> Frame:
        frame = Frame(Context(), place, store, first, key)
        frame.round = round
        return frame

    def _end(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        frame = self._stores[call.store]
        values = unpackAny(call.payload)
        if not call.careful:
            recurred = self._evaluator.endFrame(frame, place, values)
        else:
            recurred = self._endCarefully(call, frame, place, values)
        first = self._plan.bodies[place.body].segments[0].first
        return self._work(call.store[0], first, recurred, place), None

    def _endCarefully(self, call: Call, frame: Frame, place: Place, values: list[Any]) -> list[Any]:
        """One value at a time, noting which: somebody died over one of them."""
        recurred = []
        for number, value in enumerate(values):
            if number not in call.without:
                self._note[NOTE_UNIT] = number
                recurred += self._evaluator.endFrame(frame, place, [value])
        return recurred

    def _merge(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        context, evaluator = self._stores[call.store], self._evaluator
        others = unpackAny(call.payload)
        if place.number not in context.stores:
            context.stores[place.number] = others[0]
            return [], None
        store = context.stores[place.number]
        try:
            recurred = evaluator.failures.call(place, "", others, calls.answers, place.function, store, [], others)
        except Skipped as skipped:
            evaluator.failures.record(skipped)
            recurred = []
        if evaluator.keyed:
            recurred = [Pair(mix(call.call, place.number, i), value) for i, value in enumerate(recurred)]
        return self._work(call.store[0], place.first, recurred, place), None

    def _emit(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        context = self._stores.pop(call.store)
        scope = self._stores.get((call.store[0], self._plan.bodies[place.body].end))
        if scope is not None:
            scope.stores.update(context.stores)
            context = scope
        products: list[Product] = []
        for values in self._evaluator.emitFold(context, place):
            products += self._work(call.store[0], place.number + 1, values, place)
        return products, None

    def _checkout(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        answer = self._copy(call, place)
        del self._stores[call.store]
        return answer

    def _copy(self, call: Call, place: Place) -> tuple[list[Product], Any]:
        held = self._stores[call.store]
        if place.kind == Kind.FOLD:
            return [], self._pack([held.stores[place.number]], place, "store") if held.stores else None
        return [], self._pack([held.store, held.first, held.round, held.key], held.place, "store")

    # products -----------------------------------------------------------------------------------------------------------

    def _work(self, scope: int, number: int, values: list[Any], origin: Place) -> list[Product]:
        """Values at a place, as work in groups that can be lent one by one, or as outputs."""
        if not values:
            return []
        if self._plan.places[number].kind == Kind.END:
            values = self._evaluator.bare(values) if scope == 0 else values
            return [Output(scope, number, len(values), self._pack(values, origin, "output"))]
        size = 1 if self._plan.places[number].solo else -(-len(values) // GROUPS)
        groups = [values[start : start + size] for start in range(0, len(values), size)]
        return [Work(scope, number, len(group), self._pack(group, origin, "output")) for group in groups]

    def _pack(self, values: Any, place: Place, what: str) -> Any:
        try:
            return self._packing.pack(values)
        except Exception as error:
            raise Failed(place.name, f"<its {what}>", 1, error, place.number) from error

