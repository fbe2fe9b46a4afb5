"""A lane: takes parcels from its link, runs them through the evaluator and repays them (``repayments`` says how).

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
  asked within one would be too late each time;
- in the midst of a step that takes long, for the same reasons (``interruption``);
- as soon as much has gathered (``weights``), which may be after each value.

Why memory is bounded: what lies here never weighs more than one batch above ``Gathered.limit``, and batches weigh less
than that. A lane that hands over much, or sees that results pile up, waits until the rank has counted what came and
tells it to go on (``Resume``). The rank does so only while less waits for the main thread than may. So all that was
handed over and not taken is what may wait at the rank, and one handover of each lane. Nobody waits for a lane that
waits: what it keeps is on record, and results are taken whatever lanes do. It waits after a value and never for room
for one, so a value that is larger than all there is passes, too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from threading import get_ident
from time import perf_counter
from typing import Any

from ..engine.messages import Flush, LaneMessage, Lend, Resume, WorkBatch
from ..evaluate.context import enter
from ..evaluate.entries import PendingMultiple, ScopeMark
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import StageFailed, failure_of, ours
from ..evaluate.loading import Loader
from ..evaluate.outboxes import Outbox
from ..evaluate.packing import Packing
from ..evaluate.products import Products
from ..evaluate.seams import InitialItems, Wearing
from ..evaluate.weights import gather_limit
from ..memory.words import ENDING, MEMORY, NOTE_LOAN, OWN_CPUS, PAUSED, WANTED, Words
from .interruption import Interruption
from .links import Link
from .repayments import Repayments
from .reporting import Reporting
from .stopwatch import Stopwatch
from .surplus import Kept, Surplus

__all__ = ["Lane"]

SLICE_S = 4e-2
LOOK_SHARE = 10
"""How many times as long as it takes to look at all that is left, which may be much, is worked before the next look."""
FOLD_SHARE = 150


class Lane:
    """Runs parcels until the link ends.

    Args:
        link: to the rank.
        evaluator: runs the values.
        packing: of values into payloads.
        source: the initial work, for spans of it.
        note: numbers that others see, also when this lane has died; see ``Board.note``.
        flags: numbers that the rank sets.
        unwanted: the places where whatever comes is of no interest to anybody.
        report_s: after so long what is under way is reported unasked, too.
    """

    def __init__(self, link: Link, evaluator: Evaluator, packing: Packing, source: InitialItems, note: Words,
                 flags: Words, unwanted: frozenset[int], report_s: float = inf) -> None:  # fmt: skip
        self._link = link
        self._evaluator = evaluator
        self._stack = evaluator.stack
        self._pace = evaluator.pace
        self._gathered = evaluator.gathered
        self._loader = Loader(evaluator, source, note)
        self._products = Products(evaluator, packing, unwanted)
        self._surplus = Surplus(evaluator, packing, self._products)
        self._repayments = Repayments(link, evaluator, self._products, note)
        self._packing = packing
        self._note = note
        self._gathered.limit = gather_limit(flags[MEMORY], flags[OWN_CPUS])
        self._watch = Stopwatch(note)
        self._flags = flags
        self._ahead: deque[LaneMessage] = deque()
        self._reporting = Reporting(flags, report_s)
        self._interruption = Interruption(flags, evaluator, self._surplus, self._repayments, self._reporting,
                                          partial(_tell, link, packing))  # fmt: skip
        first = evaluator.plan.places[0].function
        self._wearing = first if isinstance(first, Wearing) else None
        self._look_at = 0.0
        self._worked = 0.0
        self._slice_start = 0.0

    def run(self) -> None:
        """Works until the rank closes the link, or the worker is worn out."""
        enter(self._evaluator)
        try:
            while (message := self._ahead.popleft() if self._ahead else self._link.receive()) is not None:
                try:
                    self._take(message)
                except StageFailed as failed:
                    self._link.send(failure_of(failed, self._packing.pack_error))
                except Exception as error:
                    _tell(self._link, self._packing, error)
                if self._wearing is not None and self._wearing.is_worn_out:
                    return
        finally:
            self._interruption.close()

    def _take(self, message: LaneMessage) -> None:
        if type(message) is Lend:
            self._parcel(message)
        elif type(message) is Flush:
            self._repay()

    # one parcel -------------------------------------------------------------------------------------------------------

    def _parcel(self, lend: Lend) -> None:
        self._note[NOTE_LOAN] = lend.loan
        self._slice_start = self._pace.now = now = perf_counter()
        self._surplus.begin_parcel(len(lend.units))
        self._reporting.begin_parcel(now)
        self._repayments.begin_parcel(lend)
        if not lend.one_by_one:
            self._interruption.begin_parcel(get_ident())
        self._watch.start()
        try:
            while (work := self._repayments.begin_unit()) is not None:
                self._unit(work, lend.one_by_one)
                if self._repayments.are_waiting and self._reporting.is_due(self._pace.now):
                    self._aside(self._hand_home)
                elif self._repayments.are_waiting and self._gathered.is_full:
                    self._aside(self._repay)
        finally:
            self._interruption.end_parcel()
        self._watch.stop()
        self._end_parcel()
        self._note[NOTE_LOAN] = 0

    def _unit(self, work: WorkBatch, one_by_one: bool) -> None:
        """Runs one unit to its end, or as far as it is to be run here."""
        started = self._pace.now
        self._evaluator.failures.scope = work.scope
        home = self._repayments.home_of(work)
        self._surplus.begin(None, work)
        if one_by_one:
            return self._carefully(home, work)
        self._surplus.begin(self._loader.load(home, work), work)
        self._drain()
        self._pace.now = now = perf_counter()
        self._worked += now - started
        self._repayments.sample(work.place, work.count - self._surplus.gone, now - started)

    def _drain(self) -> None:
        stack, step, pace, flags = self._stack, self._evaluator.step, self._pace, self._flags
        entries, gathered = stack.entries, self._gathered
        while entries:
            step()
            if stack.parked:
                self._aside(self._part_with_parked)
            if gathered.is_full:
                self._relieve()
            elif flags[WANTED] and entries:
                self._give()
            elif pace.now - self._slice_start > SLICE_S:
                self._aside(self._report)

    def _relieve(self) -> None:
        """Much has gathered: repays it, if it can leave without the rest."""
        if self._flags[ENDING]:
            raise SystemExit
        if self._may_stay():
            self._aside(self._report)

    def _give(self) -> None:
        """Others have nothing to do: hands over what is worth a journey."""
        if self._flags[ENDING]:
            raise SystemExit
        self._repayments.give_back()
        began = perf_counter()
        if began < self._look_at:
            return
        is_worth = self._surplus.is_worth_a_journey(self._slice_start)
        now = perf_counter()
        self._look_at = now + LOOK_SHARE * (now - began)
        if is_worth:
            self._aside(self._hand_over)
        elif self._reporting.is_due(now):  # it may never be worth one: in a frame one thing follows the other
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
            self._products.file_suspects(home, work.place, self._loader.values(work), base)
            return
        stack = self._stack
        self._surplus.begin(self._loader.load(home, work), work)
        if stack:
            self._evaluator.step()
        if type(stack.top) is ScopeMark and not work.resume:
            self._evaluator.step()
        self._surplus.loosen_whole(inf)
        self._aside(self._hand_over)
        while stack:
            self._file_elements(stack.top)  # type: ignore[arg-type]

    def _file_elements(self, rest: PendingMultiple) -> None:
        """Takes the next elements of a Multiple and repays them without running them."""
        values, more = self._evaluator.multiples.take(rest, min(256, self._pace.most[rest.target]))
        self._products.file(rest.context, rest.target, values)
        if not more:
            self._stack.pop()
        self._aside(self._hand_over)

    # leaving a parcel -------------------------------------------------------------------------------------------------

    def _end_parcel(self) -> None:
        if self._repayments.may_retain and self._worked < FOLD_SHARE * self._products.fold_cost:
            self._repayments.retain()
        else:
            self._repay()

    def _repay(self, kept: Kept = ()) -> None:
        self._worked = 0.0
        if self._repayments.repay(kept, bool(self._flags[PAUSED])):
            self._await_resume()

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
        if self._reporting.is_due(self._pace.now) and self._hand_home():
            return
        self._repayments.forget_unwanted()
        if self._repayments.has_products and self._may_stay():
            self._repay(self._surplus.stay())
        elif not self._repayments.has_products:
            self._gathered.clear()

    def _may_stay(self) -> bool:
        """Whether all that is left can be kept, and what has come of the rest can leave without it."""
        stack = self._stack
        return bool(stack) and not (stack.marks or stack.private() or self._repayments.has_stores)

    def _await_resume(self) -> None:
        """Waits until the rank has counted what was handed over, and while results pile up."""
        while type(message := self._link.receive()) is not Resume:
            if message is None:
                raise SystemExit
            self._ahead.append(message)

    def _hand_home(self) -> bool:
        """For a checkpoint: all that is left goes to the rank, open frames too; False: there is too much of it."""
        with self._reporting.under_way():
            found = self._surplus.loosen()
            if found:
                self._hand_over()
        return found


def _tell(link: Link, packing: Packing, error: Exception) -> None:
    """Ends the run with a mistake of ours."""
    link.send(failure_of(ours("a lane", error), packing.pack_error))
