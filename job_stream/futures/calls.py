"""Calls on their way to a lane, and what comes of them on the way back.

A call is packed at once where it is made: what it was given may be changed afterwards. Pickle is used where that will
do; what it refuses, and what is of ``__main__``, travels by value (cloudpickle), so that a function that was defined
anew is the new one. Large arrays and pickles are put into volumes, which lie in memory once, however many calls refer
to them.

In the lane a call never raises: its end is a value, packed by itself. So whatever cannot be pickled or unpickled costs
one call and not the run.
"""

from __future__ import annotations

import os
import pickle
import socket
from collections import OrderedDict
from collections.abc import Callable
from time import perf_counter
from types import BuiltinFunctionType, FunctionType, TracebackType
from typing import Any, NamedTuple

from ..errors import PayloadError, StageError
from ..evaluate.failures import describe
from ..evaluate.seams import Wearing
from ..ground.texts import said, shorten
from ..memory.exceptions import pack_error, set_cause, unpack_error
from ..memory.volumes import Address, Contents, Shelf, Unreachable, Volume, contents_of
from ..ranks.world import rank_of, size_of
from .shelving import VOLUME_BYTES, dumped, reading

__all__ = [
    "Broken", "Call", "Done", "Outcome", "Packed", "Packer", "Performer", "Pickle", "Raised", "Some", "Star",
    "Unread", "name_of", "outcome_of",
]  # fmt: skip

FUNCTION_BYTES = 32 << 10
"""Functions from this size on are put into volumes; arguments are from ``VOLUME_BYTES`` on."""
OUT_OF_BAND = 16 << 10
SOME_S = 20e-3
KNOWN = 64
"""So many functions a lane keeps."""
_MAIN = b"__main__"
_KEPT = (FunctionType, BuiltinFunctionType, type)

Pickle = bytes | Address


class Call(NamedTuple):
    """A call as lanes are given it.

    Attributes:
        setup: the initializer of lanes and its arguments, pickled; None: there is none.
        function: its pickle, or where that lies.
        arguments: the same of its positional and named arguments.
        contents: of volumes, where these cannot be opened.
    """

    setup: bytes | None
    function: Pickle
    arguments: Pickle
    contents: Contents | None = None


class Packed(NamedTuple):
    """A call where it was made.

    Attributes:
        call: what travels.
        volumes: what it refers to; they are kept for as long as it is under way.
        nbytes: what it takes on its way.
        name: of the function.
    """

    call: Call
    volumes: tuple[Volume, ...]
    nbytes: int
    name: str

    def whole(self) -> Packed:
        """The same with the contents of its volumes."""
        contents = {volume.address.name: pickle.PickleBuffer(volume.contents()) for volume in self.volumes}
        nbytes = sum(volume.address.size for volume in self.volumes)
        return Packed(self.call._replace(contents=contents), (), self.nbytes + nbytes, self.name)


# outcomes: each travels as a plain tuple that begins with its number --------------------------------------------------


class Done(NamedTuple):
    """The function has returned; ``frames`` are those of its answer."""

    frames: tuple[Any, ...]

    def value(self) -> Any:
        """What it returned."""
        return pickle.loads(self.frames[0], buffers=self.frames[1:])


class Raised(NamedTuple):
    """The function has raised, or could not be called."""

    stage: str
    item: str
    traceback: str
    pid: int
    host: str
    rank: int | None
    exception: bytes

    def error(self) -> BaseException:
        """The exception, with what is known about it as its cause; or only that."""
        story = StageError(self.stage, self.item, self.traceback, self.pid, self.host, self.rank)
        error = unpack_error(self.exception)
        if error is None or isinstance(error, (SystemExit, KeyboardInterrupt)):
            return story  # must not end the script as if it had come from there
        if error.__cause__ is not None:
            story.__cause__ = error.__cause__
        set_cause(error, story)
        return error


class Broken(NamedTuple):
    """The initializer has raised."""

    raised: Raised


class Unread(NamedTuple):
    """A volume could not be opened; nothing has been called."""


Outcome = Done | Raised | Broken | Unread
_KINDS: tuple[Any, ...] = (Done, Raised, Broken, Unread)

# packing --------------------------------------------------------------------------------------------------------------


class Packer:
    """Packs calls, in any thread.

    Args:
        initializer: called in each lane before its first call, with ``initargs``; None: nothing is.
    """

    def __init__(self, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        self._shelf = Shelf()
        self._setup = None if initializer is None else self._dumps((initializer, initargs), [])

    def packed(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Packed:
        """A call.

        Raises:
            PayloadError: a part of it cannot be pickled.
        """
        volumes: list[Volume] = []
        packed = self.function(function, volumes)
        return self.call(packed, args, kwargs, volumes, name_of(function))

    def function(self, function: Callable[..., Any], volumes: list[Volume]) -> Pickle:
        """A function, to be called many times.

        Raises:
            PayloadError: it cannot be pickled.
        """
        try:
            return self._stored(self._dumps(function, volumes), FUNCTION_BYTES, volumes)
        except Exception as error:
            raise PayloadError(f"function {name_of(function)} cannot be pickled: {said(error, 1000)}") from error

    def call(self, function: Pickle, args: tuple[Any, ...], kwargs: dict[str, Any], volumes: list[Volume],
             name: str) -> Packed:  # fmt: skip
        """A call of a packed function, with the volumes that this refers to."""
        own: list[Volume] = []
        try:
            arguments = self._stored(self._dumps((args, kwargs), own), VOLUME_BYTES, own)
        except Exception as error:
            raise PayloadError(f"an argument of {name} cannot be pickled: {said(error, 1000)}") from error
        nbytes = sum(len(each) for each in (function, arguments) if type(each) is bytes)
        return Packed(Call(self._setup, function, arguments), (*volumes, *own), nbytes, name)

    def _stored(self, data: bytes, limit: int, volumes: list[Volume]) -> Pickle:
        if len(data) < limit:
            return data
        volumes.append(volume := self._shelf.put(memoryview(data)))
        return volume.address

    def _dumps(self, value: Any, volumes: list[Volume]) -> bytes:
        data = dumped(value, self._shelf, volumes)
        if data is not None and _MAIN not in data:
            return data
        from .byvalue import dumped_by_value  # loads cloudpickle

        volumes.clear()
        return dumped_by_value(value, self._shelf, volumes)


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called in messages."""
    while type(function) in (Some, Star):
        function = function.function  # type: ignore[attr-defined]
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else shorten(function, 80)


# in the lane ----------------------------------------------------------------------------------------------------------


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


def _is_kept(function: Any) -> bool:
    """Whether a function has no state that its calls could change; ``Some`` and ``Star`` have none."""
    while type(function) in (Some, Star):
        function = function.function
    return type(function) in _KEPT


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
            outcome = 1, *_raised(again.name, again.item, again.error)
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
                return (3,)
            except BaseException as error:
                return 1, *_raised("call", "<what it was to be given>", error)
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
            return 0, _framed(answer)
        except BaseException as error:
            refused = PayloadError(f"what {name_of(function)} returned cannot be pickled: {said(error, 1000)}")
            refused.__cause__ = error
            return 1, *_raised(name_of(function), "<its output>", refused)

    def _set_up(self, setup: bytes | None) -> Any:
        """Initialises the lane; None: all is well."""
        try:
            if setup is not None:
                initializer, initargs = pickle.loads(setup)
                initializer(*initargs)
        except BaseException as error:
            return 2, _raised("initializer", "<its arguments>", error)
        self._is_set_up = True
        return None

    def _function(self, packed: Pickle) -> Callable[..., Any]:
        """A function; what may hold a state of its own is made anew for each call."""
        known = self._functions.get(packed)
        if known is None:
            known = self._loaded(packed)
            if _is_kept(known):
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
    buffers: list[pickle.PickleBuffer] = []

    def out_of_band(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < OUT_OF_BAND:
            return True
        buffers.append(buffer)
        return False

    try:
        first = pickle.dumps(answer, 5, buffer_callback=out_of_band)
    except Exception:
        from ..memory.byvalue import dumps  # loads cloudpickle

        buffers.clear()
        first = dumps(answer, out_of_band)
    return first, *buffers


def outcome_of(told: tuple[Any, ...]) -> Outcome:
    """An outcome as it came."""
    kind, *parts = told
    if kind == 2:
        return Broken(Raised(*parts[0]))
    outcome: Outcome = _KINDS[kind](*parts)
    return outcome
