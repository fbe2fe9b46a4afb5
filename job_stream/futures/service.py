"""The run behind an executor: takes calls in, and has their futures hear of their ends.

It is not the executor itself, which may be forgotten while calls are under way.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, CancelledError, Future
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakSet

from ..errors import PayloadError
from ..ground.environment import CHECKPOINT
from ..memory.volumes import Volume
from ..ranks.world import size_of
from ..runtime.live import LiveRun
from ..runtime.runtime import Runtime
from ..runtime.source import InitialWork
from ..runtime.together import Terminated, throughout
from ..stream.checks import policy_of
from ..stream.plan import Plan, Policy
from ..stream.recorder import Recording
from ..workers.streams import occupy
from .packer import Packed, Packer, Pickle
from .performer import Performer
from .stretches import name_of
from .telling import Tell, Telling
from .tickets import FutureTicket, broken_by

__all__ = ["CLOSED", "Caller", "Order", "Service", "close_all", "failed", "gives_way", "serve"]

LOOK_S = 0.1
LOOKED_S = 5.0
NAME = "call"
KNOWN = 1024
"""Of so many functions it is known what their items cost."""
CLOSED = "cannot schedule new futures after shutdown"


class Order(NamedTuple):
    """What all ranks have to know of an executor.

    Attributes:
        lanes: how many there are to be on all ranks; None: as many as there can be.
        seed: of ``rng()``.
        retries: how often a call that raised is repeated.
        timeout_s: seconds that a call may take.
        calls: so many are made by a worker, and another takes its place; None: any number.
    """

    lanes: int | None = None
    seed: int | None = None
    retries: int = 0
    timeout_s: float | None = None
    calls: int | None = None

    def plan(self) -> Plan:
        """The stream: one map, whose items are calls.

        Raises:
            PlanError: a value makes no sense.
        """
        policy = policy_of("Executor", Policy(), "skip", self.retries, self.timeout_s)
        recording = Recording(True, policy)
        recording.map(Performer(policy.retries, self.calls), NAME)
        return recording.plan()


class Service:
    """Makes calls in lanes.

    Args:
        order: how.
        initializer, initargs: of lanes.
        is_alone: the script runs on this rank alone, and the others wait to be told what to serve.
        tell: is told how far the calls are; None: nobody is.

    Attributes:
        broken: why no call can be made any more.
        item_costs: seconds that an item took lately of those that a function was given many of.
    """

    def __init__(self, order: Order, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...],
                 is_alone: bool, tell: Tell | None = None) -> None:  # fmt: skip
        self.broken: BrokenExecutor | None = None
        self.item_costs: dict[Pickle | None, float] = {}
        self.packer = Packer(initializer, initargs)
        self._pid = os.getpid()
        self._carries = False
        self._is_closed = False
        _say_without_checkpoint()
        if size_of() > 1:
            give_way()
        occupy()
        self._run = LiveRun(order.plan(), order.lanes, order.seed, self._broke_down, tuple(order) if is_alone else None,
                            order.calls is not None)  # fmt: skip
        self._telling = None if tell is None else Telling(self._run, tell)
        _endings.add(self)

    @property
    def lanes(self) -> int:
        """How many there are on all ranks; waits until these have met."""
        source = self._run.source
        while not source.has_begun.wait(LOOK_S):
            if not self._run.is_alive:
                break
        return source.lanes

    def cost_of(self, kind: Pickle | None) -> float | None:
        """Seconds that calls of a function take; None: not known yet."""
        return self._run.source.cost_of(kind)

    def call(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
             packer: Packer | None = None) -> Future[Any]:  # fmt: skip
        """Has a call made; its future, which also gets what keeps the call from travelling. ``packer``: another than
        its own.

        Raises:
            RuntimeError: no more are taken.
            BrokenExecutor: none can be made.
        """
        self.check()
        try:
            packed = (packer or self.packer).packed(fn, args, kwargs)
        except PayloadError as error:
            return failed(error)
        return self.submit(packed)

    def caller(self, fn: Callable[..., Any]) -> Caller:
        """What makes many calls of one function."""
        return Caller(self, fn)

    def serve(self) -> bool:
        """Whether this rank has taken part in a run of the primary's: it is the primary."""
        return False

    def submit(self, packed: Packed) -> Future[Any]:
        """Has a packed call made."""
        future: Future[Any] = Future()
        self.check()
        ticket = FutureTicket(future, packed.whole() if self._carries and packed.volumes else packed, self)
        if not self._run.source.put(ticket.item()):
            self.check()
            raise RuntimeError(CLOSED)
        return future

    def check(self) -> None:
        """Raises what ``submit`` raises where no more calls are taken."""
        if self.broken is not None:
            raise type(self.broken)(*self.broken.args) from self.broken.__cause__
        if self._is_closed:
            raise RuntimeError(CLOSED)
        if self._pid != os.getpid():
            raise RuntimeError("this executor belongs to the process that forked this one: make one here")

    # the end ----------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """No more calls are taken; those that there are will be made."""
        if self._pid == os.getpid():
            self._is_closed = True
            self._run.source.finish()

    def withdraw(self) -> None:
        """Cancels what no lane has been given. Calls of which lanes could have had the first ones are not all lost."""
        self._run.source.await_look(LOOKED_S)
        self._withdraw()

    def _withdraw(self) -> None:
        for ticket in self._run.source.withdraw():
            assert isinstance(ticket, FutureTicket)
            ticket.withdraw()

    def join(self) -> None:
        """Waits for the end of the run."""
        if self._pid == os.getpid() and not self._run.is_own_thread():
            self._run.join()
            if self._telling is not None:
                self._telling.join()

    def terminate(self) -> None:
        """Ends the run at once."""
        self.finish()
        self._withdraw()
        self._run.terminate(CancelledError())

    # what the run says ------------------------------------------------------------------------------------------------

    def broke(self, error: BrokenExecutor) -> None:
        self.broken = self.broken or error
        self._run.terminate(error)

    def has_to_carry(self) -> None:
        self._carries = True

    def _broke_down(self, error: BaseException) -> BaseException:
        self.broken = self.broken or broken_by(error, "its run has failed")
        return self.broken


_idle: list[Callable[[], object]] = []


def gives_way(end: Callable[[], object]) -> None:
    """Has a run that is kept without use be ended by this function where another is to begin and must wait for it."""
    _idle.append(end)


def give_way() -> None:
    """Ends what is kept without use."""
    for end in _idle:
        end()


@cache
def _say_without_checkpoint() -> None:
    """Says once that the environment asks in vain for checkpoints."""
    if CHECKPOINT.is_set():
        print(f"job_stream: executors write no checkpoints; {CHECKPOINT} is for streams", file=sys.stderr, flush=True)


class Caller:
    """Makes many calls of one function, which is packed once.

    Args:
        service: makes them.
        fn: the function.

    Attributes:
        nbytes: of the arguments of the latest call.
    """

    def __init__(self, service: Service, fn: Callable[..., Any]) -> None:
        service.check()
        self._service = service
        self._name = name_of(fn)
        self._volumes: list[Volume] = []
        self._error: PayloadError | None = None
        self._function: Pickle | None = None
        self.nbytes = 0
        try:
            self._function = service.packer.function(fn, self._volumes)
        except PayloadError as error:
            self._error = error

    @property
    def lanes(self) -> int:
        """How many there are."""
        return self._service.lanes

    @property
    def cost(self) -> float | None:
        """Seconds that a call takes; None: not known yet."""
        return self._service.cost_of(self._function)

    @property
    def item_cost(self) -> float | None:
        """Seconds that an item takes, of those that this function was given many of before; None: not known."""
        return self._service.item_costs.get(self._function)

    @item_cost.setter
    def item_cost(self, seconds: float) -> None:
        costs = self._service.item_costs
        if len(costs) >= KNOWN:
            costs.clear()
        costs[self._function] = seconds

    def __call__(self, args: tuple[Any, ...]) -> Future[Any]:
        """Has a call made."""
        if self._function is None:
            assert self._error is not None
            return failed(self._error)
        try:
            packed = self._service.packer.call(self._function, args, {}, self._volumes, self._name)
        except PayloadError as error:
            return failed(error)
        own = packed.volumes[len(self._volumes) :]
        self.nbytes = len(packed.call.arguments) + sum(volume.address.size for volume in own)
        return self._service.submit(packed)


def failed(error: BaseException) -> Future[Any]:
    """The future of a call that cannot be made."""
    future: Future[Any] = Future()
    future.set_exception(error)
    return future


def serve(order: Order) -> None:
    """Takes part in the run of an executor that the primary has; returns when that is over.

    Raises:
        WorldError: the primary is lost.
    """
    plan = order.plan()
    try:
        with throughout(plan) as joining:
            runtime = Runtime(plan, InitialWork([]), [], None, order.seed, False, joining=joining, total=order.lanes)
            runtime.run(lambda values, base: None)
    except Terminated:
        pass


# the end of the script ------------------------------------------------------------------------------------------------


class _Endings:
    """Has services end with the script: when its main thread has come to its end, they make the calls that they have.

    Python waits for threads that are no daemons before it takes anything down, so one of these waits for the main
    thread first.
    """

    def __init__(self) -> None:
        self._services: WeakSet[Service] = WeakSet()
        self._watcher: threading.Thread | None = None
        self._pid = 0

    def add(self, service: Service) -> None:
        if self._pid != os.getpid():
            self._pid, self._services, self._watcher = os.getpid(), WeakSet(), None
        self._services.add(service)
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._watch, name="job_stream-end", daemon=False)
            self._watcher.start()

    def _watch(self) -> None:
        threading.main_thread().join()
        self.close_all()

    def close_all(self) -> None:
        services = list(self._services)
        for service in services:
            service.finish()
        for service in services:
            service.join()


_endings = _Endings()


def close_all() -> None:
    """Has all services make the calls that they have, and end."""
    _endings.close_all()
