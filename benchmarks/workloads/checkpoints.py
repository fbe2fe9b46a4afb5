"""What a checkpoint each second costs: the same stream with and without. What much open work costs, which has to be
captured, and read again when a run goes on."""

import json
from collections.abc import Iterator, Sequence
from tempfile import TemporaryDirectory

from benchmarks.budgets import Budget
from benchmarks.contenders import run_python
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer

PLAIN = "plain"
NOTE = "checkpoints: a checkpoint each second, the first one at once; plain is the same stream without."

OPEN_NOTE = (
    "open-work: a frame with 100,000 children, each a task of its own. capture: the longest time between two calls on "
    "its store of 100 MB while checkpoints are written every 0.4 s. resume: until the first child runs."
)


def case(name: str, at_least: float, aim: float) -> Case:
    budgets = (Budget(at_least=at_least, aim=aim, against=PLAIN),)
    return Case("checkpoints", cost("time", "s"), budgets, name=name, pace=Pace.SLOW, notes=(NOTE,))


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    yield race(case("word count", 1.05, 1.01), "words", settings.amount(200_000_000, 40_000_000), settings)
    yield race(case("no-op items", 1.10, 1.03), "items", settings.amount(1_000_000, 300_000), settings)


def race(what: Case, name: str, amount: int, settings: Settings) -> Race:
    def run(kind: str) -> float:
        return float(run_python("-m", "benchmarks.saved", name, str(amount), str(settings.workers), kind))

    return Race(what, [Contender(SUBJECT, 1.0, lambda: run("saved")), Contender(PLAIN, 1.0, lambda: run("plain"))])


def build_open(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    tasks = settings.amount(100_000, 10_000)
    store_bytes = settings.amount(100_000_000, 10_000_000)
    held = Case("open-work", cost("calls held", "ms", 1e-3), (Budget(at_least=300.0, aim=50.0),), name="capture",
                pace=Pace.SLOW, notes=(OPEN_NOTE,))  # fmt: skip
    yield Race(held, [Contender(SUBJECT, 1.0, lambda: go_on("longest", tasks, store_bytes, settings.workers))])
    first = Case("open-work", cost("time", "s"), (Budget(at_least=1.0, aim=0.3),), name="resume", pace=Pace.SLOW,
                 notes=(OPEN_NOTE,))  # fmt: skip
    yield Race(first, [Contender(SUBJECT, 1.0, lambda: go_on("first", tasks, 0, settings.workers))])


def go_on(what: str, tasks: int, store_bytes: int, workers: int) -> float:
    with TemporaryDirectory() as folder:
        told = run_python("-m", "benchmarks.openwork", folder, str(tasks), str(store_bytes), str(workers))
    return float(json.loads(told)[what])


CHECKPOINTS = Workload("checkpoints", "what a checkpoint each second costs", build)
OPEN_WORK = Workload("open-work", "checkpoints of 100,000 open tasks, and 100 MB of stores", build_open)
