"""Jobs in YAML: whole processes of `job_stream pipeline`, and the same programs by bare `subprocess`."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.budgets import Budget
from benchmarks.contenders import clock, expect, run_python, unchecked
from benchmarks.harness import SUBJECT, Case, Contender, Pace, Race, Settings, Workload
from benchmarks.metrics import Metric, cost, rate
from benchmarks.peers import Peer

BARE = "subprocess"
START_TO_EXIT = cost("process start to exit", "s")
NOTE = "pipeline: processes of `job_stream pipeline`; subprocess starts the same programs, from a thread for each core."
GB = 10**9


def build(settings: Settings, peers: Sequence[type[Peer]]) -> Iterator[Race]:
    yield from unchanged(settings)
    yield from programs(settings, "that do nothing", ["true"], (Budget(at_least=0.3, against=BARE),))
    yield from programs(settings, "in Python", [sys.executable, "-c", "pass"], (Budget(aim=0.75, against=BARE),))
    seconds = settings.duration_s(1.0, 1.0)
    yield from alone("two entries of a second", ["sleep", str(seconds)], 2, Budget(at_least=seconds + 0.3))
    yield from large(settings)


def case(name: str, metric: Metric, *budgets: Budget) -> Case:
    return Case("pipeline", metric, budgets, name=name, pace=Pace.SLOW, notes=(NOTE,))


# the project ----------------------------------------------------------------------------------------------------------


def write_module(folder: Path, name: str, command: Sequence[str], inputs: int = 0, outputs: int = 0) -> None:
    module = folder / "modules" / name
    module.mkdir(parents=True)
    params = {kind: [{"param_name": f"{kind}{n}", "type": "any"} for n in range(count)]
              for kind, count in (("in", inputs), ("out", outputs))}  # fmt: skip
    manifest = {"name": name, "description": "-", "command": command, "inputs": params["in"], "outputs": params["out"]}
    (module / "manifest.yaml").write_text(json.dumps(manifest), encoding="utf-8")


def write_job(folder: Path, steps: Sequence[Sequence[object]], inputs: Sequence[object] = ()) -> None:
    """JSON is YAML."""
    described = [{"name": f"step {number}", "entries": entries} for number, entries in enumerate(steps)]
    job = {"name": "job", "version": 1, "input_artifacts": inputs, "steps": described}
    (folder / "job.yaml").write_text(json.dumps(job), encoding="utf-8")


def artifact(name: str, param: str) -> dict[str, object]:
    return {"name": name, "param_name": param, "type": "any", "public": True}


def run(folder: Path, *words: str) -> str:
    return run_python("-m", "job_stream", "pipeline", str(folder / "job.yaml"), *words, "--id", "benchmark",
                      "--modules-dir", str(folder / "modules"), "--storage-dir", str(folder / "storage"))  # fmt: skip


def anew(folder: Path) -> None:
    """So that all of it runs."""
    subprocess.run(["rm", "-rf", str(folder / "storage")], check=True)


# the races ------------------------------------------------------------------------------------------------------------


def unchanged(settings: Settings) -> Iterator[Race]:
    """Nothing to do, and a check, with modules of many files."""
    entries, modules = settings.amount(100, 100), 20
    with TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        for number in range(modules):
            write_module(folder, f"m{number}", ["sh", "-c", 'echo $$ > "$2"', "sh"], outputs=1)
            for file in range(settings.amount(50, 50)):
                (folder / "modules" / f"m{number}" / f"{file}.txt").write_text(str(file), encoding="utf-8")
        write_job(folder, [[{"module": f"m{number % modules}", "outputs": [artifact(f"{number}.txt", "out0")]}
                            for number in range(entries)]])  # fmt: skip
        expected = "".join(f"{folder / 'storage' / 'benchmark' / 'public' / f'{n}.txt'}\n" for n in range(entries))
        title = f"{entries} entries, {modules} modules"
        for _ in range(2):  # the second run has times on record that are not those of a moment ago
            run(folder)
        yield Race(case(f"nothing to do, {title}", START_TO_EXIT, Budget(at_least=0.6)),
                   [Contender(SUBJECT, 1.0, lambda: clock(partial(run, folder), expect(expected)))])  # fmt: skip
        yield Race(case(f"check, {title}", START_TO_EXIT, Budget(at_least=0.5)),
                   [Contender(SUBJECT, 1.0, lambda: clock(partial(run, folder, "--check"), expect("")))])  # fmt: skip


def programs(settings: Settings, what: str, words: Sequence[str], budgets: Sequence[Budget]) -> Iterator[Race]:
    """Short programs in one step; what is measured is how many a second."""
    count = settings.amount(200, 50)
    with TemporaryDirectory(prefix="benchmarks-") as name:
        ours = Contender(SUBJECT, count, fresh(Path(name) / "all", words, count), fresh(Path(name) / "one", words, 1))
        theirs = Contender(BARE, count, lambda: clock(partial(bare, words, count, settings.workers), unchecked))
        yield Race(case(f"{count} entries {what}", rate("entries", "/s"), *budgets), [ours, theirs])


def alone(name: str, words: Sequence[str], count: int, budget: Budget) -> Iterator[Race]:
    with TemporaryDirectory(prefix="benchmarks-") as folder:
        measure = fresh(Path(folder) / "all", words, count)
        yield Race(case(name, START_TO_EXIT, budget), [Contender(SUBJECT, 1.0, measure)])


def fresh(folder: Path, words: Sequence[str], count: int) -> Callable[[], float]:
    """Seconds of a run in which all of so many entries run."""
    write_module(folder, "short", words)
    write_job(folder, [[{"module": "short"}] * count])

    def measure() -> float:
        anew(folder)
        return clock(partial(run, folder), expect(""))

    return measure


def bare(words: Sequence[str], count: int, workers: int) -> None:
    with ThreadPoolExecutor(workers) as pool:
        for ended in pool.map(lambda _: subprocess.run(words, check=True), range(count)):
            assert ended.returncode == 0


def large(settings: Settings) -> Iterator[Race]:
    """A large input, which is read once, for its hash."""
    size = settings.amount(10 * GB, GB)
    with TemporaryDirectory(prefix="benchmarks-") as name:
        folder = Path(name)
        write_module(folder, "reader", ["true"], inputs=1)
        given = artifact("large", "in0")
        del given["public"]
        write_job(folder, [[{"module": "reader", "inputs": [given]}]], [given])
        with open(folder / "large", "wb") as file:
            file.truncate(size)

        def measure() -> float:
            anew(folder)
            return clock(partial(run, folder, str(folder / "large")), expect(""))

        metric = cost("process start to exit", "s/GB")
        yield Race(case(f"an input of {size / GB:g} GB", metric, Budget(at_least=1.0)),
                   [Contender(SUBJECT, size / GB, measure)])  # fmt: skip


PIPELINES = Workload("pipeline", "programs of jobs in YAML, run, checked, and with nothing to do", build)
