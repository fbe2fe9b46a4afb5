"""The results of a stream as they come, for ``for`` and ``async for``.

An iteration *is* the main thread of its run: between two results nothing of the run is done there, and the other
threads go on. Closing it ends the run at once, and the workers are gone when that returns. So does forgetting it, which
is what ``break`` does, and an exception in the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any
from weakref import finalize

__all__ = ["BUFFER", "AsyncResults", "Results"]

BUFFER = 10_000
_END = object()


class Results(Iterator[Any]):
    """An iterator over the results of a run that has begun.

    Args:
        steps: gives lists of results, the first when the run has begun; closing it ends that.
        interrupt: has ``steps`` come to its end where another thread waits in it.

    Attributes:
        is_over: there is nothing more.
    """

    def __init__(self, steps: Generator[list[Any], None, None], interrupt: Callable[[], None]) -> None:
        self.is_over = False
        self.interrupt = interrupt
        self._steps = steps
        self._ready: deque[Any] = deque(next(steps))

    def __next__(self) -> Any:
        while not self._ready:
            try:
                self._ready.extend(next(self._steps))
            except BaseException:
                self.is_over = True
                raise
        return self._ready.popleft()

    def close(self) -> None:
        """Ends the run at once, with what is under way."""
        self.is_over = True
        self._ready.clear()
        self._steps.close()


class AsyncResults(AsyncIterator[Any]):
    """The same for ``async for``; a thread of its own waits for the results.

    Args:
        begin: begins the run.
    """

    def __init__(self, begin: Callable[[], Results]) -> None:
        self._context = copy_context()
        self._results = self._context.run(begin)
        self._thread = ThreadPoolExecutor(1, "job_stream-results")
        finalize(self, _forget, self._results, self._thread, self._context)

    async def __anext__(self) -> Any:
        if self._results.is_over:
            raise StopAsyncIteration
        try:
            found = await self._in_thread(next, self._results, _END)
        except asyncio.CancelledError:
            await self.aclose()
            raise
        if found is _END:
            raise StopAsyncIteration
        return found

    async def aclose(self) -> None:
        """Ends the run at once, with what is under way; the workers are gone when this returns."""
        self._results.interrupt()
        await self._in_thread(self._results.close)

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._context.run, function, *arguments)


def _forget(results: Results, thread: ThreadPoolExecutor, context: Context) -> None:
    """Nobody asks for more; the thread ends the run, and nobody waits for that."""
    results.interrupt()
    with suppress(RuntimeError):  # the interpreter comes to its end, and the run with it
        thread.submit(context.run, results.close)
    thread.shutdown(wait=False)
