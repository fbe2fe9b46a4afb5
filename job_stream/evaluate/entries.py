"""What lies on the stack of an evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .outboxes import FrameScope, Outbox, ScopeContext, StreamScope

if TYPE_CHECKING:
    from numpy.random import Generator

__all__ = ["Allotted", "PendingMultiple", "PendingValues", "ScopeMark", "elements_of"]


class Allotted(NamedTuple):
    """A value on its way to a place where items are allotted, with the host and number of cores that it needs there."""

    value: Any
    needs: tuple[str, int]


Draws: TypeAlias = "tuple[int, int, Generator | None]"
"""What random numbers belong to: a stage and a key, and what draws for them, once it has been asked."""


class PendingValues:
    """Values waiting at a place; those before ``index`` are done. ``base``: position of the first in the source."""

    __slots__ = ("base", "context", "index", "place", "values")

    def __init__(self, context: ScopeContext, place: int, values: Sequence[Any], base: int | None = None) -> None:
        self.context = context
        self.place = place
        self.values = values
        self.index = 0
        self.base = base


class PendingMultiple:
    """What is left of a Multiple, on its way to ``target``; ``taken`` elements of it have gone on.

    ``item`` at ``place`` gave it: the value that a job was given, or the frame that emitted it. If ``again``, whoever
    has that can have the Multiple made once more; otherwise only this evaluator has what is left.

    ``remake`` makes the call again that gave the Multiple, for a retry; None: that call has changed a store, and must
    not be made twice. ``attempts`` is how often it has been made. ``key`` is what the keys of the elements are made
    from. ``needs``: what the item needs to have it made again.
    """

    __slots__ = (
        "again", "attempts", "bound", "context", "draws", "item", "iterator", "key", "needs", "place", "remake",
        "taken", "target",
    )  # fmt: skip

    def __init__(self, context: ScopeContext, place: int, target: int, item: Any, work: Any, again: bool = False,
                 remake: Callable[[], Any] | None = None, attempts: int = 1, key: int = 0) -> None:  # fmt: skip
        self.context = context
        self.place = place
        self.target = target
        self.item = item
        self.iterator = elements_of(work)
        self.again = again and type(context) is Outbox
        self.remake = remake
        self.attempts = attempts
        self.bound = False
        self.taken = 0
        self.key = key
        self.draws: Draws | None = None
        self.needs: tuple[str, int] | None = None


def elements_of(work: Any) -> Iterator[Any]:
    """An iterator of what a Multiple holds; where none can be had, one that raises why, as a generator would."""
    try:
        return iter(work)
    except BaseException as error:
        return _raising(error)


def _raising(error: BaseException) -> Iterator[Any]:
    raise error
    yield


class ScopeMark:
    """Everything above belongs to this frame or stream."""

    __slots__ = ("scope",)

    def __init__(self, scope: FrameScope | StreamScope) -> None:
        self.scope = scope
