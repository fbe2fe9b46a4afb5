"""One function over many items: they travel together, and come back a part at a time.

A call is given a stretch of the items and does those that it can in a short time (``Some``); the rest of the stretch is
submitted again. So small items cost little, and long ones neither wait behind each other nor have to be known before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import RLock
from typing import Any

from ..errors import LaneDied
from .stretches import SOME_S, Some

__all__ = ["Bulk"]

MOST = 1 << 16
GROWTH = 4
FIRST = 64
"""No more are in the first stretch, of which nothing is known."""
STRETCH_BYTES = 256 << 10
"""So much travels at a time, or one item; what one takes is known from the stretches before."""


class Bulk:
    """Calls a function with each of these items.

    Args:
        service: makes the calls.
        function: of one item.
        items: what it is called with.
        is_one_by_one: no two items travel together.

    Attributes:
        future: of the list of results; of the exception, if a call raises one, and then no more are made.
    """

    def __init__(self, service: Any, function: Callable[..., Any], items: list[Any], is_one_by_one: bool) -> None:
        self.future: Future[list[Any]] = Future()
        self._call = service.caller(Some(function))
        self._items = items
        self._results: list[Any] = [None] * len(items)
        self._left = len(items)
        self._spans: deque[tuple[int, int]] = deque([(0, len(items))] if items else [])
        self._waiting = len(items)
        self._most = 1 if is_one_by_one else MOST
        self._size = 1 if self._call.item_cost is None else self._size_at(self._call.item_cost)
        self._bytes = 0.0
        self._under_way: set[Future[Any]] = set()
        self._lock = RLock()
        self._is_submitting = False
        self.future.set_running_or_notify_cancel()
        if not items:
            self.future.set_result([])
        self._submit()

    def _submit(self) -> None:
        """Submits stretches for as long as lanes can do with some; calls may have been made when it returns."""
        with self._lock:
            if self._is_submitting:
                return
            self._is_submitting = True
            try:
                while self._spans and not self.future.done() and len(self._under_way) < 2 * self._call.lanes:
                    self._submit_one()
            finally:
                self._is_submitting = False

    def _submit_one(self) -> None:
        start, stop = self._spans.popleft()
        fair = -(-self._waiting // (2 * self._call.lanes))
        room = int(STRETCH_BYTES / self._bytes) if self._bytes else FIRST
        end = min(stop, start + max(1, min(self._size, fair, self._most, room)))
        if end < stop:
            self._spans.appendleft((end, stop))
        self._waiting -= end - start
        call = self._call((self._items[start:end],))
        self._bytes = self._call.nbytes / (end - start)
        self._under_way.add(call)
        call.add_done_callback(lambda done: self._done(done, start, end))

    def _done(self, call: Future[Any], start: int, end: int) -> None:
        with self._lock:
            self._under_way.discard(call)
            try:
                self._take(call, start, end)
                self._submit()
            except BaseException as error:  # else nobody would hear of it
                self._fail(error)
        if not self._left and not self.future.done():
            self.future.set_result(self._results)

    def _take(self, call: Future[Any], start: int, end: int) -> None:
        if self.future.done():
            return
        if isinstance(call.exception(), LaneDied) and end - start > 1:
            self._again(start, end)
            self._most = 1  # so that only the one is given up that is to blame
            return
        seconds, results = call.result()
        done = start + len(results)
        self._results[start:done] = results
        self._left -= len(results)
        if done < end:
            self._again(done, end)
        cost = self._call.item_cost = seconds / len(results)
        self._size = min(GROWTH * self._size, self._size_at(cost))

    @staticmethod
    def _size_at(cost: float) -> int:
        return max(1, int(SOME_S / max(cost, 1e-9)))

    def _again(self, start: int, end: int) -> None:
        self._spans.append((start, end))
        self._waiting += end - start

    def _fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)
        for call in list(self._under_way):
            call.cancel()
