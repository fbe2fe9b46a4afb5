"""The values with a meaning of their own in a stream: ``Args``, ``Multiple``, ``Object`` and ``Failure``; within it
``Sent`` and ``Pair``, and what a reduction is that may go on at its end.

Checkpoints and journals hold them pickled, by the name of this module and theirs. But for exceptions (``errors``) they
hold nothing else of job_stream so: whatever is renamed or moved here needs another number of the format of both
(``checkpoints.format``).
"""

from __future__ import annotations

from collections.abc import Iterable
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NamedTuple

from .ground.texts import shorten

__all__ = [
    "Again", "Args", "Failure", "Multiple", "Object", "Pair", "Reduction", "Sent", "bytes_of", "is_iterable",
    "is_unrun", "whole",
]  # fmt: skip


def bytes_of(value: Any) -> int:
    """The size that a value says it has; 0 where it says nothing, or nothing that could be one.

    Only what its class has is asked, since some objects answer to any name.
    """
    try:
        size = value.nbytes if hasattr(type(value), "nbytes") else 0
    except Exception:
        return 0
    return size if type(size) is int and size > 0 else 0


class _Final:
    """Told apart by exact type in the innermost loops, hence closed to subclasses."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        if cls.__module__ != __name__:
            raise TypeError(f"{cls.__mro__[1].__name__} cannot be subclassed: use it as it is")


def is_iterable(value: Any) -> bool:
    """Whether the class of a value lets it be iterated over; some objects answer to any name themselves."""
    kind = type(value)
    return getattr(kind, "__iter__", None) is not None or hasattr(kind, "__getitem__")


def is_unrun(value: Any) -> bool:
    """Whether it is what a call gives that has not run anything yet: a generator, or a coroutine."""
    return type(value) in _UNRUN


_UNRUN = (GeneratorType, CoroutineType, AsyncGeneratorType)


class Args(_Final):
    """Positional and keyword arguments that are spread into the parameters of the next function.

    Example:
        >>> from job_stream import Args, Work
        >>> with Work([Args(1, 2, scale=10)]) as w:
        ...     @w.job
        ...     def total(a, b, scale):
        ...         return (a + b) * scale
    """

    __slots__ = ("args", "kwargs")

    def __init__(self, /, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs

    def __repr__(self) -> str:
        parts = [repr(a) for a in self.args] + [f"{k}={v!r}" for k, v in self.kwargs.items()]
        return f"Args({', '.join(parts)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Args) and (self.args, self.kwargs) == (other.args, other.kwargs)

    __hash__ = None  # type: ignore[assignment]


def whole(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """The item that a function was called with when it has these arguments."""
    return arguments[0] if len(arguments) == 1 and not named else Args(*arguments, **named)


class Multiple(_Final):
    """Several pieces of work returned at once; each element that is not None goes on by itself.

    Args:
        workList: any iterable. It is taken piece by piece, so it may be a generator of any length.

    Raises:
        TypeError: ``workList`` is not iterable.
    """

    __slots__ = ("workList",)

    def __init__(self, workList: Iterable[Any]) -> None:
        if not is_iterable(workList):
            raise TypeError(f"Multiple takes an iterable, not {type(workList).__name__}: {shorten(workList, 80)}")
        self.workList = workList

    def __repr__(self) -> str:
        return f"Multiple({self.workList!r})"


class Pair(NamedTuple):
    """A value and its key, in a stream with a seed."""

    key: int
    value: Any

    @property
    def nbytes(self) -> int:
        """The size of the value, where it has one."""
        return bytes_of(self.value)


class Sent(NamedTuple):
    """Work on its way to a target that it was emitted to; it is the bare ``work`` when it arrives there."""

    target: str
    work: Any

    @property
    def nbytes(self) -> int:
        """The size of the work, where it has one."""
        return bytes_of(self.work)


class Again(NamedTuple):
    """What a reduction gives at its end that is none: ``recurred`` goes through its stages again, and the others on."""

    recurred: Any
    emitted: list[Any]


class Reduction:
    """A store, and how often its reduction has gone on at its end."""

    __slots__ = ("rounds", "store")

    def __init__(self, store: Any) -> None:
        self.store = store
        self.rounds = 0

    def __repr__(self) -> str:
        return repr(self.store)


class Failure(NamedTuple):
    """An item that was skipped, or that failed and goes on as this.

    Attributes:
        item: the value that the stage was given; its ``repr`` where it could not be brought back.
        stage: name of the function that failed.
        attempts: how often it was called.
        reason: the traceback, or the signal or time limit that ended the worker.
        exception: what the stage raised, where this goes on in the item's place (``onError='pass'``): the user's own
            exception, or a ``JobStreamError`` with its text where that cannot be pickled; a ``LaneDied`` or
            ``StageTimeout`` where the item has ended its worker. In ``Work.failures``, None.
    """

    item: Any
    stage: str
    attempts: int
    reason: str
    exception: BaseException | None = None


class Object:
    """A bag of attributes, the default store of ``reduce`` and ``frame``.

    Example:
        >>> Object(count=0, name="a")
        Object(count=0, name='a')
    """

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __repr__(self) -> str:
        return f"Object({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Object) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]
