"""The results of a stream as they come, for ``for``; ``async for`` is in ``awaiting``.

An iteration *is* the main thread of its run: between two results nothing of the run is done there, and the other
threads go on. Closing it ends the run at once, and the workers are gone when that returns. So does forgetting it, which
is what ``break`` does, and an exception in the loop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from typing import Any

__all__ = ["BUFFER", "Results"]

BUFFER = 10_000


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
