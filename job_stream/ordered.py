"""``map``, ``imap`` and ``aimap``: one function over sequences, its results in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .errors import JobStreamError, PlanError
from .ground.texts import shorten
from .iteration import Results
from .runtime.source import InitialWork, Zipped, is_sequence
from .stream.checks import check_answers, name_of
from .stream.plan import Plan
from .stream.recorder import Function
from .work import Work

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from .awaiting import AsyncResults
    from .checkpoints.saver import Saver
    from .keywords import WorkKeywords
    from .runtime.shutdown import Mailbox
    from .values import Args

__all__ = ["aimap", "imap", "map"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
R = TypeVar("R")


@overload
def map(func: Callable[[A], R], one: Iterable[A], /, **workKwargs: Unpack[WorkKeywords]) -> list[R]: ...
@overload
def map(func: Callable[..., R], spread: Iterable[Args], /, **workKwargs: Unpack[WorkKeywords]) -> list[R]: ...
@overload
def map(
    func: Callable[[A, B], R], one: Iterable[A], two: Iterable[B], /, **workKwargs: Unpack[WorkKeywords]
) -> list[R]: ...
@overload
def map(
    func: Callable[[A, B, C], R],
    one: Iterable[A],
    two: Iterable[B],
    three: Iterable[C],
    /,
    **workKwargs: Unpack[WorkKeywords],
) -> list[R]: ...
@overload
def map(
    func: Callable[..., R],
    one: Iterable[Any],
    two: Iterable[Any],
    three: Iterable[Any],
    four: Iterable[Any],
    /,
    *sequences: Iterable[Any],
    **workKwargs: Unpack[WorkKeywords],
) -> list[R]: ...
def map(func: Function, *sequences: Iterable[Any], **workKwargs: Any) -> list[Any]:
    """Like the built-in ``map``, in parallel, and giving a list.

    Args:
        func: any callable, lambdas and closures too.
        sequences: iterables; the shortest one counts. With several, ``func`` gets an element of each.
        workKwargs: as for ``Work``. With ``onError='skip'`` the place of an item that failed holds
            None, with 'pass' a ``Failure``.

    Returns:
        The list of ``func(...)`` in the order of the sequences, None and lists as they are. On ranks other than the
        primary, None.

    Raises:
        the exception that ``func`` raised, with a ``StageError`` as its cause.

    Example:
        >>> map(lambda a, b: a + b, [1, 2], [10, 20])
        [11, 22]
    """
    return _mapped("map", func, sequences, workKwargs).run()  # type: ignore[no-any-return]


def _side_by_side(func: Function, sequences: tuple[Iterable[Any], ...]) -> tuple[Function, Iterable[Any]]:
    def spread(arguments: tuple[Any, ...]) -> Any:
        return func(*arguments)

    if all(is_sequence(sequence) for sequence in sequences):
        return spread, Zipped(sequences)  # type: ignore[return-value]
    return spread, zip(*sequences, strict=False)


def imap(func: Callable[..., R], *sequences: Iterable[Any], ordered: bool = True, buffer: int | None = None,
         **workKwargs: Unpack[WorkKeywords]) -> Results:  # fmt: skip
    """Like ``map``, but an iterator that gives results as they come.

    The run begins at once, and ends with the last result, or when the iterator is closed or forgotten, as by ``break``.

    Args:
        func: any callable, lambdas and closures too.
        sequences: iterables, which may be endless; the shortest one counts. With several, ``func`` gets an element of
            each.
        ordered: in the order of the sequences. False: whichever is there first.
        buffer: so many results may wait before the workers pause; by default 10,000. Those of an ordered iteration that
            are there before their turn are not among them.
        workKwargs: as for ``Work``. With ``onError='skip'`` the place of an item that failed holds None.

    Raises:
        the exception that ``func`` raised, where its result would have come.

    Example:
        >>> list(imap(abs, [-1, 2, -3]))
        [1, 2, 3]
    """
    return _mapped("imap", func, sequences, dict(workKwargs), ordered).results(buffer)


def aimap(func: Callable[..., R], *sequences: Iterable[Any], ordered: bool = True, buffer: int | None = None,
          **workKwargs: Unpack[WorkKeywords]) -> AsyncResults:  # fmt: skip
    """The same for ``async for``: the event loop is never blocked, and cancelling the task ends the run."""
    from .awaiting import AsyncResults  # loads asyncio

    work = _mapped("aimap", func, sequences, dict(workKwargs), ordered)
    return AsyncResults(lambda: work.results(buffer))


def _mapped(name: str, func: Function, sequences: tuple[Iterable[Any], ...], keywords: dict[str, Any],
            ordered: bool = True) -> _Map:  # fmt: skip
    if not sequences:
        raise TypeError(f"{name}() must have at least two arguments")
    if not callable(func):
        raise PlanError(f"{name} takes a function, not {type(func).__name__}: {shorten(func, 80)}")
    check_answers(f"{name} function {name_of(func)!r}", func, "return a list")
    function, items = (func, sequences[0]) if len(sequences) == 1 else _side_by_side(func, sequences)
    return _Map(function, name_of(func), items, keywords, ordered)


class _Map(Work):
    """The stream of ``map``: one stage, and results that know their position."""

    def __init__(self, function: Function, name: str, items: Iterable[Any], keywords: dict[str, Any],
                 ordered: bool) -> None:  # fmt: skip
        super().__init__(items, **keywords)
        self._recording.map(function, name)
        self._ordered = ordered

    def _check_iterable(self) -> None:
        super()._check_iterable()
        if self._ordered and self._checkpoint.path is not None:
            raise PlanError("results that were not taken have no order when a run goes on from a checkpoint: give "
                            "ordered=False, or checkpointFile=False")  # fmt: skip

    def _arranged(self, steps: Iterator[tuple[list[Any], int | None]]) -> Iterator[list[Any]]:
        if not self._ordered:
            yield from super()._arranged(steps)
            return
        ready: list[Any] = []
        order = _Order(ready.extend)
        for values, base in steps:
            if values:
                order.take(values, base)
            yield ready[:]
            ready.clear()
        order.check()

    def _run_in_parallel(self, plan: Plan, source: InitialWork, handle: Callable[[list[Any]], None], drop: bool,
                         mailbox: Mailbox, saver: Saver | None = None) -> None:  # fmt: skip
        order = _Order(handle)
        self._run_taking(order.take, plan, source, drop, mailbox, saver)
        order.check()


class _Order:
    """Passes lists of neighbours on, each as soon as all before it have come."""

    def __init__(self, handle: Callable[[list[Any]], None]) -> None:
        self._handle = handle
        self._waiting: dict[int, list[Any]] = {}
        self._position = 0

    def take(self, values: list[Any], base: int | None) -> None:
        if base is None:
            raise JobStreamError("a result of an ordered stream came without its position")
        self._waiting[base] = values
        while self._position in self._waiting:
            ready = self._waiting.pop(self._position)
            self._position += len(ready)
            self._handle(ready)

    def check(self) -> None:
        if self._waiting:
            raise JobStreamError(f"results from position {self._position} on are missing")
