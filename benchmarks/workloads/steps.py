"""Many items that cost nothing, and then few that take long: whether the workers share those, or one is left with them.

The long ones wait without using a processor, so four workers need no four cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import ModuleType

from benchmarks.budgets import Budget
from benchmarks.contenders import ours, theirs
from benchmarks.harness import Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer
from benchmarks.tasks import nap_if_long

WORKERS = 4
# How many items cost nothing, how many take long, and how long; the quick size has shorter ones.
STEPS = {
    "40 x 0.25 s": (100_000, 40, 0.25, Budget(at_least=1.15, aim=1.05)),
    "400 x 20 ms": (20_000, 400, 0.02, Budget(at_least=1.1, aim=1.05)),
}


def build_steps(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    settings = replace(settings, workers=WORKERS)
    for name, (cheap, count, long_s, budget) in STEPS.items():
        durations = [0.0] * settings.amount(cheap, cheap) + [settings.duration_s(long_s, long_s / 5)] * count
        case = Case(
            workload="cost_step",
            metric=cost("time / ideal", "x"),
            budgets=(budget,),
            pace=Pace.SLOW,
            name=name,
            notes=(
                f"cost_step: {STEPS['40 x 0.25 s'][0]:,} or {STEPS['400 x 20 ms'][0]:,} items that cost nothing, and "
                f"then the long ones; {WORKERS} workers, ideal is what the long ones take if all share them.",
            ),
        )
        ideal_s = sum(durations) / WORKERS
        yield Race(case, [step_ours(durations, ideal_s), *(step_peer(peer, settings, durations) for peer in peers)])


def step_ours(durations: list[float], ideal_s: float) -> Contender:
    def run(library: ModuleType, items: list[float]) -> object:
        work = library.Work(items, cpus=WORKERS)
        work.job(nap_if_long)
        return work.run()

    return ours(ideal_s, lambda library: run(library, durations), lambda library: run(library, [0.0]))


def step_peer(peer_class: type[Peer], settings: Settings, durations: list[float]) -> Contender:
    """A slow tool has fewer items that cost nothing, and all the long ones."""
    long = [duration for duration in durations if duration]
    own = [0.0] * settings.peer_items(peer_class, len(durations) - len(long)) + long
    return theirs(peer_class, settings, sum(own) / WORKERS, lambda peer: peer.map(nap_if_long, own))


COST_STEP = Workload(
    "cost_step", "cheap items and then long ones: time until all are done against the ideal", build_steps
)
