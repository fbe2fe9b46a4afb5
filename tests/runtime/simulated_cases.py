"""What a seed stands for: a run of the simulated shell, and what goes wrong in it."""

from __future__ import annotations

import random
from typing import NamedTuple

from job_stream.runtime.shutdown import Closing

SLOW_S = 5.0


class Boom(Exception):
    """What goes wrong on purpose."""


class Case(NamedTuple):
    """What a seed stands for.

    ``trouble``: what ends the run. ``step``: of the end, that raises. ``is_measured``: lanes tell how long items took,
    so that more are lent and asked for at once. ``dawdles``: the handler waits until the last item is through the
    lanes. ``rank``: of two; -1: there is only one. ``other``: what the other one does.
    """

    items: int
    cpus: int
    processes: bool
    source: str
    handler_s: float
    job_s: float
    deaths: float
    journal: str
    interval_s: float
    trouble: str
    step: str
    at: float
    signals: tuple[float, ...]
    is_measured: bool
    dawdles: bool
    rank: int
    other: str


def case_of(seed: int) -> Case:
    chance = random.Random(seed)
    journal = chance.choice(["", "", "call", "keep"])
    rank = -1 if journal else chance.choice([-1, -1, 0, 1])
    troubles = ["", "", "", "job", "source", "handler", "interrupt", "no thread", *(["sigterm"] * 3 if journal else [])]
    handler_s = chance.choice([0.0, 1e-4, 0.02, SLOW_S if rank < 0 else 0.1])
    is_slow = handler_s == SLOW_S
    at = chance.choice([0.0, 0.001, 0.01, 0.05, 10.0 if is_slow else 0.1]) * chance.random()
    return Case(
        items=chance.choice([0, 1, 2, 5]),
        cpus=chance.choice([1, 2]),
        processes=chance.random() < 0.5,
        source="list" if rank == 1 else chance.choice(["list", "pulled", "waiting", "bound"]),
        handler_s=handler_s,
        job_s=chance.choice([0.0, 1e-3, 0.01]),
        deaths=chance.choice([0.0, 0.0, 0.2]),
        journal=journal,
        interval_s=1e6 if is_slow else chance.choice([1e-3, 0.02, 1e6, 1e6]),
        trouble=chance.choice(troubles),
        step=chance.choice(Closing._fields[:-1]) if chance.random() < 0.1 else "",
        at=at,
        is_measured=chance.random() < 0.5,
        dawdles=False,
        rank=rank,
        other=chance.choice(["helps", "dies", "fails"]) if rank >= 0 else "",
        signals=(at, at + chance.choice([0.0, 1e-3, 0.05]) * chance.random()),
    )
