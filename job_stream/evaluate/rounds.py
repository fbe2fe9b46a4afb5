"""Scopes that live in an evaluator: how their stores are made, their rounds begun, and what they emit when they end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..memory.words import NOTE_PLACE, Words
from ..stream.plan import Place, Plan
from ..values import Again
from . import calls
from .calls import Lazy
from .entries import PendingMultiple, PendingValues, ScopeMark
from .failures import Failures, ItemSkipped
from .keys import Unkeyed
from .multiples import Multiples
from .outboxes import FrameScope, ScopeContext, StreamScope
from .stack import Stack

__all__ = ["Rounds"]


class Rounds:
    """Opens frames, begins their rounds, and ends scopes that have drained.

    Args:
        plan: the stream.
        note: where the place under work is written down, for whoever looks when this process has died.
        stack: where scopes and what they recur are put.
        multiples: what they recur or emit, where that is long.
        failures: what happens when user code raises.
        keys: of what they recur and emit.
    """

    def __init__(self, plan: Plan, note: Words, stack: Stack, multiples: Multiples, failures: Failures,
                 keys: Unkeyed) -> None:  # fmt: skip
        self._plan = plan
        self._note = note
        self._stack = stack
        self._multiples = multiples
        self._failures = failures
        self._keys = keys

    def end(self, scope: FrameScope | StreamScope) -> None:
        """A scope has drained, whose mark is on top: its next reduction is emitted, or its next round begins."""
        if scope.active:
            body = self._plan.bodies[scope.place.inner if type(scope) is FrameScope else 0]
            segment = min(scope.active)
            scope.active.discard(segment)
            self._emit_fold(scope, self._plan.places[body.segments[segment].last], body.segments[segment + 1].folds)
        elif type(scope) is FrameScope:
            self._next_round(scope)
        else:
            self._stack.leave()

    # reductions -------------------------------------------------------------------------------------------------------

    def store_of(self, context: ScopeContext, place: Place) -> Any:
        """The store of a reduction, made when it is needed first."""
        store = context.stores.get(place.number, self)
        if store is self:
            store = self._failures.call(place, "store", None, self._keys.new_store, place, context)
            context.stores[place.number] = store
        return store

    def _emit_fold(self, scope: ScopeContext, place: Place, next_folds: bool) -> None:
        if next_folds:
            scope.active.add(place.segment + 1)
        self._multiples.go(scope, place.number, place.next, self.emit_fold(scope, place))

    def emit_fold(self, scope: ScopeContext, place: Place, home: ScopeContext | None = None) -> list[Any]:
        """What a drained reduction emits; if it goes on, it does so in ``home``, or where it is."""
        try:
            store = self.store_of(scope, place)
            del scope.stores[place.number]
            values = self._failures.call(place, "emit", store, self._keys.emit_store, place, scope, store)
        except ItemSkipped as skipped:
            self._failures.record(skipped)
            return []
        if values and type(values[0]) is Again:
            return self._fold_on(scope, place, store, values[0], home or scope)
        return self._keys.emitted(place, scope, _remade(values, partial(self._keys.emit_store, place, scope, store)))

    def _fold_on(self, scope: ScopeContext, place: Place, store: Any, again: Again, home: ScopeContext) -> list[Any]:
        """Goes on with a reduction whose end has recurred something; gives what it has emitted already."""
        home.stores[place.number] = store
        home.active.add(place.segment)
        recurred = self._keys.emitted(place, scope, calls.elements(again.recurred), store.rounds)
        self._multiples.go(home, place.number, place.first, recurred)
        return self._keys.emitted(place, scope, again.emitted, store.rounds, 0)

    # frames -----------------------------------------------------------------------------------------------------------

    def open(self, run: PendingValues) -> None:
        """Opens the frame of one item."""
        (first,) = self._stack.batch(run, 1)
        place = self._plan.places[run.place]
        try:
            self._stack.enter(self._new_frame(run.context, place, first))
        except ItemSkipped as skipped:
            self._failures.record(skipped)

    def _new_frame(self, context: ScopeContext, place: Place, first: Any) -> FrameScope:
        if place.key is not None:
            first = self._failures.call(place, "key", first, self._keys.first, place, first)
        store = self._failures.call(place, "store", first, self._keys.new_frame_store, place, first)
        return self._keys.frame(context, place, store, first)

    def _next_round(self, frame: FrameScope) -> None:
        place = frame.place
        self._note[NOTE_PLACE] = place.number
        try:
            answer = self._failures.call(place, "", frame.first, self._keys.begin_round, frame)
            if answer is None or not self._begin_round(frame, answer):
                self._finish(frame)
        except ItemSkipped as skipped:
            self._stack.abandon(frame)
            self._failures.record(skipped)

    def _finish(self, frame: FrameScope) -> None:
        """Emits a frame that recurred nothing; its mark is on top."""
        values = self._emission(frame)
        self._stack.leave()
        self._go_on(frame, values)

    def _emission(self, frame: FrameScope) -> list[Any]:
        place = frame.place
        values: list[Any] = self._failures.call(place, "emit", frame.first, self._keys.emit_frame, frame)
        return _remade(values, partial(self._keys.emit_frame, frame))

    def _go_on(self, frame: FrameScope, values: list[Any]) -> None:
        place = frame.place
        outputs = self._keys.outputs(frame, values)
        self._multiples.go(frame.context, place.number, place.next, outputs, frame, again=True)

    def emit_again(self, frame: FrameScope) -> None:
        """Emits a frame once more, to get at the rest of a long Multiple."""
        self._go_on(frame, self._emission(frame))

    def _begin_round(self, frame: FrameScope, answer: Any) -> bool:
        """Puts what a frame recurred on the stack. False: it recurred nothing."""
        body = self._plan.bodies[frame.place.inner]
        values = self._keys.begun(frame, calls.elements(answer))
        self._multiples.go(frame, frame.place.number, body.segments[0].first, values, frame)
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
        rest = self._stack.top
        assert type(rest) is PendingMultiple
        while self._multiples.pull(rest, 256):
            if self._stack.top is not rest:
                break
        return type(self._stack.top) is not ScopeMark

    def recur(self, frame: FrameScope, values: list[Any]) -> None:
        """Puts what a frameEnd recurred on the stack."""
        body = self._plan.bodies[frame.place.inner]
        if body.segments[0].folds:
            frame.active.add(0)
        self._multiples.go(frame, body.end, body.segments[0].first, values, frame)


def _remade(values: list[Any], emit: Callable[[], list[Any]]) -> list[Any]:
    """What ``emit`` gave, with the way to have it once more where it is a long Multiple."""

    def again() -> Any:
        return next((value.work for value in emit() if type(value) is Lazy), ())

    for value in values:
        if type(value) is Lazy:
            value.remake = again
    return values
