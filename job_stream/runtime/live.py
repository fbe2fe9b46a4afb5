"""A live source: initial work that others put in while the run is under way, from any thread.

Each item comes with a ``Ticket``, which hears of the item's end, whatever that is. Items wait here, and not in the
engine, until lanes can do with more: so one that no lane has begun can be withdrawn, and nobody has to be told.

=============  =====================================================  ==================================================
who            writes                                                 and then wakes
=============  =====================================================  ==================================================
any            an item, or that no more will come                     the engine, if it has asked for items
engine         ``SourceGave`` into its own events                     nobody, since it looks at them before it sleeps
engine         what was given up, into the deliveries                 whoever takes these
=============  =====================================================  ==================================================

Items of a live source are calls of any functions, so what one costs says little of the next. So an estimate is kept for
each ``kind`` of item, one that is not known yet travels alone, and a parcel holds at most a fraction of what waits.

The engine gives positions to items in the order in which it takes them; here they are counted in the same order, and
results come back with the position of the first.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from time import monotonic
from typing import Any, NamedTuple, Protocol

from ..engine.messages import Fail, SourceGave
from ..errors import StageError
from ..memory.payload import Blob, Parts, pack
from ..ranks.cluster import Cluster
from ..stream.plan import Plan
from .runtime import Runtime
from .source import InitialWork
from .together import Terminated, throughout

__all__ = ["Item", "LiveRun", "LiveSource", "Ticket"]

PARCEL_S = 5e-3
UNKNOWN_S = 0.1
AHEAD_S = 0.1
"""So much work is given to the engine for each lane; an item of which nothing is known counts as so much."""
PARCEL_ITEMS = 512
PARCEL_BYTES = 1 << 20
LEARN = 0.3
KINDS = 4096
"""Of so many kinds of items it is known what they cost."""


class Ticket(Protocol):
    """Stands for an item with whoever has put it in. All but ``begin`` are called by the thread of the run, one of
    them once; ``begin`` by the engine's."""

    def begin(self) -> bool:
        """The item leaves for a lane; False: it has been withdrawn."""
        ...

    def end(self, outcome: Any) -> Any:
        """The item has come to its end with this outcome. An ``Item`` in return is to be done instead of it."""
        ...

    def give_up(self, error: StageError) -> None:
        """The item has ended its worker too often, or ran out of time."""

    def fail(self, error: BaseException) -> None:
        """The run has ended without it."""


class Item(NamedTuple):
    """Something to be done.

    Attributes:
        value: what the function of the stream is given.
        kind: items of the same kind take similarly long.
        nbytes: what it takes on its way, roughly.
        ticket: hears of its end.
    """

    value: Any
    kind: Any
    nbytes: int
    ticket: Ticket


class _UnderWay(NamedTuple):
    """An item that the engine has; ``estimate``: the seconds that it may take."""

    ticket: Ticket
    kind: Any
    estimate: float


class LiveSource:
    """The items that wait, and the tickets of those that are under way.

    Args:
        is_one_by_one: no two items travel together.

    Attributes:
        lanes: how many there are, on all ranks; known once the run has begun.
        has_begun: comes when it has.
    """

    def __init__(self, is_one_by_one: bool = False) -> None:
        self._most = 1 if is_one_by_one else PARCEL_ITEMS
        self.lanes = 1
        self.has_begun = threading.Event()
        self._has_looked = threading.Event()
        self._lock = threading.Lock()
        self._items: deque[Item] = deque()
        self._under_way: dict[int, _UnderWay] = {}
        self._costs: dict[Any, float] = {}
        self._seconds = 0.0
        self._position = 0
        self._is_wanted = False
        self._is_closed = False
        self._has_ended = False
        self._post: Callable[[Any], None] = lambda event: None
        self._wake: Callable[[], None] = lambda: None
        self._stow: Callable[[Parts], Blob]

    # any thread -------------------------------------------------------------------------------------------------------

    def put(self, item: Item) -> bool:
        """Takes an item in; False: no more can be."""
        with self._lock:
            if self._is_closed:
                return False
            self._items.append(item)
            is_wanted = self._is_wanted and len(self._items) == 1
        if is_wanted:  # else the engine comes by itself, or has been woken
            self._wake()
        return True

    def finish(self) -> None:
        """No more items come."""
        with self._lock:
            self._is_closed = True
        self._wake()

    def await_look(self, timeout_s: float) -> None:
        """Waits until the engine has taken what it could use of what waits."""
        self._has_looked.clear()
        if self._items:
            self._wake()
            self._has_looked.wait(timeout_s)

    def withdraw(self) -> list[Ticket]:
        """Takes back all that no lane has been given."""
        with self._lock:
            items, self._items = self._items, deque()
        return [item.ticket for item in items]

    def abandon(self) -> list[Ticket]:
        """The run is over: the tickets of all that was not done."""
        with self._lock:
            self._is_closed = True
            tickets = [each.ticket for each in self._under_way.values()]
            self._under_way.clear()
        self._has_looked.set()
        return tickets + self.withdraw()

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        return not (self._items or self._under_way)

    @property
    def counts(self) -> tuple[int, int]:
        """Items that have come to their ends, and all that there were; those that were withdrawn are among neither."""
        with self._lock:
            return self._position - len(self._under_way), self._position + len(self._items)

    def cost_of(self, kind: Any) -> float | None:
        """Seconds that an item of this kind takes; None: not known yet."""
        return self._costs.get(kind)

    # the engine's thread ----------------------------------------------------------------------------------------------

    def bind(self, stow: Callable[[Parts], Blob], post: Callable[[Any], None], wake: Callable[[], None]) -> LiveSource:
        """The run says how it is told of something."""
        self._stow, self._post, self._wake = stow, post, wake
        return self

    def begun(self, lanes: int) -> None:
        """The ranks have met, and have so many lanes together."""
        self.lanes = lanes
        self.has_begun.set()

    waiting = False
    """Nothing is put off: ``overdue`` gives what there is."""

    def request(self, items: int) -> None:
        """The engine can do with more; how many that are is decided here."""
        with self._lock:
            self._is_wanted = True
        gave = self.overdue()
        if gave is not None:
            self._post(gave)

    def overdue(self) -> SourceGave | None:
        """What the engine has asked for, if there is something now."""
        try:
            return self._taken()
        finally:
            self._has_looked.set()

    def _taken(self) -> SourceGave | None:
        if not self._is_wanted or not (self._items or self._is_closed):
            return None
        chunks: list[tuple[int, Any]] = []
        while len(chunks) < self.lanes and self._has_room() and (items := self._parcel()):
            chunks.append((len(items), self._stow(pack([item.value for item in items]))))
        done = self._is_closed and self.is_idle and not self._has_ended
        if not chunks and not done:
            return None
        self._is_wanted, self._has_ended = False, done
        return SourceGave(tuple(chunks), done)

    def _has_room(self) -> bool:
        """Whether lanes may soon be out of work. What has been given to the engine cannot be withdrawn any more."""
        return len(self._under_way) <= self.lanes or self._seconds < AHEAD_S * self.lanes

    def _parcel(self) -> list[Item]:
        """The next items that travel together; those that have been withdrawn are left out."""
        parcel: list[Item] = []
        left, until, nbytes = min(-(-len(self._items) // (2 * self.lanes)), self._most), self._seconds + PARCEL_S, 0
        while left > 0 and self._seconds < until and nbytes < PARCEL_BYTES:
            with self._lock:
                if not self._items:
                    break
                item = self._items.popleft()
            if not item.ticket.begin():
                continue
            self._enter(item)
            parcel.append(item)
            left -= 1
            nbytes += item.nbytes
        return parcel

    def _enter(self, item: Item) -> None:
        with self._lock:
            estimate = self._costs.get(item.kind, UNKNOWN_S)
            self._under_way[self._position] = _UnderWay(item.ticket, item.kind, estimate)
            self._position += 1
            self._seconds += estimate

    def close(self) -> None:
        """Nothing is asked for any more."""
        self._is_wanted = False

    # the thread of the run --------------------------------------------------------------------------------------------

    def ended(self, outcomes: list[Any], position: int) -> None:
        """Items have come to their ends; ``outcomes`` are pairs of seconds and what their tickets are given, and None
        where one was skipped."""
        for number, told in enumerate(outcomes, position):
            left = self._under_way[number]
            if told is None:
                left.ticket.give_up(_skipped())
            else:
                self._end(left, *told)
            self._leave(number)
        self._go_on()

    def _end(self, left: _UnderWay, seconds: float, outcome: Any) -> None:
        self._learn(left.kind, seconds)
        again = left.ticket.end(outcome)
        if again is not None:
            self._put_again(again)

    def given_up(self, fail: Fail, error: StageError) -> None:
        """Items have ended their workers too often, or ran out of time."""
        assert fail.base is not None
        for number in range(fail.base, fail.base + fail.count):
            self._under_way[number].ticket.give_up(error)
            self._leave(number)
        self._go_on()

    def _leave(self, number: int) -> None:
        with self._lock:
            left = self._under_way.pop(number, None)
            if left is not None:
                self._seconds = self._seconds - left.estimate if self._under_way else 0.0

    def _go_on(self) -> None:
        """Something has ended: there may be room for more, or nothing left."""
        if self._is_wanted and (self._items or (self._is_closed and self.is_idle)):
            self._wake()

    def _put_again(self, item: Item) -> None:
        """Also where no new ones are taken any more."""
        with self._lock:
            self._items.appendleft(item)

    def _learn(self, kind: Any, seconds: float) -> None:
        before = self._costs.get(kind)
        if before is None and len(self._costs) >= KINDS:
            self._costs.clear()
        self._costs[kind] = seconds if before is None else before + LEARN * (seconds - before)


def _skipped() -> StageError:
    reason = "what is called did not even give the error that it raised, so it was skipped"
    return StageError("call", "<an item>", reason)


class LiveRun:
    """A run of a plan over a live source, in a thread of its own. It forks its lanes' nursery when it is made.

    Args:
        plan: the stream; its only stage is a map, which gives pairs of seconds and an outcome.
        lanes: how many there are to be, on all ranks; None: as many as there can be.
        seed: of ``rng()``.
        broken: called where the run ends with an error; gives what the tickets are told.
        opening: for ranks that wait to hear which stream comes next; None: they know.
        is_one_by_one: no two items travel together.

    Attributes:
        source: where items are put in.
    """

    def __init__(self, plan: Plan, lanes: int | None, seed: int | None,
                 broken: Callable[[BaseException], BaseException], opening: Any = None,
                 is_one_by_one: bool = False) -> None:  # fmt: skip
        self.source = LiveSource(is_one_by_one)
        self._plan = plan
        self._broken = broken
        self._opening = opening
        self._verdict: BaseException | None = None
        self._join: Callable[[], Cluster] | None = None
        self._runtime = Runtime(plan, InitialWork([iter(())]), [], None, seed, False, joining=self._joined,
                                live=self.source, total=lanes)  # fmt: skip
        self._thread = threading.Thread(target=copy_context().run, args=(self._serve,), name="job_stream-live",
                                        daemon=True)  # fmt: skip
        try:
            self._thread.start()
        except BaseException:
            self._runtime.abandon()
            raise

    def join(self, timeout_s: float | None = None) -> None:
        """Waits for the end of the run."""
        until = None if timeout_s is None else monotonic() + timeout_s
        self._thread.join(None if until is None else max(0.0, until - monotonic()))

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Items that have come to their ends, all that there were, and lanes."""
        return *self.source.counts, self.source.lanes

    def is_own_thread(self) -> bool:
        """Whether the caller runs in the thread of the run, and so cannot wait for its end."""
        return threading.current_thread() is self._thread

    def terminate(self, verdict: BaseException) -> None:
        """Ends the run at once; the tickets of all that is not done are told this."""
        self._verdict = self._verdict or verdict
        self._runtime.interrupt(Terminated("the run was ended"))

    def _serve(self) -> None:
        try:
            self._run()
        except BaseException as error:
            self._close(self._verdict or self._broken(error))
        else:
            self._close(self._verdict or RuntimeError("the run has ended"))

    def _run(self) -> None:
        has_run = False
        try:
            with throughout(self._plan, self._is_patient, self._opening) as self._join:
                has_run = True
                self._runtime.run(self._take)
        finally:
            if not has_run:
                self._runtime.abandon()

    def _is_patient(self) -> bool:
        """Whether to wait on for another stream to end."""
        return self._verdict is None

    def _joined(self) -> Cluster:
        assert self._join is not None
        return self._join()

    def _take(self, outcomes: list[Any], position: int | None) -> None:
        assert position is not None
        self.source.ended(outcomes, position)

    def _close(self, error: BaseException) -> None:
        for ticket in self.source.abandon():
            ticket.fail(error)
