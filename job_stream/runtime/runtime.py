"""The runtime: performs what the engine decides. The only place where the parts of a run meet.

On every rank, three threads share the work of the script's process. The *engine thread* waits for news, tells the
engine and performs its actions (``loop``, ``actions``); it never runs user code, and it alone talks to other ranks. The
*main thread* takes deliveries and calls the result handler, so a slow handler delays nobody. The *source thread* pulls
initial work that is not a sequence (``prefetch``). How they hear of each other, and in which order all comes to its
end, is said and done in ``shutdown``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from ..engine import messages as m
from ..engine.rank import Rank
from ..errors import StageError
from ..evaluate.packing import LivePacking, StowedPacking, unpack_any
from ..ground.environment import MEMORY, START
from ..ground.limits import explained
from ..ground.linux import need_linux
from ..lanes.pool import ProcessPool
from ..lanes.threads import ThreadPool
from ..memory.buffers import Buffers
from ..memory.kin import kin
from ..memory.mappings import mappings
from ..memory.payload import Blob, Parts, by_value, read_once
from ..memory.words import ALL_CPUS, ENDING, OWN_CPUS, WANTED, SharedWords
from ..memory.words import MEMORY as MEMORY_WORD
from ..observe.observer import Observer, RunBegun, Watchers
from ..observe.statistics import Statistics
from ..ranks.cluster import Cluster, cluster
from ..ranks.cpus import host_cpu_count, shared_out
from ..ranks.hosts import names_of_hosts
from ..ranks.world import size_of
from ..stream.plan import Plan
from ..values import Failure
from ..workers.nursery import fork_nursery
from ..workers.streams import Forwarding
from ..workers.surroundings import Surroundings
from ..workers.worker import Setup
from .actions import Actions
from .budget import budget, results_limit
from .loop import Loop
from .outgoing import Outgoing
from .pools import Pools
from .prefetch import LazyPrefetcher, Prefetcher, Pulling, ThreadPrefetcher
from .reports import Reporter, RunCancelled, mark_shared
from .shell import Shell
from .shutdown import WAIT_S, Closing, GivenUp, Mailbox, Release, Request, Shutdown
from .source import InitialWork
from .together import is_elsewhere, quietly

if TYPE_CHECKING:
    from ..checkpoints.saver import Saver
    from ..lanes.starting import ForkServerStart

__all__ = ["Runtime"]

Handle = Callable[[list[Any], int | None], None]
IN_THREADS = (
    "give useMultiprocessing=False to the stream (and to no stage True), and its stages run in threads of this process"
)


class Inlet(Protocol):
    """A source that others put items into (``live``)."""

    def bind(self, stow: Callable[[Parts], Blob], post: Callable[[Any], None], wake: Callable[[], None]) -> Pulling: ...

    def begun(self, lanes: int) -> None: ...

    def given_up(self, fail: m.Fail, error: StageError) -> None: ...


class Runtime:
    """One run of a plan in this process.

    Make it in the main thread: it forks.

    Args:
        plan: the stream.
        source: the initial work.
        failures: where items are noted that were skipped.
        cpus: lanes of each kind; None: this rank's share of the CPUs.
        seed: of ``rng()``.
        drop: results are of no interest.
        saver: writes checkpoints; only where the stream is at home.
        saved_elsewhere: another rank writes them.
        joining: joins the ranks that the stream is for.
        observers: watch the run.
        live: the source that others put items into; ``source`` holds nothing but a place for it.
        total: so many lanes all ranks have together; instead of ``cpus``.
        buffer: so many results may wait to be taken before lanes pause; None: the engine's own limit.
        mailbox: where somebody has it already.
        start_method: how worker processes are started; None: as the environment says.
        memory: bytes that values may take on this rank; None: by the environment, or a share of what there is.

    Attributes:
        plan: the stream.
        statistics: of the run, once it is over.
    """

    def __init__(self, plan: Plan, source: InitialWork, failures: list[Failure], cpus: int | None, seed: int | None,
                 drop: bool, saver: Saver | None = None, saved_elsewhere: bool = False,
                 joining: Callable[[], Cluster] = cluster, observers: Sequence[Observer] = (),
                 live: Inlet | None = None, total: int | None = None, buffer: int | None = None,
                 mailbox: Mailbox | None = None, start_method: str | None = None,
                 memory: int | None = None) -> None:  # fmt: skip
        if plan.uses_processes:
            need_linux("stages run in worker processes", IN_THREADS)
        if size_of() > 1:
            need_linux("a stream runs on several ranks", "start the script without mpirun")
        self.plan = plan
        self._source = source
        self._cpus = cpus
        self._live = live
        self._total = total
        self._buffer = buffer
        self._memory = MEMORY.read() if memory is None else memory
        self._joining = joining
        self._cluster: Cluster | None = None
        self._loop: Loop | None = None
        self._saver = saver
        self._is_saved = saver is not None or saved_elsewhere  # so processes stay when they are asked to end
        self.statistics = Statistics()
        self._shutdown = Shutdown()
        self._mailbox = mailbox or Mailbox()
        is_served = plan.uses_processes and (start_method or START.read()) == "forkserver"
        start = _fork_server() if is_served else None
        self._board = SharedWords(plan.uses_processes if start is None else start.board)
        roots = [part for place in plan.places for part in (place.function, place.store, place.emit, place.key)]
        self._family = kin.begin([*roots, *source.sequences], self._is_saved or size_of() > 1 or start is not None,
                                 by_value)  # fmt: skip
        self._forwarding = Forwarding() if plan.uses_processes else None
        setup = Setup(plan, source, seed, drop, self._board, self._is_saved, elsewhere=is_elsewhere())
        processes = self._fork(setup, self._forwarding, start) if self._forwarding is not None else None
        self._buffers = Buffers()
        packing = StowedPacking(self._buffers.stow) if self._is_saved else LivePacking()
        self._surroundings = Surroundings()
        pools = Pools(processes, ThreadPool(setup, self._mailbox.post, packing, self._surroundings))
        state = saver.state if saver is not None else None
        left = source.left(state.source.part, state.source.next) if state is not None else (source.iterators(), 0)
        self._iterators, self._passed = left
        limits = [place.policy.timeout_s for place in plan.places if place.policy.timeout_s is not None]
        self._shell = Shell(self._mailbox, self._shutdown, pools, self._board, self._buffers,
                            LazyPrefetcher(self._new_prefetcher), saver, Watchers([self.statistics, *observers]),
                            failures, limits, self._fail, live is not None)  # fmt: skip
        self._thread = threading.Thread(target=self._run, name="job_stream-engine", daemon=True)

    def _fork(self, setup: Setup, forwarding: Forwarding, start: ForkServerStart | None) -> ProcessPool:
        try:
            with quietly():
                pool = ProcessPool(setup, forwarding, start or fork_nursery)
            forwarding.start()
        except BaseException:
            forwarding.close()
            self._mailbox.close()
            raise
        finally:
            if start is not None:
                start.close()
        return pool

    # the main thread --------------------------------------------------------------------------------------------------

    def run(self, handle: Handle) -> None:
        """Runs the stream; ``handle`` is called with lists of results as they come, and with the position of the first
        where the stream is ordered.

        Raises:
            the exception that ended the run.
        """
        try:
            self._begin()
            while (delivery := self._next_of_results()) is not None:
                self._deliver(delivery, handle)
                delivery = None  # what lies in shared memory is free while the next one is waited for
        except BaseException as error:
            if self._shutdown.raised(error) and self._cluster is not None:
                mark_shared(error)
            raise
        finally:
            self._leave()
            delivery = None

    def cancel(self) -> None:
        """Has the run end with ``RunCancelled``. Any thread may call it, and a signal handler."""
        self._mailbox.post(RunCancelled("the run was cancelled"))

    def interrupt(self, error: BaseException) -> None:
        """Has ``run`` raise this in its thread, and the run end with it. Any thread may call it."""
        self._hurry()
        self._mailbox.deliveries.put(error)

    def abandon(self) -> None:
        """Closes what there is of a run that will not be run."""
        self._leave()

    def iterate(self) -> Generator[tuple[list[Any], int | None], None, None]:
        """Runs the stream; gives lists of results as they come, with the position of the first where the stream is
        ordered and has no checkpoints; before the first, when it has begun, an empty one. With checkpoints the lists
        have one result each. Closing this ends the run at once.

        Raises:
            the exception that ended the run.
        """
        try:
            self._begin()
            yield [], None
            while (delivery := self._next_of_results()) is not None:
                values = self._unpacked(delivery)
                if self._saver is None:
                    yield values, delivery.base
                else:
                    for some in self._saver.delivered(values):
                        yield some, None
                self._take(delivery)
                values, delivery = [], None
        except BaseException as error:
            if not isinstance(error, GeneratorExit) and self._shutdown.raised(error) and self._cluster is not None:
                mark_shared(error)
            raise
        finally:
            self._leave()
            delivery = None

    def _next_of_results(self) -> m.Deliver | None:
        """The next results; None: there are no more. Does what else the main thread is asked for."""
        while True:
            delivery = self._mailbox.next_delivery()
            if isinstance(delivery, Request):
                self._pull()
            elif isinstance(delivery, GivenUp):
                assert self._live is not None
                self._live.given_up(*delivery)
            elif isinstance(delivery, BaseException):
                raise delivery
            else:
                return delivery

    def _begin(self) -> None:
        try:
            self._thread.start()
        except Exception as error:  # but not Ctrl-C, which may come when the thread has begun already
            self._fail(explained(error, "no thread for the run can be started"))

    def _pull(self) -> None:
        prefetcher = self._shell.source.made
        assert isinstance(prefetcher, Prefetcher)
        prefetcher.pull()

    def _deliver(self, delivery: m.Deliver, handle: Handle) -> None:
        if self._saver is None:
            handle(self._unpacked(delivery), delivery.base)
        else:
            delivery = delivery._replace(payload=read_once(delivery.payload))
            self._saver.deliver(delivery.payload, self._unpacked(delivery), delivery.base, handle)
        self._take(delivery)

    def _unpacked(self, delivery: m.Deliver) -> list[Any]:
        assert self._loop is not None
        try:
            values: list[Any] = unpack_any(delivery.payload)
        except Exception as error:
            raise self._loop.reporter.unreadable(error)  # noqa: B904
        return values

    def _take(self, delivery: m.Deliver) -> None:
        """The results of a delivery have been handled."""
        assert self._loop is not None
        self._mailbox.events.append(m.ResultsTaken(delivery.count, delivery.payload.nbytes))
        rank = self._loop.rank
        if rank.full or rank.halted:  # else there is time; the engine thread looks before it sleeps
            self._mailbox.wake.set()

    def _leave(self) -> None:
        """The main thread is through with the run, and waits for its end. A second Ctrl-C ends the wait, but not it."""
        try:
            self._say_left()
            while self._thread.is_alive():
                self._thread.join(WAIT_S)
            self._part()
        except BaseException:
            self._say_left()  # it may have come before
            self._part()
            raise

    def _say_left(self) -> None:
        self._shutdown.is_left = True
        self._hurry()
        self._mailbox.wake.set()

    def _part(self) -> None:
        if self._shutdown.is_to_close():  # the engine thread has never begun, and will not any more
            self._close()
        self._release("main")

    # the engine thread ------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        if not self._shutdown.is_to_close():
            return
        try:
            joined = self._joining()
            self._loop = loop = self._new_loop(joined)
            loop.run(joined.begin(self.plan) if joined.size > 1 else [])
            self._shutdown.is_complete = loop.rank.halted and not self._shutdown.has_failed
        except BaseException as error:
            self._fail(explained(error, "the run cannot go on"))
        finally:
            self._close()

    def _new_loop(self, joined: Cluster) -> Loop:
        """The ranks have met, so this one knows how many lanes it may have."""
        peers = joined.transport.peers if size_of() > 1 else ()
        shares = [peer.cpus for peer in peers] or [host_cpu_count()]
        lanes_of = shared_out(self._total, shares) if self._total else tuple(self._cpus or share for share in shares)
        own = lanes_of[joined.rank]
        memory = budget(self._memory, joined.rank, peers)
        flags = self._board.flags
        flags[OWN_CPUS], flags[ALL_CPUS], flags[MEMORY_WORD] = own, sum(lanes_of), memory
        self._buffers.keep_at_most(memory)
        mappings.keep_at_most(memory)
        parts = self._source.parts_for(joined.size) if joined.rank == 0 else ()
        state = self._saver.state if self._saver else None
        rank = Rank(self.plan, parts, own, joined.rank, lanes_of, state, names_of_hosts(), self._buffer,
                    results_limit(memory))  # fmt: skip
        self._cluster = joined if joined.size > 1 else None
        if self._live is not None:
            self._live.begun(sum(lanes_of))
        reporter = Reporter(self.plan, self._source, joined.rank if joined.size > 1 else None)
        outgoing = Outgoing(self._source, self._buffers, reporter)
        loop = Loop(self._shell, rank, self._cluster, Actions(self._shell, self._cluster, outgoing, reporter), reporter)
        self._shell.watchers.begun(RunBegun(self.plan, parts, joined.rank, lanes_of, self._cluster))
        return loop

    def _new_prefetcher(self) -> Pulling:
        live = not (self._is_saved or self.plan.places[0].processes)
        mailbox = self._mailbox
        if self._live is not None:
            return self._live.bind(self._buffers.stow, mailbox.post, mailbox.wake.set)
        arguments = self._iterators, live, self._buffers.stow, mailbox.post, mailbox.wake.set, self._passed
        if self._source.is_bound:
            return Prefetcher(*arguments, lambda: mailbox.deliveries.put(Request.PULL))
        return ThreadPrefetcher(self._surroundings, *arguments)

    # the end ----------------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException, shared: bool = True) -> None:
        """Ends the run with an error; the first one counts. ``shared``: another rank will print it."""
        if self._shutdown.fail(error):
            self._hurry()
            if self._cluster is not None and shared:
                mark_shared(error)
            self._mailbox.deliveries.put(error)
            if self._saver is not None:
                self._saver.fail(error)

    def _hurry(self) -> None:
        """Has workers drop what they have; where that takes long, they are ended by force."""
        self._board.flags[ENDING] = self._board.flags[WANTED] = 1

    def _close(self) -> None:
        """Ends what belongs to the run. Whatever goes wrong on the way, the rest is ended, and the script hears of it.
        """
        pools, processes = self._shell.pools, self._shell.pools.processes
        steps = Closing(
            tell_others=self._tell_others,
            tell_watchers=self._tell_watchers,
            close_processes=processes.close if processes is not None else _nothing,
            close_forwarding=self._forwarding.close if self._forwarding is not None else _nothing,
            close_threads=pools.threads.close,
            close_source=self._shell.source.close,
            gather_figures=self._gather_figures,
            stay=self._stay,
            linger=self._linger,
            say_over=self._say_over,
        )
        try:
            self._shutdown.close(steps, lambda error: self._fail(explained(error, "the run cannot be ended in order")))
        finally:
            self._release("engine")

    def _tell_others(self) -> None:
        if self._cluster is not None and self._shutdown.error is not None:
            with suppress(Exception):
                self._cluster.tell(self._shutdown.error)

    def _tell_watchers(self) -> None:
        if self._loop is not None:
            self._loop.tell_watchers()

    def _gather_figures(self) -> None:
        self.statistics.gather(self._buffers.room)

    def _give_back_memory(self) -> None:
        self._buffers.close()
        mappings.forget()  # those of workers; a stream beside this one maps its own again

    def _stay(self) -> None:
        joined = self._cluster
        if joined is None or self._shutdown.is_left:
            return  # no function of the script will be called; the stream may be over for it already
        if joined.rank == 0:
            joined.attend()
        elif self._shutdown.is_complete:
            joined.await_primary(self._buffers.room, lambda: self._shutdown.is_left)

    def _linger(self) -> None:
        if self._shutdown.is_complete and self._saver is not None and self._loop is not None:
            self._loop.linger(self._saver)

    def _say_over(self) -> None:
        self._mailbox.deliveries.put(None)

    def _release(self, thread: str) -> None:
        """A thread is through with the run."""
        steps = Release(
            close_wake=self._mailbox.wake.close,
            close_buffers=self._give_back_memory,
            end_family=lambda: kin.end(self._family),
            drop=self._drop,
        )
        self._shutdown.release(thread, steps)

    def _drop(self) -> None:
        """Lets go of what was never taken, though something may hold this run itself for longer."""
        self._mailbox.drop()
        self._loop = None


def _nothing() -> None:
    """There is nothing to close."""


def _fork_server() -> ForkServerStart:
    from ..lanes.starting import ForkServerStart  # few runs want it

    return ForkServerStart()
