"""Scopes that live in an evaluator: how their stores are made, their rounds begun, and what they emit when they end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Any

from ..memory.words import NOTE_PLACE
from ..stream.plan import Place
from ..values import Again, Object
from . import calls
from .calls import Lazy
from .entries import PendingMultiple, PendingValues, ScopeMark
from .failures import ItemSkipped, StageFailed
from .outboxes import FrameScope, ScopeContext, StreamScope
from .stack import Stack

__all__ = ["Rounds"]


class Rounds(Stack):
    """Opens frames, begins their rounds, and ends scopes that have drained."""

    # reductions -------------------------------------------------------------------------------------------------------

    def store_of(self, context: ScopeContext, place: Place) -> Any:
        """The store of a reduction, made when it is needed first."""
        store = context.stores.get(place.number, self)
        if store is self:
            store = context.stores[place.number] = self.failures.call(place, "store", None, _maker(place))
        return store

    def _drained(self, scope: FrameScope | StreamScope) -> None:
        body = self.plan.bodies[scope.place.inner if type(scope) is FrameScope else 0]
        if scope.active:
            segment = min(scope.active)
            scope.active.discard(segment)
            self._emit_fold(scope, self.places[body.segments[segment].last], body.segments[segment + 1].folds)
        elif type(scope) is FrameScope:
            self._next_round(scope)
        else:
            self._leave()

    def _emit_fold(self, scope: ScopeContext, place: Place, next_folds: bool) -> None:
        if next_folds:
            scope.active.add(place.segment + 1)
        self.go(scope, place.number, place.next, self.emit_fold(scope, place))

    def emit_fold(self, scope: ScopeContext, place: Place, home: ScopeContext | None = None) -> list[Any]:
        """What a drained reduction emits; if it goes on, it does so in ``home``, or where it is."""
        try:
            store = self.store_of(scope, place)
            del scope.stores[place.number]
            values = self.failures.call(place, "emit", store, self.emit_store, scope, place, store)
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return []
        if values and type(values[0]) is Again:
            return self._fold_on(scope, place, store, values[0], home or scope)
        return self.emitted(scope, place, _remade(values, partial(self.emit_store, scope, place, store)))

    def emit_store(self, scope: ScopeContext, place: Place, store: Any) -> list[Any]:
        """What the store of a reduction stands for, by a call of the user's function."""
        return calls.answers(calls.same if place.emit is None else place.emit, store)

    def _fold_on(self, scope: ScopeContext, place: Place, store: Any, again: Again, home: ScopeContext) -> list[Any]:
        """Goes on with a reduction whose end has recurred something; gives what it has emitted already."""
        home.stores[place.number] = store
        home.active.add(place.segment)
        recurred = self.emitted(scope, place, calls.elements(again.recurred), store.rounds)
        self.go(home, place.number, place.first, recurred)
        return self.emitted(scope, place, again.emitted, store.rounds, 0)

    def emitted(self, scope: ScopeContext, place: Place, values: list[Any], *number: int) -> list[Any]:
        """What is to go on of values that the end of a reduction gave; ``number`` tells one set of them from others."""
        return values

    # frames -----------------------------------------------------------------------------------------------------------

    def _frame(self, run: PendingValues) -> None:
        """Opens the frame of one item."""
        first = run.values[run.index]
        run.index += 1
        if run.index >= len(run.values):
            self.stack.pop()
        place = self.places[run.place]
        try:
            store = self.store_of_frame(place, first)
            frame = self.new_frame(run.context, place, store, first)
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return
        self.enter(frame)

    def store_of_frame(self, place: Place, first: Any) -> Any:
        return self.failures.call(place, "store", first, _maker(place))

    def new_frame(self, context: ScopeContext, place: Place, store: Any, first: Any) -> FrameScope:
        return FrameScope(context, place, store, first, 0)

    def enter(self, scope: FrameScope | StreamScope) -> None:
        """Puts a scope on the stack; its next round begins with the next step."""
        self.stack.append(ScopeMark(scope))
        self.marks += 1

    def _leave(self) -> None:
        self.stack.pop()
        self.marks -= 1

    def _next_round(self, frame: FrameScope) -> None:
        place = frame.place
        self._note[NOTE_PLACE] = place.number
        try:
            answer = self.failures.call(place, "", frame.first, self.call_frame, frame)
            if answer is None or not self._begins(frame, answer):
                self._finish(frame)
        except ItemSkipped as skipped:
            self._abandon(frame)
            self.failures.record(skipped)
        self.now = perf_counter()

    def _finish(self, frame: FrameScope) -> None:
        """Emits a frame that recurred nothing; its mark is on top."""
        values = self.emission(frame)
        self._leave()
        self._go_on(frame, values)

    def emission(self, frame: FrameScope) -> list[Any]:
        place = frame.place
        values: list[Any] = self.failures.call(place, "emit", frame.first, self.emit_frame_store, frame)
        return _remade(values, partial(self.emit_frame_store, frame))

    def emit_frame_store(self, frame: FrameScope) -> list[Any]:
        """What the store of a frame stands for, by a call of the user's function."""
        emit = frame.place.emit
        return calls.answers(calls.same if emit is None else emit, frame.store)

    def _go_on(self, frame: FrameScope, values: list[Any]) -> None:
        place = frame.place
        self.go(frame.context, place.number, place.next, self.frame_outputs(frame, values), frame, again=True)

    def emit_frame(self, frame: FrameScope) -> None:
        """Emits a frame once more, to get at the rest of a long Multiple."""
        self._go_on(frame, self.emission(frame))

    def _abandon(self, frame: FrameScope) -> None:
        while True:
            entry = self.stack[-1]
            if type(entry) is ScopeMark and entry.scope is frame:
                return self._leave()
            self.stack.pop()

    def _begins(self, frame: FrameScope, answer: Any) -> bool:
        try:
            return self._begin_round(frame, answer)
        except (StageFailed, ItemSkipped):
            raise
        except Exception as error:
            self.failures.again(frame.place, frame.first, error, None)
            return False

    def call_frame(self, frame: FrameScope) -> Any:
        return calls.apply_with_store(frame.place.function, frame.store, frame.first)

    def _begin_round(self, frame: FrameScope, answer: Any) -> bool:
        """Puts what a frame recurred on the stack. False: it recurred nothing."""
        body = self.plan.bodies[frame.place.inner]
        values = self.round_values(frame, calls.elements(answer))
        self.go(frame, frame.place.number, body.segments[0].first, values, frame)
        if values and type(values[0]) is Lazy and not self._has_elements():
            values = []
        if not values:
            return False
        frame.round += 1
        if body.segments[0].folds:
            frame.active.add(0)
        return True

    def _has_elements(self) -> bool:
        """Whether a long Multiple that a frame recurred has an element at all; takes the first ones."""
        rest = self.stack[-1]
        assert type(rest) is PendingMultiple
        while self.pull(rest, 256):
            if self.stack[-1] is not rest:
                break
        return type(self.stack[-1]) is not ScopeMark

    def round_values(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        return values

    def frame_outputs(self, frame: FrameScope, values: list[Any]) -> list[Any]:
        return values


def _remade(values: list[Any], emit: Callable[[], list[Any]]) -> list[Any]:
    """What ``emit`` gave, with the way to have it once more where it is a long Multiple."""

    def again() -> Any:
        return next((value.work for value in emit() if type(value) is Lazy), ())

    for value in values:
        if type(value) is Lazy:
            value.remake = again
    return values


def _maker(place: Place) -> Callable[[], Any]:
    """What makes a store; it may be an object that is false."""
    return Object if place.store is None else place.store
