"""Calls of user functions: a batch of values goes in, what is to go on comes out.

The loops here are the innermost of the whole project, so they do nothing but call, and look whether the answer is
nothing, several values or one. They count nothing: who wants to know how far they have come looks at the iterator, the
outputs and the line that they are at (``division``). Whatever is rare (a failure, a Multiple of unknown length) leaves
the loop and comes back as a ``Stop``; the evaluator deals with it and goes on with the values that are left.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from ..values import Args, Multiple, Pair

__all__ = [
    "CALL_LINES", "SMALL", "Lazy", "Stop", "answers", "apply", "apply_with_store", "bare", "call_end", "call_job",
    "call_map", "elements", "key_of", "same", "small", "works",
]  # fmt: skip

SMALL = 64
"""A Multiple of so many elements or fewer is spread on the spot."""


def bare(item: Any) -> Any:
    """The value of a pair, or what is none as it is."""
    return item.value if type(item) is Pair else item


def key_of(item: Any) -> int:
    """The key of a pair; 0 for what is none."""
    return item.key if type(item) is Pair else 0


class Stop(NamedTuple):
    """Why a batch stopped before its end. ``error`` None: ``item`` gave the ``multiple``."""

    item: Any
    left: Iterator[Any]
    error: BaseException | None = None
    multiple: Multiple | None = None


def apply(function: Callable[..., Any], value: Any) -> Any:
    """``function`` of one value, or of the arguments that the value stands for."""
    if type(value) is Args:
        return function(*value.args, **value.kwargs)
    return function(value)


def apply_with_store(function: Callable[..., Any], store: Any, value: Any) -> Any:
    """``function`` of a store and one value, or of a store and the arguments that the value stands for."""
    if type(value) is Args:
        return function(store, *value.args, **value.kwargs)
    return function(store, value)


def call_job(function: Callable[..., Any], values: Iterator[Any], outputs: list[Any]) -> Stop | None:
    """Calls a job with each value; appends what goes on to ``outputs``."""
    add = outputs.append
    value = None
    try:
        for value in values:
            answer = function(value) if type(value) is not Args else function(*value.args, **value.kwargs)
            if answer is None:
                continue
            if type(answer) is Multiple:
                if not small(answer):
                    return Stop(value, values, multiple=answer)
                outputs.extend(elements(answer))
            else:
                add(answer)
    except BaseException as error:
        return Stop(value, values, error)
    return None


def _lines_of_calls() -> frozenset[int]:
    """The lines at which ``call_job`` is in a function, as functions see them that it calls."""
    lines: list[int] = []
    call_job(lambda *_: sys._getframe(1).f_lineno, iter((0, Args(0))), lines)
    return frozenset(lines)


CALL_LINES = _lines_of_calls()
"""Where user code runs in ``call_job``."""


def call_end(function: Callable[..., Any], store: Any, values: Iterator[Any], recurred: list[Any]) -> Stop | None:
    """Calls a frameEnd with each value; appends what it recurs to ``recurred``."""
    value = None
    try:
        for value in values:
            answer = function(store, value) if type(value) is not Args else apply_with_store(function, store, value)
            if answer is None:
                continue
            if type(answer) is Multiple:
                recurred += elements(answer)
            else:
                recurred.append(answer)
    except BaseException as error:
        return Stop(value, values, error)
    return None


def call_map(function: Callable[..., Any], values: Iterator[Any], outputs: list[Any]) -> Stop | None:
    """Appends ``function(value)`` for each value, whatever it is."""
    add, value = outputs.append, None
    try:
        for value in values:
            add(function(value))
    except BaseException as error:
        return Stop(value, values, error)
    return None


def answers(function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """All values that the answer of a call stands for."""
    return elements(function(*arguments))


def same(store: Any) -> Any:
    """The default ``emit``: the store itself."""
    return store


def small(multiple: Multiple) -> bool:
    """Whether the elements may be taken at once: they lie there already, and are few."""
    work = multiple.workList
    return type(work) in (list, tuple, range) and len(work) <= SMALL  # type: ignore[arg-type]


def elements(answer: Any) -> list[Any]:
    """All values that an answer stands for; a Multiple that may be long is one ``Lazy`` among them."""
    if answer is None:
        return []
    if type(answer) is not Multiple:
        return [answer]
    if small(answer):
        return [element for element in answer.workList if element is not None]
    return [Lazy(answer.workList)]


def works(answer: Any) -> Any:
    """The elements that an answer stands for, as the function gave them, whether they are few or many."""
    if type(answer) is Multiple:
        return map(bare, answer.workList) if small(answer) else answer.workList
    return () if answer is None else (bare(answer),)


class Lazy:
    """The elements of a Multiple, to be taken piece by piece.

    ``key`` is what their keys are made from, ``remake`` makes the call again that gave them, where that may be done.
    """

    __slots__ = ("key", "remake", "work")

    def __init__(self, work: Any, key: int = 0) -> None:
        self.work = work
        self.key = key
        self.remake: Callable[[], Any] | None = None
