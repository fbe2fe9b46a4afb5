"""The engine thread's loop: it waits for news, tells the engine, and performs what the engine decides.

Four kinds of news come here: what other threads have posted, what lanes that are processes have sent and how they have
ended, what has come from other ranks, and that it is time for something. Who wakes whom is said in ``shutdown``.
Nothing here runs user code or waits for a lane.
"""

from __future__ import annotations

import select
from time import monotonic
from typing import TYPE_CHECKING

from ..engine import messages as m
from ..engine.rank import Rank
from ..errors import CheckpointError
from ..evaluate.failures import UserFailure
from ..lanes.pool import Death, ProcessPool
from ..memory.words import OWN_CPUS
from ..observe.observer import RunEnded
from ..ranks.cluster import Cluster, Gone
from ..ranks.protocol import Figures
from ..workers.protocol import Forked
from ..workers.worker import KEEPER
from .actions import Actions
from .reports import Reporter, RunCancelled
from .shell import Shell
from .sleeping import OtherRanks, PollPolicy

if TYPE_CHECKING:
    from ..checkpoints.saver import Saver

__all__ = ["Loop"]

MESSAGES = frozenset((m.Lend, m.Call, m.Flush, m.Resume, m.Send))


class Loop:
    """The loop; made when the ranks have met, so that nothing in it comes later.

    Args:
        shell: the parts of the run.
        rank: decides.
        joined: the other ranks; None: there are none.
        actions: performs.
        reporter: puts into words what has failed.

    Attributes:
        rank: other threads may ask it whether it is full, or has halted; nothing else.
        reporter: puts into words what has failed.
    """

    def __init__(self, shell: Shell, rank: Rank, joined: Cluster | None, actions: Actions, reporter: Reporter) -> None:
        self.rank = rank
        self._shell = shell
        self._events = shell.mailbox.events
        self._shutdown = shell.shutdown
        self._processes = shell.pools.processes
        self._saver = shell.saver
        self._fail = shell.fail
        self._joined = joined
        self.reporter = reporter
        self._table = actions.table
        self._go_on = actions.go_on
        self._decide = shell.watchers.watched(rank.handle)
        self._save = shell.watchers.saving(shell.saver.save) if shell.saver is not None else None
        self._messages = 0
        self._neighbours = OtherRanks(rank, joined) if joined is not None else None
        self._poll_policy = PollPolicy(self._processes, shell.limits, self._due, shell.source, self._neighbours)

    def run(self, gone: list[Gone]) -> None:
        """Until the run is to end. ``gone``: ranks that were gone before it began."""
        for one in gone:
            self._lose(one)
        self._handle(m.Nothing())
        if self._save is not None:
            self._save(self.rank.capture())  # from here on, what has become of results is on record
        wake, policy = self._shell.mailbox.wake, self._poll_policy
        poll = select.poll()
        poll.register(wake.fd, select.POLLIN)
        if self._processes:
            self._processes.register(poll)
        while not (self._shutdown.is_left or self.rank.halted or self._shutdown.has_failed):
            ready = {fd for fd, _ in poll.poll(0 if self._events else policy.ms())}
            if self._joined is not None and policy.is_look_due():
                self._take_from_ranks(self._joined)
            if wake.fd in ready:
                wake.clear()  # before looking: what is posted from now on wakes again
            self._take_posted()
            self._take_overdue()
            self._take_due()
            if self._processes:
                self._take_from_processes(self._processes, ready)
            self._go_on()

    def _handle(self, event: m.Event) -> None:
        """Tells the engine, and performs what it decides."""
        for action in self._decide(event, monotonic()):
            if self._shutdown.has_failed:
                return
            self._messages += type(action) in MESSAGES
            self._table[type(action)](action)

    # time -------------------------------------------------------------------------------------------------------------

    def _take_due(self) -> None:
        now = monotonic()
        if self._saver is not None and self._saver.is_due(now):
            self._handle(m.Save())
        deadline = self.rank.deadline
        if deadline is not None and now >= deadline:
            self._handle(m.Nothing())

    def _due(self) -> float | None:
        """When there is something to do even if nothing comes."""
        snapshots = self._saver.due if self._saver is not None else None
        deadline = self.rank.deadline
        return deadline if snapshots is None else snapshots if deadline is None else min(snapshots, deadline)

    # other ranks ------------------------------------------------------------------------------------------------------

    def _take_from_ranks(self, joined: Cluster) -> None:
        assert self._neighbours is not None
        for news in joined.news(self._shell.buffers.room):
            if self.rank.halted or self._shutdown.has_failed:
                return  # what else has come is of no interest: a rank that left, or work that nobody waits for
            self._neighbours.last_heard = monotonic()
            if isinstance(news, Gone):
                self._lose(news)
            elif isinstance(news, BaseException):
                self._fail(news)
            else:
                self._handle(m.Heard(*news))
        if joined.transport.busy:
            self._neighbours.last_heard = monotonic()
        for gone in joined.silent(self._debtors):
            self._lose(gone)

    def _debtors(self) -> set[int]:
        return self.rank.debtors

    def _lose(self, gone: Gone) -> None:
        """Goes on without a rank, unless it is the primary."""
        if gone.rank == 0:
            assert self._joined is not None
            self._fail(self._joined.without_primary(gone), shared=not self._joined.is_spokesman)
        else:
            self._handle(m.RankLost(gone.rank))

    # this process -----------------------------------------------------------------------------------------------------

    def _take_posted(self) -> None:
        """Takes what other threads have posted."""
        while self._events and not self._shutdown.is_left:
            event = self._events.popleft()
            if isinstance(event, UserFailure):
                self._fail(self.reporter.user_error(event))
            elif isinstance(event, (SystemExit, CheckpointError, RunCancelled)):
                self._fail(event)
            elif isinstance(event, BaseException):
                self._fail(self.reporter.source_error(event))
            else:
                self._handle(event)

    def _take_overdue(self) -> None:
        prefetcher = self._shell.source.made
        gave = prefetcher.overdue() if prefetcher is not None else None
        if gave is not None:
            self._handle(gave)

    # lanes that are processes -----------------------------------------------------------------------------------------

    def _take_from_processes(self, pool: ProcessPool, ready: set[int]) -> None:
        reports, replies = pool.is_ready(ready)
        news = pool.reports() if reports else []
        for message in pool.replies() if replies else ():
            if type(message) is UserFailure:
                self._fail(self.reporter.user_error(message))
            else:
                self._handle(message)
        for report in news:
            if isinstance(report, Forked):
                self._handle(m.LaneForked(report.lane))
            else:
                self._died(pool.bury(report))
        pool.make_room()
        if self._shell.limits or pool.stopped:
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

    # when it is over --------------------------------------------------------------------------------------------------

    def tell_watchers(self) -> None:
        """The run is over."""
        shutdown, flags = self._shutdown, self._shell.board.flags
        figures = Figures(flags[OWN_CPUS], *self._shell.pools.spent_ns(), self._messages)
        self._shell.watchers.ended(RunEnded(figures, None if shutdown.is_complete else shutdown.error))

    def linger(self, saver: Saver) -> None:
        """Saves on while results are handled, which may take longer than all the work; and the state after that."""
        assert self._save is not None
        wake = self._shell.mailbox.wake
        try:
            self._take_posted()  # before each sleep: who posts before the rank has halted wakes nobody
            while self.rank.awaits and not (self._shutdown.is_left or self._shutdown.has_failed):
                wake.wait(saver.due)
                self._take_posted()
                if saver.is_due(monotonic()):
                    self._save(self.rank.capture())
            saver.last = self.rank.capture()
        except BaseException as error:
            self._fail(error)
