"""The user code of simulated streams: functions of their input and of nothing else."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..stream.plan import Place, Plan

__all__ = [
    "Store", "Values", "fold_emit", "fold_take", "frame_begin", "frame_emit", "frame_take", "goal_of", "job_outputs",
    "merged", "mix",
]  # fmt: skip


def mix(*values: Any) -> int:
    """A number that depends on all the others."""
    state = 0x9E3779B9
    for value in values:
        state = (state ^ int(value)) * 0x85EBCA6B & 0xFFFFFFFFFFFF
        state ^= state >> 17
    return state & 0xFFFFFFFF


class Values:
    """A payload of the simulation.

    Args:
        values: that it holds.
        each: so many bytes does each of them pass for.
    """

    def __init__(self, values: list[Any], each: int = 64) -> None:
        self.values = values
        self.nbytes = each * len(values)


class Store(NamedTuple):
    """A store of a frame or of a reduction; it is never changed, so copies are free."""

    first: int = 0
    rounds: int = 0
    total: int = 0
    count: int = 0  # type: ignore[assignment]
    seen: frozenset[int] = frozenset()


def job_outputs(place: Place, value: int) -> list[int]:
    return [mix(place.number, value, 7, i) for i in range(mix(place.number, value, 1) % 3)]


def goal_of(place: Place, value: int) -> int:
    """Where a switch passes a value on to."""
    goals = list(place.routes.values())
    return goals[mix(place.number, value, 9) % len(goals)]


def frame_begin(place: Place, store: Store) -> tuple[Store, list[int]]:
    """What a frame recurs at the begin of a round; nothing: it ends."""
    if store.rounds >= mix(place.number, store.first, 3) % 3:
        return store, []
    store = store._replace(rounds=store.rounds + 1)
    return store, [mix(place.number, store.first, store.rounds, i) for i in range(1 + mix(store.first, 5) % 4)]


def frame_take(plan: Plan, end: Place, store: Store, value: int) -> tuple[Store, list[int]]:
    """``frameEnd``: recurs some values once, unless the frame holds a reduction, which would make that a matter of
    timing."""
    store = store._replace(total=(store.total + value) & 0xFFFFFFFF, count=store.count + 1)
    if value % 11 or value in store.seen or len(plan.bodies[end.body].segments) > 1:
        return store, []
    return store._replace(seen=store.seen | {value}), [mix(end.number, value)]


def frame_emit(place: Place, store: Store) -> int:
    return mix(place.number, store.first, store.total, store.count)


def fold_take(store: Store, value: int) -> tuple[Store, list[int]]:
    store = store._replace(total=(store.total + value) & 0xFFFFFFFF, count=store.count + 1)
    return store, [mix(value, 13)] if value % 13 == 0 else []


def merged(store: Store, other: Store) -> Store:
    return store._replace(total=(store.total + other.total) & 0xFFFFFFFF, count=store.count + other.count)


def fold_emit(place: Place, store: Store) -> int:
    return mix(place.number, store.total, store.count)
