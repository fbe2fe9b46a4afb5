"""Functions made of others: of a stretch of items, and of an item that is a tuple of arguments. And how many calls of
one function are submitted ahead of who takes the results."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from types import BuiltinFunctionType, FunctionType
from typing import Any, Protocol

from ..ground.texts import shorten

__all__ = ["SOME_S", "ManyCalls", "Some", "Star", "ahead_of", "is_kept", "name_of"]

SOME_S = 20e-3
AHEAD = 4
"""So many calls for each lane are submitted ahead while nothing is known of what they take."""
AHEAD_S = 0.1
AHEAD_MOST = 10_000
"""Else so much work for each lane, but no more calls than that."""
_KEPT = (FunctionType, BuiltinFunctionType, type)


class ManyCalls(Protocol):
    """What makes many calls of one function."""

    @property
    def lanes(self) -> int: ...

    @property
    def cost(self) -> float | None: ...


def ahead_of(call: ManyCalls, least: int) -> int:
    """How many calls may be submitted whose results have not been taken; ``least``: for each lane at least."""
    lanes, cost = call.lanes, call.cost
    if cost is None:
        return AHEAD * lanes
    return max(least * lanes, min(int(AHEAD_S * lanes / max(cost, 1e-9)), AHEAD_MOST))


class Some:
    """Calls a function with some of many items: as many as can be done in a short time, so that nothing long waits
    behind something else.

    Args:
        function: to be called.

    Attributes:
        item: the one under way.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.item: Any = None

    def __call__(self, items: list[Any]) -> tuple[float, list[Any]]:
        """How long it took, and the results of the first items."""
        results: list[Any] = []
        started = now = perf_counter()
        for item in items:
            self.item = item
            results.append(self.function(item))
            now = perf_counter()
            if now - started > SOME_S:
                break
        self.item = None
        return now - started, results


class Star:
    """Calls a function with the elements of an item."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, item: Any) -> Any:
        return self.function(*item)


def is_kept(function: Any) -> bool:
    """Whether a function has no state that its calls could change; ``Some`` and ``Star`` have none."""
    while type(function) in (Some, Star):
        function = function.function
    return type(function) in _KEPT


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    while type(function) in (Some, Star):
        function = function.function  # type: ignore[attr-defined]
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else shorten(function, 80)
