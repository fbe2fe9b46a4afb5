"""What a checkpoint each second costs: the same stream with and without."""

from collections.abc import Iterator, Sequence

from benchmarks.budgets import Budget
from benchmarks.contenders import run_python
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer

PLAIN = "plain"
NOTE = "checkpoints: a checkpoint each second, the first one at once; plain is the same stream without."


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


CHECKPOINTS = Workload("checkpoints", "what a checkpoint each second costs", build)
