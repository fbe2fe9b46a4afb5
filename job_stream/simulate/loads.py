"""What the ranks of a simulation of scale have to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from ..stream.plan import Builder, Kind, Plan, Stage
from .functions import mix

__all__ = ["LOADS", "Load", "branches"]


class Load(NamedTuple):
    """A plan, its initial work, and what a value at a place leads to.

    ``spread``: the values that one value becomes at the next place; None: an item that takes time.
    """

    plan: Plan
    source: int
    spread: Callable[[int, int], list[int] | None]


def flat(items: int) -> Load:
    builder = Builder()
    builder.add(Stage(Kind.JOB, "item", print))
    builder.add(Stage(Kind.FOLD, "sum", print))
    return Load(builder.plan(), items, lambda place, value: None)


def tree(items: int) -> Load:
    """One value that becomes branches, which become between none and a few thousand items each."""
    builder = Builder()
    for name in ("root", "branch", "item"):
        builder.add(Stage(Kind.JOB, name, print))
    builder.add(Stage(Kind.FOLD, "sum", print))
    sizes = branches(items)

    def spread(place: int, value: int) -> list[int] | None:
        return [sizes, [1] * value, None][place]

    return Load(builder.plan(), 1, spread)


def branches(items: int) -> list[int]:
    """Sizes with a long tail: most branches are small, a few are a hundred times the mean."""
    sizes: list[int] = []
    left = items
    while left > 0:
        chance = (mix(len(sizes), 17) % 100_000 + 1) / 100_000
        size = min(left, int(20 * chance**-0.8), items // 64 + 1)
        sizes.append(size)
        left -= size
    return sizes


LOADS: dict[str, Callable[[int], Load]] = {"flat": flat, "tree": tree}
