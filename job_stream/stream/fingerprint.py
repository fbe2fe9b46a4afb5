"""What tells two plans apart, in all processes and runs: kind, name and code of each stage, and where its outputs go.

Ranks compare it before they exchange work, and a checkpoint holds it. It must be equal wherever the script is: so there
is nothing in it of where objects lie in memory, nor of the order that strings have in a set, which differs from process
to process.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType
from typing import Any

from .plan import Place, Plan

__all__ = ["Stages", "fingerprint"]

Stages = tuple[tuple[str, str, int], ...]
"""A fingerprint: for each place its kind, its name, and a number for its code and routes."""


def fingerprint(plan: Plan) -> Stages:
    """For each place of a plan its kind, its name, and a number for its code and routes."""
    return tuple((place.kind, place.name, _place_crc(place)) for place in plan.places)


def _place_crc(place: Place) -> int:
    crc = 0
    for function in (place.function, place.store, place.emit, place.key):
        for part in _parts(function):
            crc = zlib.crc32(part.encode(), crc)
    is_plain = place.next == place.number + 1 and not place.routes
    return crc if is_plain else zlib.crc32(repr((place.next, sorted(place.routes.items()))).encode(), crc)


def _parts(function: Any) -> Iterator[str]:
    """The code of a function; of one that stands for a class, the code of all its methods."""
    kind = function.__dict__.get("standsFor") if type(function) is FunctionType else None
    for part in [getattr(kind, name) for name in dir(kind)] if kind else [function]:
        yield from map(_text_of, _layers(part))


def _layers(function: Any) -> Iterator[CodeType]:
    """The code of a function, and of those that it wraps or completes (functools.wraps, partial)."""
    seen: list[Any] = []
    while function is not None and not any(function is other for other in seen):
        seen.append(function)
        code = _attribute(function, "__code__")
        if isinstance(code, CodeType):
            yield code
        is_partial = isinstance(function, partial)
        own = _attribute(function, "__dict__")
        function = function.func if is_partial else own.get("__wrapped__") if isinstance(own, dict) else None


def _attribute(function: Any, name: str) -> Any:
    with suppress(Exception):  # some objects raise what they like
        return getattr(function, name, None)
    return None


def _text_of(constant: Any) -> str:
    """The same text for the same constant of some code, in every process."""
    if isinstance(constant, CodeType):
        inner = ",".join(map(_text_of, constant.co_consts))
        return f"{constant.co_code!r} {constant.co_names} [{inner}]"
    if isinstance(constant, (tuple, frozenset)):
        parts = map(_text_of, constant)
        return f"{type(constant).__name__}({','.join(parts if isinstance(constant, tuple) else sorted(parts))})"
    return repr(constant)
