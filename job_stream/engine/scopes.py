"""Scopes: where outputs belong and what is still open.

A scope counts, for each segment of its body, the pieces that are open there; pieces that are lent are open. Whatever
a piece leads to is counted before the piece itself is closed, so a count of zero means that the segment has drained. A
reduction is *active* from the moment something enters its segment (for the stream: from the beginning) until it emits;
it emits when its segment and all before it have drained.
"""

from __future__ import annotations

from ..plan import Body, Plan

__all__ = ["Scope", "Scopes"]

STREAM = 0


class Scope:
    """The stream, or one open frame."""

    __slots__ = ("active", "body", "calls", "key", "number", "opens", "parent", "place")

    def __init__(self, number: int, body: Body, parent: int, place: int) -> None:
        self.number = number
        self.body = body
        self.parent = parent
        self.place = place
        self.opens = [0] * len(body.segments)
        self.active: set[int] = set()
        self.calls = 0
        self.key = 0

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
    """All scopes whose home is this rank."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._last = STREAM
        stream = Scope(STREAM, plan.bodies[0], -1, -1)
        self._scopes = {STREAM: stream}
        if stream.body.segments[0].folds:
            stream.active.add(0)

    def __getitem__(self, number: int) -> Scope:
        return self._scopes[number]

    def open(self, parent: int, place: int) -> Scope:
        """A new open frame; it is one open piece of the scope around it."""
        self._last += 1
        body = self._plan.bodies[self._plan.places[place].inner]
        self._scopes[self._last] = scope = Scope(self._last, body, parent, place)
        self._scopes[parent].enter(self._plan.places[place].segment)
        return scope

    def close(self, number: int) -> Scope:
        return self._scopes.pop(number)

    def __len__(self) -> int:
        return len(self._scopes)
