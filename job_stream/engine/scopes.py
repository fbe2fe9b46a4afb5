"""Scopes: where outputs belong and what is still open.

A scope counts, for each segment of its body, the pieces that are open there; pieces that are lent are open. Whatever
a piece leads to is counted before the piece itself is closed, so a count of zero means that the segment has drained. A
reduction is *active* from the moment something enters its segment (for the stream: from the beginning) until it emits;
it emits when its segment and all before it have drained.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..stream.plan import Body, Plan
from .ledger import Piece

__all__ = ["Debt", "Scope", "ScopeState", "Scopes"]

STREAM = 0


class Debt:
    """What a scope of borrowed pieces owes, and to whom.

    Args:
        lender: the rank that is waiting.
        loan: the lender's number of the loan.
    """

    def __init__(self, lender: int, loan: int) -> None:
        self.lender = lender
        self.loan = loan
        self.names: dict[Piece, int] = {}
        self.pieces: dict[Piece, None] = {}
        self.products: list[Any] = []
        self.nbytes = 0
        self.since = 0.0


class ScopeState(NamedTuple):
    """The stream or an open frame as plain data; what is open in it is to be counted anew."""

    number: int
    body: int
    parent: int
    place: int
    active: tuple[int, ...]
    key: int


class Scope:
    """The stream, one open frame, or borrowed pieces of another rank's scope (``debt``)."""

    __slots__ = ("active", "body", "calls", "debt", "key", "number", "opens", "parent", "place")

    def __init__(self, number: int, body: Body, parent: int, place: int) -> None:
        self.number = number
        self.body = body
        self.parent = parent
        self.place = place
        self.opens = [0] * len(body.segments)
        self.active: set[int] = set()
        self.calls = 0
        self.key = 0
        self.debt: Debt | None = None

    def enter(self, segment: int) -> None:
        """One more piece is open in a segment."""
        self.opens[segment] += 1
        if self.body.segments[segment].folds:
            self.active.add(segment)

    def due(self) -> int | None:
        """The segment whose reduction is to emit now."""
        for segment, count in enumerate(self.opens):
            if count:
                return None
            if segment in self.active:
                return segment
        return None

    @property
    def ended(self) -> bool:
        return not self.calls and not self.active and not any(self.opens)


class Scopes:
    """All scopes whose home is this rank; ``primary``: the stream is one of them."""

    def __init__(self, plan: Plan, primary: bool = True) -> None:
        self._plan = plan
        self._last = STREAM
        self._scopes: dict[int, Scope] = {}
        self._owing: dict[int, Scope] = {}
        if primary:
            self._open_stream(plan)

    def _open_stream(self, plan: Plan) -> None:
        stream = Scope(STREAM, plan.bodies[0], -1, -1)
        self._scopes[STREAM] = stream
        if stream.body.segments[0].folds:
            stream.active.add(0)

    def __getitem__(self, number: int) -> Scope:
        return self._scopes[number]

    def get(self, number: int) -> Scope | None:
        """The scope, unless it has been dropped."""
        return self._scopes.get(number)

    def __contains__(self, number: int) -> bool:
        return number in self._scopes

    def owing(self) -> list[Scope]:
        """The scopes of borrowed pieces."""
        return list(self._owing.values())

    def borrow(self, body: int, debt: Debt) -> Scope:
        """A scope for borrowed pieces."""
        self._last += 1
        self._scopes[self._last] = self._owing[self._last] = scope = Scope(self._last, self._plan.bodies[body], -1, -1)
        scope.debt = debt
        return scope

    def families(self) -> dict[int, list[Scope]]:
        """The stream and the scopes of borrowed pieces, each with the frames open in it, the outer ones first."""
        families: dict[int, list[Scope]] = {}
        for scope in sorted(self._scopes.values(), key=lambda scope: scope.number):
            family = families.get(scope.parent, [])
            family.append(scope)
            families[scope.number] = family
        return {number: family for number, family in families.items() if self._scopes[number].parent < 0}

    def hand_home(self, frame: Scope, debt: Debt) -> None:
        """An open frame goes on at the lender; what is left of it here are pieces borrowed from there."""
        self._scopes[frame.parent].opens[self._plan.places[frame.place].segment] -= 1
        frame.parent, frame.place, frame.calls, frame.debt = -1, -1, 0, debt
        self._owing[frame.number] = frame

    @property
    def last(self) -> int:
        """The number of the last scope."""
        return self._last

    def restore(self, states: tuple[ScopeState, ...], last: int) -> None:
        """Opens the scopes that ``states`` tell of; the stream, which is the first of them, is open already."""
        self._last = last
        for state in states:
            if state.number != STREAM:
                scope = Scope(state.number, self._plan.bodies[state.body], state.parent, state.place)
                self._scopes[state.number] = scope
                self._scopes[state.parent].opens[self._plan.places[state.place].segment] += 1
            scope = self._scopes[state.number]
            scope.active, scope.key = set(state.active), state.key

    def drop(self, number: int) -> list[int]:
        """Forgets a scope and all inside it; gives their numbers."""
        gone = [number]
        self._scopes.pop(number, None)
        self._owing.pop(number, None)
        for inner in list(self._scopes.values()):  # a scope is younger than the one around it
            if inner.parent in gone:
                gone.append(inner.number)
                del self._scopes[inner.number]
        return gone

    def open(self, parent: int, place: int) -> Scope:
        """A new open frame; it is one open piece of the scope around it."""
        self._last += 1
        body = self._plan.bodies[self._plan.places[place].inner]
        self._scopes[self._last] = scope = Scope(self._last, body, parent, place)
        self._scopes[parent].enter(self._plan.places[place].segment)
        return scope

    def close(self, number: int) -> Scope:
        self._owing.pop(number, None)
        return self._scopes.pop(number)

    def __len__(self) -> int:
        return len(self._scopes)
