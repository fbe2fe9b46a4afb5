"""What a lane owes, and how it repays it.

A parcel is a loan of units. Whatever comes of a unit counts when the unit is *closed*, and not before; closing units
and filing what came of them is one message (``Repaid``), so that a lane may die at any moment: either the rank has the
unit still, or all that came of it. Three rules follow, which every repayment keeps.

- Products are never sent without closing all that they came from. Outputs of many units lie mixed in one home
  (``Outbox``), so all units that have been worked on are closed at once.
- What is not done of a unit that is closed must be in the same message: as products that wait at the rank, or as *kept*
  units, which the lane goes on with under new names. The lane may keep only what the rank can describe without it:
  values that the rank has the payload of, or that travel along; what is left of a Multiple, as the value that gave it.
- The unit that the lane is in is noted on the board before the message goes. If the lane dies in between, the rank
  knows no unit of that name, and suspects nobody; the other way round it would suspect one that is done.

A frame that is handed over while user code is at one of its values is a scope of the rank from then on, whose number
the lane is not told. It has a stand-in for it, and says with each repayment which unit of its own is in that scope.
"""

from __future__ import annotations

from collections import deque

from ..engine.messages import HOME, Lend, Product, Repaid, WorkBatch
from ..evaluate.evaluator import Evaluator
from ..evaluate.outboxes import Outbox
from ..evaluate.products import Products
from ..memory.words import NOTE_PLACE, NOTE_UNIT, Words
from .links import Link
from .surplus import Kept

__all__ = ["Repayments"]

AWAIT_BYTES = 2 << 20
"""Where more than this is handed over, a message to and fro does not count."""


class Repayments:
    """Knows which units have been worked on, and holds what came of them.

    Args:
        link: to the rank.
        evaluator: that runs the values.
        products: collects what is repaid.
        note: where the unit under work is written down.
    """

    def __init__(self, link: Link, evaluator: Evaluator, products: Products, note: Words) -> None:
        self._number = evaluator.workplace.worker
        self._link = link
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._products = products
        self._note = note
        self._loan = 0
        self._waiting: deque[tuple[int, WorkBatch]] = deque()
        self._homes: dict[int, Outbox] = {}
        self._closing: list[int] = []
        self._retained: list[tuple[int, tuple[int, ...]]] = []
        self._samples: dict[int, list[float]] = {}
        self._steps: list[tuple[int, int, float]] = []
        self._stand_ins: dict[int, int] = {}
        self._last_stand_in = HOME

    def begin_parcel(self, lend: Lend) -> None:
        """All units from now on belong to this loan."""
        self._loan, self._closing = lend.loan, []
        self._waiting.extend(lend.units)

    @property
    def are_waiting(self) -> bool:
        """Whether there are units that have not been begun."""
        return bool(self._waiting)

    def begin_unit(self) -> WorkBatch | None:
        """The next unit, which is worked on from now on."""
        if not self._waiting:
            return None
        name, work = self._waiting.popleft()
        self._note[NOTE_UNIT] = name
        self._note[NOTE_PLACE] = -1 - work.place
        self._closing.append(name)
        return work

    def home_of(self, work: WorkBatch) -> Outbox:
        """Where what comes of a unit is collected."""
        home = self._homes.get(work.scope)
        if home is None:
            end = self._plan.bodies[self._plan.places[work.place].body].end
            home = self._homes[work.scope] = Outbox(work.scope, end)
        return home

    def sample(self, place: int, items: int, seconds: float) -> None:
        """So many items took so long from this place on."""
        if items:
            sample = self._samples.setdefault(place, [0, 0.0])
            sample[0] += items
            sample[1] += seconds

    def notice(self, place: int, seconds: float) -> None:
        """An item takes so long: the rank is to see that by itself, and not in a mean with those before."""
        self._steps.append((place, 1, seconds))

    # what there is ----------------------------------------------------------------------------------------------------

    @property
    def has_products(self) -> bool:
        """Whether there is something that others wait for, but for stores."""
        outputs = any(home.outputs for home in self._homes.values())
        return outputs or bool(self._products) or bool(self._evaluator.failures.skipped)

    @property
    def has_stores(self) -> bool:
        """Whether values have been folded into stores."""
        return any(home.stores for home in self._homes.values())

    @property
    def may_retain(self) -> bool:
        """Whether what there is may stay here when the parcel ends."""
        return self.has_stores and not self.has_products and not self._stand_ins

    @property
    def is_bare(self) -> bool:
        """Whether there is nothing but the unit under way, of which nothing has come yet."""
        anything = self.has_products or self.has_stores or self._waiting or self._retained
        return not anything and len(self._closing) == 1

    def forget_unwanted(self) -> None:
        """Forgets results that nobody wants."""
        for home in self._homes.values():
            if self._products.is_unwanted(home.end):
                self._products.drop(home)

    # repaying ---------------------------------------------------------------------------------------------------------

    def repay(self, kept: Kept = (), is_paused: bool = False) -> bool:
        """Repays everything that has been closed, with all that came of it; the first of what is kept comes next.

        Returns:
            Whether the lane has to wait for ``Resume`` now: if it is paused, or that was much.
        """
        for home in self._homes.values():
            self._products.collect(home)
        awaits = is_paused or self._products.nbytes > min(AWAIT_BYTES, self._evaluator.gathered.limit // 2)
        self.send(kept, awaits=awaits)
        return awaits

    def collect(self) -> None:
        """Turns what the homes hold into products. If that cannot be done, what is in that home stays there."""
        for home in self._homes.values():
            with self._products.undone_on_error():
                self._products.collect(home)

    def send(self, kept: Kept, stand_in: int | None = None, awaits: bool = False) -> None:
        """Sends all products, with nothing in the homes any more.

        Args:
            kept: what stays here; the first comes next.
            stand_in: for the scope of that, which is opened with this.
            awaits: the lane waits until it is told to go on.
        """
        closed = self._retained
        if self._closing:
            closed.append((self._loan, tuple(self._closing)))
        stand_ins = tuple(self._stand_ins.items())
        self._stand_ins = {work.scope: name for name, work in kept if work.scope in self._stand_ins}
        if stand_in is not None:
            self._stand_ins[stand_in] = kept[0][0]
        self._homes = {home.scope: home for home in self._evaluator.contexts() if isinstance(home, Outbox)}
        self._retained, self._closing = [], [name for name, _ in kept]
        if kept:
            self._note[NOTE_UNIT] = kept[0][0]
        self._link.send(Repaid(self._number, self._loan, tuple(closed), self._products.take(), (), (), kept,
                               self._take_samples(), stand_ins, awaits))  # fmt: skip
        self._evaluator.gathered.clear()

    def retain(self) -> None:
        """Says that all has been done, and keeps what came of it."""
        names = tuple(self._closing)
        self._retained.append((self._loan, names))
        self._closing = []
        self._link.send(Repaid(self._number, self._loan, (), computed=names, samples=self._take_samples()))

    def give_back(self) -> None:
        """Gives back the units that have not been begun."""
        if self._waiting:
            names = tuple(name for name, _ in self._waiting)
            self._waiting.clear()
            self._link.send(Repaid(self._number, self._loan, (), returned=names))

    def shorten(self, kept: Kept, rest: tuple[Product, ...]) -> None:
        """Gives back the end of the unit under way, and nothing else: all that has come of its begin stays here."""
        closed = ((self._loan, (self._closing.pop(),)),)
        for name, _ in kept:
            self._closing.append(name)
            self._note[NOTE_UNIT] = name
        self._link.send(Repaid(self._number, self._loan, closed, rest, kept=kept))

    def new_stand_in(self) -> int:
        """For the scope of a frame that is handed over while user code is at one of its values."""
        self._last_stand_in -= 1
        return self._last_stand_in

    def _take_samples(self) -> tuple[tuple[int, int, float], ...]:
        means = [(place, int(items), seconds) for place, (items, seconds) in self._samples.items()]
        samples = (*means, *self._steps)
        self._samples, self._steps = {}, []
        return samples
