"""What lies on the stack of an evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from .scopes import Context, Frame, Home, Stream

__all__ = ["Mark", "Rest", "Run"]


class Run:
    """Values waiting at a place; those before ``index`` are done. ``base``: position of the first in the source."""

    __slots__ = ("base", "context", "index", "place", "values")

    def __init__(self, context: Context, place: int, values: Sequence[Any], base: int | None = None) -> None:
        self.context = context
        self.place = place
        self.values = values
        self.index = 0
        self.base = base


class Rest:
    """What is left of a Multiple, on its way to ``target``; ``taken`` elements of it have gone on.

    ``item`` at ``place`` gave it: the value that a job was given, or the frame that emitted it. If ``again``, whoever
    has that can have the Multiple made once more; otherwise only this evaluator has what is left.
    """

    __slots__ = ("again", "bound", "context", "draws", "item", "iterator", "key", "place", "taken", "target")

    def __init__(self, context: Context, place: int, target: int, item: Any, work: Any, again: bool = False) -> None:
        self.context = context
        self.place = place
        self.target = target
        self.item = item
        self.iterator: Iterator[Any] = iter(work)
        self.again = again and type(context) is Home
        self.bound = False
        self.taken = 0
        self.key = 0
        self.draws: Any = None


class Mark:
    """Everything above belongs to this frame or stream."""

    __slots__ = ("scope",)

    def __init__(self, scope: Frame | Stream) -> None:
        self.scope = scope
