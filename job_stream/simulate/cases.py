"""What a seed stands for: a random plan, and what is to go wrong."""

from __future__ import annotations

import random
from typing import NamedTuple

from ..plan import Builder, Kind, Plan, Stage

__all__ = ["Case", "caseOf"]


class Case(NamedTuple):
    """What a seed stands for."""

    plan: Plan
    items: int
    pulled: bool
    size: int
    lanes: int
    rankDeaths: tuple[tuple[float, int], ...]
    laneDeaths: float
    slow: dict[int, float]
    counted: bool


def caseOf(seed: int) -> Case:
    chance = random.Random(seed)
    builder = Builder()
    for _ in range(chance.randint(0, 2)):
        _addStages(builder, chance, 0)
        builder.add(Stage(Kind.FOLD, "reduce", print))
    _addStages(builder, chance, 0)
    size = chance.choice([1, 2, 3, 4, 9])
    deaths = tuple((chance.random() * 0.2, rank) for rank in range(1, size) if chance.random() < 0.4)
    items, pulled, lanes = chance.choice([0, 1, 5, 40, 150]), chance.random() < 0.3, chance.choice([1, 2, 4])
    slow = {chance.randrange(size): 20.0} if chance.random() < 0.3 else {}
    return Case(builder.plan(), items, pulled, size, lanes, deaths, chance.choice([0.0, 0.0, 0.05]), slow,
                chance.random() < 0.5)  # fmt: skip


def _addStages(builder: Builder, chance: random.Random, depth: int) -> None:
    for _ in range(chance.randint(1, 2)):
        if depth < 2 and chance.random() < 0.35:
            builder.openFrame(Stage(Kind.FRAME, "frame", print))
            if chance.random() < 0.85:
                _addStages(builder, chance, depth + 1)
            if chance.random() < 0.3:
                builder.add(Stage(Kind.FOLD, "reduce", print))
                builder.add(Stage(Kind.JOB, "job", print))
            builder.closeFrame(Stage(Kind.END, "frameEnd", print))
        else:
            builder.add(Stage(Kind.JOB, "job", print))
