"""What the engine needs for a parcel, by the number of lanes that a rank has; see ``benchmarks.lanes``."""

from collections.abc import Iterator, Sequence

from benchmarks.budgets import Budget
from benchmarks.harness import SUBJECT, Case, Contender, Race, Settings, Workload
from benchmarks.lanes import cpu_s_per_parcel
from benchmarks.metrics import cost
from benchmarks.peers import Peer

LANES = (16, 256, 768)
METRIC = cost("engine's CPU time per parcel", "us", 1e-6)
BUDGET = Budget(at_least=40.0, aim=30.0)
NOTE = (
    "lanes: the real engine with so many lanes in simulated time, items of 1 ms; what lies between it and real lanes "
    "comes on top, and does not depend on how many there are."
)


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    for lanes in LANES:
        case = Case("lanes", METRIC, (BUDGET,), name=f"{lanes} lanes", notes=(NOTE,))
        yield Race(case, [Contender(SUBJECT, 1.0, lambda lanes=lanes: cpu_s_per_parcel(lanes))])  # type: ignore[misc]


MANY_LANES = Workload("lanes", "what the engine needs for a parcel with 16, 256 and 768 lanes", build)
