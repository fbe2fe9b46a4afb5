"""One rank: it lends work to its lanes and to other ranks, and files what they repay.

``Rank.handle(event, now)`` is the only entrance. It takes one event and returns the actions to perform. The same
events at the same times give the same actions, always. The parts of a rank share its state: ``Router`` puts what comes
in where it belongs, ``Progress`` has scopes go on, ``Debts`` repays other ranks, ``PeerLending`` lends to them,
``LaneTable`` knows the lanes, ``Poison`` finds out what kills them, ``Snapshots`` has the state of the stream brought
home and captured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..stream.plan import Plan
from .allotments import Allotments
from .backlog import Part
from .capture import State, capture, restore
from .completion import Progress
from .debts import Debts
from .history import HEADS, History
from .lane_table import LaneTable
from .ledger import holder_of
from .messages import (
    HOME,
    Action,
    AllStill,
    Answered,
    Ask,
    CallKind,
    Cancel,
    Event,
    Fail,
    Halt,
    Heard,
    KeeperLost,
    LaneForked,
    LaneLost,
    Lend,
    Nothing,
    Pause,
    Probe,
    Probed,
    RankLost,
    Refuse,
    Repaid,
    Report,
    Reported,
    ResultsTaken,
    Returned,
    Same,
    Save,
    Send,
    SourceGave,
    WorkBatch,
)  # fmt: skip
from .pauses import Pauses
from .peer_lending import PeerLending
from .poison import Poison
from .rank_state import RankState
from .recall import Recall
from .routing import RESULTS_BYTES, Router
from .scheduling import Scheduling
from .snapshots import Snapshots
from .stalls import Stalls, story_of

__all__ = ["Rank"]


class Rank:
    """The state of one rank.

    Args:
        plan: the stream.
        parts: of the initial work; nothing but for rank 0.
        lanes: how many lanes of each kind there may be.
        number: of this rank; 0 is the home of the stream.
        lanes_of: the lanes of all ranks.
        state: to go on from; the same plan and parts belong to it.
        hosts_of: the names of all ranks' hosts; none: they are on one.
        buffer: so many results may wait to be taken; None: as many as there usually may.
        results_bytes: so much may be in them; and in what waits for a stage, before more of the source is begun.
    """

    def __init__(self, plan: Plan, parts: tuple[Part, ...], lanes: int, number: int = 0,
                 lanes_of: tuple[int, ...] = (), state: State | None = None,
                 hosts_of: tuple[str, ...] = (), buffer: int | None = None,
                 results_bytes: int = RESULTS_BYTES) -> None:  # fmt: skip
        self._plan = plan
        allots = number == 0 and any(place.allotted for place in plan.places)
        lanes_of = lanes_of or (lanes,)
        allotments = Allotments(hosts_of or ("",) * len(lanes_of), lanes_of) if allots else None
        self._state = RankState(plan, parts, lanes, number, allotments)
        self._lane_table = LaneTable(self._state, alone=len(lanes_of) < 2)
        self._peer_lending = PeerLending(self._state, self._lane_table, lanes_of)
        self._debts = Debts(self._state, self._peer_lending.alone)
        self._router = Router(self._state, self._debts, buffer, results_bytes)
        self._progress = Progress(self._state, self._debts)
        self._blame = Poison(self._state)
        self._snapshots = Snapshots(self._state, self._lane_table, Recall(self._state, self._debts), self.capture)
        self._pauses = Pauses()
        self._stalls = Stalls(number, self._is_at_rest)
        self._scheduling = Scheduling(self._state, self._lane_table, self._peer_lending, self._progress, self._pauses,
                                      results_bytes)  # fmt: skip
        self._history = History()
        self._halted = False
        self._listeners = self._new_listeners()
        if state is not None:
            restore(state, self._state, self._router, self._progress)

    def capture(self) -> State:
        """The state of the stream as plain data, complete between any two events; of rank 0 only.

        ``Rank(..., state=state)`` goes on from it, on any number of ranks and lanes. What other ranks had borrowed is
        open work then. Results that had been delivered but not taken are delivered again.
        """
        return capture(self._state, self._router, self._progress)

    @property
    def halted(self) -> bool:
        return self._halted

    @property
    def full(self) -> bool:
        """Whether lanes wait for results to be taken."""
        return self._router.full

    @property
    def paused(self) -> bool:
        """Whether results pile up at rank 0, so that nothing new is begun here."""
        return self._pauses.paused

    @property
    def awaits(self) -> bool:
        """Whether results have been delivered that are not taken yet."""
        return bool(self._router.outstanding)

    @property
    def debtors(self) -> set[int]:
        """The ranks that have borrowed something here."""
        return self._state.ledger.debtors

    @property
    def busy(self) -> bool:
        """Whether a lane has something to do."""
        return self._lane_table.running > 0

    @property
    def has_plenty(self) -> bool:
        """Whether there is enough to do for some time, so that it will do to hear of other ranks a little later."""
        return self._scheduling.has_plenty

    @property
    def deadline(self) -> float | None:
        """When the rank wants to hear of something, on the clock of ``handle``; ``Nothing`` will do."""
        parts = (self._lane_table, self._debts, self._peer_lending, self._snapshots, self._stalls)
        deadlines = [part.deadline for part in parts]
        return min((time for time in deadlines if time is not None), default=None)

    def handle(self, event: Event, now: float = 0.0) -> list[Action]:
        """Takes one event; returns what is to be done about it, in order.

        Args:
            event: what happened.
            now: seconds on any clock.

        Raises:
            EngineError: the engine has made a mistake; tells what had happened last.
        """
        state = self._state
        state.now = now
        try:
            self._stalls.saw(event, now)
            if type(event) is ResultsTaken and (self._halted or not self.full):
                self._on_results_taken(event)  # and nobody had waited for that
            elif not self._halted:
                _HANDLERS[type(event)](self, event)
                if self._snapshots.active:
                    self._snapshots.advance()
                self._progress.advance()
                if self._progress.stream_ended:
                    self._end()
                if not self._halted:
                    if self._stalls.is_due(now):
                        self._look_for_stalls()
                    if state.number == 0:
                        self._pauses.note(self.full)
                    self._scheduling.advance()
        except Exception as error:
            raise self._history.mistake(state.number, event, state.actions, now, error) from error
        actions, state.actions = state.actions, []
        self._history.last.append((now, type(event), HEADS[type(event)](event), tuple(map(type, actions))))
        return actions

    def _end(self) -> None:
        self._halted = True
        self._state.actions += [Send(rank, Halt()) for rank in self._peer_lending.others]
        self._state.actions.append(Halt())

    # events -----------------------------------------------------------------------------------------------------------

    def _on_source(self, event: SourceGave) -> None:
        self._state.source.gave(event.chunks, event.done)

    def _on_repaid(self, event: Repaid) -> None:
        state = self._state
        if event.awaits:  # whatever becomes of the rest: nobody else would tell it
            self._lane_table.awaits(event.lane)
        unknown = event.lane > 0 and event.lane not in self._lane_table
        if unknown or not state.ledger.is_open(event.lane, event.closed):
            return
        self._blame.repaid()
        self._debts.learn(event.samples)
        stand_ins = {scope: state.ledger.scope_of(event.loan, name) for scope, name in event.stand_ins}
        if event.lane < 0:
            stand_ins[HOME] = state.ledger.scope_of(*_last_of(event.closed))
        kept = self._kept(event, self._router.file(event.products, stand_ins))
        closed = [piece for number, names in event.closed for piece in state.ledger.close(number, names)]
        if kept:
            origin = closed[-1] if closed and event.lane > 0 else None
            for piece in state.ledger.keep(event.lane, event.loan, kept, origin):
                state.keep(event.lane, piece)
        for piece in closed:
            state.close_piece(piece)
        if event.lane > 0:
            self._settle_lane(event)

    def _kept(self, event: Repaid, stand_ins: dict[int, int]) -> tuple[tuple[int, WorkBatch], ...]:
        """What the borrower goes on with, counted as open, and with payloads that it did not have to send."""
        kept = []
        state = self._state
        for name, work in event.kept:
            work = work._replace(scope=stand_ins.get(work.scope, work.scope))
            payload = work.payload
            if payload is None and event.lane > 0:  # a rank may go on with a reduction that nothing has come to
                payload = state.ledger.payload(*_last_of(event.closed))
            elif type(payload) is Same:
                payload = state.ledger.payload(event.closed[0][0], payload.name)
            if work.scope in state.scopes:
                state.open(work)
            kept.append((name, work._replace(payload=payload)))
        return tuple(kept)

    def _settle_lane(self, event: Repaid) -> None:
        if event.returned:
            self._state.give_back(self._state.ledger.close(event.loan, event.returned))
        if event.computed:
            self._state.compute(event.loan, event.computed)
        self._lane_table.repaid(event.lane)

    def _on_returned(self, event: Returned) -> None:
        if event.lane in self._lane_table:  # otherwise it died meanwhile, and all it owed has been given back
            self._lane_table.returned(event.lane, event.loans)

    def _on_lane_forked(self, event: LaneForked) -> None:
        self._lane_table.forked(event.lane)

    def _on_lane_died(self, event: LaneLost) -> None:
        fails = self._blame.died(event)
        self._lane_table.died(event.lane)
        for fail in fails:
            self._fail(fail)

    def _fail(self, fail: Fail) -> None:
        """Gives something up: that ends the run, unless the stage's policy is to skip."""
        if fail.final or not self._plan.places[fail.place].policy.skip:
            self._halted = True
            self._state.actions.append(fail._replace(final=True))
        else:
            self._router.notice(fail)

    def _on_answered(self, event: Answered) -> None:
        for stores in self._state.stores.values():
            if event.call in stores:
                entry = stores.answered(event.call, event.payload, event.more)
                if entry is not None:
                    self._router.file(event.products)
                    self._progress.call_ended(entry, event.payload, event.more)
                return

    def _on_keeper_died(self, event: KeeperLost) -> None:
        guilty = self._state.stores[event.processes].died(event.index, event.timed)
        if guilty is not None:
            entry, index, attempts = guilty
            final = entry.kind is not CallKind.END
            self._fail(Fail(event.place, entry.payload, index, 1, attempts, event.cause, event.timed,
                            event.during_unpickling, final=final, scope=entry.store[0]))  # fmt: skip

    def _on_results_taken(self, event: ResultsTaken) -> None:
        self._router.taken(event.count, event.nbytes)

    def _on_save(self, event: Save) -> None:
        self._snapshots.save()

    def _on_nothing(self, event: Nothing) -> None:
        pass

    # other ranks ------------------------------------------------------------------------------------------------------

    def _on_heard(self, event: Heard) -> None:
        if event.rank not in self._peer_lending.asking.dead:
            self._listeners[type(event.message)](event.rank, event.message)

    def _new_listeners(self) -> dict[type, Callable[[int, Any], None]]:
        """Who takes which message of another rank."""
        return {
            Ask: self._peer_lending.heard_ask, Refuse: self._peer_lending.asking.heard_refuse, Lend: self._heard_lend,
            Repaid: self._heard_repaid, Pause: self._heard_pause, Cancel: self._debts.heard_cancel,
            Report: self._snapshots.heard_report, Reported: self._snapshots.heard_reported, Probe: self._heard_probe,
            Probed: self._heard_probed, AllStill: self._heard_all_still, Halt: self._heard_halt,
        }  # fmt: skip

    def _heard_lend(self, rank: int, lend: Lend) -> None:
        self._peer_lending.asking.lent(rank)
        self._debts.borrow(rank, lend)

    def _heard_repaid(self, rank: int, repaid: Repaid) -> None:
        self._on_repaid(repaid._replace(lane=holder_of(rank)))

    def _heard_pause(self, rank: int, pause: Pause) -> None:
        self._pauses.heard(rank, pause.change)

    def _heard_probe(self, rank: int, probe: Probe) -> None:
        self._state.actions.append(self._stalls.probed(probe, self._state.now))

    def _heard_probed(self, rank: int, probed: Probed) -> None:
        if self._stalls.heard(rank, probed):
            self._state.actions += [Send(other, AllStill()) for other in self._peer_lending.others]
            self._ask_again()

    def _heard_all_still(self, rank: int, message: AllStill) -> None:
        self._ask_again()

    def _heard_halt(self, rank: int, halt: Halt) -> None:
        self._halted = True
        self._state.actions.append(halt)

    def _on_rank_died(self, event: RankLost) -> None:
        self._peer_lending.died(event.rank)
        self._snapshots.rank_died(event.rank)
        self._pauses.died(event.rank)
        if self._state.number == 0:
            self._pauses.renew()
        for _, loan in self._state.drop_loans(holder_of(event.rank)):
            self._state.give_back(list(loan.units.values()))
        self._debts.lender_died(event.rank)
        self._lose_host(event.rank)

    def _lose_host(self, rank: int) -> None:
        allotments = self._state.allotments
        if allotments is None:
            return
        allotments.lost(rank)
        for piece, reason in allotments.take_refused():
            self._state.refuse(piece, reason)

    # standing still ---------------------------------------------------------------------------------------------------

    def _is_at_rest(self) -> bool:
        """Whether no user code runs here, and nothing is under way within this process that leads to some."""
        source = self._state.source.pulling or self._snapshots.active
        return not (self.busy or self.awaits or source or any(stores.working for stores in self._state.stores.values()))

    def _look_for_stalls(self) -> None:
        """Asks the others whether they stand still, too; where there are none, all that there is does."""
        probes = self._stalls.ask(self._peer_lending.others)
        if probes:
            self._state.actions += probes
        else:
            self._ask_again()

    def _ask_again(self) -> None:
        """Nothing moves anywhere: says what this rank waits for, and asks for it again."""
        self._state.actions.append(story_of(self._state, self._lane_table, self._peer_lending.asking, self._pauses))
        self._peer_lending.asking.again()
        self._lane_table.ask_again()
        if self._state.number == 0:
            self._pauses.restate(self._peer_lending.others)


def _last_of(closed: tuple[tuple[int, tuple[int, ...]], ...]) -> tuple[int, int]:
    """The loan and name of the unit that was closed last."""
    number, names = closed[-1]
    return number, names[-1]


_HANDLERS: dict[type, Any] = {
    SourceGave: Rank._on_source,
    Repaid: Rank._on_repaid,
    Returned: Rank._on_returned,
    LaneForked: Rank._on_lane_forked,
    LaneLost: Rank._on_lane_died,
    Answered: Rank._on_answered,
    KeeperLost: Rank._on_keeper_died,
    ResultsTaken: Rank._on_results_taken,
    Save: Rank._on_save,
    Nothing: Rank._on_nothing,
    Heard: Rank._on_heard,
    RankLost: Rank._on_rank_died,
}
