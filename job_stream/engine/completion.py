"""How scopes go on: reductions emit, frames begin their next round, and the stream ends.

A scope is looked at whenever something in it has closed. Scopes that were opened last come first, since what they lead
to belongs to those around them.
"""

from __future__ import annotations

from ..stream.plan import Kind
from .debts import Debts
from .messages import CallKind, Fold, Payload, WorkBatch
from .rank_state import RankState
from .scopes import STREAM, Scope
from .stores import CallState, Entry

__all__ = ["Progress"]


class Progress:
    """Has scopes go on.

    Args:
        state: of the rank.
        debts: scopes of borrowed pieces are repaid.
    """

    def __init__(self, state: RankState, debts: Debts) -> None:
        self._state = state
        self._debts = debts
        self._plan = state.plan
        self._more: list[Entry] = []
        self.stream_ended = False

    def advance(self) -> None:
        """Lets every scope in which something closed go on, or end."""
        state = self._state
        state.close_source()
        while state.touched and not self.stream_ended:
            scope = state.scopes.get(state.touched.pop())
            if scope is not None and not scope.calls:
                self._advance(scope)
        self._debts.settle()
        state.make_calls()

    def _advance(self, scope: Scope) -> None:
        if scope.debt is not None:
            self._debts.advance(scope, scope.debt)
            return
        segment = scope.due()
        if segment is not None:
            self._emit(scope, segment)
        elif not scope.ended:
            return
        elif scope.number == STREAM:
            self.stream_ended = True
        else:  # a frame has drained: its store leaves the keeper, and a lane will begin the next round with it
            self._take(scope, scope.body.end)

    def _emit(self, scope: Scope, segment: int) -> None:
        """A reduction has drained: its store leaves the keeper, and a lane will emit it."""
        place = scope.body.segments[segment].last
        scope.active.discard(segment)
        if scope.body.segments[segment + 1].folds:
            scope.active.add(segment + 1)
        if self._state.stores_at(place).holds((scope.number, place)):
            self._take(scope, place)
        else:
            self._emission(scope, place, None)

    def _take(self, scope: Scope, place: int) -> None:
        store = self._state.take_store(scope, (scope.number, place))
        if store:
            self._taken(scope, place, store[0])

    def _taken(self, scope: Scope, place: int, payload: Payload) -> None:
        """A store is here that was to leave with its scope."""
        if scope.debt is not None:
            self._debts.owe(scope.debt, Fold(scope.number, place, payload))
        elif self._plan.places[place].kind == Kind.FOLD:
            self._emission(scope, place, payload)
        else:
            self._next_round(scope, payload)

    def _emission(self, scope: Scope, place: int, payload: Payload) -> None:
        work = WorkBatch(scope.number, place, 1, payload, resume=True, key=scope.key)
        self._state.open(work)
        self._state.push(work)

    def _next_round(self, scope: Scope, payload: Payload) -> None:
        """Turns an open frame back into a piece; it stays open in the scope around it."""
        self._state.scopes.close(scope.number)
        self._state.touched.discard(scope.number)
        self._state.push(WorkBatch(scope.parent, scope.place, 1, payload, resume=True))

    # the keeper -------------------------------------------------------------------------------------------------------

    def call_ended(self, entry: Entry, payload: Payload, more: bool) -> None:
        """The keeper has made a call. ``more``: it gave a long Multiple, which is to be asked for."""
        scope = self._state.scopes.get(entry.store[0])
        if scope is None:
            return
        if more:  # the scope stays busy until the rest has been asked for
            self._more.append(entry)
            return
        scope.calls -= 1
        self._state.touched.add(scope.number)
        if entry.kind is CallKind.CHECKOUT:
            self._taken(scope, entry.place, payload)

    @property
    def more(self) -> set[int]:
        """The calls whose long Multiples are to be asked for."""
        return {entry.number for entry in self._more}

    def restore(self, entry: Entry, call: CallState) -> None:
        """Goes on waiting for a call."""
        if call.more:
            self._more.append(entry)
        if call.more or not call.answered:
            self._state.scopes[entry.store[0]].calls += 1

    def ask_for_more(self, full: bool) -> None:
        """Has the keeper go on with the long Multiples it holds, while lanes have little to do."""
        if not self._more:
            return
        state = self._state
        while self._more and not full and sum(map(len, state.waiting)) <= 2 * state.lanes:
            entry = self._more.pop()
            scope = state.scopes.get(entry.store[0])
            if scope is not None:
                scope.calls -= 1
                state.call(CallKind.MORE, entry.store, entry.place, entry.origin)
        state.make_calls()
