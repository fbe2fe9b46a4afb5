"""The oracle: a plan, run by one plain interpreter."""

from __future__ import annotations

from ..stream.plan import Kind, Place, Plan
from .functions import Store, foldEmit, foldTake, frameBegin, frameEmit, frameTake, goalOf, jobOutputs

__all__ = ["loop", "serial"]


def serial(plan: Plan, body: int, values: list[int]) -> list[int]:
    """What leaves a body that these values enter, in no particular order."""
    for segment in plan.bodies[body].segments:
        if not segment.folds:
            return [out for value in values for out in through(plan, segment.first, segment.last, value)]
        store, entered = Store(), bool(values)
        while values:
            for out in through(plan, segment.first, segment.last, values.pop()):
                store, again = foldTake(store, out)
                values += again
        values = [foldEmit(plan.places[segment.last], store)] if entered or body == 0 else []
    raise AssertionError("a body ends with a segment that does not fold")


def through(plan: Plan, first: int, last: int, value: int) -> list[int]:
    """What reaches the end of a segment of a value at its begin, whichever way it goes."""
    waiting, outputs = [(first, value)], []
    while waiting:
        number, value = waiting.pop()
        place = plan.places[number]
        if number == last:
            outputs.append(value)
        elif place.kind == Kind.SWITCH:
            waiting.append((goalOf(place, value), value))
        elif place.kind == Kind.FRAME:
            waiting.append((place.next, frameEmit(place, loop(plan, place, Store(first=value)))))
        else:
            waiting += [(place.next, out) for out in jobOutputs(place, value)]
    return outputs


def loop(plan: Plan, place: Place, store: Store) -> Store:
    """A frame to its end."""
    end = plan.places[plan.bodies[place.inner].end]
    store, values = frameBegin(place, store)
    while values:
        recurred: list[int] = []
        for value in serial(plan, place.inner, values):
            store, again = frameTake(plan, end, store, value)
            recurred += again
        values = recurred
        if not values:
            store, values = frameBegin(place, store)
    return store
