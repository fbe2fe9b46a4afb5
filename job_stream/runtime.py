"""The runtime: performs what the engine decides. The only place where the parts of a run meet.

On every rank, three threads share the work of the script's process. The *engine thread* waits for news, tells the
engine and performs its actions; it never runs user code, and it alone talks to other ranks. The *main thread* takes
deliveries and calls the result handler, so a slow handler delays nobody. The *source thread* pulls initial work that is
not a sequence.
"""

from __future__ import annotations

import mmap
import os
import pickle
import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any, NamedTuple

from .cluster import Cluster, Gone, cluster
from .cpus import hostCpuCount
from .engine import messages as m
from .engine.rank import Rank
from .errors import LaneDied, PayloadError, StageError, StageTimeout, WorldError
from .lanes.arena import Arena
from .lanes.board import ALL_CPUS, OWN_CPUS, SEGMENTS, Board
from .lanes.calls import bare
from .lanes.child import Setup
from .lanes.failures import describe, shorten
from .lanes.lane import PAUSED, WANTED
from .lanes.packing import unpackAny
from .lanes.pool import KEEPER, Death, ProcessPool
from .lanes.threads import ThreadPool
from .payload import Blob, Live, Parts, Segment, pack
from .plan import Kind, Plan
from .source import InitialWork
from .wire import INLINE_BYTES, UserFailure

__all__ = ["Failure", "Runtime"]

PULL_S = 2e-3
PULL_BYTES = 4 << 20
NO_ROOM_MS = 2
WAIT_S = 0.5
HOT_S = 1e-3
HOT_PAUSE_S = 5e-5
POLLS_MS = ((0.05, 1), (0.5, 3), (float("inf"), 8))
"""How long to sleep between looks for other ranks, after so many quiet seconds: each look costs 20 to 50 us."""


class Failure(NamedTuple):
    """An item that was skipped.

    Attributes:
        item: the value that the stage was given; its ``repr`` where it could not be brought back.
        stage: name of the function that failed.
        attempts: how often it was called.
        reason: the traceback, or the signal or time limit that ended the worker.
    """

    item: Any
    stage: str
    attempts: int
    reason: str


class _Wake:
    """Wakes the engine thread, from any thread, for as long as it is there."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock = threading.Lock()
        self._closed = False

    def set(self) -> None:
        with self._lock:
            if not self._closed:
                os.eventfd_write(self.fd, 1)

    def clear(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self.fd)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            os.close(self.fd)


class Stowage:
    """Turns packed values into blobs, the large ones in shared memory of this process."""

    def __init__(self) -> None:
        self._free = bytearray(SEGMENTS)
        self._arena = Arena(self._free)
        self._lock = threading.Lock()
        self._mappings: dict[int, tuple[int, memoryview]] = {}

    def stow(self, parts: Parts) -> Blob:
        lengths = [len(frame) for frame in parts.frames]
        if parts.nbytes <= INLINE_BYTES:
            return Blob(lengths, None, 0, b"".join(parts.frames))
        with self._lock:
            number, fd = self._arena.write(parts.frames)
            if number == SEGMENTS:
                fd = os.dup(fd)
                self._arena.sent()
        return Blob(lengths, Segment(fd, -1, number, self._release), 0, None)

    def room(self, size: int) -> tuple[memoryview, Any]:
        """Memory for a message body that is about to come, and what stands for it."""
        if size <= INLINE_BYTES:
            data = bytearray(size)
            return memoryview(data), data
        with self._lock:
            number, fd = self._arena.reserve(size)
            if number == SEGMENTS:
                fd = os.dup(fd)
                self._arena.sent()
                memory = memoryview(mmap.mmap(fd, size))
            else:
                memory = self._mapping(number, fd, size)
        return memory[:size], Segment(fd, -1, number, self._release)

    def _mapping(self, number: int, fd: int, size: int) -> memoryview:
        """A segment's memory; touching it anew each time would cost more than the copy."""
        file = os.fstat(fd)
        known = self._mappings.get(number)
        if known is None or known[0] != file.st_ino or len(known[1]) < size:
            known = self._mappings[number] = (file.st_ino, memoryview(mmap.mmap(fd, file.st_size)))
        return known[1]

    def _release(self, owner: int, number: int, fd: int) -> None:
        if number == SEGMENTS:
            os.close(fd)
        else:
            self._free[number] = 1

    def close(self) -> None:
        self._mappings.clear()
        self._arena.close()


class Puller:
    """The source thread: takes items from iterators on request, and stops where a request has been met.

    An iterator may block for any time, and even wait for what becomes of the items it gave before. So what has been
    taken can be had by the engine thread at any moment (``overdue``).

    Args:
        iterators: the parts of the initial work that are pulled.
        live: items stay in this process and are not packed.
        post: takes a ``SourceGave``, or the exception that an iterator raised.
        wake: called when the first item of a request is there.
    """

    def __init__(self, iterators: list[Iterator[Any]], live: bool, stow: Callable[[Parts], Blob],
                 post: Callable[[Any], None], wake: Callable[[], None]) -> None:  # fmt: skip
        self._iterators = iterators
        self._live = live
        self._stow = stow
        self._post = post
        self._wake = wake
        self._changed = threading.Condition()
        self._values: list[Any] = []
        self._wanted = 0
        self._bytes = 0
        self._since = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="job_stream-source", daemon=True)
        self._thread.start()

    def request(self, items: int) -> None:
        """Asks for so many items; fewer may come."""
        with self._changed:
            self._wanted = items
            self._since = monotonic()
            self._changed.notify()

    @property
    def waiting(self) -> bool:
        """Whether items are there that a request has asked for."""
        return bool(self._values) and self._wanted > 0

    def overdue(self) -> m.SourceGave | None:
        """What has been waiting for long enough."""
        with self._changed:
            if not self.waiting or monotonic() - self._since < PULL_S:
                return None
            return m.SourceGave(self._takeChunks(), False)

    def close(self) -> None:
        """Ends the thread; one that is inside user code ends when that returns."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(0.2)

    def _run(self) -> None:
        try:
            for iterator in self._iterators:
                with self._changed:
                    self._changed.wait_for(lambda: self._wanted or self._closed)
                for value in iterator:
                    if not self._took(value):
                        return
                with self._changed:
                    self._post(m.SourceGave(self._takeChunks(), True))
        except BaseException as error:
            self._post(error)

    def _took(self, value: Any) -> bool:
        """Keeps an item, and waits until it is asked for; False: it never will be."""
        with self._changed:
            self._values.append(value)
            self._bytes += getattr(value, "nbytes", 0)
            count = len(self._values)
            if self._wanted and (count >= self._wanted or self._bytes >= PULL_BYTES):
                self._post(m.SourceGave(self._takeChunks(), False))
            elif self._wanted and count == 1:
                self._wake()
            self._changed.wait_for(lambda: self._wanted or self._closed)
            return not self._closed

    def _takeChunks(self) -> tuple[tuple[int, Any], ...]:
        values, self._values, self._wanted, self._bytes = self._values, [], 0, 0
        if not values:
            return ()
        return ((len(values), Live(values) if self._live else self._stow(pack(values))),)


class Runtime:
    """One run of a plan in this process.

    Make it in the main thread: it forks.

    Args:
        plan: the stream.
        source: the initial work.
        cpus: lanes of each kind; None: this rank's share of the CPUs.
        seed: of ``rng()``.
        drop: results are of no interest.
    """

    def __init__(self, plan: Plan, source: InitialWork, cpus: int | None, seed: int | None, drop: bool) -> None:
        self._plan = plan
        self._source = source
        self._cpus = cpus
        self._rank: Rank
        self._cluster: Cluster | None = None
        self._board = Board(shared=plan.usesProcesses)
        setup = Setup(plan, source, seed, drop, self._board)
        self._processes = ProcessPool(setup) if plan.usesProcesses else None
        self._threads = ThreadPool(setup, self._fromThread)
        self._stowage = Stowage()
        self._events: deque[Any] = deque()
        self._wake = _Wake()
        self._deliveries: SimpleQueue[Any] = SimpleQueue()
        self._puller: Puller | None = None
        self._iterators = source.iterators()
        self._limits = [place.policy.timeout_s for place in plan.places if place.policy.timeout_s is not None]
        self._stopping = False
        self._failed = False
        self._given: BaseException | None = None
        self._stirred = 0.0
        self.failures: list[Failure] = []
        self._performers: dict[type, Callable[[Any], None]] = {
            m.Lend: self._lend, m.Call: self._call, m.Deliver: self._deliveries.put, m.Pull: self._pull,
            m.StartLane: self._startLane, m.StartKeeper: self._startKeeper, m.TakeBack: self._takeBack,
            m.Flush: self._tell, m.Resume: self._tell, m.Signal: self._signal, m.Fail: self._giveUp,
            m.Skip: self._skip, m.Halt: self._halt, m.Send: self._send,
        }  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="job_stream-engine", daemon=True)

    # the main thread's side -------------------------------------------------------------------------------------------

    def run(self, handle: Callable[[list[Any], int | None], None]) -> None:
        """Runs the stream; ``handle`` is called with lists of results as they come, and with the position of the first
        where the stream is ordered.

        Raises:
            the exception that ended the run.
        """
        self._thread.start()
        try:
            while True:
                delivery = self._next()
                if delivery is None:
                    return
                if isinstance(delivery, BaseException):
                    raise delivery
                self._deliver(delivery, handle)
        except BaseException as error:
            if self._given is None:
                self._given = error
                if self._cluster is not None:
                    markShared(error)
            raise
        finally:
            self._stopping = True
            self._wake.set()
            while self._thread.is_alive():
                self._thread.join(WAIT_S)
            self._wake.close()
            self._stowage.close()  # not before: deliveries may lie in it
            self._performers.clear()
            self._deliveries = SimpleQueue()
            delivery = None

    def _next(self) -> Any:
        """The next delivery. A signal that comes just before a wait without end would be noticed only after it."""
        while True:
            with suppress(Empty):
                return self._deliveries.get(timeout=WAIT_S)

    def _deliver(self, delivery: m.Deliver, handle: Callable[[list[Any], int | None], None]) -> None:
        try:
            values = unpackAny(delivery.payload)
        except Exception as error:
            stages = [place.name for place in self._plan.places if place.kind != Kind.END]
            text = describe(error)
            raise self._caused(error, stages[-1] if stages else "initial work", "<its output>", text)  # noqa: B904
        handle(values, delivery.base)
        self._post(m.ResultsTaken(delivery.count, delivery.payload.nbytes))

    def _post(self, event: Any) -> None:
        self._events.append(event)
        self._wake.set()

    def _fromThread(self, lane: int, message: Any) -> None:
        self._post((lane, message))

    # the engine thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._join()
            self._handle(m.Nothing())
            self._loop()
        except BaseException as error:
            self._fail(error)
        finally:
            self._close()

    def _join(self) -> None:
        """Meets the other ranks, and so learns how many lanes this one may have."""
        joined = cluster()
        peers = joined.transport.peers
        shares = [peer.cpus for peer in peers] if joined.size > 1 else [hostCpuCount()]
        lanesOf = tuple(self._cpus or share for share in shares)
        own = lanesOf[joined.rank]
        self._board.flags[OWN_CPUS], self._board.flags[ALL_CPUS] = own, sum(lanesOf)
        parts = self._source.partsFor(joined.size) if joined.rank == 0 else ()
        self._rank = Rank(self._plan, parts, own, joined.rank, lanesOf)
        if joined.size > 1:
            self._cluster = joined
            for gone in joined.begin(self._plan):
                self._lose(gone)

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self._wake.fd, select.POLLIN)
        if self._processes:
            self._processes.register(poll)
        while not (self._stopping or self._rank.halted or self._failed):
            poll.poll(self._patience())
            if self._cluster is not None:
                self._takeFromRanks(self._cluster)
            self._takePosted()
            self._takeOverdue()
            if self._processes:
                self._takeFromProcesses(self._processes)

    def _patience(self) -> float | None:
        """How long to sleep at most, in ms; None: until something happens."""
        if self._cluster is not None:
            return self._pollingPatience(self._cluster)
        if self._puller and self._puller.waiting:
            return PULL_S * 1000
        if self._processes is None:
            return None
        if self._processes.wantsRoom():
            return NO_ROOM_MS
        if self._limits:
            return min(max(min(self._limits) * 100, 5), 500)
        return 1000 if self._processes.stopped else None

    def _pollingPatience(self, joined: Cluster) -> float:
        """The same where other ranks have to be looked for; MPI wakes nobody up."""
        quiet = monotonic() - self._stirred
        if quiet < HOT_S:
            sleep(HOT_PAUSE_S)
            return 0
        return next(pause for limit, pause in POLLS_MS if quiet < limit)

    def _takeFromRanks(self, joined: Cluster) -> None:
        for news in joined.news(self._stowage.room):
            if self._rank.halted or self._failed:
                return  # what else has come is of no interest: a rank that left, or work that nobody waits for
            self._stirred = monotonic()
            if isinstance(news, Gone):
                self._lose(news)
            elif isinstance(news, BaseException):
                self._fail(news)
            else:
                self._handle(m.Heard(*news))
        if joined.transport.busy:
            self._stirred = monotonic()
        for gone in joined.silent(self._rank.debtors):
            self._lose(gone)
        deadline = self._rank.deadline
        if deadline is not None and monotonic() >= deadline:
            self._handle(m.Nothing())

    def _lose(self, gone: Gone) -> None:
        """Goes on without a rank, unless it is the primary."""
        if gone.rank == 0:
            assert self._cluster is not None
            how = "has ended its script, but this stream is not over" if gone.left else "died"
            self._fail(WorldError(f"rank 0, the primary, {how}"), shared=not self._cluster.isSpokesman)
        else:
            self._handle(m.RankDied(gone.rank))

    def _takePosted(self) -> None:
        self._wake.clear()
        while self._events and not self._stopping:
            event = self._events.popleft()
            if type(event) is tuple:
                self._reply(*event)
            elif isinstance(event, BaseException):
                self._sourceFailed(event)
            else:
                self._handle(event)

    def _takeOverdue(self) -> None:
        gave = self._puller.overdue() if self._puller else None
        if gave is not None:
            self._handle(gave)

    def _takeFromProcesses(self, pool: ProcessPool) -> None:
        deaths = pool.reports()
        for lane, message in pool.replies():
            self._reply(lane, message)
        for died in deaths:
            self._died(pool.bury(died))
        pool.makeRoom()
        if self._limits or pool.stopped:
            pool.enforce()

    def _reply(self, lane: int, message: Any) -> None:
        if type(message) is UserFailure:
            self._fail(self._userError(message))
        else:
            self._handle(message)

    def _died(self, death: Death) -> None:
        unit, place, _, loan = death.note
        opaque = place < 0
        place = -1 - place if opaque else place
        cause = f"{death.cause} while unpickling" if opaque else death.cause
        if death.lane == KEEPER:
            self._handle(m.KeeperDied(True, unit, place, cause, death.timed, opaque))
            return
        self._handle(m.LaneDied(death.lane, loan, unit, place, cause, death.timed, opaque))

    def _handle(self, event: m.Event) -> None:
        for action in self._rank.handle(event, monotonic()):
            if self._failed:
                return
            self._performers[type(action)](action)

    def _fail(self, error: BaseException, shared: bool = True) -> None:
        """Ends the run with an error; the first one counts. ``shared``: another rank will print it."""
        if not self._failed:
            self._failed = True
            self._given = error
            if self._cluster is not None and shared:
                markShared(error)
            self._deliveries.put(error)

    def _close(self) -> None:
        if self._cluster is not None and self._given is not None:
            with suppress(Exception):
                self._cluster.tell(self._given)
        if self._processes:
            self._processes.close(atOnce=self._failed or self._stopping)
        self._threads.close()
        if self._puller:
            self._puller.close()
        self._deliveries.put(None)

    # actions ----------------------------------------------------------------------------------------------------------

    def _startLane(self, action: m.StartLane) -> None:
        self._poolOf(action.processes).start(action.lane)

    def _startKeeper(self, action: m.StartKeeper) -> None:
        self._poolOf(action.processes).start(KEEPER)

    def _poolOf(self, processes: bool) -> Any:
        return self._processes if processes else self._threads

    def _laneOf(self, lane: int) -> Any:
        return self._threads if lane in self._threads and lane != KEEPER else self._processes

    def _lend(self, action: m.Lend) -> None:
        pool = self._laneOf(action.lane)
        if pool is self._processes:
            units = tuple((name, self._packed(work)) for name, work in action.units)
            action = action._replace(units=units)
        pool.send(action.lane, action)

    def _packed(self, message: Any) -> Any:
        """A message for another process: values that are still live are packed."""
        if type(message.payload) is not Live:
            return message
        try:
            return message._replace(payload=self._stowage.stow(pack(message.payload.values)))
        except PayloadError as error:
            stage = self._plan.places[message.place].name
            raise self._caused(error, stage, "<what it was to be given>", str(error))  # noqa: B904

    def _send(self, action: m.Send) -> None:
        assert self._cluster is not None
        message = action.message
        if type(message) is m.Lend:
            units = tuple((name, self._ashore(work)) for name, work in message.units)
            message = message._replace(units=units)
        elif type(message) is m.Repaid:
            products = tuple(self._packed(product) if hasattr(product, "payload") else product
                             for product in message.products)  # fmt: skip
            kept = tuple((name, self._packed(work)) for name, work in message.kept)
            message = message._replace(products=products, kept=kept)
        self._cluster.send(action.rank, message)

    def _ashore(self, work: Any) -> Any:
        """Work for another rank, which does not have this rank's source."""
        if type(work.payload) is not m.Span:
            return self._packed(work)
        values = self._source.values(*work.payload)
        try:
            return work._replace(payload=pack(values))
        except PayloadError as error:
            raise self._caused(error, "initial work", "<some of it>", str(error))  # noqa: B904

    def _call(self, action: m.Call) -> None:
        pool = self._poolOf(action.processes)
        pool.send(KEEPER, self._packed(action) if action.processes else action)

    def _tell(self, action: m.Flush | m.Resume) -> None:
        self._laneOf(action.lane).send(action.lane, action)

    def _takeBack(self, action: m.TakeBack) -> None:
        pool = self._laneOf(action.lane)
        loans = []
        for message in pool.takeBack(action.lane):
            if type(message) is m.Lend:
                loans.append(message.loan)
            else:
                pool.send(action.lane, message)
        self._events.append(m.Returned(action.lane, tuple(loans)))
        self._wake.set()

    def _signal(self, action: m.Signal) -> None:
        self._board.flags[WANTED] = action.wanted
        self._board.flags[PAUSED] = action.paused

    def _pull(self, action: m.Pull) -> None:
        if self._puller is None:
            live = not self._plan.places[0].processes
            self._puller = Puller(self._iterators, live, self._stowage.stow, self._post, self._wake.set)
        self._puller.request(action.items)

    def _halt(self, action: m.Halt) -> None:
        """The loop ends by itself."""

    @property
    def _rankNumber(self) -> int | None:
        return self._cluster.rank if self._cluster is not None else None

    # failures ---------------------------------------------------------------------------------------------------------

    def _skip(self, action: m.Skip) -> None:
        try:
            (item,) = unpackAny(action.payload)
        except Exception:
            item = "<an item that could not be unpickled>"
        self.failures.append(Failure(item, action.stage, action.attempts, action.reason))

    def _giveUp(self, action: m.Fail) -> None:
        place, items = self._plan.places[action.place], self._itemsOf(action)
        if not action.final:
            self.failures += [Failure(item, place.name, action.attempts, action.cause) for item in items]
            return
        kind = StageTimeout if action.timed else LaneDied
        tries = f" ({action.attempts} times)" if action.attempts > 1 else ""
        text = f"{kind.__name__}: {action.cause}{tries}"
        self._fail(kind(place.name, shorten(items[0]), text, host=socket.gethostname(), rank=self._rankNumber))

    def _itemsOf(self, action: m.Fail) -> list[Any]:
        if action.payload is None:
            return ["<no item>"]
        if action.opaque:
            return [f"<{action.count} items of {action.payload.nbytes} bytes that kill whoever unpickles them>"]
        span = type(action.payload) is m.Span
        values = self._source.values(*action.payload) if span else unpackAny(action.payload)
        items = list(values[action.index : action.index + action.count])
        return [bare(item) for item in items]

    def _sourceFailed(self, error: BaseException) -> None:
        text = describe(error)
        self._fail(self._caused(error, "initial work", "<the next one>", text))

    def _userError(self, failure: UserFailure) -> BaseException:
        """The user's exception with what is known about it as its cause; or only that."""
        cause = StageError(failure.stage, failure.item, failure.traceback, failure.pid, failure.host, self._rankNumber)
        try:
            error = pickle.loads(failure.exception)
        except Exception:
            return cause
        if isinstance(error, (SystemExit, KeyboardInterrupt)) or not isinstance(error, BaseException):
            return cause  # must not end the script as if it had come from there
        error.__cause__ = cause
        return error

    def _caused(self, error: BaseException, stage: str, item: str, text: str) -> BaseException:
        error.__cause__ = StageError(stage, item, text, os.getpid(), socket.gethostname(), self._rankNumber)
        return error


def markShared(error: BaseException) -> None:
    """All ranks raise this exception, so only the primary has to print it."""
    with suppress(Exception):
        error._jobStreamShared = True  # type: ignore[attr-defined]
