"""The stack of an evaluator: the work under way. Whoever looks at it or changes it does so through here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .entries import PendingMultiple, PendingValues, ScopeMark
from .outboxes import FrameScope, ScopeContext, StreamScope

__all__ = ["Entry", "Stack"]

Entry = PendingValues | PendingMultiple | ScopeMark


class Stack:
    """What is to be done.

    Attributes:
        entries: the last one is the next. It is the same list for ever, so whoever runs what is on it may hold it.
        add: puts an entry on top.
        marks: how many of them are marks.
        parked: values whose stage is not run here.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.add: Callable[[Entry], None] = self.entries.append  # itself: a call less for each step
        self.marks = 0
        self.parked: list[PendingValues] = []

    def __bool__(self) -> bool:
        return bool(self.entries)

    @property
    def top(self) -> Entry | None:
        """The next entry, if there is one."""
        return self.entries[-1] if self.entries else None

    # what is put on it ------------------------------------------------------------------------------------------------

    def push(self, context: ScopeContext, place: int, values: Sequence[Any], base: int | None = None) -> None:
        """Puts values at a place on top."""
        self.add(PendingValues(context, place, values, base))

    def enter(self, scope: FrameScope | StreamScope) -> None:
        """Puts a scope on top; its next round begins with the next step."""
        self.add(ScopeMark(scope))
        self.marks += 1

    # what leaves it ---------------------------------------------------------------------------------------------------

    def batch(self, run: PendingValues, size: int) -> Sequence[Any]:
        """The next values of the entry on top, which leaves the stack with the last of them."""
        values, index = run.values, run.index
        count = len(values)
        if count - index <= size:
            self.entries.pop()
            run.index = count
            return values[index:] if index else values
        run.index = index + size
        return values[index : run.index]

    def pop(self) -> None:
        """Drops the entry on top."""
        self.entries.pop()

    def remove(self, entry: Entry) -> None:
        """Drops an entry, wherever it is."""
        self.entries.remove(entry)

    def park(self, run: PendingValues) -> None:
        """Puts the entry on top aside: its stage is not run here."""
        self.entries.pop()
        self.parked.append(run)

    def set_aside(self, context: ScopeContext, place: int, values: Sequence[Any]) -> None:
        """Puts values aside that no stage here is to be given."""
        self.parked.append(PendingValues(context, place, values))

    def take_parked(self) -> list[PendingValues]:
        """What was put aside, which is then forgotten."""
        parked, self.parked = self.parked, []
        return parked

    def leave(self) -> None:
        """The scope whose mark is on top has ended."""
        self.entries.pop()
        self.marks -= 1

    def abandon(self, scope: FrameScope) -> None:
        """Drops all that belongs to the innermost scope, which is this one, and its mark."""
        while True:
            entry = self.entries[-1]
            if type(entry) is ScopeMark and entry.scope is scope:
                return self.leave()
            self.entries.pop()

    def clear(self, stay: Iterable[Entry]) -> None:
        """Drops everything but some Multiples: all else has been handed over."""
        self.entries[:] = stay
        self.parked, self.marks = [], 0

    # what is on it ----------------------------------------------------------------------------------------------------

    def private(self) -> list[PendingMultiple]:
        """The Multiples that only this evaluator has, the oldest first."""
        return [entry for entry in self.entries if type(entry) is PendingMultiple and not entry.again]

    def newest_shared(self) -> PendingMultiple | None:
        """The newest Multiple that others could have made again."""
        entries = reversed(self.entries)
        return next((entry for entry in entries if type(entry) is PendingMultiple and entry.again), None)

    def contexts(self) -> list[ScopeContext]:
        """Where what is on it belongs, and where frames do that live on it."""
        return [_context_of(entry) for entry in self.entries]


def _context_of(entry: Entry) -> ScopeContext:
    if not isinstance(entry, ScopeMark):
        return entry.context
    return entry.scope.context if isinstance(entry.scope, FrameScope) else entry.scope
