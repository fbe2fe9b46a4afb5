"""A lane: takes parcels from its link, runs them through the evaluator and repays them.

A parcel is a loan of units. Whatever comes of a unit counts when the unit is *closed*, and not before; closing units
and filing what came of them is one message (``Repaid``), so that a lane may die at any moment: either the rank has the
unit still, or all that came of it. Three rules follow, which everything below keeps.

- Products are never sent without closing all that they came from. Outputs of many units lie mixed in one home
  (``Outbox``), so all units that have been worked on are closed at once.
- What is not done of a unit that is closed must be in the same message: as products that wait at the rank, or as *kept*
  units, which the lane goes on with under new names. The lane may keep only what the rank can describe without it:
  values that the rank has the payload of, or that travel along; what is left of a Multiple, as the value that gave it.
- The unit that the lane is in is noted on the board before the message goes. If the lane dies in between, the rank
  knows no unit of that name, and suspects nobody; the other way round it would suspect one that is done.

When it repays:

- at the end of a parcel, all of it at once; but if stores that were folded into are dear to pickle beside the work they
  cover, they stay here over several parcels, which remain lent until they are repaid (``Repaid.computed``). A store
  covers all that was folded into it, so nothing of that can be closed without it;
- at the end of a slice (40 ms) of a parcel that goes on, what has come of it so far, keeping the rest. Handing the rest
  over each time would turn a fine-grained frame into a chain of messages;
- as soon as others have nothing to do (``WANTED``): the rest is handed over, if it is worth a journey. It is looked at
  between two steps; how much is left is the more work to find out the more there is, so the next look waits;
- at the end of a slice after the state of the stream was asked for: the rest is handed over. Where checkpoints are
  written, also when it has not been for half a second: whoever asks does not wait for long items, and lanes that are
  asked within one would be too late each time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from time import perf_counter
from typing import Any

from ..engine.messages import Flush, Lend, Repaid, Resume, WorkBatch
from ..evaluate.context import enter
from ..evaluate.entries import PendingMultiple, ScopeMark
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import StageFailed, failure_of, ours
from ..evaluate.loading import Loader
from ..evaluate.outboxes import Outbox
from ..evaluate.packing import Packing
from ..evaluate.products import Products
from ..memory.words import ENDING, NOTE_LOAN, NOTE_PLACE, NOTE_UNIT, PAUSED, REPORTS, WANTED
from .stopwatch import Stopwatch
from .surplus import Kept, Surplus

__all__ = ["Lane"]

SLICE_S = 4e-2
REPORT_S = 0.5
REPORT_SHARE = 50
"""Reporting unasked may take one part in so many."""
LOOK_SHARE = 10
"""How many times as long as it takes to look at all that is left, which may be much, is worked before the next look."""
FOLD_SHARE = 150


class Lane:
    """Runs parcels until the link ends.

    Args:
        number: of the lane.
        link: to the rank.
        evaluator: runs the values.
        packing: of values into payloads.
        source: the initial work, for spans of it.
        note: numbers that others see, also when this lane has died; see ``Board.note``.
        flags: two numbers that the rank sets: wanted and paused.
        drop: results are of no interest to anybody.
        saved: what is under way is to be found in checkpoints.
    """

    def __init__(self, number: int, link: Any, evaluator: Evaluator, packing: Packing, source: Any, note: Any,
                 flags: Any, drop: bool, saved: bool = False) -> None:  # fmt: skip
        self._number = number
        self._link = link
        self._evaluator = evaluator
        self._stack = evaluator.stack
        self._pace = evaluator.pace
        self._plan = evaluator.plan
        self._loader = Loader(evaluator, source, note)
        self._products = Products(evaluator, packing, drop)
        self._surplus = Surplus(evaluator, self._products)
        self._packing = packing
        self._note = note
        self._watch = Stopwatch(note)
        self._flags = flags
        self._drop = drop
        self._homes: dict[int, Outbox] = {}
        self._ahead: deque[Any] = deque()
        self._waiting: deque[tuple[int, WorkBatch]] = deque()
        self._loan = 0
        self._closing: list[int] = []
        self._retained: list[tuple[int, tuple[int, ...]]] = []
        self._samples: dict[int, list[float]] = {}
        self._reports = flags[REPORTS]
        self._pause_s = REPORT_S if saved else inf
        self._report_at = inf
        self._look_at = 0.0
        self._worked = 0.0
        self._slice_start = 0.0

    def run(self) -> None:
        """Works until the rank closes the link."""
        enter(self._evaluator)
        while True:
            message = self._ahead.popleft() if self._ahead else self._link.receive()
            if message is None:
                return
            try:
                self._take(message)
            except StageFailed as failed:
                self._link.send(failure_of(failed, self._packing.pack_error))
            except Exception as error:
                self._link.send(failure_of(ours("a lane", error), self._packing.pack_error))

    def _take(self, message: Any) -> None:
        kind = type(message)
        if kind is Lend:
            self._parcel(message)
        elif kind is Flush:
            self._repay()

    # one parcel -------------------------------------------------------------------------------------------------------

    def _parcel(self, lend: Lend) -> None:
        self._loan, self._closing = lend.loan, []
        self._surplus.begin_parcel(len(lend.units))
        self._note[NOTE_LOAN] = lend.loan
        self._slice_start = self._pace.now = perf_counter()
        self._report_at = self._slice_start + self._pause_s
        self._watch.start()
        self._waiting.extend(lend.units)
        while self._waiting:
            number, work = self._waiting.popleft()
            self._unit(number, work, lend.one_by_one)
            if self._waiting and self._pace.now >= self._report_at:
                self._aside(self._hand_home)
        self._watch.stop()
        self._end_parcel()
        self._note[NOTE_LOAN] = 0

    def _return_waiting(self) -> None:
        """Gives back the units that have not been begun."""
        names = tuple(number for number, _ in self._waiting)
        self._waiting.clear()
        self._link.send(Repaid(self._number, self._loan, (), returned=names))

    def _unit(self, number: int, work: WorkBatch, one_by_one: bool) -> None:
        """Runs one unit to its end, or as far as it is to be run here."""
        started = self._pace.now
        self._note[NOTE_UNIT] = number
        self._note[NOTE_PLACE] = -1 - work.place
        self._closing.append(number)
        self._evaluator.failures.scope = work.scope
        home = self._home(work)
        if one_by_one:
            return self._carefully(home, work)
        self._surplus.begin(self._loader.load(home, work), work)
        self._drain()
        self._pace.now = now = perf_counter()
        self._worked += now - started
        sample = self._samples.setdefault(work.place, [0, 0.0])
        sample[0] += work.count
        sample[1] += now - started

    def _home(self, work: WorkBatch) -> Outbox:
        home = self._homes.get(work.scope)
        if home is None:
            end = self._plan.bodies[self._plan.places[work.place].body].end
            home = self._homes[work.scope] = Outbox(work.scope, end)
        return home

    def _drain(self) -> None:
        stack, step, pace, flags = self._stack, self._evaluator.step, self._pace, self._flags
        while stack.entries:
            step()
            if stack.parked:
                self._aside(self._part_with_parked)
            elif flags[WANTED] and stack.entries:
                self._give()
            elif pace.now - self._slice_start > SLICE_S:
                self._aside(self._report)

    def _give(self) -> None:
        """Others have nothing to do: hands over what is worth a journey."""
        if self._flags[ENDING]:
            raise SystemExit
        if self._waiting:
            self._return_waiting()
        began = perf_counter()
        if began < self._look_at:
            return
        is_worth = self._surplus.is_worth_a_journey(self._slice_start)
        now = perf_counter()
        self._look_at = now + LOOK_SHARE * (now - began)
        if is_worth:
            self._aside(self._hand_over)
        elif self._is_report_due:  # it may never be worth one: in a frame one thing follows the other
            self._aside(self._hand_home)

    def _aside(self, action: Callable[[], Any]) -> None:
        """Does what is not the user's work."""
        self._watch.stop()
        action()
        self._watch.start()

    def _carefully(self, home: Outbox, work: WorkBatch) -> None:
        """Makes one call and repays everything that came of it; several items are only told apart."""
        if work.count > 1:
            base = None if work.base is None else work.base + work.skip
            self._products.file(home, work.place, self._loader.values(work), parts=8, base=base, one_by_one=True)
            return
        stack = self._stack
        self._surplus.begin(self._loader.load(home, work), work)
        if stack:
            self._evaluator.step()
        if type(stack.top) is ScopeMark and not work.resume:
            self._evaluator.step()
        self._aside(self._hand_over)
        while stack:
            self._file_elements(stack.top)  # type: ignore[arg-type]

    def _file_elements(self, rest: PendingMultiple) -> None:
        """Takes the next elements of a Multiple and repays them without running them."""
        values, more = self._evaluator.multiples.take(rest, 256)
        self._products.file(rest.context, rest.target, values)
        if not more:
            self._stack.pop()
        self._aside(self._hand_over)

    # leaving a parcel -------------------------------------------------------------------------------------------------

    def _end_parcel(self) -> None:
        stores = sum(len(home.stores) for home in self._homes.values())
        if stores and not self._has_products() and self._worked < FOLD_SHARE * self._products.fold_cost:
            self._retain()
        else:
            self._repay()

    def _has_products(self) -> bool:
        outputs = any(home.outputs for home in self._homes.values())
        return outputs or bool(self._products) or bool(self._evaluator.failures.skipped)

    def _retain(self) -> None:
        names = tuple(self._closing)
        self._retained.append((self._loan, names))
        self._closing = []
        self._link.send(Repaid(self._number, self._loan, (), computed=names, samples=self._take_samples()))

    def _repay(self, kept: Kept = ()) -> None:
        """Repays everything that has been closed, with all that came of it."""
        self._collect()
        closed = list(self._retained)
        if self._closing:
            closed.append((self._loan, tuple(self._closing)))
        products = self._products.take()
        self._retained, self._closing, self._worked = [], [name for name, _ in kept], 0.0
        if kept:
            self._note[NOTE_UNIT] = kept[0][0]  # of what is on top of the stack
        self._link.send(Repaid(self._number, self._loan, tuple(closed), products, (), (), kept,
                               self._take_samples()))  # fmt: skip

    def _take_samples(self) -> tuple[tuple[int, int, float], ...]:
        samples, self._samples = self._samples, {}
        return tuple((place, int(items), seconds) for place, (items, seconds) in samples.items())

    def _collect(self) -> None:
        """Turns what the homes hold into products."""
        for home in self._homes.values():
            self._products.collect(home)
        self._homes = {home.scope: home for home in self._stack.contexts() if isinstance(home, Outbox)}

    # leaving in the middle --------------------------------------------------------------------------------------------

    def _part_with_parked(self) -> None:
        """Hands over values whose next stage is not run here; a frame they belong to goes with them."""
        if not self._surplus.part_with_parked():
            self._hand_over()

    def _hand_over(self) -> None:
        """Repays the unit under way with everything that is left of it."""
        self._repay(self._surplus.surrender())

    def _report(self) -> None:
        """At the end of a slice: repays what has come so far and goes on with the rest."""
        self._slice_start = self._pace.now
        if self._is_report_due and self._hand_home():
            return
        if self._drop:
            self._forget_results()
        if self._has_products() and self._may_stay():
            self._repay(self._surplus.stay())
            self._await_room()

    def _forget_results(self) -> None:
        for home in self._homes.values():
            if self._plan.places[home.end].body == 0:
                self._products.drop(home)

    def _may_stay(self) -> bool:
        """Whether all that is left can be kept, and what has come of the rest can leave without it."""
        stack = self._stack
        if stack.marks or not stack or stack.private():
            return False
        return not any(home.stores for home in self._homes.values())

    def _await_room(self) -> None:
        """Waits while results pile up."""
        while self._flags[PAUSED]:
            message = self._link.receive()
            if message is None:
                raise SystemExit
            if type(message) is Resume:
                break
            self._ahead.append(message)

    @property
    def _is_report_due(self) -> bool:
        return self._reports != self._flags[REPORTS] or self._pace.now >= self._report_at

    def _hand_home(self) -> bool:
        """For a checkpoint: all that is left goes to the rank, open frames too; False: there is too much of it."""
        began = perf_counter()
        self._reports = self._flags[REPORTS]
        found = self._surplus.loosen()
        if found:
            self._hand_over()
        now = perf_counter()
        self._report_at = now + max(self._pause_s, REPORT_SHARE * (now - began))
        return found
