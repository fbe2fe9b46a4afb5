"""Who fills which parameter of a job's function.

By keyword it gets what ``needs`` and ``params`` name. Positional parameters that are left over, and have no default,
are for what the kind of job has to give: the path, or the build. What does not add up is said where the job is
declared. Answers are kept by code object, since most jobs of a large build share few functions.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

from job_stream.errors import BuildError

from .kinds import nearest

__all__ = ["Parameters", "check_filled", "check_runs", "parameters_of"]

_VARKEYWORDS, _GENERATOR, _ASYNC = 0x8, 0x20, 0x80 | 0x200
"""Flags of code objects, as in the module inspect, which is slow to import."""


class Parameters(NamedTuple):
    """What a function takes.

    Attributes:
        positional: the names that can be filled by position.
        required: those of them, and of the keywords, that have no default.
        keywords: names that are filled by keyword only.
        takes_any: whether it takes keywords of any name.
        by_place: those that can be filled by position only.
    """

    positional: tuple[str, ...]
    required: frozenset[str]
    keywords: tuple[str, ...]
    takes_any: bool
    by_place: frozenset[str] = frozenset()


_known: dict[Any, Parameters] = {}


def parameters_of(function: Callable[..., Any]) -> Parameters | None:
    """What it takes; None where nobody can say, as with some functions written in C."""
    if type(function) is FunctionType and not hasattr(function, "__wrapped__"):
        defaults, named = function.__defaults__ or (), function.__kwdefaults__ or ()
        key = (function.__code__, len(defaults), frozenset(named))
        if key not in _known:
            _known[key] = _read(function, len(defaults), named)
        return _known[key]
    return _inspected(function)


def _read(function: FunctionType, default_count: int, named: Any) -> Parameters:
    code = function.__code__
    positional = code.co_varnames[: code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    required = {*positional[: len(positional) - default_count], *(name for name in keywords if name not in named)}
    by_place = frozenset(positional[: code.co_posonlyargcount])
    return Parameters(positional, frozenset(required), keywords, bool(code.co_flags & _VARKEYWORDS), by_place)


def _inspected(function: Callable[..., Any]) -> Parameters | None:
    from inspect import Parameter, signature

    try:
        found = signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    by_place = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    return Parameters(
        tuple(p.name for p in found if p.kind in by_place),
        frozenset(p.name for p in found if p.default is p.empty
                  and p.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)),
        tuple(p.name for p in found if p.kind is Parameter.KEYWORD_ONLY),
        any(p.kind is Parameter.VAR_KEYWORD for p in found),
        frozenset(p.name for p in found if p.kind is Parameter.POSITIONAL_ONLY),
    )  # fmt: skip


def check_runs(subject: str, function: Any, is_to_end: bool) -> None:
    """Refuses a function of which a call runs nothing of it.

    Args:
        is_to_end: whether its work is to be done when it returns; else what it gives may be gone through later.
    """
    while isinstance(function, partial):
        function = function.func
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & _ASYNC or (is_to_end and flags & _GENERATOR):
        what = "async" if flags & _ASYNC else "a generator (it has a yield)"
        raise BuildError(f"{subject}: its function {function.__qualname__} is {what}, so a call would not run it: "
                         "give one that does its work and returns")  # fmt: skip


def check_filled(
    subject: str, function: Callable[..., Any], names: tuple[str, ...], given: tuple[str, ...]
) -> tuple[str, ...]:
    """By which name the function takes what the kind of job gives (``given``, in words); '' where by position.

    It is empty where the function takes nothing of it.

    Raises:
        BuildError: it does not take one of ``names``, or has a parameter that nobody fills.
    """
    parameters = parameters_of(function)
    if parameters is None:
        return ("",) * len(given)
    takers = (*parameters.positional, *parameters.keywords)
    label = getattr(function, "__qualname__", None) or repr(function)
    for name in names:
        if name in parameters.by_place and not parameters.takes_any:
            raise BuildError(f"{subject}: its function {label} takes {name!r} by position only (there is a / behind "
                             "it), and needs and params are given by name")  # fmt: skip
        if name not in takers and not parameters.takes_any:
            raise BuildError(f"{subject}: its function {label} has no parameter {name!r}{nearest(name, takers)}")
    left = tuple(name for name in parameters.positional if name in parameters.required
                 and (name not in names or name in parameters.by_place))  # fmt: skip
    unfilled = [name for name in parameters.keywords if name in parameters.required and name not in names]
    if len(left) in {0, len(given)} and not unfilled:
        return ("",) * len(left) if parameters.positional[: len(left)] == left else left
    missing = unfilled or left[len(given) :] or left
    raise BuildError(
        f"{subject}: nobody fills the parameter {missing[0]!r} of its function {label}: "
        f"name it in needs= or params=, or give it a default{_says(given)}"
    )


def _says(given: tuple[str, ...]) -> str:
    return f" (what it gets by position: {', '.join(given)})" if given else ""
