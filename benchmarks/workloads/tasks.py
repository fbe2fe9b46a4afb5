"""Tasks that keep a worker busy for a known time: how much of the workers' time is lost around them."""

from collections.abc import Iterator, Sequence
from random import Random
from types import ModuleType

from benchmarks.budgets import Budget
from benchmarks.contenders import ours, theirs
from benchmarks.harness import Case, Contender, Race, Settings, Workload
from benchmarks.metrics import cost, efficiency
from benchmarks.peers import Peer
from benchmarks.tasks import spin

# The time of one task in seconds, under the name of its case.
TASK_S = {"3 us": 3e-6, "10 us": 10e-6, "30 us": 30e-6, "100 us": 100e-6, "1 ms": 1e-3, "10 ms": 10e-3}
EFFICIENCY_BUDGETS = {
    "10 us": (Budget(aim=95.0),),
    "30 us": (Budget(at_least=90.0),),
    "1 ms": (Budget(at_least=97.0),),
}

SKEW_TASKS = 400
SKEW_SIGMA = 1.5
# With this seed the longest task is 5 % of all, and giving the next task to whoever is free comes within 0.3 % of the
# bound: what is above that is lost by the tool.
SKEW_SEED = 3
SKEW_CASE = Case(
    workload="skew",
    metric=cost("makespan / lower bound", "x"),
    budgets=(Budget(at_least=1.04, aim=1.02),),
    notes=(
        f"skew: {SKEW_TASKS} tasks, log-normal with sigma {SKEW_SIGMA}; peers use map with its default chunk size.",
    ),
)


def build_granularity(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    total_s = settings.duration_s(1.5, 0.4)
    for name, task_s in TASK_S.items():
        case = Case(
            workload="granularity",
            metric=efficiency(settings.workers),
            budgets=EFFICIENCY_BUDGETS.get(name, ()),
            name=name,
            notes=("granularity: tasks of the given time through map; every tool with its default chunk size.",),
        )
        durations = [task_s] * max(2, round(total_s / task_s))
        yield Race(case, [map_ours(settings, durations), *(map_peer(peer, settings, durations) for peer in peers)])


def map_ours(settings: Settings, durations: list[float]) -> Contender:
    def run(library: ModuleType) -> object:
        return library.map(spin, durations, cpus=settings.workers)

    def run_one(library: ModuleType) -> object:
        return library.map(spin, [0.0], cpus=settings.workers)

    return ours(sum(durations), run, run_one)


def map_peer(peer_class: type[Peer], settings: Settings, durations: list[float]) -> Contender:
    own = durations[: settings.peer_items(peer_class, len(durations))]
    return theirs(peer_class, settings, sum(own), lambda peer: peer.map(spin, own))


def build_skew(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    durations = skewed_durations(settings.duration_s(8.0, 2.0))
    bound_s = lower_bound(durations, settings.workers)

    def run(library: ModuleType, items: list[float]) -> object:
        work = library.Work(items, cpus=settings.workers)
        work.job(spin)
        return work.run()

    subject = ours(bound_s, lambda library: run(library, durations), lambda library: run(library, [0.0]))
    others = [theirs(peer, settings, bound_s, lambda peer: peer.map(spin, durations)) for peer in peers]
    yield Race(SKEW_CASE, [subject, *others])


def skewed_durations(total_s: float) -> list[float]:
    """Log-normal task times that add up to `total_s` seconds, the same ones every time."""
    random = Random(SKEW_SEED)
    drawn = [random.lognormvariate(0.0, SKEW_SIGMA) for _ in range(SKEW_TASKS)]
    return [duration * total_s / sum(drawn) for duration in drawn]


def lower_bound(durations: list[float], workers: int) -> float:
    """No schedule on `workers` processes is shorter than this: all are busy all the time, or the longest task is."""
    return max(sum(durations) / workers, max(durations))


GRANULARITY = Workload(
    "granularity", "busy tasks of 3 us to 10 ms: share of the workers time spent in tasks", build_granularity
)
SKEW = Workload("skew", "tasks of very different lengths: time until all are done against the lower bound", build_skew)
