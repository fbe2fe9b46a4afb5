"""How each action of the engine is performed: what goes to lanes, to other ranks, to the source, and to the script.

Nothing here decides anything, and nothing waits. All of it runs in the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..engine import messages as m
from ..memory.words import MEMORY, PAUSED, REPORTS, WANTED
from ..ranks.cluster import Cluster
from ..workers.worker import KEEPER
from .outgoing import Outgoing
from .reports import Reporter, tell_stalled
from .shell import Shell
from .shutdown import GivenUp

__all__ = ["Actions"]


class Actions:
    """Performs them.

    Args:
        shell: the parts of the run.
        joined: the other ranks; None: there are none.
        outgoing: makes messages fit to travel.
        reporter: puts into words what has failed.

    Attributes:
        table: what performs an action of each kind.
    """

    def __init__(self, shell: Shell, joined: Cluster | None, outgoing: Outgoing, reporter: Reporter) -> None:
        self._mailbox = shell.mailbox
        self._pools = shell.pools
        self._flags = shell.board.flags
        self._source = shell.source
        self._failures = shell.failures
        self._fail = shell.fail
        self._is_live = shell.is_live
        self._joined = joined
        self._outgoing = outgoing
        self._reporter = reporter
        self._has_told_stalled = False
        self._resuming: list[m.Resume] = []
        self._save = shell.watchers.saving(shell.saver.save) if shell.saver is not None else None
        self.table: dict[type, Callable[[Any], None]] = {
            m.Lend: self._lend, m.Call: self._call, m.Deliver: self._mailbox.deliveries.put, m.Pull: self._pull,
            m.StartLane: self._start_lane, m.StartKeeper: self._start_keeper, m.TakeBack: self._take_back,
            m.Flush: self._tell, m.Resume: self._resume, m.Signal: self._signal, m.Fail: self._give_up,
            m.Skip: self._skip, m.Halt: self._halt, m.Send: self._send, m.Report: self._report, m.Saved: self._saved,
            m.Stalled: self._tell_stalled,
        }  # fmt: skip

    # lanes ------------------------------------------------------------------------------------------------------------

    def _start_lane(self, action: m.StartLane) -> None:
        self._pools.of_kind(action.processes).start(action.lane)

    def _start_keeper(self, action: m.StartKeeper) -> None:
        self._pools.of_kind(action.processes).start(KEEPER)

    def _lend(self, action: m.Lend) -> None:
        pool = self._pools.of_lane(action.lane)
        if pool is self._pools.processes:
            packed = self._outgoing.packed
            action = action._replace(units=tuple((name, packed(work)) for name, work in action.units))
        pool.send(action.lane, action)

    def _call(self, action: m.Call) -> None:
        pool = self._pools.of_kind(action.processes)
        pool.send(KEEPER, self._outgoing.packed(action) if action.processes else action)

    def _resume(self, action: m.Resume) -> None:
        if self._joined is None:
            self._tell(action)
        else:
            self._resuming.append(action)  # what the lane has handed over may be sent only after this

    def go_on(self) -> None:
        """Has lanes go on that may, unless much is on its way to other ranks. These take it whatever happens here, so
        that ends."""
        if not self._resuming or (self._joined is not None and self._joined.load > self._flags[MEMORY] // 2):
            return
        resuming, self._resuming = self._resuming, []
        for action in resuming:
            if self._pools.has(action.lane):  # it may have died meanwhile
                self._tell(action)

    def _tell(self, action: m.Flush | m.Resume) -> None:
        self._pools.of_lane(action.lane).send(action.lane, action)

    def _take_back(self, action: m.TakeBack) -> None:
        pool = self._pools.of_lane(action.lane)
        loans = []
        for message in pool.take_back(action.lane):
            if type(message) is m.Lend:
                loans.append(message.loan)
            else:
                pool.send(action.lane, message)
        self._mailbox.post(m.Returned(action.lane, tuple(loans)))

    def _signal(self, action: m.Signal) -> None:
        self._flags[WANTED] = action.wanted
        self._flags[PAUSED] = action.paused

    def _report(self, action: m.Report) -> None:
        self._flags[REPORTS] = action.number

    # ranks, source, checkpoints ---------------------------------------------------------------------------------------

    def _send(self, action: m.Send) -> None:
        assert self._joined is not None
        self._joined.send(action.rank, self._outgoing.for_rank(action.message))

    def _pull(self, action: m.Pull) -> None:
        self._source.request(action.items)

    def _saved(self, action: m.Saved) -> None:
        assert self._save is not None
        self._save(action.state)

    # the script -------------------------------------------------------------------------------------------------------

    def _skip(self, action: m.Skip) -> None:
        self._failures.append(self._reporter.skipped(action))

    def _give_up(self, action: m.Fail) -> None:
        if action.final:
            self._fail(self._reporter.last_straw(action))
        elif self._is_live:
            self._mailbox.deliveries.put(GivenUp(action, self._reporter.last_straw(action)))
        else:
            self._failures += self._reporter.given_up(action)

    def _halt(self, action: m.Halt) -> None:
        """The loop ends by itself."""

    def _tell_stalled(self, action: m.Stalled) -> None:
        if not self._has_told_stalled:
            self._has_told_stalled = True
            tell_stalled(action.story, self._joined.transport if self._joined else None)
