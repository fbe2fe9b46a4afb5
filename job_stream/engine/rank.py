"""One rank: it lends work to its lanes and to other ranks, and files what they repay.

``Rank.handle(event, now)`` is the only entrance. It takes one event and returns the actions to perform. The same
events at the same times give the same actions, always.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import EngineError
from ..plan import Kind, Plan
from .backlog import Backlog, Part, Source
from .ledger import Ledger, Loan, Piece, holderOf
from .messages import (
    Action,
    Answered,
    Ask,
    Cancel,
    Deliver,
    Event,
    Fail,
    Flush,
    Fold,
    Halt,
    Heard,
    KeeperDied,
    LaneDied,
    Lend,
    Nothing,
    Open,
    Output,
    Pause,
    Product,
    Pull,
    RankDied,
    Refuse,
    Repaid,
    ResultsTaken,
    Resume,
    Returned,
    Same,
    Send,
    Signal,
    Skip,
    SourceGave,
    Span,
    StartLane,
    TakeBack,
    Work,
)  # fmt: skip
from .parcels import Costs
from .scopes import STREAM, Debt, Scope, Scopes
from .sharing import Sharing
from .stores import Entry, Stores

__all__ = ["Rank"]

LOANS_PER_LANE = 2
RESULTS_BYTES = 32 << 20
RESULTS_ITEMS = 200_000
DEATHS = 3
SPLIT = 8
NEW_NAMES = 1 << 32
"""Units that a borrower has made out of others have names from here on; those that were lent have smaller ones."""
GATHER_S = 0.02
GATHER_BYTES = 256 << 10
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
        parts: of the initial work; nothing but for rank 0.
        lanes: how many lanes of each kind there may be.
        number: of this rank; 0 is the home of the stream.
        lanesOf: the lanes of all ranks.
    """

    def __init__(self, plan: Plan, parts: tuple[Part, ...], lanes: int, number: int = 0,
                 lanesOf: tuple[int, ...] = ()) -> None:  # fmt: skip
        self._plan = plan
        self._number = number
        self._most = lanes
        self._costs = Costs(len(plan.places))
        self._backlogs = {True: Backlog(self._costs), False: Backlog(self._costs)}
        self._stores = {True: Stores(plan, True), False: Stores(plan, False)}
        self._source = Source(parts)
        self._sourceKind = plan.places[0].processes
        self._scopes = Scopes(plan, primary=number == 0)
        self._ledger = Ledger()
        self._sharing = Sharing(plan, number, lanesOf or (lanes,), self._costs, self._backlogs, self._source,
                                self._ledger, self._enterSource)  # fmt: skip
        self._samples: dict[int, list[float]] = {}
        self._pausedBy: set[int] = set()
        self._pausedRanks: set[int] = set()
        self._lastName = NEW_NAMES
        self._now = 0.0
        self.deadline: float | None = None
        self._lanes: dict[int, _Lane] = {}
        self._lastLane = 0
        self._undeliveredItems = 0
        self._undeliveredBytes = 0
        self._signal = Signal(False, False)
        self._touched: set[int] = {STREAM} if number == 0 else set()
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

    @property
    def debtors(self) -> set[int]:
        """The ranks that have borrowed something here."""
        return self._ledger.debtors()

    def handle(self, event: Event, now: float = 0.0) -> list[Action]:
        """Takes one event; returns what is to be done about it, in order.

        Args:
            event: what happened.
            now: seconds on any clock. After ``deadline`` the rank wants to hear of something, ``Nothing`` will do.
        """
        self._actions = []
        self._now = now
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
        if not self._ledger.isOpen(event.lane, event.closed) or (event.lane > 0 and event.lane not in self._lanes):
            return
        self._vainDeaths = 0
        self._learn(event.samples)
        self._file(event.products)
        kept = self._kept(event)
        closed = [piece for number, names in event.closed for piece in self._ledger.close(number, names)]
        if kept:
            origin = closed[-1] if closed and event.lane > 0 else None
            for piece in self._ledger.keep(event.lane, event.loan, kept, origin):
                self._register(piece)
        for piece in closed:
            self._closePiece(piece)
        if event.lane > 0:
            self._settleLane(event)

    def _learn(self, samples: tuple[tuple[int, int, float], ...]) -> None:
        for place, items, seconds in samples:
            self._costs.learn(place, items, seconds)
            if self._number:
                sample = self._samples.setdefault(place, [0, 0.0])
                sample[0] += items
                sample[1] += seconds

    def _kept(self, event: Repaid) -> tuple[tuple[int, Work], ...]:
        """What the borrower goes on with, counted as open, and with payloads that it did not have to send."""
        kept = []
        for name, work in event.kept:
            payload = work.payload
            if payload is None:
                payload = self._ledger.payload(*_lastOf(event.closed))
            elif type(payload) is Same:
                payload = self._ledger.payload(event.closed[0][0], payload.name)
            if work.scope in self._scopes:
                self._open(work)
            kept.append((name, work._replace(payload=payload)))
        return tuple(kept)

    def _settleLane(self, event: Repaid) -> None:
        if event.returned:
            self._giveBack(self._ledger.close(event.loan, event.returned))
        if event.computed:
            self._ledger.compute(event.loan, event.computed)
        self._lanes[event.lane].takingBack = False
        self._recount(event.lane)

    def _register(self, piece: Piece) -> None:
        """Notes which pieces a scope of borrowed ones consists of."""
        scope = self._scopes.get(piece.work.scope)
        if scope is not None and scope.debt is not None:
            scope.debt.pieces[piece] = None

    def _closePiece(self, piece: Piece) -> None:
        scope = self._scopes.get(piece.work.scope)
        if scope is None:
            return  # dropped, since its lender is gone
        scope.opens[self._plan.places[piece.work.place].segment] -= 1
        self._touched.add(scope.number)
        if scope.debt is not None:
            scope.debt.pieces.pop(piece)

    def _giveBack(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            if piece.work.scope in self._scopes:
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
            self._giveBack([Piece(share)])  # a span is never borrowed, so nobody has to know of its parts
        scope.opens[self._plan.places[work.place].segment] -= 1

    def _giveUp(self, piece: Piece, event: LaneDied, attempts: int) -> None:
        work = piece.work
        fail = Fail(event.place, work.payload, work.skip, work.count, attempts, event.cause, event.timed, event.opaque)
        self._fail(fail._replace(scope=work.scope))
        self._closePiece(piece)

    def _fail(self, fail: Fail, final: bool = False) -> None:
        """Gives something up: that ends the run, unless the stage's policy is to skip."""
        self._halted = final or not self._plan.places[fail.place].policy.skip
        if self._halted:
            self._actions.append(fail._replace(final=True))
        else:
            self._fileNotice(fail._replace(final=False))

    def _onAnswered(self, event: Answered) -> None:
        for stores in self._stores.values():
            if event.call in stores:
                entry = stores.answered(event.call, event.payload)
                if entry is not None:
                    self._file(event.products)
                    self._callEnded(entry, event)
                return

    def _callEnded(self, entry: Entry, event: Answered) -> None:
        scope = self._scopes.get(entry.store[0])
        if scope is None:
            return
        if event.more:  # the scope stays busy until the rest has been asked for
            self._more.append(entry)
            return
        scope.calls -= 1
        self._touched.add(scope.number)
        if entry.kind == "checkout":
            self._checkedOut(scope, entry.place, event.payload)

    def _checkedOut(self, scope: Scope, place: int, payload: Any) -> None:
        if scope.debt is not None:
            self._owe(scope.debt, Fold(scope.number, place, payload))
        elif self._plan.places[place].kind == Kind.FOLD:
            self._emission(scope, place, payload)
        else:
            self._nextRound(scope, payload)

    def _onKeeperDied(self, event: KeeperDied) -> None:
        stores = self._stores[event.processes]
        guilty = stores.died(event.index, event.timed)
        if guilty is not None:
            entry, index, attempts = guilty
            fail = Fail(event.place, entry.payload, index, 1, attempts, event.cause, event.timed, event.opaque)
            self._fail(fail._replace(scope=entry.store[0]), final=entry.kind != "end")

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
                if product.parent in self._scopes:
                    opened[product.scope] = self._fileOpen(product)
                continue
            product = product._replace(scope=opened.get(product.scope, product.scope))
            if product.scope in self._scopes:
                _FILERS[type(product)](self, product)

    def _fileNotice(self, notice: Skip | Fail) -> None:
        """Something was left out: rank 0 keeps the list."""
        home = self._scopes.get(notice.scope)
        while home is not None and home.debt is None and home.parent >= 0:
            home = self._scopes.get(home.parent)
        if home is None:
            return
        if home.debt is None:
            self._actions.append(notice)
        else:
            self._owe(home.debt, notice._replace(scope=home.number))

    def _owe(self, debt: Debt, product: Product) -> None:
        """What came of borrowed work, for its lender."""
        if not debt.products:
            debt.since = self._now
        debt.products.append(product._replace(scope=debt.scope))
        debt.nbytes += getattr(getattr(product, "payload", None), "nbytes", 0)

    def _kind(self, work: Work) -> bool:
        return self._plan.places[work.place].processes

    def _fileWork(self, work: Work) -> None:
        place = self._plan.places[work.place]
        if place.kind == Kind.END:
            raise EngineError(f"work at {place!r}, where there is nothing left to do")
        self._open(work)
        self._push(work)

    def _push(self, work: Work) -> None:
        piece = Piece(work)
        self._register(piece)
        self._giveBack([piece])

    def _open(self, work: Work) -> None:
        """Counts work as open in its scope; a store on its way out does not make its reduction active again."""
        scope, place = self._scopes[work.scope], self._plan.places[work.place]
        if work.resume and place.kind == Kind.FOLD:
            scope.opens[place.segment] += 1
        else:
            scope.enter(place.segment)

    def _fileOutput(self, output: Output) -> None:
        debt = self._scopes[output.scope].debt
        if debt is not None:
            self._owe(debt, output)
            return
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
            scope = self._scopes.get(number)
            if scope is not None:
                self._advanceScope(scope)
        self._settleDebts()
        self._makeCalls()

    def _makeCalls(self) -> None:
        for stores in self._stores.values():
            self._actions += stores.takeActions()

    def _advanceScope(self, scope: Scope) -> None:
        if scope.calls:
            return
        if scope.debt is not None:
            self._advanceDebt(scope, scope.debt)
            return
        segment = scope.due()
        if segment is not None:
            self._emit(scope, segment)
        elif scope.ended:
            if scope.number == STREAM:
                self._halted = True
                self._actions += [Send(rank, Halt()) for rank in self._sharing.others]
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
        else:
            self._takeStore(scope, name)

    def _takeStore(self, scope: Scope, name: tuple[int, int]) -> None:
        """A store goes on with its scope: at once, or when the keeper has given it back."""
        stores = self._stores[self._plan.places[name[1]].processes]
        if stores.isLive(name):
            self._call("checkout", name, name[1], None)
        else:
            self._checkedOut(scope, name[1], stores.remove(name))

    def _emission(self, scope: Scope, place: int, payload: Any) -> None:
        work = Work(scope.number, place, 1, payload, resume=True, key=scope.key)
        self._open(work)
        self._push(work)

    def _endRound(self, scope: Scope) -> None:
        """A frame has drained: its store leaves the keeper, and a lane will begin the next round with it."""
        self._takeStore(scope, (scope.number, scope.body.end))

    def _nextRound(self, scope: Scope, payload: Any) -> None:
        """Turns an open frame back into a piece; it stays open in the scope around it."""
        self._scopes.close(scope.number)
        self._touched.discard(scope.number)
        self._push(Work(scope.parent, scope.place, 1, payload, resume=True))

    # borrowing from other ranks ---------------------------------------------------------------------------------------

    def _onHeard(self, event: Heard) -> None:
        if event.rank not in self._sharing.asking.dead:
            _LISTENERS[type(event.message)](self, event.rank, event.message)

    def _heardAsk(self, rank: int, ask: Ask) -> None:
        self._sharing.heardAsk(rank, ask)

    def _heardRefuse(self, rank: int, refuse: Refuse) -> None:
        self._sharing.asking.refused(rank)

    def _heardRepaid(self, rank: int, repaid: Repaid) -> None:
        self._onRepaid(repaid._replace(lane=holderOf(rank)))

    def _heardPause(self, rank: int, pause: Pause) -> None:
        (self._pausedBy.add if pause.paused else self._pausedBy.discard)(rank)

    def _heardHalt(self, rank: int, halt: Halt) -> None:
        self._halted = True
        self._actions.append(halt)

    def _heardCancel(self, rank: int, cancel: Cancel) -> None:
        self._dropDebts(lambda debt: (debt.lender, debt.loan) == (rank, cancel.loan))

    def _heardLend(self, rank: int, lend: Lend) -> None:
        """Opens a scope for the pieces of each of the lender's scopes, so that they are folded into one store; but
        where results can come early and a frame ahead may hold them up, each piece has a scope of its own."""
        self._sharing.asking.lent(rank)
        shared: dict[tuple[int, int], Scope] = {}
        for name, work in lend.units:
            place = self._plan.places[work.place]
            scope = shared.get((work.scope, place.body))
            if scope is None or scope.debt is None:
                scope = self._scopes.borrow(place.body, Debt(rank, lend.loan, work.scope))
                if not self._holdsUp(work):
                    shared[work.scope, place.body] = scope
            piece = Piece(work._replace(scope=scope.number))
            assert scope.debt is not None
            self._open(piece.work)
            scope.debt.names[piece] = name
            self._register(piece)
            self._giveBack([piece])

    def _holdsUp(self, work: Work) -> bool:
        place = self._plan.places[work.place]
        segment = self._plan.bodies[place.body].segments[place.segment]
        ahead = self._plan.places[work.place : segment.last]
        return not segment.folds and any(stage.kind == Kind.FRAME for stage in ahead)

    def _onRankDied(self, event: RankDied) -> None:
        self._sharing.died(event.rank)
        self._pausedBy.discard(event.rank)
        self._pausedRanks.discard(event.rank)
        for number, loan in self._ledger.of(holderOf(event.rank)):
            self._ledger.drop(number)
            self._giveBack(list(loan.units.values()))
        self._dropDebts(lambda debt: debt.lender == event.rank)

    def _dropDebts(self, gone: Callable[[Debt], bool]) -> None:
        """Forgets borrowed work that nobody waits for any more, with all that came of it."""
        dropped: set[int] = set()
        for scope in self._scopes.owing():
            if scope.debt is not None and gone(scope.debt):
                dropped.update(self._scopes.drop(scope.number))
        if not dropped:
            return
        self._more = [entry for entry in self._more if entry.store[0] not in dropped]
        for stores in self._stores.values():
            for number in dropped:
                stores.forget(number)
        for backlog in self._backlogs.values():
            backlog.discard(dropped)
        for rank in self.debtors:
            for number, loan in self._ledger.of(holderOf(rank)):
                if all(piece.work.scope not in self._scopes for piece in loan.units.values()):
                    self._ledger.drop(number)
                    self._actions.append(Send(rank, Cancel(number)))

    # repaying other ranks ---------------------------------------------------------------------------------------------

    def _advanceDebt(self, scope: Scope, debt: Debt) -> None:
        """Repays borrowed work that is done, with the stores that it was folded into."""
        if any(scope.opens):
            return
        for stores in self._stores.values():
            for name in stores.named(scope.number):
                self._takeStore(scope, name)
        if not scope.calls:
            self._scopes.close(scope.number)
            self._repay(debt, ())

    def _settleDebts(self) -> None:
        """Repays what has been waiting for long enough, and says what is left."""
        self.deadline = None
        if self._sharing.alone:
            return
        for scope in self._scopes.owing():
            debt = scope.debt
            if debt is None or not debt.products or not self._isPlain(scope, debt):
                continue
            due = debt.since + GATHER_S
            if debt.nbytes < GATHER_BYTES and self._now < due:
                self.deadline = due if self.deadline is None else min(self.deadline, due)
                continue
            self._repay(debt, tuple(piece for piece in debt.pieces if piece not in debt.names))

    def _isPlain(self, scope: Scope, debt: Debt) -> bool:
        """Whether pieces are all that is left: no frame is open, and no store holds anything."""
        if scope.calls or sum(scope.opens) != len(debt.pieces):
            return False
        return not any(stores.named(scope.number) for stores in self._stores.values())

    def _repay(self, debt: Debt, new: tuple[Piece, ...]) -> None:
        closing = {name: piece for piece, name in debt.names.items() if piece not in debt.pieces}
        if not closing:
            return  # what has come is of units that are not done; there is no saying so without naming them
        known = {id(piece.work.payload): name for name, piece in closing.items()}
        for piece in closing.values():
            del debt.names[piece]
        kept = []
        for piece in new:
            same = known.get(id(piece.work.payload))
            payload = piece.work.payload if same is None else Same(same)
            self._lastName += 1  # of all this rank has given: several scopes may owe the same loan
            debt.names[piece] = self._lastName
            kept.append((self._lastName, piece.work._replace(scope=debt.scope, payload=payload)))
        samples = tuple((place, int(items), seconds) for place, (items, seconds) in self._samples.items())
        self._samples.clear()
        closed = ((debt.loan, tuple(closing)),)
        repaid = Repaid(0, debt.loan, closed, tuple(debt.products), kept=tuple(kept), samples=samples)
        debt.products, debt.nbytes = [], 0
        self._actions.append(Send(debt.lender, repaid))

    # lending ----------------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        full = self._undeliveredItems > RESULTS_ITEMS or self._undeliveredBytes > RESULTS_BYTES
        full = full or bool(self._pausedBy)
        for depth in range(1, LOANS_PER_LANE + 1):
            for processes in (True, False):
                while self._lendOne(processes, full, depth):
                    pass
            if depth == 1 and not self._sharing.alone:
                self._actions += self._sharing.serve(full)
        if not self._sharing.alone:
            self._askOthers(full)
            self._tellPaused(full)
        self._pull(full)
        self._askForMore(full)
        hungry = self._serveHungry(full)
        self._raiseSignal(Signal(hungry, full))

    def _available(self, processes: bool, full: bool) -> bool:
        fromSource = processes == self._sourceKind and self._source.ready and not full
        return bool(self._backlogs[processes]) or fromSource

    def _askOthers(self, full: bool) -> None:
        """Asks other ranks for work before the lanes run dry."""
        if full or any(self._available(processes, full) for processes in (True, False)):
            return
        if sum(lane.running for lane in self._lanes.values()) < LOANS_PER_LANE * self._most:
            self._actions += self._sharing.ask()

    def _tellPaused(self, full: bool) -> None:
        """Has borrowers pause while results pile up here."""
        if not full and not self._pausedRanks:
            return
        for rank in self.debtors if full else self._pausedRanks:
            if full != (rank in self._pausedRanks):
                self._actions.append(Send(rank, Pause(full)))
        self._pausedRanks = self._pausedRanks | self.debtors if full else set()

    def _lendOne(self, processes: bool, full: bool, depth: int) -> bool:
        if not self._available(processes, full):
            return False
        number = self._idlest(processes, depth)
        if number is None:
            return False
        backlog = self._backlogs[processes]
        pieces = backlog.take(self._most) if backlog else [self._takeSource()]
        self._lend(number, pieces)
        return True

    def _takeSource(self) -> Piece:
        items = 1 if self._plan.places[0].solo else self._costs.size(0, self._source.left, self._most)
        self._enterSource()
        return self._source.take(items)

    def _enterSource(self) -> None:
        self._scopes[STREAM].enter(0)

    def _idlest(self, processes: bool, depth: int) -> int | None:
        """The lane to lend to: an idle one, a new one, or one with room for one more of ``depth`` parcels."""
        own = [(lane.running, number) for number, lane in self._lanes.items() if lane.processes == processes]
        running, number = min(own, default=(LOANS_PER_LANE, 0))
        if running == 0:
            return number
        if len(own) < self._most:
            return self._startLane(processes)
        return number if running < depth else None

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
        if full or not self._source.wantsPull or self._source.waiting > self._most + self._sharing.lanesWaiting:
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
            idling = idle or len(own) < self._most or self._sharing.wanted
            if not busy or self._available(processes, full) or not idling:
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


def _lastOf(closed: tuple[tuple[int, tuple[int, ...]], ...]) -> tuple[int, int]:
    """The loan and name of the unit that was closed last."""
    number, names = closed[-1]
    return number, names[-1]


_FILERS: dict[type, Any] = {
    Work: Rank._fileWork,
    Output: Rank._fileOutput,
    Fold: Rank._fileFold,
    Skip: Rank._fileNotice,
    Fail: Rank._fileNotice,
}

_LISTENERS: dict[type, Any] = {
    Ask: Rank._heardAsk,
    Refuse: Rank._heardRefuse,
    Lend: Rank._heardLend,
    Repaid: Rank._heardRepaid,
    Pause: Rank._heardPause,
    Cancel: Rank._heardCancel,
    Halt: Rank._heardHalt,
}

_HANDLERS: dict[type, Any] = {
    SourceGave: Rank._onSource,
    Repaid: Rank._onRepaid,
    Returned: Rank._onReturned,
    LaneDied: Rank._onLaneDied,
    Answered: Rank._onAnswered,
    KeeperDied: Rank._onKeeperDied,
    ResultsTaken: Rank._onResultsTaken,
    Nothing: Rank._onNothing,
    Heard: Rank._onHeard,
    RankDied: Rank._onRankDied,
}
