"""Calls in the lane: unpacked, made, and what came of them packed.

A call never raises there: its end is a value, packed by itself. So whatever cannot be pickled or unpickled costs one
call and not the run.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any

from ..errors import PayloadError
from ..evaluate.failures import describe
from ..evaluate.seams import Wearing
from ..ground.texts import said, shorten
from ..memory.exceptions import pack_error
from ..memory.payload import pickled
from ..memory.volumes import Contents, Unreachable, contents_of
from ..ranks.world import rank_of, size_of
from .endings import BROKEN, DONE, RAISED, UNREAD, Raised
from .packer import Pickle
from .shelving import reading
from .stretches import Some, is_kept, name_of

__all__ = ["Performer"]

KNOWN = 64
"""So many functions a lane keeps."""


class Performer(Wearing):
    """Makes calls: the function of the only stage of a live stream.

    Args:
        retries: how often a call that raised is repeated.
        calls: so many are made by a worker; None: any number.
    """

    __name__ = "call"

    def __init__(self, retries: int = 0, calls: int | None = None) -> None:
        self._retries = retries
        self._most = calls
        self._made = 0
        self._functions: OrderedDict[Pickle, Callable[..., Any]] = OrderedDict()
        self._is_set_up = False
        self._latest: Any = None
        self._failed = 0

    @property
    def is_worn_out(self) -> bool:
        return self._most is not None and self._made >= self._most

    def __call__(self, call: tuple[Any, ...]) -> tuple[float, tuple[Any, ...]]:
        """Makes a call; gives how long it took, and its end.

        Raises:
            whatever the function raises, where the evaluator is to repeat it.
        """
        started = perf_counter()
        self._made += 1
        try:
            outcome = self._outcome(*call)
        except _Again as again:
            if self._retries and self._count(call) <= self._retries:
                raise again.error from None
            outcome = RAISED, *_raised(again.name, again.item, again.error)
        return perf_counter() - started, outcome

    def _outcome(self, setup: bytes | None, function: Pickle, arguments: Pickle, contents: Contents | None) -> Any:
        reading.given = contents
        try:
            if not self._is_set_up and (broken := self._set_up(setup)) is not None:
                return broken
            try:
                called = self._function(function)
                args, kwargs = self._loaded(arguments)
            except Unreachable:
                return (UNREAD,)
            except BaseException as error:
                return RAISED, *_raised("call", "<what it was to be given>", error)
        finally:
            reading.given = None
        return self._called(called, args, kwargs)

    def _called(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            answer = function(*args, **kwargs)
        except BaseException as error:
            error.__traceback__ = _of_others(error.__traceback__)
            item = shorten(function.item) if type(function) is Some else _told(args, kwargs)
            raise _Again(name_of(function), item, error) from None
        try:
            return DONE, _framed(answer)
        except BaseException as error:
            refused = PayloadError(f"what {name_of(function)} returned cannot be pickled: {said(error, 1000)}")
            refused.__cause__ = error
            return RAISED, *_raised(name_of(function), "<its output>", refused)

    def _set_up(self, setup: bytes | None) -> Any:
        """Initialises the lane; None: all is well."""
        try:
            if setup is not None:
                initializer, initargs = pickle.loads(setup)
                initializer(*initargs)
        except BaseException as error:
            return BROKEN, _raised("initializer", "<its arguments>", error)
        self._is_set_up = True
        return None

    def _function(self, packed: Pickle) -> Callable[..., Any]:
        """A function; what may hold a state of its own is made anew for each call."""
        known = self._functions.get(packed)
        if known is None:
            known = self._loaded(packed)
            if is_kept(known):
                self._functions[packed] = known
            if len(self._functions) > KNOWN:
                self._functions.popitem(last=False)
        return known

    def _loaded(self, packed: Pickle) -> Any:
        return pickle.loads(packed if isinstance(packed, bytes) else contents_of(packed, reading.given))

    def _count(self, call: tuple[Any, ...]) -> int:
        """How often the call under way has failed."""
        self._failed = self._failed + 1 if self._latest is call else 1
        self._latest = call
        return self._failed


class _Again(Exception):
    """A function has raised."""

    def __init__(self, name: str, item: str, error: BaseException) -> None:
        super().__init__(name)
        self.name = name
        self.item = item
        self.error = error


def _of_others(trace: TracebackType | None) -> TracebackType | None:
    """A traceback from the first line on that is not of this package."""
    while trace is not None and trace.tb_frame.f_globals.get("__package__") == __package__:
        trace = trace.tb_next
    return trace


def _told(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments of a call in words."""
    if not kwargs and len(args) == 1:
        return shorten(args[0])
    return shorten((*args, kwargs) if kwargs else args)


def _raised(stage: str, item: str, error: BaseException) -> Raised:
    rank = rank_of() if size_of() > 1 else None
    return Raised(stage, item, describe(error), os.getpid(), socket.gethostname(), rank, pack_error(error))


def _framed(answer: Any) -> tuple[Any, ...]:
    """The frames of an answer: its pickle, and large buffers without a copy."""
    first, buffers = pickled(answer, _dumped_hard)
    return first, *buffers


def _dumped_hard(answer: Any, out_of_band: Any) -> bytes:
    from ..memory.byvalue import dumps  # loads cloudpickle

    return dumps(answer, out_of_band)
