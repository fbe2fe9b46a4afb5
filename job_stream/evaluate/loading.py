"""How lent work gets onto an evaluator's stack: plain values, frames and reductions that go on, rests of Multiples."""

from __future__ import annotations

from typing import Any

from ..engine.messages import COUNTED, WorkBatch
from ..errors import PlanError
from ..ground.texts import shorten
from ..memory.words import NOTE_PLACE, Words
from ..stream.plan import Kind, Place
from .calls import bare, works
from .entries import PendingMultiple, PendingValues
from .evaluator import Evaluator
from .failures import ItemSkipped, cannot_be_read, given_up
from .outboxes import FrameScope, Outbox
from .packing import unpack_any
from .products import Emitted
from .seams import InitialItems

__all__ = ["GULP", "Loader"]

GULP = 4096
"""How many elements of a Multiple are taken at once where nothing is done with them yet."""


class Loader:
    """Puts work on the stack.

    Args:
        evaluator: whose stack it is.
        source: the initial work, for spans of it.
        note: where the place under work is written down, once the values have been unpickled.
    """

    def __init__(self, evaluator: Evaluator, source: InitialItems, note: Words) -> None:
        self._evaluator = evaluator
        self._plan = evaluator.plan
        self._source = source
        self._note = note

    def load(self, home: Outbox, work: WorkBatch) -> PendingValues | None:
        """Puts a unit on the stack; returns the entry where that is all of it, as plain values."""
        self._evaluator.multiples.needs = work.needs
        if work.failed:
            self._load_failure(home, work)
            return None
        if work.resume or work.inner:
            self._resume(home, work)
            return None
        origin = PendingValues(home, work.place, self.values(work), (work.base or 0) + work.skip)
        self._note[NOTE_PLACE] = work.place
        self._evaluator.stack.add(origin)
        return origin

    def _load_failure(self, home: Outbox, work: WorkBatch) -> None:
        """What goes on in the place of an item that has ended workers, or cannot be done anywhere; nothing is called
        for it any more."""
        evaluator, place = self._evaluator, self._plan.places[work.place]
        (item,) = self.values(work)
        self._note[NOTE_PLACE] = work.place
        cause, attempts, _ = work.failed  # type: ignore[misc]
        if not attempts:
            self._load_refused(home, place, item, cause)
            return
        failure = given_up(place, bare(item), *work.failed)
        if place.kind == Kind.MAP:
            home.deliver((work.base or 0) + work.skip, [failure])
        else:
            evaluator.pass_failure(home, place, item, failure)

    def _load_refused(self, home: Outbox, place: Place, item: Any, cause: str) -> None:
        """An item for which there is no host fails as if its stage had said so."""
        error = PlanError(f"{place.name} cannot be called with {shorten(bare(item), 80)}: {cause}")
        try:
            failure = self._evaluator.failures.again(place, item, error, None)
        except ItemSkipped as skipped:
            self._evaluator.failures.record(skipped)
        else:
            self._evaluator.pass_failure(home, place, item, failure)

    def values(self, work: WorkBatch) -> Any:
        """The values of a unit."""
        payload = work.payload
        values = self._source.values_of(payload) if type(payload) in COUNTED else self._unpack(work)
        if work.skip or work.count < len(values):  # what was cut off it is done, or done by others
            values = values[work.skip : work.skip + work.count]
        return self._evaluator.keys.source(values, None if work.base is None else work.base + work.skip)

    def _unpack(self, work: WorkBatch) -> Any:
        try:
            return unpack_any(work.payload)
        except Exception as error:
            raise cannot_be_read(self._plan.places[work.place], work.count, error) from error

    def _resume(self, home: Outbox, work: WorkBatch) -> None:
        """Goes on with what others have begun; user code may be called for it."""
        try:
            if not work.resume:
                self._load_rest(home, work)
            elif self._plan.places[work.place].kind == Kind.FOLD:
                self._load_emission(home, work)
            else:
                self._load_frame(home, work)
        except ItemSkipped as skipped:
            self._evaluator.failures.record(skipped)

    def _load_rest(self, home: Outbox, work: WorkBatch) -> None:
        """Has the Multiple of an item made again, and passes over what has gone on already."""
        evaluator, place = self._evaluator, self._plan.places[work.place]
        (item,) = self.values(work)
        self._note[NOTE_PLACE] = work.place
        evaluator.failures.attempts = 1
        answer = evaluator.failures.call(place, "", item, evaluator.keys.answer, place, item)
        evaluator.multiples.spread(home, place, item, works(answer), evaluator.failures.attempts)
        self._pass_over(work)

    def _load_frame(self, home: Outbox, work: WorkBatch) -> None:
        """Goes on with a frame, or has the Multiple made again that it has emitted."""
        frame = FrameScope.restored(home, self._plan.places[work.place], self._unpack(work))
        self._note[NOTE_PLACE] = work.place
        if work.inner:
            self._evaluator.rounds.emit_again(frame)
            self._pass_over(work)
        else:
            self._evaluator.stack.enter(frame)

    def _load_emission(self, home: Outbox, work: WorkBatch) -> None:
        """Emits the store of a reduction that has drained."""
        evaluator, place = self._evaluator, self._plan.places[work.place]
        context = Outbox(home.scope, home.end, work.key)
        if work.payload is not None:
            (context.stores[place.number],) = self._unpack(work)
        self._note[NOTE_PLACE] = work.place
        values = evaluator.rounds.emit_fold(context, place, home)
        evaluator.multiples.go(home, work.place, place.next, values, Emitted(work), again=True)
        self._pass_over(work)

    def _pass_over(self, work: WorkBatch) -> None:
        """Drops the elements that have gone on already, where a Multiple was made again."""
        stack = self._evaluator.stack
        rest = stack.top
        while type(rest) is PendingMultiple and rest.taken < work.inner:
            _, more = self._evaluator.multiples.take(rest, min(GULP, work.inner - rest.taken))
            if not more:
                stack.remove(rest)
                return
