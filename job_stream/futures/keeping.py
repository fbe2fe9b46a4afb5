"""A run that is kept from one use to the next, for those who come again and again without saying when they are done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from .service import Order, Service, gives_way
from .without import AtOnce, Elsewhere, service_for

__all__ = ["IDLE_S", "KeptWorkers", "batch"]

IDLE_S = 300.0
"""So long after the last use it ends."""


class KeptWorkers:
    """Keeps the workers of a process.

    Workers of another number take the place of those that there are. On several ranks a run that is in use by nobody
    gives way to another.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._service: Service | AtOnce | Elsewhere | None = None
        self._lanes = 0
        self._users = 0
        self._timer: threading.Timer | None = None
        gives_way(self.give_way)

    def taken(self, lanes: int) -> Service | AtOnce | Elsewhere:
        """So many workers, for somebody who will give them back."""
        with self._lock:
            self._stop_timer()
            service = self._service
            if service is None or self._lanes != lanes or not _is_of_use(service):
                self._end()
                service = self._service = service_for(Order(lanes), None, (), self)
                self._lanes = lanes
            self._users += 1
            return service

    def give_back(self, service: object) -> None:
        """Somebody does not use them any more."""
        with self._lock:
            if service is not self._service:
                return
            self._users -= 1
            if not self._users:
                self._timer = threading.Timer(IDLE_S, self.give_way)
                self._timer.daemon = True
                self._timer.start()

    def drop(self, service: object) -> bool:
        """Ends workers at once, with what they are at; False: somebody else uses them."""
        with self._lock:
            if service is self._service and self._users > 1:
                return False
            if isinstance(service, Service):
                service.terminate()
            if service is self._service:
                self._service, self._users = None, 0
            return True

    def give_way(self) -> None:
        """Ends workers that nobody uses."""
        with self._lock:
            if not self._users:
                self._end()

    def _end(self) -> None:
        """Others who still use them have their calls made."""
        self._stop_timer()
        service, self._service, self._users = self._service, None, 0
        if service is not None:
            service.finish()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _is_of_use(service: Any) -> bool:
    """Whether it takes calls in this process."""
    try:
        service.check()
    except RuntimeError:  # a BrokenExecutor, too
        return False
    return True


def batch(calls: Callable[[], Any], threads: int | None) -> Any:
    """Makes some calls in a worker, in which BLAS and OpenMP have so many threads; None: as many as they have."""
    if threads is None:
        return calls()
    from threadpoolctl import threadpool_limits

    with threadpool_limits(threads):
        return calls()
