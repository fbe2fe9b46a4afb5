"""What is left of long Multiples: their elements are taken piece by piece, and made again where they have to be."""

from __future__ import annotations

from itertools import islice
from typing import Any

from ..stream.plan import Place
from . import calls
from .calls import Lazy
from .entries import PendingMultiple, PendingValues, elements_of
from .failures import Failures, ItemSkipped
from .keys import Unkeyed
from .outboxes import FrameScope, ScopeContext
from .pace import BATCH_MOST
from .stack import Stack
from .turn import Turn

__all__ = ["Multiples"]


class Multiples:
    """Puts Multiples on a stack, and takes their elements.

    Args:
        places: of the plan.
        stack: where they lie.
        failures: what happens when their code raises.
        keys: of their elements.
        turn: is left while their code runs.

    Attributes:
        needs: the host and cores that the unit under way needs, where it was allotted.
    """

    def __init__(self, places: tuple[Place, ...], stack: Stack, failures: Failures, keys: Unkeyed,
                 turn: Turn) -> None:  # fmt: skip
        self._places = places
        self._stack = stack
        self._add = stack.add
        self._failures = failures
        self._keys = keys
        self._turn = turn
        self.needs: tuple[str, int] | None = None

    def spread(self, context: ScopeContext, place: Place, item: Any, work: Any, attempts: int = 1) -> None:
        """Puts the Multiple on the stack that a job has given for an item, with so many calls."""

        def remake() -> Any:
            return calls.works(self._keys.answer(place, item))

        key = calls.key_of(item)
        rest = PendingMultiple(context, place.number, place.next, item, work, True, remake, attempts, key)
        if place.allotted:
            rest.needs = self.needs
        self._hold(rest)

    def _hold(self, rest: PendingMultiple) -> None:
        """Puts a Multiple on the stack that the last call has given."""
        self._keys.suspend(rest)
        self._stack.add(rest)

    def go(self, context: ScopeContext, origin: int, target: int, values: list[Any], item: Any = None,
           again: bool = False) -> None:  # fmt: skip
        """Puts values on the stack, some of which may be lazy."""
        for value in values:
            if type(value) is Lazy:
                values = self._without_lazy(context, origin, target, values, item, again)
                break
        if values:
            self._add(PendingValues(context, target, values))

    def _without_lazy(self, context: ScopeContext, origin: int, target: int, values: list[Any], item: Any,
                      again: bool) -> list[Any]:  # fmt: skip
        """Puts the lazy ones on the stack; gives the others, which are to lie above them."""
        for lazy in values:
            if type(lazy) is Lazy:
                self._hold(PendingMultiple(context, origin, target, item, lazy.work, again, lazy.remake, key=lazy.key))
        return [value for value in values if type(value) is not Lazy]

    def pull(self, rest: PendingMultiple, count: int) -> bool:
        """Puts the next ``count`` elements of a Multiple on the stack; False: there are no more."""
        values, more = self.take(rest, count)
        if not more:
            self._stack.remove(rest)
        if values:
            self._stack.push(rest.context, rest.target, values)
        return more

    def take(self, rest: PendingMultiple, count: int) -> tuple[list[Any], bool]:
        """What goes on of the next ``count`` elements of a Multiple, and whether there may be more."""
        try:
            raw = self._aside(rest, count)
        except BaseException as error:
            again = self._take_again(rest, count, error)
            if again is None:
                return [], False
            raw = again
        values = self._keys.children(rest, raw, rest.taken)
        rest.taken += len(raw)
        return values, len(raw) == count

    def _aside(self, rest: PendingMultiple, count: int) -> list[Any]:
        turn = self._turn
        turn.is_away = True
        try:
            return self._next(rest, count)
        finally:
            turn.is_away = False
            if turn.is_claimed:
                turn.wait()

    def _next(self, rest: PendingMultiple, count: int) -> list[Any]:
        """The next elements of a Multiple as they are: here its code runs, if it is a generator."""
        self._keys.resume(rest)
        try:
            return list(islice(rest.iterator, count))
        finally:
            self._keys.suspend(rest)

    def _take_again(self, rest: PendingMultiple, count: int, error: BaseException) -> list[Any] | None:
        """The next elements after some that raised, from a Multiple that is made again; None: it is given up."""
        place, item = self._places[rest.place], rest.item

        def retry() -> list[Any]:
            rest.attempts += 1
            self._remake(rest)
            return self._next(rest, count)

        try:
            raw: Any = self._failures.again(place, item.first if type(item) is FrameScope else item, error,
                                            retry if rest.remake else None, attempts=rest.attempts)  # fmt: skip
            if type(raw) is list:
                return raw
            rest.iterator = iter(())  # a failure goes on in the place of its last elements
            return [raw]
        except ItemSkipped as skipped:
            self._failures.record(skipped)
            return None

    def _remake(self, rest: PendingMultiple) -> None:
        """Starts a Multiple again, and passes over the elements that have gone on."""
        assert rest.remake is not None
        try:
            again = rest.remake()
        finally:
            self._keys.suspend(rest)
        rest.iterator = elements_of(again)
        left = rest.taken
        while left and (passed := len(self._next(rest, min(left, BATCH_MOST)))):
            left -= passed
