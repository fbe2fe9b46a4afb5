"""The oracle: a plan, run by one plain interpreter."""

from __future__ import annotations

from ..stream.plan import Kind, Place, Plan
from .functions import Store, fold_emit, fold_take, frame_begin, frame_emit, frame_take, goal_of, job_outputs

__all__ = ["loop", "serial"]


def serial(plan: Plan, body: int, values: list[int]) -> list[int]:
    """What leaves a body that these values enter, in no particular order."""
    for segment in plan.bodies[body].segments:
        if not segment.folds:
            return [out for value in values for out in through(plan, segment.first, segment.last, value)]
        store, entered = Store(), bool(values)
        while values:
            for out in through(plan, segment.first, segment.last, values.pop()):
                store, again = fold_take(store, out)
                values += again
        values = [fold_emit(plan.places[segment.last], store)] if entered or body == 0 else []
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
            waiting.append((goal_of(place, value), value))
        elif place.kind == Kind.FRAME:
            waiting.append((place.next, frame_emit(place, loop(plan, place, Store(first=value)))))
        else:
            waiting += [(place.next, out) for out in job_outputs(place, value)]
    return outputs


def loop(plan: Plan, place: Place, store: Store) -> Store:
    """A frame to its end."""
    end = plan.places[plan.bodies[place.inner].end]
    store, values = frame_begin(place, store)
    while values:
        recurred: list[int] = []
        for value in serial(plan, place.inner, values):
            store, again = frame_take(plan, end, store, value)
            recurred += again
        values = recurred
        if not values:
            store, values = frame_begin(place, store)
    return store
