"""``Pool``: lanes behind the interface of ``multiprocessing.Pool``."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..ranks.world import rank_of
from ..stream.checks import is_whole
from .bulk import Bulk
from .service import CLOSED, Order
from .stretches import Star, ahead_of
from .without import Elsewhere, service_for

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["AsyncResult", "Pool"]

T = TypeVar("T")
Callback = Callable[[Any], object]

LEAST_AHEAD = 4
"""``imap`` takes so many items for each worker ahead of who takes the results, and more where they are small."""


class AsyncResult(Generic[T]):
    """What will come of a call, or of a ``map``.

    Args:
        future: of it.
        callback: called with the result, in a thread of the pool.
        error_callback: called with the exception.
    """

    def __init__(self, future: Future[T], callback: Callback | None, error_callback: Callback | None) -> None:
        self._future = future
        self._callback = callback
        self._error_callback = error_callback
        future.add_done_callback(self._tell)

    def _tell(self, future: Future[T]) -> None:
        error = None if future.cancelled() else future.exception()
        if future.cancelled() or error is not None:
            if self._error_callback is not None:
                self._error_callback(error)
        elif self._callback is not None:
            self._callback(future.result())

    def get(self, timeout: float | None = None) -> T:
        """The result; raises what the call raised.

        Raises:
            multiprocessing.TimeoutError: it is not there after so many seconds.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        return self._future.result()

    def wait(self, timeout: float | None = None) -> None:
        """Waits for the result, for so many seconds at most."""
        from concurrent.futures import wait

        wait([self._future], timeout)

    def ready(self) -> bool:
        """Whether it is there."""
        return self._future.done()

    def successful(self) -> bool:
        """Whether nothing was raised.

        Raises:
            ValueError: it is not there yet.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not self._future.cancelled() and self._future.exception() is None


class _Results(Iterator[T]):
    """Results as they come; ``next`` may be given a time limit in seconds."""

    def __init__(self, call: Any, items: Iterator[tuple[Any, ...]], is_ordered: bool) -> None:
        self._call = call
        self._items = items
        self._is_ordered = is_ordered
        self._calls: deque[Future[T]] = deque()
        self._done: SimpleQueue[Future[T]] = SimpleQueue()
        self._count = 0
        self._fill()

    def _fill(self) -> None:
        for args in islice(self._items, max(0, ahead_of(self._call, LEAST_AHEAD) - self._count)):
            call = self._call(args)
            self._count += 1
            if self._is_ordered:
                self._calls.append(call)
            else:
                call.add_done_callback(self._done.put)

    def __next__(self) -> T:
        return self.next()

    def next(self, timeout: float | None = None) -> T:
        """The next result.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it is not there in time.
        """
        if not self._count:
            raise StopIteration
        call = self._next_call(timeout)
        self._count -= 1
        self._fill()
        return call.result()

    def _next_call(self, timeout: float | None) -> Future[T]:
        if not self._is_ordered:
            try:
                return self._done.get(timeout=timeout)
            except Empty:
                raise multiprocessing.TimeoutError from None
        try:
            self._calls[0].exception(timeout)
        except TimeoutError:
            raise multiprocessing.TimeoutError from None
        return self._calls.popleft()


class Pool:
    """Workers on all ranks, for whatever takes a ``multiprocessing.Pool``.

    A pool may be called as the built-in ``map`` is. Functions may be lambdas and closures. A worker that dies is
    replaced, and its call made again, three times at most; then that is a ``LaneDied``.

    Args:
        processes: how many workers there are on all ranks, at least one on each; None: one for each CPU.
        initializer: called in each worker before its first call.
        initargs: what it is given.
        maxtasksperchild: another worker takes the place of one that has made so many calls.

    Attributes:
        size: how many workers there are.

    Raises:
        ValueError: processes or maxtasksperchild is not above 0.

    Example:
        >>> with Pool() as pool:
        ...     pool.map(abs, [-1, 2]), pool.starmap(pow, [(2, 3), (3, 2)])
        ([1, 2], [8, 9])
    """

    def __init__(self, processes: int | None = None, initializer: Callable[..., object] | None = None,
                 initargs: Iterable[Any] = (), maxtasksperchild: int | None = None) -> None:  # fmt: skip
        for name, value in (("processes", processes), ("maxtasksperchild", maxtasksperchild)):
            if value is not None and not is_whole(value, 1):
                raise ValueError(f"{name} must be a whole number above 0, or None, not {value!r}")
        self._is_one_by_one = maxtasksperchild is not None
        order = Order(processes and int(processes), calls=maxtasksperchild and int(maxtasksperchild))
        self._service = service_for(order, initializer, tuple(initargs), self)
        self._is_closed = False

    # calls ------------------------------------------------------------------------------------------------------------

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> T:
        """What ``func(*args, **kwds)`` gives."""
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None,
                    callback: Callback | None = None, error_callback: Callback | None = None
                    ) -> AsyncResult[T]:  # fmt: skip
        """The same, without waiting for it."""
        self._check()
        return AsyncResult(self._service.call(func, tuple(args), dict(kwds or {})), callback, error_callback)

    def map(self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int | None = None) -> list[T]:
        """The list of ``func(item)``, in order. ``chunksize`` is without effect: items travel together as it is worth.
        """
        return self.map_async(func, iterable, chunksize).get()

    __call__ = map

    def map_async(self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int | None = None,
                  callback: Callback | None = None, error_callback: Callback | None = None
                  ) -> AsyncResult[list[T]]:  # fmt: skip
        """The same, without waiting for it."""
        self._check()
        bulk = Bulk(self._service, func, list(iterable), self._is_one_by_one)
        return AsyncResult(bulk.future, callback, error_callback)

    def starmap(self, func: Callable[..., T], iterable: Iterable[Iterable[Any]],
                chunksize: int | None = None) -> list[T]:  # fmt: skip
        """The list of ``func(*item)``, in order."""
        return self.starmap_async(func, iterable, chunksize).get()

    def starmap_async(self, func: Callable[..., T], iterable: Iterable[Iterable[Any]], chunksize: int | None = None,
                      callback: Callback | None = None, error_callback: Callback | None = None
                      ) -> AsyncResult[list[T]]:  # fmt: skip
        """The same, without waiting for it."""
        return self.map_async(Star(func), iterable, chunksize, callback, error_callback)

    def imap(self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int = 1) -> _Results[T]:
        """The results of ``func(item)`` as they come, in order. Items are taken as results are, so the iterable may be
        endless."""
        return self._results(func, iterable, True)

    def imap_unordered(self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int = 1) -> _Results[T]:
        """The same, whichever is there first."""
        return self._results(func, iterable, False)

    def _results(self, func: Callable[..., T], iterable: Iterable[Any], is_ordered: bool) -> _Results[T]:
        self._check()
        return _Results(self._service.caller(func), ((item,) for item in iterable), is_ordered)

    def _check(self) -> None:
        if self._is_closed:
            raise ValueError(f"Pool not running: {CLOSED}")

    # ranks ------------------------------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        return self._service.lanes

    def is_master(self) -> bool:
        """Whether this rank may make calls: the primary."""
        return not isinstance(self._service, Elsewhere) or rank_of() == 0

    def wait(self) -> None:
        """On another rank than the primary: takes part in the pool's run, until that is closed there."""
        self._service.serve()

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """No more calls are taken."""
        self._is_closed = True
        self._service.finish()

    def terminate(self) -> None:
        """Ends at once, with what is under way."""
        self._is_closed = True
        self._service.terminate()
        self._service.join()

    def join(self) -> None:
        """Waits until all calls have been made, and the workers are gone.

        Raises:
            ValueError: the pool is neither closed nor terminated.
        """
        if not self._is_closed:
            raise ValueError("Pool is still running: close() or terminate() it first")
        self._service.join()

    def __enter__(self) -> Pool | None:
        """The pool. On other ranks than the primary None, after they have taken part in its run."""
        return None if self._service.serve() else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Makes the calls that were asked for; where an exception leaves the block, ends at once."""
        if error is not None:
            self.terminate()
            return
        self.close()
        self.join()
