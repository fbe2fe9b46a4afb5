"""A lane: takes parcels from its link, runs them through the evaluator and repays them.

When it repays:

- at the end of a parcel, all of it at once; but if stores that were folded into are dear to pickle beside the work they
  cover, they stay here over several parcels, which remain lent until they are repaid (``Repaid.computed``);
- at the end of a slice (40 ms) of a parcel that goes on, what has come of it so far, keeping the rest;
- as soon as others have nothing to do (``wanted``): the rest is handed over, if it is worth a journey;
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
from ..errors import PlanError
from ..evaluate.context import enter
from ..evaluate.entries import PendingMultiple, PendingValues, ScopeMark
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import StageFailed, failure_of, ours
from ..evaluate.loading import GULP, Loader
from ..evaluate.outboxes import Outbox
from ..evaluate.packing import Packing
from ..evaluate.products import Products
from ..memory.words import ENDING, NOTE_LOAN, NOTE_PLACE, NOTE_UNIT, PAUSED, REPORTS, WANTED
from ..stream.plan import Kind
from ..values import bytes_of
from .stopwatch import Stopwatch

__all__ = ["Lane"]

SLICE_S = 4e-2
WORTH_S = 1e-3
REPORT_S = 0.5
REPORT_SHARE = 50
LOOK_SHARE = 10
"""How many times as long as it takes to look at all that is left, which may be much, is worked before the next look."""
"""Reporting unasked may take one part in so many."""
DRAW_S = 20e-3
DRAW_ITEMS = 8
DRAW_BYTES = 32 << 20
LOOSEN_MOST = 1 << 16
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
        self._plan = evaluator.plan
        self._loader = Loader(evaluator, source, note)
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
        self._packing = packing
        self._products = Products(evaluator, packing, drop)
        self._kept = 0
        self._reports = flags[REPORTS]
        self._pause_s = REPORT_S if saved else inf
        self._report_at = inf
        self._look_at = 0.0
        self._worked = 0.0
        self._slice_start = 0.0
        self._origin: Any = None
        self._origin_work: WorkBatch | None = None

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
        self._loan, self._closing, self._kept = lend.loan, [], len(lend.units)
        self._note[NOTE_LOAN] = lend.loan
        self._slice_start = self._evaluator.now = perf_counter()
        self._report_at = self._slice_start + self._pause_s
        self._watch.start()
        self._waiting.extend(lend.units)
        while self._waiting:
            number, work = self._waiting.popleft()
            self._unit(number, work, lend.one_by_one)
            if self._waiting and self._evaluator.now >= self._report_at:
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
        started = self._evaluator.now
        self._note[NOTE_UNIT] = number
        self._note[NOTE_PLACE] = -1 - work.place
        self._closing.append(number)
        self._evaluator.failures.scope = work.scope
        home = self._home(work)
        if one_by_one:
            return self._carefully(home, work)
        self._origin, self._origin_work = self._loader.load(home, work), work
        self._drain()
        self._evaluator.now = now = perf_counter()
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
        evaluator, flags = self._evaluator, self._flags
        stack, step = evaluator.stack, evaluator.step
        while stack:
            step()
            if evaluator.parked:
                self._aside(self._part_with_parked)
            elif flags[WANTED] and stack:
                self._give()
            elif evaluator.now - self._slice_start > SLICE_S:
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
        is_worth = self._worth()
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
        self._origin, self._origin_work = self._loader.load(home, work), work
        evaluator = self._evaluator
        if evaluator.stack:
            evaluator.step()
        if evaluator.stack and type(evaluator.stack[-1]) is ScopeMark and not work.resume:
            evaluator.step()
        self._aside(self._hand_over)
        while evaluator.stack:
            self._file_elements(evaluator.stack[-1])  # type: ignore[arg-type]

    def _file_elements(self, rest: PendingMultiple) -> None:
        """Takes the next elements of a Multiple and repays them without running them."""
        values, more = self._evaluator.take(rest, 256)
        self._products.file(rest.context, rest.target, values)
        if not more:
            self._evaluator.stack.pop()
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

    def _repay(self, kept: tuple[tuple[int, WorkBatch], ...] = ()) -> None:
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
        contexts = [entry.context for entry in self._evaluator.stack if not isinstance(entry, ScopeMark)]
        self._homes = {context.scope: context for context in contexts if isinstance(context, Outbox)}

    # leaving in the middle --------------------------------------------------------------------------------------------

    def _worth(self) -> bool:
        """Whether what is left is worth a journey to another lane."""
        items, seconds = self._left()
        if seconds < DRAW_S and self._draw():
            items, seconds = self._left()
        return items > 1 and seconds >= WORTH_S and self._loosen()

    def _left(self) -> tuple[int, float]:
        """How many items are left, and about how long they will take."""
        evaluator = self._evaluator
        items, seconds = 0, 0.0
        for entry in evaluator.stack:
            if type(entry) is PendingValues:
                left = len(entry.values) - entry.index
                cost = evaluator.costs[entry.place]
                if entry is self._origin and entry.index:
                    cost = (evaluator.now - self._slice_start) / entry.index
                items += left
                seconds += left * (WORTH_S if cost is None else cost)
            elif type(entry) is PendingMultiple and not entry.again:
                items += 2
                seconds += WORTH_S
        return items, seconds

    def _draw(self) -> bool:
        """Takes some elements of a Multiple, so that others can be given them while it goes on here."""
        evaluator = self._evaluator
        entries = reversed(evaluator.stack)
        rest = next((entry for entry in entries if type(entry) is PendingMultiple and entry.again), None)
        if rest is None or self._plan.places[rest.target].kind == Kind.END:
            return False
        each = evaluator.costs[rest.target] or WORTH_S
        wanted = min(int(DRAW_S / each) + 1, GULP)
        if wanted * each < WORTH_S:
            return False
        end = rest.taken + wanted
        nbytes = 0
        while rest.taken < end and nbytes < DRAW_BYTES and evaluator.pull(rest, min(DRAW_ITEMS, end - rest.taken)):
            drawn = evaluator.stack[-1]
            nbytes += sum(map(bytes_of, drawn.values)) if type(drawn) is PendingValues else 0
        return True

    def _loosen(self) -> bool:
        """Takes all that is left of Multiples that only this lane has; False: there is too much of it."""
        evaluator = self._evaluator
        for rest in [entry for entry in evaluator.stack if type(entry) is PendingMultiple and not entry.again]:
            if rest.bound:
                return False
            most = rest.taken + LOOSEN_MOST
            while rest.taken < most and evaluator.pull(rest, GULP):
                pass
            rest.bound = rest in evaluator.stack
            if rest.bound:
                return False
        return True

    def _part_with_parked(self) -> None:
        """Hands over values whose next stage is not run here; a frame they belong to goes with them."""
        evaluator = self._evaluator
        if evaluator.marks and self._loosen():
            self._hand_over()
            return
        if evaluator.marks:
            name = self._plan.places[evaluator.parked[0].place].name
            error = PlanError(f"a frame recurred a Multiple of more than {LOOSEN_MOST} elements, which is too long for "
                              f"stage {name!r}: it has a time limit, or runs in threads")  # fmt: skip
            raise StageFailed(name, "<an element of the Multiple>", 1, error, evaluator.parked[0].place)
        parked, evaluator.parked = evaluator.parked, []
        for run in parked:
            self._products.file(run.context, run.place, run.values[run.index :])

    def _hand_over(self) -> None:
        """Repays the unit under way with everything that is left of it."""
        kept = self._surrender()
        self._repay(kept=kept)

    def _surrender(self) -> tuple[tuple[int, WorkBatch], ...]:
        """Turns the whole stack into products, but for what is left of Multiples, which stays and is returned."""
        evaluator = self._evaluator
        names: dict[int, int] = {}
        stay: list[Any] = []
        for entry in [*evaluator.stack, *evaluator.parked]:
            if type(entry) is ScopeMark:
                names[id(entry.scope)] = self._products.open_frame(entry.scope, names)
            elif type(entry) is PendingValues:
                values = entry.values[entry.index :]
                self._products.file(entry.context, entry.place, values, names, base=self._base_of(entry))
            else:
                stay.append(entry)
        evaluator.stack[:] = stay
        evaluator.parked, evaluator.marks, self._origin = [], 0, None
        return tuple(self._keep(self._products.work_of(rest)) for rest in reversed(stay))

    def _base_of(self, run: Any) -> int | None:
        work = self._origin_work
        if run is not self._origin or work is None or work.base is None:
            return None
        return int(work.base + work.skip + run.index)

    def _keep(self, work: WorkBatch) -> tuple[int, WorkBatch]:
        self._kept += 1
        return self._kept, work

    def _report(self) -> None:
        """At the end of a slice: repays what has come so far and goes on with the rest."""
        self._slice_start = self._evaluator.now
        if self._is_report_due and self._hand_home():
            return
        if self._drop:
            for home in self._homes.values():
                if self._plan.places[home.end].body == 0:
                    self._products.drop(home)
        evaluator = self._evaluator
        if evaluator.marks or not evaluator.stack or not self._has_products():
            return
        if any(type(entry) is PendingMultiple and not entry.again for entry in evaluator.stack):
            return
        if any(home.stores for home in self._homes.values()):
            return
        self._repay(kept=tuple(self._keep_entry(entry) for entry in reversed(evaluator.stack)))
        while self._flags[PAUSED]:
            message = self._link.receive()
            if message is None:
                raise SystemExit
            if type(message) is Resume:
                break
            self._ahead.append(message)

    @property
    def _is_report_due(self) -> bool:
        return self._reports != self._flags[REPORTS] or self._evaluator.now >= self._report_at

    def _hand_home(self) -> bool:
        """For a checkpoint: all that is left goes to the rank, open frames too; False: there is too much of it."""
        began = perf_counter()
        self._reports = self._flags[REPORTS]
        found = self._loosen()
        if found:
            self._hand_over()
        now = perf_counter()
        self._report_at = now + max(self._pause_s, REPORT_SHARE * (now - began))
        return found

    def _keep_entry(self, entry: Any) -> tuple[int, WorkBatch]:
        if type(entry) is PendingMultiple:
            return self._keep(self._products.work_of(entry))
        scope, left = entry.context.scope, len(entry.values) - entry.index
        work = self._origin_work
        if entry is self._origin and work is not None:
            skip = work.skip + entry.index
            return self._keep(work._replace(count=left, payload=None, skip=skip))
        payload = self._products.pack(entry.place, entry.values[entry.index :], "output")
        return self._keep(WorkBatch(scope, entry.place, left, payload))
