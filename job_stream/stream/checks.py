"""Checks of what is given to the decorators: functions, their parameters, and keywords."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from numbers import Integral, Real
from types import FunctionType, MethodType
from typing import Any

from ..errors import PlanError
from ..ground.environment import START_METHODS
from ..ground.sizes import MOST_BYTES, SIZES, bytes_in
from ..ground.texts import shorten
from .plan import Policy

__all__ = [
    "MULTIPLE", "check_answers", "check_parameters", "cpus_of", "decorator", "is_seconds", "is_whole", "name_of",
    "policy_of", "seed_of", "start_method_of",
]  # fmt: skip

NAME_CHARACTERS = 200
LAYERS_MOST = 100
_VARIABLE = 4
_KEYWORDS = 8
_GENERATOR = 0x20
_COROUTINES = 0x80 | 0x100 | 0x200
"""Of ``async def``, with and without ``yield``, and of what types.coroutine makes; see the module inspect."""

_CACHE = type(lru_cache(len))
MULTIPLE = "return Multiple(...) of what is to go on, in which a generator is fine"
_INSTEAD = {"result": "leave out the yield", "finish": "return a list"}
"""What to write in place of ``yield``, by the role of a function."""


def name_of(function: Callable[..., Any]) -> str:
    """The name by which a stage is known in messages."""
    try:
        name = function.__name__
    except Exception:
        name = None
    return name[:NAME_CHARACTERS] if isinstance(name, str) and name else type(function).__name__


def decorator(record: Callable[..., Any], function: Callable[..., Any] | None, keywords: dict[str, Any]) -> Any:
    """Serves all call forms: bare, with keywords, and as a plain call. ``record(function, **keywords)`` does the work.

    The function itself is returned, so that it can be used again.
    """

    def apply(decorated: Callable[..., Any]) -> Callable[..., Any]:
        record(decorated, **keywords)
        return decorated

    return apply if function is None else apply(function)


def count_parameters(function: Callable[..., Any]) -> int | None:
    """How many parameters a callable takes; ``*args`` and ``**kwargs`` count as one each. None: it does not tell."""
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        code = function.__code__
        variable = bool(code.co_flags & _VARIABLE) + bool(code.co_flags & _KEYWORDS)
        return code.co_argcount + code.co_kwonlyargcount + variable
    if type(function) is MethodType and type(function.__func__) is FunctionType:
        count = count_parameters(function.__func__)
        return None if count is None else count - 1
    import inspect

    try:
        return len(inspect.signature(function).parameters)
    except Exception:  # it has none, or something else under that name
        return None


def check_parameters(role: str, function: Any, least: int, exact: bool = False) -> None:
    """Raises PlanError when ``function`` cannot serve as ``role``."""
    if not callable(function):
        raise PlanError(f"{role} takes a function, not {type(function).__name__}: {shorten(function, 80)}")
    check_answers(f"{role} function {name_of(function)!r}", function, _INSTEAD.get(role, MULTIPLE))
    count = count_parameters(function)
    if count is None or count == least or (count > least and not exact):
        return
    needed = f"{'exactly' if exact else 'at least'} {least} argument{'' if least == 1 else 's'}"
    raise PlanError(f"{role} function {name_of(function)!r} must take {needed}, but it takes {count}")


def check_answers(where: str, function: Any, out: str) -> None:
    """Raises PlanError when a call of ``function`` would only make a generator or a coroutine, and run nothing.

    Args:
        where: what the function is, in messages.
        out: what to write in place of ``yield``.
    """
    flags = _flags_of(function)
    if flags & _COROUTINES:
        raise PlanError(f"{where} is async, so a call of it does nothing: nobody awaits what it gives. Write a plain "
                        "function, which may call asyncio.run(...)")  # fmt: skip
    if flags & _GENERATOR:
        raise PlanError(f"{where} yields, so a call of it does nothing: {out}")


def _flags_of(function: Any) -> int:
    """The flags of the code that a call runs: behind partials, methods, caches and the ``__call__`` of objects."""
    for _ in range(LAYERS_MOST):  # the ``__call__`` of what Python itself brings has one again
        kind = type(function)
        if kind is FunctionType:
            return int(function.__code__.co_flags)
        if kind is MethodType or issubclass(kind, (staticmethod, classmethod)):
            function = function.__func__
        elif issubclass(kind, partial):
            function = function.func
        elif kind is _CACHE:
            function = function.__wrapped__
        elif issubclass(kind, type) or not callable(function):
            return 0
        else:
            function = kind.__call__
    return 0


def policy_of(
    where: str, default: Policy, onError: Any, retries: Any, timeout: Any, deaths: Any = None
) -> Policy:
    """The policy that keywords ask for; None leaves the default."""
    if onError not in (None, "raise", "skip", "pass"):
        raise PlanError(f"{where}: onError must be 'raise', 'skip' or 'pass', not {onError!r}")
    if retries is not None and not is_whole(retries, 0):
        raise PlanError(f"{where}: retries must be a whole number from 0 on, not {retries!r}")
    if timeout is not None and not is_seconds(timeout):
        raise PlanError(f"{where}: timeout must be a number of seconds above 0, not {timeout!r}")
    if deaths is not None and not is_whole(deaths, 1):
        raise PlanError(f"{where}: deaths must be a whole number above 0, not {deaths!r}")
    return Policy(
        default.skip if onError is None else onError != "raise",
        default.retries if retries is None else int(retries),
        default.timeout_s if timeout is None else float(timeout),
        default.deaths if deaths is None else int(deaths),
        default.passes if onError is None else onError == "pass",
    )


def seed_of(seed: Any) -> int | None:
    """The seed that a keyword asks for."""
    if seed is not None and not is_whole(seed, 0):
        raise PlanError(f"seed must be a whole number from 0 on, or None, not {seed!r}")
    return None if seed is None else int(seed)


def cpus_of(cpus: Any) -> int | None:
    """The number of workers that a keyword asks for."""
    if cpus is not None and not is_whole(cpus, 1):
        raise PlanError(f"cpus must be a whole number above 0, or None, not {cpus!r}")
    return None if cpus is None else int(cpus)


def start_method_of(method: Any) -> str | None:
    """How a keyword wants worker processes to be started; None: as the environment says."""
    if method is not None and method not in START_METHODS:
        raise PlanError(f"startMethod must be {' or '.join(map(repr, START_METHODS))}, or None, not {method!r}")
    return method  # type: ignore[no-any-return]


def memory_of(memory: Any) -> int | None:
    """The bytes that a keyword allows."""
    if memory is None:
        return None
    if is_whole(memory, 1) and memory <= MOST_BYTES:
        return int(memory)
    size = bytes_in(memory) if isinstance(memory, str) else None
    if size is None:
        raise PlanError(f"memory must be {SIZES}, not {memory!r:.60}; leave it out for a share of the memory there is")
    return size


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number of any type, those of NumPy included, and no truth value."""
    return not isinstance(value, bool) and isinstance(value, Integral) and int(value) >= least


def is_seconds(value: Any) -> bool:
    """Whether it is a number above 0 of any type, those of NumPy included, and no truth value."""
    return not isinstance(value, bool) and isinstance(value, Real) and float(value) > 0
