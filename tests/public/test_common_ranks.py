"""A configured stream on several ranks, and one that is killed and goes on from its checkpoint."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from checkpoint_scripts import Saved, right
from mpi_support import find_mpirun, is_open_mpi, mpirun

STREAM = """
import sys, time
from job_stream import common, getRank

class Sort(common.Job):
    def handleWork(self, work):
        self.emit(work, "even" if work % 2 == 0 else "odd")

class Halve(common.Job):
    def postSetup(self):
        self.divisor = self.config["by"]

    def handleWork(self, work):
        time.sleep(0.001)
        HOLD(work)
        self.emit((work // self.divisor, getRank()), "more" if work > 100 else "enough")

class Bare(common.Job):
    def handleWork(self, work):
        self.emit(work[0])

class Loop(common.Frame):
    def handleFirst(self, store, work):
        store.first, store.total, store.rounds = work, 0, 0
        self.recur(work)

    def handleNext(self, store, work):
        store.total += work
        store.rounds += 1

    def handleDone(self, store):
        if store.rounds < 2:
            self.recur(store.first, "odd")
        else:
            self.emit(store.total)

class Gather(common.Reducer):
    def handleInit(self, store):
        store.seen = []

    def handleAdd(self, store, work):
        store.seen.append(work)

    def handleJoin(self, store, other):
        store.seen += other.seen

    def handleDone(self, store):
        self.emit(sorted(store.seen))

CONFIG = {
    "jobs": {
        "sort": {"type": "Sort", "to": {"even": "halve", "odd": "loops"}},
        "halve": {"type": "Halve", "by": 2, "to": {"more": "again", "enough": "last"}},
        "again": {"type": "Bare", "to": "sort"},
        "last": {"type": "Bare", "to": "output"},
        "loops": {
            "jobs": {"even": {"type": "Sort", "to": {"even": "odd", "odd": "odd"}},
                     "odd": {"jobs": ["Sort_"], "reducer": "Gather", "to": "sum"},
                     "sum": {"type": "Sum_", "to": "output"}},
            "frame": "Loop",
        },
    },
    "reducer": "Gather",
}

class Sort_(common.Job):
    def handleWork(self, work):
        self.emit(work)
        self.emit(1)

class Sum_(common.Job):
    def handleWork(self, work):
        self.emit(sum(work))
"""


def serially(work: int) -> int:
    """What becomes of one number."""
    while work % 2 == 0:
        enough = work <= 100
        work //= 2
        if enough:
            return work
    return 2 * (work + 1)


EXPECTED = sorted(map(serially, range(600)))


@pytest.mark.skipif(find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed")
def test_results_are_the_same_on_two_ranks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    run = """
    common.work = range(600)
    common.run(CONFIG)
    where = {"jobs": ["Where"], "reducer": "Gather"}
    common.run(where, handleResult=lambda ranks: print(sorted(set(ranks)), getRank()))
    """
    where = """
    class Where(common.Job):
        def handleWork(self, work):
            time.sleep(0.002)
            self.emit(getRank())
    """
    text = STREAM.replace("HOLD(work)", "pass") + textwrap.dedent(where) + textwrap.dedent(run)
    script.write_text(text, encoding="utf-8")
    ended = mpirun(script, 2, options=("--bind-to", "none"))
    assert (ended.code, ended.out) == (0, f"{EXPECTED}\n[0, 1] 0\n"), ended.err


def test_a_killed_stream_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    run = "common.work = range(600)\ncommon.run(CONFIG, cpus=2, **keywords)\n"
    with Saved(tmp_path, STREAM.replace("HOLD(work)", "hold(work == 400)") + run) as script:
        script.killed()
        ended = script.run()
        right(ended, EXPECTED)
        assert f"job_stream: going on from {script.state}: " in ended.err


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ("CONFIG['jobs']['last']['to'] = 'sort'", "last"),
        ("Bare.handleWork = lambda self, work: self.emit(work[0], None)", "again, last"),
    ],
)
def test_going_on_with_other_routes_or_other_classes_is_said(tmp_path: Path, change: str, stages: str) -> None:
    run = f"common.work = range(600)\nif went_on: {change}\ncommon.run(CONFIG, cpus=2, **keywords)\n"
    with Saved(tmp_path, STREAM.replace("HOLD(work)", "hold(work == 400)") + run) as script:
        script.killed()
        assert f"the code of {stages} has changed since" in script.run().err
