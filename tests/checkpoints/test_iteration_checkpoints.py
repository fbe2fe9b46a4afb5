"""Iterations with checkpoints: a result counts as taken when the next one is asked for."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest
from checkpoint_scripts import STOPPED, Saved
from mpi_support import find_mpirun, is_open_mpi, mpirun

import job_stream
from job_stream import Work, imap

BREAKING = """
w = Work(range(100), cpus=2, **keywords)
w.job(lambda number: number)
taken = 0
for number in w:
    note("taken", number)
    taken += 1
    if taken == 30 and len(sys.argv) > 1:
        break
print("over", len(w.failures))
"""


@pytest.fixture
def saved(tmp_path):
    scripts = []

    def make(text):
        scripts.append(Saved(tmp_path, text))
        return scripts[-1].__enter__()

    yield make
    for script in scripts:
        script.__exit__(None, None, None)


def test_what_was_not_taken_comes_again(saved):
    script = saved(BREAKING)
    for _ in range(3):
        assert script.run("break").code == 0
    ended = script.run()
    assert ended.out == "over 0\n"
    assert script.done.exists()
    assert set(map(int, script.notes("taken"))) == set(range(100))
    assert len(script.notes("taken")) == 100 + 3  # the one with which each loop was left came again


def test_one_that_was_killed_goes_on(saved):
    script = saved("""
        for number in job_stream.imap(lambda number: number, range(200), ordered=False, cpus=2, **keywords):
            note("taken", number)
            hold(len((here / "taken").read_text().split()) == 50)
        print("over")
    """)
    script.killed()
    assert len(script.notes("taken")) == 50
    ended = script.run()
    assert ended.out == "over\n"
    counts = Counter(script.notes("taken"))
    assert {int(number) for number in counts} == set(range(200))
    assert [number for number, count in counts.items() if count > 1] == [script.notes("taken")[49]]


def test_one_that_is_asked_to_end_goes_on_where_it_was(saved):
    script = saved("""
        w = Work(range(50), cpus=1, **keywords)
        w.job(lambda number: number)
        for number in w:
            note("taken", number)
            if not went_on and len((here / "taken").read_text().split()) == 10:
                Gate(here / "held").open()
                while not (here / "signalled").exists():
                    time.sleep(0.01)
        print("over")
    """)
    started = script.start()
    script.gate("held").wait()
    started.process.send_signal(signal.SIGTERM)
    script.gate("signalled").open()
    ended = started.ended()
    assert (ended.code, ended.out) == (STOPPED, "")
    script.go_on()
    assert script.run().out == "over\n"
    assert sorted(map(int, script.notes("taken"))) == list(range(50))


def test_one_that_has_come_to_its_end_ends_the_script(saved):
    script = saved("""
        w = Work(range(5), **keywords)
        w.job(lambda number: number)
        print(sorted(w))
    """)
    assert script.run().out == "[0, 1, 2, 3, 4]\n"
    again = script.run()
    assert (again.code, again.out) == (0, "")


def test_reductions_and_failures_may_be_in_it(tmp_path):
    w = Work(range(10), checkpointFile=tmp_path / "state", onError="skip")
    w.job(lambda number: 1 // number and number if number < 2 else number)

    @w.reduce(store=lambda: [0], emit=lambda store: store[0])
    def total(store, works, others):
        store[0] += sum(works) + sum(other[0] for other in others)

    assert list(w) == [45]
    assert [failure.item for failure in w.failures] == [0]


def test_a_result_that_was_asked_for_last_is_not_taken_when_the_iteration_is_closed(tmp_path):
    def begun():
        return imap(abs, range(3), ordered=False, cpus=1, checkpointFile=tmp_path / "state")

    results = begun()
    first = next(results)
    second = next(results)
    results.close()
    assert sorted([first, *begun()]) == [0, 1, 2]
    assert second != first


@pytest.mark.skipif(find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed")
def test_other_ranks_take_part(tmp_path):
    path = Path(tmp_path, "script.py")
    path.write_text("""
from pathlib import Path
import sys
from job_stream import Work, getRank

w = Work(range(100), checkpointFile=Path(__file__).with_name("state"))
w.job(lambda number: number)
found = []
for number in w:
    found.append(number)
    if len(found) == 20 and len(sys.argv) > 1:
        break
print(getRank(), len(found), flush=True)
""")
    assert sorted(mpirun(path, 2, "break", env={"JOBS_CPUS": "1"}).out.splitlines()) == ["0 20", "1 0"]
    assert sorted(mpirun(path, 2, env={"JOBS_CPUS": "1"}).out.splitlines()) == ["0 81", "1 0"]
    assert job_stream.checkpointInfo(tmp_path / "state").finished
