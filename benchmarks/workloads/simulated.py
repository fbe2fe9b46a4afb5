"""Thousands of ranks in simulated time; see ``job_stream.simulate.scale`` for what is simulated and what is real."""

from collections.abc import Iterator, Sequence

from benchmarks.budgets import Budget
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import efficiency
from benchmarks.peers import Peer
from job_stream.simulate.scale import measure

ITEM_S = 1e-3
NOTE = (
    "simulated: the real engine on many ranks in simulated time, items of 1 ms, with the costs of messages that were "
    "measured between ranks on one machine; flat is one range, tree fans out into very uneven branches."
)


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    ranks, items = settings.amount(1024, 64), settings.amount(1000, 500)
    budgets = {"flat": (Budget(at_least=93.0, aim=97.0),), "tree": ()}
    for load in ("flat", "tree"):
        name = f"{load}, {ranks:,} ranks"
        case = Case("simulated", efficiency(ranks), budgets[load], name=name, pace=Pace.SLOW, notes=(NOTE,))
        yield Race(case, [Contender(SUBJECT, ranks * items * ITEM_S, lambda load=load: makespan(ranks, items, load))])  # type: ignore[misc]


def makespan(ranks: int, items: int, load: str) -> float:
    return measure(ranks, items, load, ITEM_S).makespan_s


SIMULATED = Workload("simulated", "1,024 ranks of the engine in simulated time", build)
