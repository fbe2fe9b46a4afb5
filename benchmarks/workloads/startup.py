"""How long the smallest script takes, from the start of its process to its exit."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.budgets import Budget
from benchmarks.contenders import clock, expect, run_python
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer

CASE = Case(
    workload="startup",
    metric=cost("process start to exit", "ms", 1e-3),
    budgets=(Budget(at_least=3.0, aim=1.5, against="pool"),),
    pace=Pace.SHORT,
    notes=(
        "startup: a script with map over one item, in a process of its own; start-up is the subject, so it counts.",
    ),
)

SCRIPT = """\
import job_stream

def double(x):
    return 2 * x

if __name__ == '__main__':
    print(job_stream.map(double, [21], cpus={workers}))
"""


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    scripts = {SUBJECT: SCRIPT, **{peer.name: peer.startup_script for peer in peers}}
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        yield Race(CASE, [contender(tool, script, settings, Path(folder)) for tool, script in scripts.items()])


def contender(tool: str, script: str, settings: Settings, folder: Path) -> Contender:
    path = folder / f"startup_{tool}.py"
    path.write_text(script.format(workers=settings.workers), encoding="utf-8")
    return Contender(tool, 1.0, lambda: clock(lambda: run_python(str(path)), expect("[42]\n")))


STARTUP = Workload("startup", "the smallest script: map over one item, process start to exit", build)
