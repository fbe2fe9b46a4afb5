"""The state of a rank that all its parts share: every piece, where it is, and how many are open in each scope.

Whatever opens or closes a piece goes through here, so that the counts are right by construction: what is opened is
counted before what it came from is closed, and every scope in which something closed is *touched*, which is to say
that somebody will look whether it goes on.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heappop, heappush

from ..stream.plan import Kind, Plan
from .allotments import Allotments, cores_of, needs_of
from .backlog import Backlog, Part, Source, cut, is_counted
from .ledger import Ledger, Loan, Piece, holder_of
from .messages import Action, CallKind, Payload, WorkBatch
from .parcels import Costs
from .scopes import STREAM, Scope, Scopes
from .stores import Stores

__all__ = ["RankState"]


class Touched:
    """Numbers of scopes, each once; the largest comes first, since what that leads to belongs to the others."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self._numbers: set[int] = set()
        self._heap: list[int] = []  # negative; may hold numbers that have been discarded
        self.update(numbers)

    def add(self, number: int) -> None:
        if number not in self._numbers:
            self._numbers.add(number)
            heappush(self._heap, -number)

    def update(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self.add(number)

    def discard(self, number: int) -> None:
        self._numbers.discard(number)

    def pop(self) -> int:
        """The largest, which is in it no longer."""
        while (number := -heappop(self._heap)) not in self._numbers:
            pass
        self._numbers.discard(number)
        return number

    def __bool__(self) -> bool:
        return bool(self._numbers)


class RankState:
    """What a rank knows of its work.

    Args:
        plan: the stream.
        parts: of the initial work; nothing but for rank 0.
        lanes: how many lanes of each kind there may be.
        number: of the rank.
        allotments: what waits for a host that has what it needs; None: that is none of this rank's business.

    Attributes:
        held: how many lanes more than their own what runs here stands for, since it needs several cores.
    """

    def __init__(
        self, plan: Plan, parts: tuple[Part, ...], lanes: int, number: int, allotments: Allotments | None = None
    ) -> None:
        self.plan = plan
        self.number = number
        self.lanes = lanes
        self.kinds = tuple(sorted({place.processes for place in plan.places}, reverse=True))
        self.costs = Costs(len(plan.places))
        self.backlogs = {True: Backlog(self.costs), False: Backlog(self.costs)}
        self.pinned = {True: Backlog(self.costs), False: Backlog(self.costs)}
        self.stores = {True: Stores(plan, True), False: Stores(plan, False)}
        self.source = Source(parts)
        self.scopes = Scopes(plan, primary=number == 0)
        self.ledger = Ledger()
        self.touched = Touched([STREAM] if number == 0 else [])
        self.actions: list[Action] = []
        self.now = 0.0
        self.allotments = allotments
        self.held = 0
        self._holding: set[Piece] = set()
        self.source_open = not self.source.exhausted
        if self.source_open:
            self.scopes[STREAM].enter(0)

    # opening ----------------------------------------------------------------------------------------------------------

    def open(self, work: WorkBatch) -> None:
        """Counts work as open in its scope; a store on its way out does not make its reduction active again."""
        scope, place = self.scopes[work.scope], self.plan.places[work.place]
        if work.resume and place.kind == Kind.FOLD:
            scope.opens[place.segment] += 1
        else:
            scope.enter(place.segment)

    def push(self, work: WorkBatch) -> None:
        """Work that is counted already waits from now on."""
        piece = Piece(work)
        self.register(piece)
        self.give_back([piece])

    def register(self, piece: Piece) -> None:
        """Notes which pieces a scope of borrowed ones consists of."""
        scope = self.scopes.get(piece.work.scope)
        if scope is not None and scope.debt is not None:
            scope.debt.pieces[piece] = None

    def give_back(self, pieces: list[Piece]) -> None:
        """Pieces wait again, or from now on, unless nobody waits for them."""
        for piece in pieces:
            if piece.work.needs:
                self._give_back_allotted(piece)
            elif piece.work.scope in self.scopes:
                self._backlog(piece.work).push(piece)

    def _give_back_allotted(self, piece: Piece) -> None:
        """The same where it needs a host: at rank 0 it waits for one, elsewhere that has been found."""
        allotments = self.allotments
        self._let_go(piece)
        if piece.work.scope not in self.scopes:
            return
        if allotments is None or piece.work.failed:
            self._backlog(piece.work).push(piece)
        elif reason := allotments.refusal(needs_of(piece)):
            self.refuse(piece, reason)
        else:
            allotments.push(piece)

    def refuse(self, piece: Piece, reason: str) -> None:
        """There is no host for a piece: whoever is lent it now has it fail."""
        if self.allotments is not None:
            self.allotments.release(piece)
        refused = piece.work._replace(one_by_one=False, failed=(reason, 0, False))
        self.open(refused)
        self.push(refused)
        self.close_piece(piece)

    def allot(self, piece: Piece) -> None:
        """A piece is to be done by this rank itself."""
        self._backlog(piece.work).push(piece)

    @property
    def pieces(self) -> list[Piece]:
        """Every piece, whether it waits or is lent."""
        allotted = [] if self.allotments is None else self.allotments.pieces
        return [piece for backlog in self.waiting for piece in backlog.pieces] + allotted + self.ledger.pieces

    @property
    def waiting(self) -> list[Backlog]:
        """All that waits: what may be lent to anybody, and what stays on this rank (``pinned``)."""
        return [*self.backlogs.values(), *self.pinned.values()]

    def _backlog(self, work: WorkBatch) -> Backlog:
        place = self.plan.places[work.place]
        stays = place.primary or (place.allotted and not work.failed)
        return (self.pinned if stays else self.backlogs)[place.processes]

    def kind(self, work: WorkBatch) -> bool:
        """Whether it is done by processes."""
        return self.plan.places[work.place].processes

    # taking -----------------------------------------------------------------------------------------------------------

    def enter_source(self) -> None:
        """A piece is about to come from the source."""
        self.scopes[STREAM].enter(0)

    def has_waiting(self, processes: bool) -> bool:
        """Whether anything waits for lanes of this kind."""
        return bool(self.pinned[processes] or self.backlogs[processes])

    def take_parcel(self, processes: bool) -> list[Piece]:
        """The pieces of the next parcel: first of those that only this rank can do."""
        backlog = self.pinned[processes] or self.backlogs[processes]
        wide = backlog.wide
        if wide is None:
            return backlog.take(self.lanes)
        work = wide.work
        size = 1 if self.plan.places[work.place].alone else self.costs.size(work.place, work.count, self.lanes)
        return [self.cut_off(wide, size) if size < work.count else backlog.pop()]

    def lasts(self, seconds: float) -> bool:
        """Whether what waits here is so much work."""
        return self.source.ready or self.seconds_waiting(seconds) >= seconds

    def seconds_waiting(self, unknown: float) -> float:
        """How much work other ranks could be lent of what waits, but for the source."""
        return sum(backlog.seconds(unknown) for backlog in self.backlogs.values())

    def seconds_for(self, processes: bool) -> float:
        """How much work waits for lanes of this kind, as far as it is known what it takes."""
        seconds = self.backlogs[processes].seconds(0.0) + self.pinned[processes].seconds(0.0)
        if processes == self.plan.places[0].processes:
            seconds += self.costs.estimate(0, self.source.at_hand)
        return seconds

    def cut_off(self, piece: Piece, count: int) -> Piece:
        """Cuts so many items off a counted piece that waits."""
        assert is_counted(piece.work)
        first, rest = cut(piece.work, count)
        backlog = self._backlog(first)
        backlog.replace(piece, remainder := Piece(rest))
        for part in (taken := Piece(first), remainder):
            self.open(part.work)
            self.register(part)
        self.close_piece(piece)
        return taken

    # closing ----------------------------------------------------------------------------------------------------------

    def hold(self, pieces: list[Piece]) -> None:
        """Pieces go to a lane here; some may need several cores."""
        for piece in pieces:
            if piece.work.needs and not piece.work.failed and piece not in self._holding:
                self._holding.add(piece)
                self.held += cores_of(piece) - 1

    def _let_go(self, piece: Piece) -> None:
        if piece in self._holding:
            self._holding.discard(piece)
            self.held -= cores_of(piece) - 1

    def keep(self, lane: int, piece: Piece) -> None:
        """A borrower goes on with what was another piece before."""
        self.register(piece)
        if piece.work.needs:
            if lane > 0:
                self.hold([piece])
            if self.allotments is not None:
                self.allotments.keep(piece, holder_of(lane) if lane < 0 else self.number)

    def compute(self, loan: int, names: tuple[int, ...]) -> None:
        """A lane has computed units of a loan, but not repaid them yet."""
        for piece in self.ledger.compute(loan, names):
            if piece.work.needs:
                self._done_with(piece)

    def _done_with(self, piece: Piece) -> None:
        """What a piece has needed is free."""
        self._let_go(piece)
        if self.allotments is not None:
            self.allotments.release(piece)

    def close_piece(self, piece: Piece) -> None:
        if piece.work.needs:
            self._done_with(piece)
        scope = self.scopes.get(piece.work.scope)
        if scope is None:
            return  # dropped, since its lender is gone
        scope.opens[self.plan.places[piece.work.place].segment] -= 1
        self.touched.add(scope.number)
        if scope.debt is not None:
            scope.debt.pieces.pop(piece)

    def close_source(self) -> None:
        """Nothing more comes from the source."""
        if self.source_open and self.source.exhausted:
            self.source_open = False
            self.scopes[STREAM].opens[0] -= 1
            self.touched.add(STREAM)

    def drop_loans(self, holder: int) -> list[tuple[int, Loan]]:
        """The loans of a borrower that is gone."""
        loans = self.ledger.of(holder)
        for number, _ in loans:
            self.ledger.drop(number)
        return loans

    # stores -----------------------------------------------------------------------------------------------------------

    def stores_at(self, place: int) -> Stores:
        return self.stores[self.plan.places[place].processes]

    def call(self, kind: CallKind, name: tuple[int, int], place: int, payload: Payload) -> None:
        """Has the keeper make a call on a store; its scope waits for the answer."""
        self.scopes[name[0]].calls += 1
        self.stores_at(place).call(kind, name, place, payload)

    def take_store(self, scope: Scope, name: tuple[int, int]) -> Payload:
        """A store leaves with its scope: its payload, in a list, where it is here; None: the keeper will give it."""
        stores = self.stores_at(name[1])
        if stores.is_live(name):
            self.call(CallKind.CHECKOUT, name, name[1], None)
            return None
        return [stores.remove(name)]

    def stores_of(self, scope: int) -> list[tuple[int, int]]:
        """The names of the stores that belong to a scope."""
        return [name for stores in self.stores.values() for name in stores.named(scope)]

    def make_calls(self) -> None:
        for stores in self.stores.values():
            self.actions += stores.take_actions()
