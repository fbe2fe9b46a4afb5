"""A stack machine: the work under way, how much of it is done at a step, and what is left of long Multiples."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from time import perf_counter
from typing import Any

from ..stream.plan import Kind, Place, Plan
from . import calls
from .calls import Lazy
from .ending import Ending
from .entries import PendingMultiple, PendingValues, ScopeMark, elements_of
from .failures import Failures, ItemSkipped
from .outboxes import FrameScope, ScopeContext

__all__ = ["Stack"]

BATCH_S = 5e-4
BATCH_MOST = 4096


class Stack:
    """The state of an evaluator, and what all its steps use.

    Args:
        plan: the stream.
        note: where the place under work is written down, for whoever looks when this process has died.
        seed: of ``rng()``; None: not reproducible.

    Attributes:
        stack: what is to be done; the last entry is the next.
        marks: how many of the entries are marks.
        parked: values whose stage is not run here.
        costs: seconds that a value takes at each place, where that is known.
        now: when the last step ended.
        generator: of ``rng()``, once the call under way has asked for it.
        cpus, all_cpus: how many lanes this rank has, and all ranks together.
        ending: the end of the run, where this process may go on after it.
    """

    def __init__(self, plan: Plan, note: Any, seed: int | None) -> None:
        self.plan = plan
        self.places = plan.places
        self.seed = seed
        self.stack: list[PendingValues | PendingMultiple | ScopeMark] = []
        self.marks = 0
        self.parked: list[PendingValues] = []
        self.now = perf_counter()
        self.costs: list[float | None] = [None] * len(plan.places)
        self.failures = Failures(note)
        self.generator: Any = None
        self.cpus = 1
        self.all_cpus = 1
        self.ending: Ending | None = None
        self._note = note
        self._batches = [1] * len(plan.places)

    def push(self, context: ScopeContext, place: int, values: Sequence[Any], base: int | None = None) -> None:
        """Puts values at a place on top of the stack."""
        self.stack.append(PendingValues(context, place, values, base))

    def _batch(self, run: PendingValues) -> Sequence[Any]:
        """The next values of an entry; the entry leaves the stack with the last of them."""
        size, values, index = self._batches[run.place], run.values, run.index
        if len(values) - index <= size:
            self.stack.pop()
            return values[index:] if index else values
        run.index = index + size
        return values[index : run.index]

    def _measure(self, place: int, started: float, count: int) -> None:
        """Takes the time of a batch and adapts the next one's size."""
        self.now = now = perf_counter()
        took = now - started
        if took < BATCH_S / 2:
            if count >= self._batches[place] < BATCH_MOST:
                self._batches[place] *= 2
        elif took > 2 * BATCH_S:
            self._batches[place] = max(1, int(BATCH_S * count / took))
        cost, before = took / max(count, 1), self.costs[place]
        self.costs[place] = cost if before is None else before + 0.3 * (cost - before)

    def _resemble(self, switch: Place) -> None:
        """Has a switch, which costs nothing itself, look like the places behind it, as far as they are known."""
        known = [goal for goal in switch.routes.values() if self.costs[goal] is not None]
        self._batches[switch.number] = min((self._batches[goal] for goal in known), default=1)
        self.costs[switch.number] = max((self.costs[goal] or 0.0 for goal in known), default=None)

    # Multiples --------------------------------------------------------------------------------------------------------

    def spread(self, context: ScopeContext, place: Place, item: Any, work: Any, attempts: int = 1) -> None:
        """Puts the Multiple on the stack that a job has given for an item, with so many calls."""

        def remake() -> Any:
            return calls.works(self.retry_job(place, item))

        rest = PendingMultiple(
            context, place.number, place.next, item, work, again=True, remake=remake, attempts=attempts
        )
        rest.key = calls.key_of(item)
        self.hold(rest)

    def hold(self, rest: PendingMultiple) -> None:
        """Puts a Multiple on the stack that the last call has given."""
        self.stack.append(rest)

    def go(self, context: ScopeContext, origin: int, target: int, values: list[Any], item: Any = None,
           again: bool = False) -> None:  # fmt: skip
        """Puts values on the stack, some of which may be lazy."""
        plain = [value for value in values if type(value) is not Lazy]
        if len(plain) < len(values):
            for lazy in values:
                if type(lazy) is Lazy:
                    rest = PendingMultiple(context, origin, target, item, lazy.work, again, lazy.remake)
                    rest.key = lazy.key
                    self.hold(rest)
        if plain:
            self.stack.append(PendingValues(context, target, plain))

    def pull(self, rest: PendingMultiple, count: int) -> bool:
        """Puts the next ``count`` elements of a Multiple on the stack; False: there are no more."""
        values, more = self.take(rest, count)
        if not more:
            self.stack.remove(rest)
        if values:
            self.stack.append(PendingValues(rest.context, rest.target, values))
        return more

    def take(self, rest: PendingMultiple, count: int) -> tuple[list[Any], bool]:
        """What goes on of the next ``count`` elements of a Multiple, and whether there may be more."""
        try:
            raw = self.next(rest, count)
        except BaseException as error:
            again = self._take_again(rest, count, error)
            if again is None:
                return [], False
            raw = again
        values = self.children(rest, raw, rest.taken)
        rest.taken += len(raw)
        return values, len(raw) == count

    def children(self, rest: PendingMultiple, values: list[Any], first: int) -> list[Any]:
        """What goes on of the elements of a Multiple from number ``first`` on."""
        return [value for value in values if value is not None]

    def next(self, rest: PendingMultiple, count: int) -> list[Any]:
        """The next elements of a Multiple as they are: here its code runs, if it is a generator."""
        return list(islice(rest.iterator, count))

    def _take_again(self, rest: PendingMultiple, count: int, error: BaseException) -> list[Any] | None:
        """The next elements after some that raised, from a Multiple that is made again; None: it is given up."""
        place, item = self.places[rest.place], rest.item

        def retry() -> list[Any]:
            rest.attempts += 1
            self._remake(rest)
            return self.next(rest, count)

        try:
            raw: list[Any] = self.failures.again(place, item.first if type(item) is FrameScope else item, error,
                                                 retry if rest.remake else None, attempts=rest.attempts)  # fmt: skip
            return raw
        except ItemSkipped as skipped:
            self.failures.record(skipped)
            return None

    def _remake(self, rest: PendingMultiple) -> None:
        """Starts a Multiple again, and passes over the elements that have gone on."""
        rest.iterator = elements_of(self.made_again(rest))
        left = rest.taken
        while left and (passed := len(self.next(rest, min(left, BATCH_MOST)))):
            left -= passed

    def made_again(self, rest: PendingMultiple) -> Any:
        """The elements of a Multiple from the first on, by another call."""
        assert rest.remake is not None
        return rest.remake()

    def retry_job(self, place: Place, item: Any) -> Any:
        """What a job or the function of a map gives for an item."""
        return place.function(item) if place.kind == Kind.MAP else calls.apply(place.function, item)
