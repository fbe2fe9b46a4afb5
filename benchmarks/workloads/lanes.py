"""What a parcel costs the script's process, by the number of lanes; see ``benchmarks.lanes`` and ``feigned``."""

from collections.abc import Iterator, Sequence
from functools import partial

from benchmarks.budgets import Budget
from benchmarks.feigned import thread_s_per_parcel
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.lanes import cpu_s_per_parcel
from benchmarks.metrics import cost
from benchmarks.peers import Peer

LANES = (16, 256, 768)
BUDGET = Budget(at_least=50.0, aim=30.0)
NOTE = (
    "lanes: CPU time for each parcel of items of 1 ms. engine: it alone, with so many lanes in simulated time. thread: "
    "all that its thread does, in a run whose workers are feigned by one process."
)


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    measures = {"engine": cpu_s_per_parcel, "thread": thread_s_per_parcel}
    for what, measure in measures.items():
        metric = cost(f"{what}'s CPU per parcel", "us", 1e-6)
        for lanes in LANES:
            case = Case("lanes", metric, (BUDGET,), name=f"{what}, {lanes}", pace=Pace.SLOW, notes=(NOTE,))
            yield Race(case, [Contender(SUBJECT, 1.0, partial(measure, lanes))])


MANY_LANES = Workload("lanes", "what a parcel costs the script's process with 16, 256 and 768 lanes", build)
