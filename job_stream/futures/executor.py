"""``Executor``: lanes behind the interface of ``concurrent.futures``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent import futures
from concurrent.futures import Future
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from ..stream.checks import is_whole, seed_of
from .service import Order
from .stretches import ahead_of
from .telling import Wanted, tells
from .without import service_for

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import ParamSpec

    P = ParamSpec("P")

__all__ = ["Executor"]

T = TypeVar("T")

LEAST_AHEAD = 2
"""``map`` takes so many items for each lane from iterables of unknown length, ahead of who takes the results, and more
where they are small."""


class Executor(futures.Executor):
    """Makes calls in worker processes, on all ranks; a ``concurrent.futures.Executor``.

    It gives the futures of the standard library, so ``wait``, ``as_completed``, ``asyncio.wrap_future`` and
    ``loop.run_in_executor`` work with them. Functions may be lambdas and closures. Calls are packed when they are
    submitted, large arrays once for all calls that are given the same contents.

    A worker that dies is replaced, and its call made again, three times at most; the executor goes on. At the end of
    the script all that was submitted is done. In a job, or in a call of an executor, calls are made at once, in the
    same process.

    Args:
        max_workers: how many workers there are on all ranks, at least one on each; None: one for each CPU that may be
            used.
        initializer: called in each worker before its first call. If it raises, all futures get a ``BrokenExecutor``.
        initargs: what it is given.
        retries: how often a call that raised is repeated.
        timeout: seconds that a call may take, from its begin; then its worker is ended, and the future gets a
            ``StageTimeout``.
        seed: of the generators that ``rng()`` gives in calls.
        progress: who is told how far the calls are: a function, which gets a ``CallProgress`` ten times a second at
            most and once at the end, in a thread of its own; or standard error: 'bar' is a line that is written anew,
            'log' a line now and then, True the first in a terminal and otherwise the second. None: nobody.

    Raises:
        ValueError: max_workers is not above 0.
        PlanError: another argument makes no sense.

    Example:
        >>> with Executor() as executor:
        ...     future = executor.submit(pow, 2, 8)
        ...     future.result(), list(executor.map(abs, [-1, 2]))
        (256, [1, 2])
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        retries: int = 0,
        timeout: float | None = None,
        seed: int | None = None,
        progress: Wanted = None,
    ) -> None:
        if max_workers is not None and not is_whole(max_workers, 1):
            raise ValueError(f"max_workers must be greater than 0 and a whole number, not {max_workers!r}")
        order = Order(max_workers and int(max_workers), seed_of(seed), retries, timeout)
        self._service = service_for(order, initializer, initargs, self, tells(progress))

    @property
    def num_workers(self) -> int:
        """How many workers there may be, on all ranks."""
        return self._service.lanes

    @property
    def _max_workers(self) -> int:
        """The same, where others look for it."""
        return self._service.lanes

    @property
    def _broken(self) -> BaseException | None:
        return self._service.broken

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Has ``fn(*args, **kwargs)`` called.

        Returns:
            the future of what it returns. What it raises is raised there, with a ``StageError`` as its cause that says
            where it was; a ``LaneDied`` if it ended its worker three times; a ``PayloadError`` if it cannot travel.

        Raises:
            RuntimeError: the executor has been shut down.
            BrokenExecutor: it is of no use any more.
            WorldError: this is another rank than the primary.
        """
        return self._service.call(fn, args, kwargs)

    def map(self, fn: Callable[..., T], /, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1,
            buffersize: int | None = None) -> Iterator[T]:  # fmt: skip
        """Like the built-in ``map``: the results of ``fn``, in order.

        Args:
            fn: gets an element of each of the iterables; the shortest one counts.
            iterables: where all have a length, all calls are submitted at once. Otherwise elements are taken as results
                are: some hundred milliseconds of work ahead, so endless iterables are fine.
            timeout: seconds from now on after which ``TimeoutError`` is raised where a result is not there.
            chunksize: without effect; calls travel together where that is worth it.
            buffersize: so many calls are submitted ahead of the results that are taken.

        Raises:
            ValueError: chunksize or buffersize is below 1.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None and not is_whole(buffersize, 1):
            raise ValueError("buffersize must be a whole number above 0, or None")
        until = None if timeout is None else timeout + monotonic()
        calls = zip(*iterables, strict=False)
        is_sized = buffersize is None and all(isinstance(each, Sized) for each in iterables)
        return self._results(_Ahead(self._service, fn, calls, buffersize, is_sized), until)

    @staticmethod
    def _results(ahead: _Ahead, until: float | None) -> Iterator[Any]:
        ahead.fill()

        def results() -> Iterator[Any]:
            try:
                while ahead.futures:
                    yield _result_of(ahead.futures.popleft(), until)
                    ahead.fill()
            finally:
                for future in ahead.futures:
                    future.cancel()

        return results()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls are taken; those that were submitted are made.

        Args:
            wait: return when they are, and the workers gone.
            cancel_futures: those that no worker has been given are cancelled.
        """
        self._service.finish()
        if cancel_futures:
            self._service.withdraw()
        if wait:
            self._service.join()

    def terminate(self) -> None:
        """Ends at once: calls that are under way, too. Futures that are not done get a ``CancelledError``."""
        self._service.terminate()
        self._service.join()

    def __enter__(self) -> Executor | None:  # type: ignore[override]
        """The executor. On other ranks than the primary None, after they have taken part in its run."""
        return None if self._service.serve() else self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()


def _result_of(future: Future[Any], until: float | None) -> Any:
    """The result; keeps neither it nor the future, and cancels one that nobody waits for any more."""
    try:
        try:
            return future.result() if until is None else future.result(max(0.0, until - monotonic()))
        finally:
            future.cancel()
    finally:
        del future


class _Ahead:
    """The calls of a ``map`` that have been submitted, and whose results have not been taken."""

    def __init__(self, service: Any, fn: Callable[..., Any], calls: Iterator[tuple[Any, ...]], most: int | None,
                 is_sized: bool) -> None:  # fmt: skip
        self.futures: deque[Future[Any]] = deque()
        self._call = service.caller(fn)
        self._calls = calls
        self._most = most
        self._is_sized = is_sized

    def fill(self) -> None:
        """Submits more."""
        most = ahead_of(self._call, LEAST_AHEAD) if self._most is None else self._most
        left = None if self._is_sized else max(0, most - len(self.futures))
        for args in islice(self._calls, left):
            self.futures.append(self._call(args))
