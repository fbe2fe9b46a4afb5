"""One rank: it lends work to its lanes and files what they repay.

``Rank.handle(event, now)`` is the only entrance. It takes one event and returns the actions to perform. The same
events at the same times give the same actions, always.
"""

from __future__ import annotations

from typing import Any

from ..errors import EngineError
from ..plan import Kind, Plan
from .backlog import Backlog, Part, Source
from .ledger import Ledger, Loan, Piece
from .messages import (
    Action,
    Answered,
    Deliver,
    Event,
    Fail,
    Flush,
    Fold,
    Halt,
    KeeperDied,
    LaneDied,
    Lend,
    Nothing,
    Open,
    Output,
    Product,
    Pull,
    Repaid,
    ResultsTaken,
    Resume,
    Returned,
    Signal,
    Skip,
    SourceGave,
    Span,
    StartLane,
    TakeBack,
    Work,
)  # fmt: skip
from .parcels import Costs
from .scopes import STREAM, Scope, Scopes
from .stores import Entry, Stores

__all__ = ["Rank"]

LOANS_PER_LANE = 2
RESULTS_BYTES = 32 << 20
RESULTS_ITEMS = 200_000
DEATHS = 3
SPLIT = 8
VAIN_DEATHS = 100
"""So many deaths in a row with nothing repaid in between end the run."""


class _Lane:
    """What the rank knows of a lane."""

    def __init__(self, processes: bool) -> None:
        self.processes = processes
        self.running = 0
        self.computed = 0
        self.flushing = False
        self.takingBack = False


class Rank:
    """The state of one rank.

    Args:
        plan: the stream.
        parts: of the initial work.
        lanes: how many lanes of each kind there may be.
    """

    def __init__(self, plan: Plan, parts: tuple[Part, ...], lanes: int) -> None:
        self._plan = plan
        self._most = lanes
        self._costs = Costs(len(plan.places))
        self._backlogs = {True: Backlog(self._costs), False: Backlog(self._costs)}
        self._stores = {True: Stores(plan, True), False: Stores(plan, False)}
        self._source = Source(parts)
        self._sourceKind = plan.places[0].processes
        self._scopes = Scopes(plan)
        self._ledger = Ledger()
        self._lanes: dict[int, _Lane] = {}
        self._lastLane = 0
        self._undeliveredItems = 0
        self._undeliveredBytes = 0
        self._signal = Signal(False, False)
        self._touched: set[int] = {STREAM}
        self._more: list[Entry] = []
        self._vainDeaths = 0
        self._actions: list[Action] = []
        self._halted = False
        if not self._source.exhausted:
            self._scopes[STREAM].enter(0)
        self._sourceOpen = not self._source.exhausted

    @property
    def halted(self) -> bool:
        return self._halted

    def handle(self, event: Event) -> list[Action]:
        """Takes one event; returns what is to be done about it, in order."""
        self._actions = []
        if not self._halted:
            _HANDLERS[type(event)](self, event)
            self._advance()
            if not self._halted:
                self._schedule()
        return self._actions

    # events -----------------------------------------------------------------------------------------------------------

    def _onSource(self, event: SourceGave) -> None:
        self._source.gave(event.chunks, event.done)

    def _closeSource(self) -> None:
        if self._sourceOpen:
            self._sourceOpen = False
            self._scopes[STREAM].opens[0] -= 1
            self._touched.add(STREAM)

    def _onRepaid(self, event: Repaid) -> None:
        if event.lane not in self._lanes or not self._ledger.isOpen(event.lane, event.closed):
            return
        self._vainDeaths = 0
        for place, items, seconds in event.samples:
            self._costs.learn(place, items, seconds)
        self._file(event.products)
        closed = [piece for number, names in event.closed for piece in self._ledger.close(number, names)]
        for _, work in event.kept:
            self._open(work)
        if event.kept:
            same = closed[-1].work.payload if closed else None
            kept = tuple((name, work if work.payload is not None else work._replace(payload=same))
                         for name, work in event.kept)  # fmt: skip
            self._ledger.keep(event.lane, event.loan, kept, closed[-1] if closed else None)
        for piece in closed:
            self._closePiece(piece)
        if event.returned:
            self._giveBack(self._ledger.close(event.loan, event.returned))
        if event.computed:
            self._ledger.compute(event.loan, event.computed)
        self._lanes[event.lane].takingBack = False
        self._recount(event.lane)

    def _closePiece(self, piece: Piece) -> None:
        scope = self._scopes[piece.work.scope]
        scope.opens[self._plan.places[piece.work.place].segment] -= 1
        self._touched.add(scope.number)

    def _giveBack(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self._backlogs[self._kind(piece.work)].push(piece)

    def _recount(self, number: int) -> None:
        lane, loans = self._lanes[number], self._ledger.of(number)
        lane.running = sum(loan.running for _, loan in loans)
        lane.computed = len(loans) - lane.running
        lane.flushing = lane.flushing and lane.computed > 0

    def _onReturned(self, event: Returned) -> None:
        if event.lane not in self._lanes:
            return  # it died meanwhile, and all it owed has been given back
        for number in event.loans:
            self._giveBack(list(self._ledger.drop(number).units.values()))
        self._lanes[event.lane].takingBack = not event.loans
        self._recount(event.lane)

    def _onLaneDied(self, event: LaneDied) -> None:
        for number, loan in self._ledger.of(event.lane):
            self._ledger.drop(number)
            self._lendAgain(number, loan, event)
        del self._lanes[event.lane]
        self._vainDeaths += 1
        if self._vainDeaths > VAIN_DEATHS:
            self._fail(Fail(0, None, 0, 0, self._vainDeaths, event.cause, False, False), final=True)

    def _lendAgain(self, number: int, loan: Loan, event: LaneDied) -> None:
        for name, piece in loan.units.items():
            if number == event.loan and name == event.unit:
                self._suspect(piece, event)
            else:
                self._giveBack([piece])

    def _suspect(self, piece: Piece, event: LaneDied) -> None:
        """A lane died over this piece: find out whether it is to blame, by lending it or parts of it alone."""
        work = piece.work
        if event.timed and work.count == 1:
            piece.attempts += 1
            if piece.attempts > self._plan.places[event.place].policy.retries:
                return self._giveUp(piece, event, piece.attempts)
        elif piece.careful or self._isExact(work, event):
            piece.deaths += 1
            if piece.deaths >= DEATHS:
                return self._giveUp(piece, event, piece.deaths)
        piece.careful = True
        if type(work.payload) is Span and work.count > 1:
            self._splitSpan(work)
        else:
            self._giveBack([piece])

    def _isExact(self, work: Work, event: LaneDied) -> bool:
        """Whether the lane was in the very call that this piece stands for."""
        kind = self._plan.places[work.place].kind
        return work.count == 1 and event.place == work.place and kind != Kind.FRAME

    def _splitSpan(self, work: Work) -> None:
        """Replaces a span by careful parts of it."""
        span, step = work.payload, -(-work.count // SPLIT)
        start, scope = span.start + work.skip, self._scopes[work.scope]
        base = (work.base or 0) + work.skip
        for first in range(start, span.stop, step):
            part = Span(span.part, first, min(first + step, span.stop))
            share = Work(work.scope, work.place, part.stop - first, part, base + first - start, careful=True)
            self._open(share)
            self._giveBack([Piece(share)])
        scope.opens[self._plan.places[work.place].segment] -= 1

    def _giveUp(self, piece: Piece, event: LaneDied, attempts: int) -> None:
        work = piece.work
        fail = Fail(event.place, work.payload, work.skip, work.count, attempts, event.cause, event.timed, event.opaque)
        self._fail(fail)
        self._closePiece(piece)

    def _fail(self, fail: Fail, final: bool = False) -> None:
        """Gives something up: that ends the run, unless the stage's policy is to skip."""
        self._halted = final or not self._plan.places[fail.place].policy.skip
        self._actions.append(fail._replace(final=self._halted))

    def _onAnswered(self, event: Answered) -> None:
        for stores in self._stores.values():
            if event.call in stores:
                entry = stores.answered(event.call, event.payload)
                if entry is not None:
                    self._file(event.products)
                    self._callEnded(entry, event)
                return

    def _callEnded(self, entry: Entry, event: Answered) -> None:
        scope = self._scopes[entry.store[0]]
        if event.more:  # the scope stays busy until the rest has been asked for
            self._more.append(entry)
            return
        scope.calls -= 1
        self._touched.add(scope.number)
        if entry.kind == "checkout":
            self._checkedOut(scope, entry.place, event.payload)

    def _checkedOut(self, scope: Scope, place: int, payload: Any) -> None:
        if self._plan.places[place].kind == Kind.FOLD:
            self._emission(scope, place, payload)
        else:
            self._nextRound(scope, payload)

    def _onKeeperDied(self, event: KeeperDied) -> None:
        stores = self._stores[event.processes]
        guilty = stores.died(event.index, event.timed)
        if guilty is not None:
            entry, index, attempts = guilty
            fail = Fail(event.place, entry.payload, index, 1, attempts, event.cause, event.timed, event.opaque)
            self._fail(fail, final=entry.kind != "end")

    def _onResultsTaken(self, event: ResultsTaken) -> None:
        self._undeliveredItems -= event.count
        self._undeliveredBytes -= event.nbytes

    def _onNothing(self, event: Nothing) -> None:
        pass

    # filing products --------------------------------------------------------------------------------------------------

    def _file(self, products: tuple[Product, ...]) -> None:
        opened: dict[int, int] = {}
        for product in products:
            if isinstance(product, Open):
                product = product._replace(parent=opened.get(product.parent, product.parent))
                opened[product.scope] = self._fileOpen(product)
            elif isinstance(product, Skip):
                self._actions.append(product)
            else:
                _FILERS[type(product)](self, product._replace(scope=opened.get(product.scope, product.scope)))

    def _kind(self, work: Work) -> bool:
        return self._plan.places[work.place].processes

    def _fileWork(self, work: Work) -> None:
        place = self._plan.places[work.place]
        if place.kind == Kind.END:
            raise EngineError(f"work at {place!r}, where there is nothing left to do")
        self._open(work)
        self._backlogs[place.processes].push(Piece(work))

    def _open(self, work: Work) -> None:
        """Counts work as open in its scope; a store on its way out does not make its reduction active again."""
        scope, place = self._scopes[work.scope], self._plan.places[work.place]
        if work.resume and place.kind == Kind.FOLD:
            scope.opens[place.segment] += 1
        else:
            scope.enter(place.segment)

    def _fileOutput(self, output: Output) -> None:
        if output.scope == STREAM:
            self._undeliveredItems += output.count
            self._undeliveredBytes += output.payload.nbytes
            self._actions.append(Deliver(output.payload, output.count, output.base))
            return
        place = self._plan.places[output.place]
        self._call("end", (output.scope, place.number), place.number, output.payload)

    def _fileFold(self, fold: Fold) -> None:
        place, name = self._plan.places[fold.place], (fold.scope, fold.place)
        self._scopes[fold.scope].active.add(place.segment)
        self._touched.add(fold.scope)
        if self._stores[place.processes].holds(name):
            self._call("merge", name, place.number, fold.payload)
        else:
            self._stores[place.processes].adopt(name, fold.payload)

    def _fileOpen(self, product: Open) -> int:
        scope = self._scopes.open(product.parent, product.place)
        scope.active.update(product.active)
        scope.key = product.key
        self._stores[self._plan.places[product.place].processes].adopt((scope.number, scope.body.end), product.payload)
        self._touched.add(scope.number)
        return scope.number

    def _call(self, kind: str, name: tuple[int, int], place: int, payload: Any) -> None:
        self._scopes[name[0]].calls += 1
        self._stores[self._plan.places[place].processes].call(kind, name, place, payload)

    # scopes that go on ------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Lets every scope in which something closed go on, or end."""
        if self._source.exhausted:
            self._closeSource()
        while self._touched and not self._halted:
            number = max(self._touched)
            self._touched.discard(number)
            self._advanceScope(self._scopes[number])
        self._makeCalls()

    def _makeCalls(self) -> None:
        for stores in self._stores.values():
            self._actions += stores.takeActions()

    def _advanceScope(self, scope: Scope) -> None:
        if scope.calls:
            return
        segment = scope.due()
        if segment is not None:
            self._emit(scope, segment)
        elif scope.ended:
            if scope.number == STREAM:
                self._halted = True
                self._actions.append(Halt())
            else:
                self._endRound(scope)

    def _emit(self, scope: Scope, segment: int) -> None:
        """A reduction has drained: its store leaves the keeper, and a lane will emit it."""
        place = scope.body.segments[segment].last
        scope.active.discard(segment)
        if scope.body.segments[segment + 1].folds:
            scope.active.add(segment + 1)
        stores, name = self._stores[self._plan.places[place].processes], (scope.number, place)
        if not stores.holds(name):
            self._emission(scope, place, None)
        elif stores.isLive(name):
            self._call("checkout", name, place, None)
        else:
            self._emission(scope, place, stores.remove(name))

    def _emission(self, scope: Scope, place: int, payload: Any) -> None:
        work = Work(scope.number, place, 1, payload, resume=True, key=scope.key)
        self._open(work)
        self._giveBack([Piece(work)])

    def _endRound(self, scope: Scope) -> None:
        """A frame has drained: its store leaves the keeper, and a lane will begin the next round with it."""
        stores, name = self._stores[self._plan.places[scope.place].processes], (scope.number, scope.body.end)
        if stores.isLive(name):
            self._call("checkout", name, scope.body.end, None)
        else:
            self._nextRound(scope, stores.remove(name))

    def _nextRound(self, scope: Scope, payload: Any) -> None:
        """Turns an open frame back into a piece; it stays open in the scope around it."""
        self._scopes.close(scope.number)
        self._touched.discard(scope.number)
        self._giveBack([Piece(Work(scope.parent, scope.place, 1, payload, resume=True))])

    # lending ----------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        full = self._undeliveredItems > RESULTS_ITEMS or self._undeliveredBytes > RESULTS_BYTES
        for processes in (True, False):
            while self._lendOne(processes, full):
                pass
        self._pull(full)
        self._askForMore(full)
        hungry = self._serveHungry(full)
        self._raiseSignal(Signal(hungry, full))

    def _available(self, processes: bool, full: bool) -> bool:
        fromSource = processes == self._sourceKind and self._source.ready and not full
        return bool(self._backlogs[processes]) or fromSource

    def _lendOne(self, processes: bool, full: bool) -> bool:
        if not self._available(processes, full):
            return False
        number = self._idlest(processes)
        if number is None:
            return False
        backlog = self._backlogs[processes]
        pieces = backlog.take(self._most) if backlog else [self._takeSource()]
        self._lend(number, pieces)
        return True

    def _takeSource(self) -> Piece:
        items = 1 if self._plan.places[0].solo else self._costs.size(0, self._source.left, self._most)
        self._scopes[STREAM].enter(0)
        return self._source.take(items)

    def _idlest(self, processes: bool) -> int | None:
        """The lane to lend to: an idle one, a new one, or one with room for one more parcel."""
        own = [(lane.running, number) for number, lane in self._lanes.items() if lane.processes == processes]
        running, number = min(own, default=(LOANS_PER_LANE, 0))
        if running == 0:
            return number
        if len(own) < self._most:
            return self._startLane(processes)
        return number if running < LOANS_PER_LANE else None

    def _startLane(self, processes: bool) -> int:
        self._lastLane += 1
        self._lanes[self._lastLane] = _Lane(processes)
        self._actions.append(StartLane(self._lastLane, processes))
        return self._lastLane

    def _lend(self, number: int, pieces: list[Piece]) -> None:
        loan = self._ledger.lend(number, pieces)
        self._lanes[number].running += 1
        units = tuple((name, piece.work) for name, piece in enumerate(pieces))
        self._actions.append(Lend(number, loan, units, pieces[0].careful))

    def _pull(self, full: bool) -> None:
        if full or not self._source.wantsPull or self._source.waiting > self._most:
            return
        self._source.pulling = True
        self._actions.append(Pull(1 if self._plan.places[0].solo else self._costs.size(0, None, self._most)))

    def _askForMore(self, full: bool) -> None:
        """Has the keeper go on with the long Multiples it holds, while lanes have little to do."""
        while self._more and not full and len(self._backlogs[True]) + len(self._backlogs[False]) <= 2 * self._most:
            entry = self._more.pop()
            self._scopes[entry.store[0]].calls -= 1
            self._call("more", entry.store, entry.place, entry.origin)
        self._makeCalls()

    def _serveHungry(self, full: bool) -> bool:
        """Whether lanes could do with work that others have; asks for it back."""
        hungry = False
        for processes in (True, False):
            own = [(number, lane) for number, lane in self._lanes.items() if lane.processes == processes]
            idle = [(number, lane) for number, lane in own if not lane.running]
            busy = [(number, lane) for number, lane in own if lane.running]
            self._flush(idle)
            if not busy or self._available(processes, full) or not (idle or len(own) < self._most):
                continue
            hungry = True
            for number, lane in busy:
                if lane.running > 1 and not lane.takingBack:
                    lane.takingBack = True
                    self._actions.append(TakeBack(number))
        return hungry

    def _flush(self, idle: list[tuple[int, _Lane]]) -> None:
        """Asks idle lanes for what they have computed, unless more of the same may still come."""
        for number, lane in idle:
            if lane.computed and not lane.flushing and (self._source.exhausted or self._holdsFrames(number)):
                lane.flushing = True
                self._actions.append(Flush(number))

    def _holdsFrames(self, number: int) -> bool:
        loans = self._ledger.of(number)
        return any(piece.work.scope != STREAM for _, loan in loans for piece in loan.units.values())

    def _raiseSignal(self, signal: Signal) -> None:
        if signal != self._signal:
            before, self._signal = self._signal, signal
            self._actions.append(signal)
            if before.paused and not signal.paused:  # after the signal: a lane that still saw it raised will be told
                self._actions += [Resume(number) for number in self._lanes]


_FILERS: dict[type, Any] = {Work: Rank._fileWork, Output: Rank._fileOutput, Fold: Rank._fileFold}

_HANDLERS: dict[type, Any] = {
    SourceGave: Rank._onSource,
    Repaid: Rank._onRepaid,
    Returned: Rank._onReturned,
    LaneDied: Rank._onLaneDied,
    Answered: Rank._onAnswered,
    KeeperDied: Rank._onKeeperDied,
    ResultsTaken: Rank._onResultsTaken,
    Nothing: Rank._onNothing,
}
