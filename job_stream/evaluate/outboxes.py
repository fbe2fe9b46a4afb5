"""Scopes: where values belong that an evaluator works on, and what leaves a body."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..stream.plan import Place

__all__ = ["FrameScope", "Outbox", "ScopeContext", "StreamScope"]


class ScopeContext:
    """Where values at some places of a body belong: the stores of its reductions hang here."""

    __slots__ = ("active", "key", "stores")

    def __init__(self, key: int = 0) -> None:
        self.key = key
        self.stores: dict[int, Any] = {}
        self.active: set[int] = set()


class Outbox(ScopeContext):
    """A scope that lives elsewhere; what leaves it is collected for the way home."""

    __slots__ = ("end", "outputs", "positions", "scope")

    def __init__(self, scope: int, end: int, key: int = 0) -> None:
        super().__init__(key)
        self.scope = scope
        self.end = end
        self.outputs: list[Any] = []
        self.positions: list[tuple[int, int]] = []

    def clear(self) -> None:
        """Forgets what it holds, which has been collected."""
        self.stores.clear()
        self.outputs, self.positions = [], []

    def deliver(self, base: int, outputs: list[Any]) -> None:
        """Takes in what belongs to the positions of the source from ``base`` on."""
        self.outputs.extend(outputs)
        self.positions.append((base, len(outputs)))


class FrameScope(ScopeContext):
    """A frame that lives in this evaluator."""

    __slots__ = ("context", "first", "place", "round", "store")

    def __init__(self, context: ScopeContext, place: Place, store: Any, first: Any, key: int) -> None:
        super().__init__(key)
        self.context = context
        self.place = place
        self.store = store
        self.first = first
        self.round = 0

    @property
    def state(self) -> list[Any]:
        """What it takes to go on with the frame elsewhere, between two rounds."""
        return [self.store, self.first, self.round, self.key]

    @classmethod
    def restored(cls, context: ScopeContext, place: Place, state: list[Any]) -> FrameScope:
        """The frame of a ``state``."""
        store, first, round, key = state
        frame = cls(context, place, store, first, key)
        frame.round = round
        return frame


class StreamScope(ScopeContext):
    """A whole stream that lives in this evaluator: a Work inside a job."""

    __slots__ = ("deliver",)

    def __init__(self, deliver: Callable[[list[Any]], None]) -> None:
        super().__init__()
        self.deliver = deliver
