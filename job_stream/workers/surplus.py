"""What a lane could leave to others: how much that is, whether it is worth a journey, and how it leaves.

What is left of a unit lies on the evaluator's stack, in three forms. Values leave as they are, in groups that can be
lent one by one. A frame leaves with its store, and all above it on the stack goes along: at the rank it is a scope like
any other. What is left of a Multiple cannot leave, since only its iterator knows it. Either the rank can have it made
again (it has the value that gave it, and how many elements have gone on), and it stays here under a name of its own; or
all of its elements are taken first (``loosen``), which bounds how long it may be.
"""

from __future__ import annotations

from itertools import islice
from math import inf

from ..engine.messages import Product, WorkBatch
from ..errors import PlanError
from ..evaluate.entries import PendingMultiple, PendingValues, ScopeMark
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import StageFailed
from ..evaluate.loading import GULP
from ..evaluate.outboxes import FrameScope, Outbox
from ..evaluate.packing import Packing
from ..evaluate.products import Products
from ..evaluate.stack import Entry
from ..evaluate.weights import weigh
from ..stream.plan import Kind

__all__ = ["Kept", "Surplus"]

WORTH_S = 1e-3
"""Less work than this is not worth a journey."""
DRAW_S = 20e-3
DRAW_ITEMS = 8
DRAW_BYTES = 32 << 20
LOOSEN_MOST = 1 << 16

_PLAIN: tuple[type, ...] = (type(iter([])), type(iter(())), type(iter(range(0))), type(iter(range(1 << 70))))

Kept = tuple[tuple[int, WorkBatch], ...]
"""What stays with the lane, by the names of its new units."""


class Surplus:
    """Knows the unit under way.

    Args:
        evaluator: that runs it.
        packing: of values that others are given.
        products: takes what leaves.

    Attributes:
        gone: how many values of the unit have left before they were begun.
    """

    def __init__(self, evaluator: Evaluator, packing: Packing, products: Products) -> None:
        self.gone = 0
        self._evaluator = evaluator
        self._packing = packing
        self._stack = evaluator.stack
        self._costs = evaluator.pace.costs
        self._plan = evaluator.plan
        self._products = products
        self._origin: PendingValues | None = None
        self._work: WorkBatch | None = None
        self._start = 0
        self._last_name = 0

    def begin_parcel(self, units: int) -> None:
        """A parcel of so many units begins; what is kept of them is named by the numbers after theirs."""
        self._last_name = units

    def begin(self, origin: PendingValues | None, work: WorkBatch) -> None:
        """A unit is on the stack; ``origin`` is the entry where that is all of it, as plain values."""
        self._origin, self._work, self._start, self.gone = origin, work, 0, 0

    # how much ---------------------------------------------------------------------------------------------------------

    def is_worth_a_journey(self, since: float) -> bool:
        """Whether what is left is; ``since`` then the parcel has been worked on."""
        items, seconds = self._left(since)
        if seconds < DRAW_S and self._draw():
            items, seconds = self._left(since)
        return items > 1 and seconds >= WORTH_S and self.loosen()

    def _left(self, since: float) -> tuple[int, float]:
        """How many items are left, and about how long they will take."""
        items, seconds = 0, 0.0
        for entry in self._stack.entries:
            if type(entry) is PendingValues:
                left = len(entry.values) - entry.index
                cost = self._costs[entry.place]
                if entry is self._origin and entry.index:
                    cost = (self._evaluator.pace.now - since) / entry.index
                items += left
                seconds += left * (WORTH_S if cost is None else cost)
            elif type(entry) is PendingMultiple and not entry.again:
                items += 2
                seconds += WORTH_S
        return items, seconds

    # Multiples --------------------------------------------------------------------------------------------------------

    def _draw(self) -> bool:
        """Takes some elements of a Multiple, so that others can be given them while it goes on here."""
        rest = self._stack.newest_shared()
        if rest is None or self._plan.places[rest.target].kind == Kind.END:
            return False
        each = self._costs[rest.target] or WORTH_S
        wanted = min(int(DRAW_S / each) + 1, GULP)
        if wanted * each < WORTH_S:
            return False
        self._pull(rest, rest.taken + wanted)
        return True

    def _pull(self, rest: PendingMultiple, end: float, most_bytes: float = DRAW_BYTES) -> bool:
        """Takes elements of a Multiple up to number ``end``, or fewer where they are large; few at once at first, and
        more while they are small. False: there are no more."""
        nbytes, count = 0, DRAW_ITEMS
        while rest.taken < end and nbytes < most_bytes:
            if not self._evaluator.multiples.pull(rest, int(min(count, end - rest.taken))):
                return False
            drawn = self._stack.top
            weight = weigh(drawn.values) if type(drawn) is PendingValues else 0
            nbytes += weight
            if weight * GULP < DRAW_BYTES * count:
                count = min(2 * count, GULP)
        return True

    def loosen(self, limit: float = LOOSEN_MOST) -> bool:
        """Takes all that is left of Multiples that only this lane has; False: there is too much of it to do so for
        the sake of others."""
        for rest in self._stack.private():
            if rest.bound:
                return False
            rest.bound = self._pull(rest, rest.taken + limit)
            if rest.bound:
                return False
        return True

    def loosen_whole(self, limit: float = LOOSEN_MOST) -> bool:
        """The same where there is no other way, however large it is; False: there are more elements than that."""
        return not any(self._pull(rest, rest.taken + limit, inf) for rest in self._stack.private())

    # leaving ----------------------------------------------------------------------------------------------------------

    def part_with_parked(self) -> bool:
        """Makes products of values whose next stage is not run here. False: a frame that they belong to has to leave
        with them, and can."""
        if not self._stack.marks:
            for run in self._stack.take_parked():
                self._products.file(run.context, run.place, run.values[run.index :])
            return True
        if self.loosen_whole():
            return False
        place = self._plan.places[self._stack.parked[0].place]
        error = PlanError(f"a frame recurred a Multiple of more than {LOOSEN_MOST} elements, which is too long for "
                          f"stage {place.name!r}: it has a time limit, or runs in threads")  # fmt: skip
        raise StageFailed(place.name, "<an element of the Multiple>", 1, error, place.number)

    def is_origin(self, run: PendingValues) -> bool:
        """Whether an entry is the unit under way."""
        return run is self._origin

    def surrender(self, names: dict[int, int] | None = None) -> Kept:
        """Turns the whole stack into products, but for what is left of Multiples, which stays. Where that cannot be
        done, nothing has happened.

        Args:
            names: is told what stands for the frames that leave, by their identity.
        """
        with self._products.undone_on_error():
            return self._surrender({} if names is None else names)

    def _surrender(self, names: dict[int, int]) -> Kept:
        gone = 0
        stay: list[PendingMultiple] = []
        for entry in [*self._stack.entries, *self._stack.parked]:
            if type(entry) is ScopeMark:
                assert isinstance(entry.scope, FrameScope)
                names[id(entry.scope)] = self._products.open_frame(entry.scope, names)
            elif type(entry) is PendingValues:
                values = entry.values[entry.index :]
                self._products.file(entry.context, entry.place, values, self._base_of(entry), names)
                gone += len(values) if entry is self._origin else 0
            elif type(entry) is PendingMultiple:
                stay.append(entry)
        kept = tuple(self.named(self._products.work_of(rest)) for rest in reversed(stay))
        self._stack.clear(stay)
        self._origin = None
        self.gone += gone
        return kept

    def _base_of(self, run: PendingValues) -> int | None:
        work = self._work
        if run is not self._origin or work is None or work.base is None:
            return None
        return work.base + work.skip + run.index

    def stay(self) -> Kept:
        """Names for all that is on the stack, which stays here: there must be neither frames nor Multiples on it that
        only this lane has."""
        return tuple(self._keep(entry) for entry in reversed(self._stack.entries))

    def _keep(self, entry: Entry) -> tuple[int, WorkBatch]:
        if type(entry) is PendingMultiple:
            return self.named(self._products.work_of(entry))
        assert type(entry) is PendingValues
        left, work = len(entry.values) - entry.index, self._work
        if entry is self._origin and work is not None:
            self._start = entry.index
            return self.named(work._replace(count=left, payload=None, skip=work.skip + entry.index))
        assert isinstance(entry.context, Outbox)
        payload = self._products.pack_output(entry.place, entry.values[entry.index :])
        return self.named(WorkBatch(entry.context.scope, entry.place, left, payload))

    def named(self, work: WorkBatch) -> tuple[int, WorkBatch]:
        """A new name for work that stays here."""
        self._last_name += 1
        return self._last_name, work

    # while user code runs ---------------------------------------------------------------------------------------------

    @property
    def has_more(self) -> bool:
        """Whether there are values here that have not been begun."""
        return any(
            entry.index < len(entry.values) if type(entry) is PendingValues else _lies_there(entry)
            for entry in self._stack.entries
        )

    def goes_on(self, place: int) -> bool:
        """Whether something is to be done still with what comes of a stage."""
        return self._plan.places[self._plan.places[place].next].kind != Kind.END

    def is_unwanted(self, place: int) -> bool:
        """Whether what comes of a stage is a result that nobody wants."""
        return self._products.is_unwanted(self._plan.places[place].next)

    def take_plain(self) -> None:
        """Takes the elements of Multiples that lie there already: no code of the user's runs for them."""
        for rest in [entry for entry in self._stack.entries if type(entry) is PendingMultiple]:
            if _lies_there(rest):
                raw = list(islice(rest.iterator, LOOSEN_MOST))
                values = self._evaluator.keys.children(rest, raw, rest.taken)
                rest.taken += len(raw)
                if len(raw) < LOOSEN_MOST:
                    self._stack.remove(rest)
                if values:
                    self._stack.push(rest.context, rest.target, values)

    def under_way(self, run: PendingValues) -> WorkBatch | None:
        """The value that user code has now, as it was before that; None: nobody can tell how it was, or something is
        left that only this lane has."""
        if self._stack.private():
            return None
        index = run.index - 1
        if run is self._origin and self._work is not None:
            return self._work._replace(count=1, payload=None, skip=self._work.skip + index)
        copy = self._evaluator.under_way.copy
        if copy is None and not self._packing.may_pack(run.values[index]):
            return None
        scope = run.context.scope if isinstance(run.context, Outbox) else 0
        payload = self._products.pack_output(run.place, [run.values[index]]) if copy is None else copy
        return WorkBatch(scope, run.place, 1, payload)

    @property
    def is_in_frame(self) -> bool:
        """Whether all that is under way belongs to a frame that a value of the unit has opened. What the stack does not
        show, such as a value that is about to open one, or is being folded, does not count."""
        origin = self._origin
        if origin is None or self._plan.places[origin.place].kind != Kind.FRAME:
            return False
        above = [entry for entry in self._stack.entries if entry is not origin]
        return bool(above) and type(above[0]) is ScopeMark and _is_frame_of(above[0], origin)

    def leave_frame(self) -> tuple[int, WorkBatch]:
        """Makes products of all of the unit but the frame under way: the value that has opened it stays, as if it had
        not been begun."""
        origin, work = self._origin, self._work
        assert origin is not None
        assert work is not None
        values = origin.values[origin.index :]
        if values:
            with self._products.undone_on_error():
                self._products.file(origin.context, origin.place, values, self._base_of(origin))
            self._stack.remove(origin)
        self.gone += len(values)
        self._origin = None
        return self.named(work._replace(count=1, payload=None, skip=work.skip + origin.index - 1))

    def shorten(self) -> tuple[Kept, tuple[Product, ...]] | None:
        """Cuts what has not been begun off the unit: what stays of it, if anything of it has been begun since it was
        named last, and the products that leave; None: there is nothing that could."""
        origin, work = self._origin, self._work
        if origin is None or work is None or origin not in self._stack.entries:
            return None
        values = origin.values[origin.index :]
        with self._products.undone_on_error():
            products = self._products.of(origin.context, origin.place, values, self._base_of(origin))
        self._stack.remove(origin)
        self.gone += len(values)
        self._origin, begun = None, origin.index - self._start
        stays = work._replace(count=begun, payload=None, skip=work.skip + self._start)
        return (self.named(stays),) if begun else (), products


def _lies_there(entry: Entry) -> bool:
    """Whether it is what is left of a Multiple that no code has to run for."""
    return type(entry) is PendingMultiple and type(entry.iterator) in _PLAIN


def _is_frame_of(mark: ScopeMark, origin: PendingValues) -> bool:
    frame = mark.scope
    return isinstance(frame, FrameScope) and frame.context is origin.context and frame.place.number == origin.place
