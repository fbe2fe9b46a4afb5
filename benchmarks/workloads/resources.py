"""What a run takes besides time: memory and processor of the process that started it.

Each repetition is a process of its own (see `benchmarks.probes`), since the memory of a process that has already run
other things says nothing.
"""

from collections.abc import Iterator, Sequence

from benchmarks.budgets import Budget
from benchmarks.contenders import run_python
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import Metric, cost
from benchmarks.peers import Peer

MEMORY_METRIC: Metric = cost("peak memory above start", "MB", 1e6)
MEMORY_BUDGETS = (Budget(at_least=100.0, aim=40.0),)
IDLE_CASE = Case(
    workload="idle",
    metric=cost("processor while waiting", "% of a core", 1e-2),
    budgets=(Budget(at_least=3.0, aim=1.0),),
    pace=Pace.SLOW,
    notes=("idle: processor time of the parent in a run whose one job sleeps; for job_stream with its start-up.",),
)


def build_memory(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    count = settings.amount(10_000_000, 1_000_000)
    able = [peer.name for peer in peers if settings.affordable(peer, count)]
    yield Race(
        Case(
            workload="memory",
            metric=MEMORY_METRIC,
            budgets=MEMORY_BUDGETS,
            name="many items",
            pace=Pace.SLOW,
            notes=(
                f"memory: {count:,} no-op items, results dropped; or one item whose job returns a Multiple of as many. "
                "Peers that take too long for it are left out, the others are given a chunk size.",
            ),
        ),
        [probe("memory_items", tool, count, settings) for tool in (SUBJECT, *able)],
    )
    yield Race(
        Case("memory", MEMORY_METRIC, MEMORY_BUDGETS, name="Multiple", pace=Pace.SLOW),
        [probe("memory_multiple", SUBJECT, count, settings)],
    )


def build_idle(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    nap_s = settings.duration_s(5.0, 2.0)
    tools = [SUBJECT, *(peer.name for peer in peers)]
    yield Race(IDLE_CASE, [probe("idle", tool, nap_s, settings, work=nap_s) for tool in tools])


def probe(name: str, tool: str, amount: float, settings: Settings, work: float = 1.0) -> Contender:
    """A contender whose reading is what the probe prints."""
    arguments = ("-m", "benchmarks.probes", name, tool, str(amount), str(settings.workers))
    return Contender(tool, work, lambda: float(run_python(*arguments)))


MEMORY = Workload("memory", "peak memory of the parent over very many items", build_memory)
IDLE = Workload("idle", "processor used by the parent while a job sleeps", build_idle)
