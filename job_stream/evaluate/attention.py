"""Whether a reduce looks at the stores of other workers that it is given: one that does not loses what they hold.

Where the function's own code names the parameter, it is taken to look at it, and gets a plain list. Where nothing can
be told from the code (a function behind a decorator that passes all arguments on, a C function), it gets a list that
notes whether it is looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FunctionType, MethodType
from typing import Any

from ..stream.plan import Place

__all__ = ["Attention"]

POSITION = 2
"""Of the parameter, behind ``store`` and ``works``."""


class Attention:
    """Watches the reduce functions of a plan, and tells once about each that does not look."""

    def __init__(self) -> None:
        self._settled: set[int] = set()

    def given(self, place: Place, others: list[Any]) -> list[Any]:
        """What to give to the function of a place for ``others``."""
        if place.number in self._settled:
            return others
        if _names(place.function):
            self._settled.add(place.number)
            return others
        return _Watched(others)

    def check(self, place: Place, given: list[Any]) -> None:
        """Tells when a call that has been successful did not look at what it was given."""
        if type(given) is not _Watched:
            return
        self._settled.add(place.number)
        if not given.seen:
            print(
                f"job_stream: WARNING: reduce {place.name!r} was given stores of other workers and has not looked at "
                "them, so what they hold is lost: merge each of `others` into `store`",
                file=sys.stderr,
                flush=True,
            )


def _names(function: Any) -> bool:
    """Whether the code of a function names its third parameter."""
    position = POSITION
    if type(function) is MethodType:
        function, position = function.__func__, position + 1
    if type(function) is not FunctionType:
        return False
    code = function.__code__
    if position >= code.co_argcount:  # one of *arguments
        return False
    return code.co_varnames[position] in code.co_cellvars or _loads(code, code.co_varnames[position])


def _loads(code: CodeType, name: str) -> bool:
    from dis import get_instructions  # slow to load, and only needed where stores are merged

    return any(
        "LOAD" in instruction.opname
        and (instruction.argval == name or (type(instruction.argval) is tuple and name in instruction.argval))
        for instruction in get_instructions(code)
    )


class _Watched(list[Any]):
    """A list that notes whether it is looked at."""

    seen = False

    def __radd__(self, other: Any) -> Any:
        return other + list(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return list, (list(self),)


def _noting(name: str) -> Callable[..., Any]:
    method = getattr(list, name)

    def noting(self: _Watched, *arguments: Any, **named: Any) -> Any:
        self.seen = True
        return method(self, *arguments, **named)

    return noting


_LOOKING = (
    "__add__", "__contains__", "__delitem__", "__eq__", "__ge__", "__getitem__", "__gt__", "__iadd__", "__imul__",
    "__iter__", "__le__", "__len__", "__lt__", "__mul__", "__ne__", "__repr__", "__reversed__", "__rmul__",
    "__setitem__", "append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort",
)  # fmt: skip
for _name in _LOOKING:
    setattr(_Watched, _name, _noting(_name))
