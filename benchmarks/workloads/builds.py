"""Making files again where something has changed: whole processes, with their start-up, on chains of ten short jobs."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.budgets import Budget
from benchmarks.builds.chains import LENGTH, edit, ends, expected, touch, write_sources
from benchmarks.contenders import ROOT, clock, expect, run_python
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import cost
from benchmarks.peers import Peer

SCRIPTS = ROOT / "benchmarks" / "builds"
PLAIN, DOIT = "isolate=False", "doit"
NOTE = (
    "build: sources, and behind each a chain of ten jobs that copy a text and add a line; whole processes. job_stream "
    "has a process for each job, isolate=False has none, doit runs all in its own. luigi does not notice an edit, so "
    "it takes no part there."
)

Run = Callable[[Path, int], object]


@dataclass(frozen=True)
class Change:
    """What happens to a project before the run on the clock; `is_new`: the project is made for this run."""

    name: str
    make: Callable[[Path], object]
    is_new: bool = False
    budgets: tuple[Budget, ...] = ()
    unnoticed_by: tuple[str, ...] = ()


def leave(_folder: Path) -> None:
    """No change."""


NEW = Change("from nothing", leave, is_new=True, budgets=(Budget(aim=2.5, against=DOIT),))
CHANGES = (
    NEW,
    Change("nothing changed", leave, budgets=(Budget(at_least=1.0, aim=0.7, against=DOIT),)),
    Change("one edited", edit, budgets=(Budget(at_least=1.0, aim=0.7, against=DOIT),), unnoticed_by=("luigi",)),
    Change("one touched", touch, budgets=(Budget(at_least=1.0, aim=0.7, against=DOIT),)),
)


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    tools = runs_of(settings)
    for count in dict.fromkeys((settings.amount(10, 10), settings.amount(100, 100))):
        jobs = f"{count * LENGTH:,} jobs"
        for change in CHANGES:
            taking_part = {tool: run for tool, run in tools.items() if tool not in change.unnoticed_by}
            yield from race(f"{change.name}, {jobs}", change, taking_part, count)
        in_one = {SUBJECT: tools[PLAIN], **{tool: run for tool, run in tools.items() if tool == DOIT}}
        plain = Change(NEW.name, leave, is_new=True, budgets=(Budget(at_least=1.0, aim=0.7, against=DOIT),))
        yield from race(f"{NEW.name}, {jobs}, {PLAIN}", plain, in_one, count)


def race(name: str, change: Change, tools: dict[str, Run], count: int) -> Iterator[Race]:
    case = Case("build", cost("process start to exit", "s"), change.budgets, name=name, pace=Pace.SLOW, notes=(NOTE,))
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        projects = {tool: Project(Path(folder) / tool, count, run) for tool, run in tools.items()}
        contenders = [Contender(tool, 1.0, partial(measure, each, change)) for tool, each in projects.items()]
        yield Race(case, contenders)


@dataclass
class Project:
    """The folders of one tool; all but the first runs in a folder go on with what is there."""

    folder: Path
    count: int
    run: Run
    made: list[Path] = field(default_factory=list)

    def fresh(self) -> Path:
        self.made.append(self.folder / str(len(self.made)))
        write_sources(self.made[-1], self.count)
        return self.made[-1]

    def finished(self) -> Path:
        """One in which all is made; the second run has times on record that are not those of a moment ago."""
        if not self.made:
            folder = self.fresh()
            for _ in range(2):
                self.run(folder, self.count)
        return self.made[0]


def measure(project: Project, change: Change) -> float:
    folder = project.fresh() if change.is_new else project.finished()
    change.make(folder)

    def run() -> list[str]:
        project.run(folder, project.count)
        return ends(folder, project.count)

    return clock(run, expect(expected(folder, project.count)))


def runs_of(settings: Settings) -> dict[str, Run]:
    """How each tool that is installed is run on a project."""
    workers = str(settings.workers)

    def ours(folder: Path, count: int, isolate: str) -> object:
        return run_python(str(SCRIPTS / "chains_ours.py"), str(folder), str(count), workers, isolate)

    def doit(folder: Path, count: int) -> object:
        script = str(SCRIPTS / "chains_doit.py")
        return run_python("-m", "doit", "run", "-f", script, "-d", str(folder), COUNT=str(count))

    def luigi(folder: Path, count: int) -> object:
        return run_python("-W", "ignore", str(SCRIPTS / "chains_luigi.py"), str(folder), str(count), workers)

    def snakemake(folder: Path, count: int) -> object:
        return run_python("-m", "snakemake", "-s", str(SCRIPTS / "chains.smk"), "-d", str(folder), "-c", workers,
                          "--quiet", "all", "--config", f"count={count}")  # fmt: skip

    theirs = {DOIT: doit, "luigi": luigi, "snakemake": snakemake}
    installed = {tool: run for tool, run in theirs.items() if find_spec(tool) is not None}
    return {SUBJECT: partial(ours, isolate="1"), PLAIN: partial(ours, isolate="0"), **installed}


BUILDS = Workload("build", "files made again where something has changed, on chains of ten jobs", build)
