"""The runtime: performs what the engine decides. The only place where the parts of a run meet.

On every rank, three threads share the work of the script's process. The *engine thread* waits for news, tells the
engine and performs its actions; it never runs user code, and it alone talks to other ranks. The *main thread* takes
deliveries and calls the result handler, so a slow handler delays nobody. The *source thread* pulls initial work that is
not a sequence.
"""

from __future__ import annotations

import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from ..checkpoints.saver import Saver
from ..engine import messages as m
from ..engine.rank import Rank
from ..errors import CheckpointError
from ..evaluate.failures import UserFailure
from ..evaluate.packing import LivePacking, StowedPacking, unpack_any
from ..ground.limits import explained
from ..lanes.pool import Death, ProcessPool
from ..lanes.threads import ThreadPool
from ..memory.buffers import Buffers
from ..memory.kin import kin
from ..memory.payload import by_value, read_once
from ..memory.words import ALL_CPUS, ENDING, OWN_CPUS, PAUSED, REPORTS, WANTED, SharedWords
from ..observe.statistics import Statistics
from ..ranks.cluster import Cluster, Gone, cluster
from ..ranks.cpus import host_cpu_count
from ..ranks.protocol import Figures
from ..ranks.world import size_of
from ..stream.plan import Plan
from ..values import Failure
from ..workers.streams import Forwarding
from ..workers.surroundings import Surroundings
from ..workers.worker import KEEPER, Setup
from .outgoing import Outgoing
from .prefetch import Prefetcher, ThreadPrefetcher
from .reports import Reporter, mark_shared, tell_stalled
from .sleeping import PollPolicy, Wake
from .source import InitialWork
from .together import is_elsewhere, quietly

__all__ = ["Runtime"]

WAIT_S = 0.5
_PULL = object()
"""Among deliveries: items of the source are wanted that only the main thread can pull."""
MESSAGES = frozenset((m.Lend, m.Call, m.Flush, m.Resume, m.Send))


class Runtime:
    """One run of a plan in this process.

    Make it in the main thread: it forks.

    Args:
        plan: the stream.
        source: the initial work.
        cpus: lanes of each kind; None: this rank's share of the CPUs.
        seed: of ``rng()``.
        drop: results are of no interest.
        saver: writes checkpoints; only where the stream is at home.
        patient: processes stay when they are asked to end, since a checkpoint is to be written first.
        joining: joins the ranks that the stream is for.

    Attributes:
        failures: what was skipped.
        statistics: of the run, once it is over.
    """

    def __init__(self, plan: Plan, source: InitialWork, cpus: int | None, seed: int | None, drop: bool,
                 saver: Saver | None = None, survives_sigterm: bool = False,
                 joining: Callable[[], Cluster] = cluster) -> None:  # fmt: skip
        self._plan = plan
        self._source = source
        self._cpus = cpus
        self._rank: Rank
        self._joining = joining
        self._cluster: Cluster | None = None
        self._board = SharedWords(shared=plan.uses_processes)
        self._saver = saver
        self._is_live = not survives_sigterm
        self.statistics = Statistics()
        self._messages = 0
        self._wake = Wake()
        roots = [part for place in plan.places for part in (place.function, place.store, place.emit, place.key)]
        self._family = kin.begin([*roots, *source.sequences], survives_sigterm or size_of() > 1, by_value)
        self._forwarding = Forwarding() if plan.uses_processes else None
        setup = Setup(plan, source, seed, drop, self._board, survives_sigterm, elsewhere=is_elsewhere(),
                      forwarding=self._forwarding)  # fmt: skip
        self._processes = self._fork(setup) if plan.uses_processes else None
        self._buffers = Buffers()
        packing = LivePacking() if self._is_live else StowedPacking(self._buffers.stow)
        self._surroundings = Surroundings()
        self._threads = ThreadPool(setup, self._post, packing, self._surroundings)
        self._reporter = Reporter(plan, source)
        self._outgoing = Outgoing(source, self._buffers, self._reporter)
        self._events: deque[Any] = deque()
        self._deliveries: SimpleQueue[Any] = SimpleQueue()
        self._prefetcher: Prefetcher | None = None
        state = saver.state if saver is not None else None
        left = source.left(state.source.part, state.source.next) if state is not None else (source.iterators(), 0)
        self._iterators, self._passed = left
        self._limits = [place.policy.timeout_s for place in plan.places if place.policy.timeout_s is not None]
        self._poll_policy = PollPolicy(self._processes, self._limits, self._due)
        self._stopping = False
        self._is_over = False
        self._failed = False
        self._told_stalled = False
        self._given: BaseException | None = None
        self.failures: list[Failure] = []
        self._performers: dict[type, Callable[[Any], None]] = {
            m.Lend: self._lend, m.Call: self._call, m.Deliver: self._deliveries.put, m.Pull: self._pull,
            m.StartLane: self._start_lane, m.StartKeeper: self._start_keeper, m.TakeBack: self._take_back,
            m.Flush: self._tell, m.Resume: self._tell, m.Signal: self._signal, m.Fail: self._give_up,
            m.Skip: self._skip, m.Halt: self._halt, m.Send: self._send, m.Report: self._report, m.Saved: self._save,
            m.Stalled: self._tell_stalled,
        }  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="job_stream-engine", daemon=True)

    def _fork(self, setup: Setup) -> ProcessPool:
        try:
            with quietly():
                pool = ProcessPool(setup)
            setup.forwarding.start()
        except BaseException:
            setup.forwarding.close()
            self._wake.close()
            raise
        return pool

    # the main thread's side -------------------------------------------------------------------------------------------

    def run(self, handle: Callable[[list[Any], int | None], None]) -> None:
        """Runs the stream; ``handle`` is called with lists of results as they come, and with the position of the first
        where the stream is ordered.

        Raises:
            the exception that ended the run.
        """
        try:
            self._begin()
            while True:
                delivery = self._next()
                if delivery is None:
                    return
                if delivery is _PULL:
                    self._pull_here()
                    continue
                if isinstance(delivery, BaseException):
                    raise delivery
                self._deliver(delivery, handle)
        except BaseException as error:
            if self._given is None:
                self._given = error
                if self._cluster is not None:
                    mark_shared(error)
            raise
        finally:
            self._stop()
            delivery = None

    def _begin(self) -> None:
        try:
            if self._saver is not None:
                self._saver.start(self._post, self._wake.set)
            self._thread.start()
        except BaseException as error:
            self._fail(explained(error, "no thread for the run can be started"))
            self._close()

    def _stop(self) -> None:
        self._stopping = True
        self._hurry()
        self._wake.set()
        while self._thread.is_alive():
            self._thread.join(WAIT_S)
        self._wake.close()
        self._buffers.close()  # not before: deliveries may lie in it
        kin.end(self._family)
        self._performers.clear()
        self._deliveries = SimpleQueue()

    def _pull_here(self) -> None:
        assert self._prefetcher is not None
        self._prefetcher.pull()

    def _next(self) -> Any:
        """The next delivery. A signal that comes just before a wait without end would be noticed only after it."""
        while True:
            with suppress(Empty):
                return self._deliveries.get(timeout=WAIT_S)

    def _deliver(self, delivery: m.Deliver, handle: Callable[[list[Any], int | None], None]) -> None:
        try:
            payload = delivery.payload if self._saver is None else read_once(delivery.payload)
            values = unpack_any(payload)
        except Exception as error:
            raise self._reporter.unreadable(error)  # noqa: B904
        if self._saver is None:
            handle(values, delivery.base)
        else:
            self._saver.deliver(payload, values, delivery.base, handle)
        self._events.append(m.ResultsTaken(delivery.count, delivery.payload.nbytes))
        if self._rank.full or self._rank.halted:  # else there is time; the engine thread looks before it sleeps
            self._wake.set()

    def _post(self, event: Any) -> None:
        self._events.append(event)
        self._wake.set()

    # the engine thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._join()
            self._handle(m.Nothing())
            if self._saver is not None:
                self._saver.save(self._rank.capture())  # from here on, what has become of results is on record
            self._loop()
            self._is_over = self._rank.halted and not self._failed
        except BaseException as error:
            self._fail(explained(error, "the run cannot go on"))
        finally:
            self._close()

    def _join(self) -> None:
        """Meets the other ranks, and so learns how many lanes this one may have."""
        joined = self._joining()
        shares = [peer.cpus for peer in joined.transport.peers] if size_of() > 1 else [host_cpu_count()]
        lanes_of = tuple(self._cpus or share for share in shares)
        own = lanes_of[joined.rank]
        self._board.flags[OWN_CPUS], self._board.flags[ALL_CPUS] = own, sum(lanes_of)
        parts = self._source.parts_for(joined.size) if joined.rank == 0 else ()
        self._rank = Rank(self._plan, parts, own, joined.rank, lanes_of, self._saver.state if self._saver else None)
        if joined.size > 1:
            self._cluster = joined
            self._reporter.rank = joined.rank
            self._poll_policy.polls, self._poll_policy.last_heard = True, monotonic()
            self._poll_policy.awaits = self._awaits
            self._poll_policy.is_busy, self._poll_policy.is_calm = self._is_busy, self._is_calm
            for gone in joined.begin(self._plan):
                self._lose(gone)

    def _loop(self) -> None:
        poll = select.poll()
        poll.register(self._wake.fd, select.POLLIN)
        if self._processes:
            self._processes.register(poll)
        while not (self._stopping or self._rank.halted or self._failed):
            ready = {fd for fd, _ in poll.poll(0 if self._events else self._poll_policy.ms())}
            if self._cluster is not None and self._poll_policy.is_look_due():
                self._take_from_ranks(self._cluster)
            if self._wake.fd in ready:
                self._wake.clear()
            self._take_posted()
            self._take_overdue()
            self._take_due()
            if self._processes:
                self._take_from_processes(self._processes, ready)

    def _take_from_ranks(self, joined: Cluster) -> None:
        for news in joined.news(self._buffers.room):
            if self._rank.halted or self._failed:
                return  # what else has come is of no interest: a rank that left, or work that nobody waits for
            self._poll_policy.last_heard = monotonic()
            if isinstance(news, Gone):
                self._lose(news)
            elif isinstance(news, BaseException):
                self._fail(news)
            else:
                self._handle(m.Heard(*news))
        if joined.transport.busy:
            self._poll_policy.last_heard = monotonic()
        for gone in joined.silent(self._debtors):
            self._lose(gone)

    def _take_due(self) -> None:
        now = monotonic()
        if self._saver is not None and self._saver.is_due(now):
            self._handle(m.Save())
        deadline = self._rank.deadline
        if deadline is not None and now >= deadline:
            self._handle(m.Nothing())

    def _due(self) -> float | None:
        """When there is something to do even if nothing comes."""
        snapshots = self._saver.due if self._saver is not None else None
        deadline = self._rank.deadline
        return deadline if snapshots is None else snapshots if deadline is None else min(snapshots, deadline)

    def _awaits(self) -> bool:
        return bool(self._rank.debtors) and not self._rank.busy

    def _is_busy(self) -> bool:
        return self._rank.busy and self._cluster is not None and not self._cluster.transport.busy

    def _is_calm(self) -> bool:
        return self._rank.has_plenty and self._is_busy() and self._cluster is not None and self._cluster.is_complete

    def _debtors(self) -> set[int]:
        return self._rank.debtors

    def _lose(self, gone: Gone) -> None:
        """Goes on without a rank, unless it is the primary."""
        if gone.rank == 0:
            assert self._cluster is not None
            self._fail(self._cluster.without_primary(gone), shared=not self._cluster.is_spokesman)
        else:
            self._handle(m.RankLost(gone.rank))

    def _take_posted(self) -> None:
        while self._events and not self._stopping:
            event = self._events.popleft()
            if type(event) is UserFailure:
                self._fail(self._reporter.user_error(event))
            elif isinstance(event, (SystemExit, CheckpointError)):
                self._fail(event)
            elif isinstance(event, BaseException):
                self._fail(self._reporter.source_error(event))
            else:
                self._handle(event)

    def _take_overdue(self) -> None:
        gave = self._prefetcher.overdue() if self._prefetcher else None
        if gave is not None:
            self._handle(gave)

    def _take_from_processes(self, pool: ProcessPool, ready: set[int]) -> None:
        reports, replies = pool.is_ready(ready)
        deaths = pool.reports() if reports else []
        for message in pool.replies() if replies else ():
            if type(message) is UserFailure:
                self._fail(self._reporter.user_error(message))
            else:
                self._handle(message)
        for died in deaths:
            self._died(pool.bury(died))
        pool.make_room()
        if self._limits or pool.stopped:
            pool.enforce()

    def _died(self, death: Death) -> None:
        unit, place, _, loan = death.note
        during_unpickling = place < 0
        place = -1 - place if during_unpickling else place
        cause = f"{death.cause} while unpickling" if during_unpickling else death.cause
        if death.lane == KEEPER:
            self._handle(m.KeeperLost(True, unit, place, cause, death.timed, during_unpickling))
            return
        self._handle(m.LaneLost(death.lane, loan, unit, place, cause, death.timed, during_unpickling))

    def _handle(self, event: m.Event) -> None:
        for action in self._rank.handle(event, monotonic()):
            if self._failed:
                return
            self._messages += type(action) in MESSAGES
            self._performers[type(action)](action)

    def _fail(self, error: BaseException, shared: bool = True) -> None:
        """Ends the run with an error; the first one counts. ``shared``: another rank will print it."""
        if not self._failed:
            self._failed = True
            self._hurry()
            self._given = error
            if self._cluster is not None and shared:
                mark_shared(error)
            self._deliveries.put(error)
            if self._saver is not None:
                self._saver.fail(error)

    def _hurry(self) -> None:
        """Has workers drop what they have; where that takes long, they are ended by force."""
        self._board.flags[ENDING] = self._board.flags[WANTED] = 1

    def _close(self) -> None:
        """Ends what belongs to the run. Whatever goes wrong on the way, the rest is ended, and the script hears of it.
        """
        steps = (self._tell_others, self._note, self._close_processes, self._threads.close, self._close_puller,
                 self._gather, self._stay, self._linger_on)  # fmt: skip
        try:
            for step in steps:
                try:
                    step()
                except BaseException as error:
                    self._fail(explained(error, "the run cannot be ended in order"))
        finally:
            self._deliveries.put(None)

    def _tell_others(self) -> None:
        if self._cluster is not None and self._given is not None:
            with suppress(Exception):
                self._cluster.tell(self._given)

    def _note(self) -> None:
        if self._is_over:
            self.statistics.note(self._figures(), self._cluster)

    def _close_processes(self) -> None:
        if self._processes:
            self._processes.close()
        if self._forwarding is not None:
            self._forwarding.close()

    def _close_puller(self) -> None:
        if self._prefetcher:
            self._prefetcher.close()

    def _gather(self) -> None:
        self.statistics.gather(self._buffers.room)

    def _linger_on(self) -> None:
        if self._is_over and self._saver is not None:
            self._linger(self._saver)

    def _stay(self) -> None:
        """The work is done, but functions of the script may still be called, on the primary; nobody goes on before."""
        joined = self._cluster
        if joined is not None and joined.rank == 0:
            joined.attend()
        elif joined is not None and self._is_over:
            joined.await_primary(self._buffers.room, lambda: self._stopping)

    def _linger(self, saver: Saver) -> None:
        """Saves on while results are handled, which may take longer than all the work; and the state after that."""
        try:
            self._take_posted()  # before each sleep: who posts before the rank has halted wakes nobody
            while self._rank.awaits and not (self._stopping or self._failed):
                self._wake.wait(saver.due)
                self._take_posted()
                if saver.is_due(monotonic()):
                    saver.save(self._rank.capture())
            saver.last = self._rank.capture()
        except BaseException as error:
            self._fail(error)

    def _figures(self) -> Figures:
        spent = [pool.spent_ns() for pool in (self._processes, self._threads) if pool is not None]
        wall, cpu = (sum(column) for column in zip(*spent, strict=True))
        return Figures(self._board.flags[OWN_CPUS], wall, cpu, self._messages)

    # actions ----------------------------------------------------------------------------------------------------------

    def _start_lane(self, action: m.StartLane) -> None:
        self._pool_of(action.processes).start(action.lane)

    def _start_keeper(self, action: m.StartKeeper) -> None:
        self._pool_of(action.processes).start(KEEPER)

    def _pool_of(self, processes: bool) -> Any:
        return self._processes if processes else self._threads

    def _lane_of(self, lane: int) -> Any:
        return self._threads if lane in self._threads and lane != KEEPER else self._processes

    def _lend(self, action: m.Lend) -> None:
        pool = self._lane_of(action.lane)
        if pool is self._processes:
            packed = self._outgoing.packed
            action = action._replace(units=tuple((name, packed(work)) for name, work in action.units))
        pool.send(action.lane, action)

    def _send(self, action: m.Send) -> None:
        assert self._cluster is not None
        self._cluster.send(action.rank, self._outgoing.for_rank(action.message))

    def _call(self, action: m.Call) -> None:
        pool = self._pool_of(action.processes)
        pool.send(KEEPER, self._outgoing.packed(action) if action.processes else action)

    def _tell(self, action: m.Flush | m.Resume) -> None:
        self._lane_of(action.lane).send(action.lane, action)

    def _take_back(self, action: m.TakeBack) -> None:
        pool = self._lane_of(action.lane)
        loans = []
        for message in pool.take_back(action.lane):
            if type(message) is m.Lend:
                loans.append(message.loan)
            else:
                pool.send(action.lane, message)
        self._post(m.Returned(action.lane, tuple(loans)))

    def _signal(self, action: m.Signal) -> None:
        self._board.flags[WANTED] = action.wanted
        self._board.flags[PAUSED] = action.paused

    def _pull(self, action: m.Pull) -> None:
        if self._prefetcher is None:
            self._prefetcher = self._poll_policy.prefetcher = self._new_puller()
        self._prefetcher.request(action.items)

    def _new_puller(self) -> Prefetcher:
        live = self._is_live and not self._plan.places[0].processes
        arguments = self._iterators, live, self._buffers.stow, self._post, self._wake.set, self._passed
        if self._source.is_bound:
            return Prefetcher(*arguments, lambda: self._deliveries.put(_PULL))
        return ThreadPrefetcher(self._surroundings, *arguments)

    def _report(self, action: m.Report) -> None:
        self._board.flags[REPORTS] = action.number

    def _save(self, action: m.Saved) -> None:
        assert self._saver is not None
        self._saver.save(action.state)

    def _halt(self, action: m.Halt) -> None:
        """The loop ends by itself."""

    def _tell_stalled(self, action: m.Stalled) -> None:
        if not self._told_stalled:
            self._told_stalled = True
            tell_stalled(action.story, self._cluster.transport if self._cluster else None)

    def _skip(self, action: m.Skip) -> None:
        self.failures.append(self._reporter.skipped(action))

    def _give_up(self, action: m.Fail) -> None:
        if action.final:
            self._fail(self._reporter.last_straw(action))
        else:
            self.failures += self._reporter.given_up(action)
