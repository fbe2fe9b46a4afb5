"""What stands behind an executor that has no run: within a lane, and on another rank than the primary."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Future
from typing import Any
from weakref import finalize

from ..errors import WorldError
from ..evaluate.context import current
from ..ranks.world import rank_of
from ..runtime.together import is_elsewhere, is_kept_to_primary
from .service import CLOSED, Order, Service, serve
from .telling import Tell

__all__ = ["AtOnce", "Elsewhere", "service_for"]


class AtOnce:
    """Within a call or a job: makes calls at once, in this process.

    Args:
        order: how often a call that raised is repeated.
        initializer, initargs: called before the first call.
    """

    lanes = 1

    def __init__(
        self, order: Order, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]
    ) -> None:
        self.broken: BrokenExecutor | None = None
        self._retries = order.plan().places[0].policy.retries
        self._initializer = initializer
        self._initargs = initargs
        self._is_closed = False

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Makes a call; the future of what came of it."""
        if self._is_closed:
            raise RuntimeError(CLOSED)
        self._set_up()
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        for left in reversed(range(self._retries + 1)):
            try:
                future.set_result(fn(*args, **kwargs))
            except Exception as error:
                if not left:
                    future.set_exception(error)
            else:
                break
        return future

    def _set_up(self) -> None:
        initializer, self._initializer = self._initializer, None
        if initializer is not None:
            initializer(*self._initargs)

    def caller(self, fn: Callable[..., Any]) -> _CallerAtOnce:
        """What makes many calls of one function."""
        return _CallerAtOnce(self, fn)

    def serve(self) -> bool:
        """Whether this rank has taken part in a run of the primary's."""
        return False

    def finish(self) -> None:
        """No more calls are taken."""
        self._is_closed = True

    def withdraw(self) -> None:
        """All calls have been made."""

    def join(self) -> None:
        """All calls have been made."""

    terminate = finish


class _CallerAtOnce:
    """Makes many calls of one function."""

    lanes = 1
    cost = None
    item_cost: float | None = None
    nbytes = 0

    def __init__(self, service: AtOnce, fn: Callable[..., Any]) -> None:
        self._service = service
        self._fn = fn

    def __call__(self, args: tuple[Any, ...]) -> Future[Any]:
        return self._service.call(self._fn, args, {})


class Elsewhere:
    """On another rank than the primary: takes part in the primary's run where a ``with`` block would begin.

    Args:
        order: what the primary has, too.
    """

    broken: BrokenExecutor | None = None

    def __init__(self, order: Order) -> None:
        self._order = order
        order.plan()  # a mistake in it is known here, as on the primary

    @property
    def lanes(self) -> int:
        """Only the primary asks for them."""
        raise _not_here()

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        """Only the primary makes calls."""
        raise _not_here()

    def caller(self, fn: Callable[..., Any]) -> Any:
        """Only the primary makes calls."""
        raise _not_here()

    def serve(self) -> bool:
        """Takes part."""
        serve(self._order)
        return True

    def finish(self) -> None:
        """There is nothing to end here."""

    def withdraw(self) -> None:
        """There is nothing to cancel here."""

    def join(self) -> None:
        """There is nothing to wait for here."""

    def terminate(self) -> None:
        """There is nothing to end here."""


def service_for(order: Order, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...],
                owner: object, tell: Callable[[], Tell] | None = None) -> Service | AtOnce | Elsewhere:  # fmt: skip
    """What makes calls here, until ``owner`` is forgotten at the latest. ``tell`` makes what is told how far it is."""
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    if current() is not None:
        return AtOnce(order, initializer, initargs)
    if is_elsewhere():
        return Elsewhere(order)
    service = Service(order, initializer, initargs, is_kept_to_primary(), None if tell is None else tell())
    finalize(owner, service.finish).atexit = False
    return service


def _not_here() -> WorldError:
    return WorldError(
        f"this is rank {rank_of()}, and only rank 0 makes calls: write 'with Executor() as executor:', which gives "
        "None on other ranks when they have taken part, and 'if executor is not None:' in it; or have the script run "
        "on rank 0 alone: mpirun -n 4 python -m job_stream.futures script.py"
    )
