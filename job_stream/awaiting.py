"""The results of a stream as they come, for ``async for``. A module of its own: asyncio is slow to load."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any
from weakref import finalize

from .iteration import Results

__all__ = ["AsyncResults"]

_END = object()


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
