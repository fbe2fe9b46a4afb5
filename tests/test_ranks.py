"""One script on several ranks: serial results, one traceback, and the death of a rank."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

BEHAVIOUR = """
import os, time
import numpy
import job_stream
from job_stream import Multiple, Object, Work, getCpuCount, getHostCpuCount, getRank
from job_stream.inline import map

primary = getRank() == 0
seen = []

def check(what, true):
    if primary:
        print("ok" if true else "WRONG", what, flush=True)

# a stream of plain jobs, and one that comes from an iterator
for source in (range(500), iter(range(500))):
    w = Work(source)
    w.job(lambda x: (getRank(), 2 * x))
    results = w.run()
    check("results", primary and sorted(x for _, x in results) == list(range(0, 1000, 2)))
    check("None elsewhere", primary or results is None)

# an ordered map, with results from every rank
ranks = map(lambda x: time.sleep(0.004) or (x, getRank()), range(200))
check("order", ranks and [x for x, _ in ranks] == list(range(200)))
check("all ranks work", ranks and {rank for _, rank in ranks} == set(range(SIZE)))

# a reduction whose stores are merged on their way, after jobs that fan out
w = Work(range(100))
w.job(lambda x: Multiple(range(x)))
w.job(lambda x: time.sleep(0.0002) or x)

@w.reduce(store=lambda: Object(total=0, count=0), emit=lambda store: (store.total, store.count))
def add(store, works, others):
    store.total += sum(works) + sum(other.total for other in others)
    store.count += len(works) + sum(other.count for other in others)

results = w.run()
check("reduce", primary and results == [(sum(sum(range(x)) for x in range(100)), 4950)])

# nested frames whose children are lent
w = Work([1, 2, 3])

@w.frame(store=lambda: Object(rounds=0, total=0, ranks=set()), emit=lambda s: (s.rounds, s.total, s.ranks))
def outer(store, first):
    if store.rounds < 2:
        store.rounds += 1
        return Multiple([first] * 20)

@w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda s: s.total)
def inner(store, first):
    if store.rounds < 2:
        store.rounds += 1
        return Multiple([first] * 3)

w.job(lambda x: time.sleep(0.002) or (x, getRank()))

@w.frameEnd
def innerEnd(store, x):
    store.total += x[0]

@w.frameEnd
def outerEnd(store, x):
    store.total += x

results = w.run()
check("frames", primary and sorted(r[:2] for r in results) == [(2, 240 * n) for n in (1, 2, 3)])

# large arrays both ways
arrays = map(lambda a: a * 2, (numpy.full(200_000, i) for i in range(24)))
check("arrays", arrays and all((a == 2 * i).all() for i, a in enumerate(arrays)))

# results that are taken long after all work is done
w = Work(numpy.full(200_000, i) for i in range(12))
w.job(lambda a: time.sleep(0.004) or a + 1)
firsts = []

@w.result
def takesItsTime(a):
    time.sleep(0.02)
    firsts.append(a[0])

w.run()
check("late", sorted(firsts) == list(range(1, 13)))

# skipped items of all ranks are listed on the primary
def fails(x):
    time.sleep(0.002)
    if x % 10 == 0:
        raise ValueError(x)
    return x

w = Work(range(100), onError="skip")
w.job(fails)
results = w.run()
check("skips", primary and sorted(f.item for f in w.failures) == list(range(0, 100, 10)) and len(results) == 90)

# threads
w = Work(range(50), useMultiprocessing=False)
w.job(lambda x: x + 1)
check("threads", primary and sorted(w.run()) == list(range(1, 51)) or not primary and w.run() is None)

# what a job is told
told = map(lambda x: (getCpuCount(), getHostCpuCount()), range(20))
check("counts", told and set(told) == {(getCpuCount(), getHostCpuCount())} and getCpuCount() >= SIZE)

# an exception is raised on every rank, and may be caught there
def bad(x):
    if x == 33:
        raise KeyError("thirty-three")
    return x

try:
    map(bad, range(100))
    caught = None
except KeyError as error:
    caught = str(error.__cause__)
print("caught", getRank(), "thirty-three" in caught, "rank" in caught, flush=True)
check("goes on", map(abs, range(3)) == [0, 1, 2])
"""


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


@pytest.mark.parametrize("ranks", [2, 4])
def test_streams_behave_on_several_ranks_as_on_one(tmp_path: Path, ranks: int) -> None:
    ended = mpirun(script(tmp_path, BEHAVIOUR.replace("SIZE", str(ranks))), ranks, env={"JOBS_CPUS": "1"})
    assert ended.code == 0, ended.err
    assert "WRONG" not in ended.out
    assert ended.out.count("ok ") == 14, ended.out
    assert ended.out.count("caught") == ended.out.count("True True") == ranks


@pytest.mark.parametrize(
    "name", ["line_statistics", "mean_word_length", "nested_frames", "parallel_map", "primes", "sum_to_n", "word_count"]
)
def test_an_example_prints_the_same_on_two_ranks(name: str) -> None:
    alone = mpirun(EXAMPLES / f"{name}.py", 1)
    together = mpirun(EXAMPLES / f"{name}.py", 2)
    assert (alone.code, together.code) == (0, 0), together.err
    assert sorted(alone.out.splitlines()) == sorted(together.out.splitlines())


def test_an_exception_on_any_rank_ends_all_with_one_traceback(tmp_path: Path) -> None:
    text = """
    import time
    from job_stream import Work, getRank
    with Work(range(200)) as w:
        @w.job
        def fails(x):
            time.sleep(0.002)
            if getRank() == 1:
                raise ValueError(f"item {x} is bad")
    """
    ended = mpirun(script(tmp_path, text), 3)
    assert ended.code != 0
    assert ended.err.count("ValueError: item") == 2, ended.err  # the worker's traceback, and the script's
    assert "rank 1" in ended.err
    assert "While processing work with target: fails" in ended.err


def test_ranks_with_different_streams_are_told_which_stage_differs(tmp_path: Path) -> None:
    text = """
    from job_stream import Work, getRank
    with Work(range(10)) as w:
        w.job(abs)
        if getRank() == 1:
            @w.job
            def extra(x): return x
    """
    ended = mpirun(script(tmp_path, text), 2)
    assert ended.code != 0
    assert "stage number 2 is" in ended.err
    assert "'extra' on rank 1" in ended.err


@pytest.mark.parametrize("moment", [20, 200, 500])
def test_the_death_of_a_rank_changes_no_result(tmp_path: Path, moment: int) -> None:
    text = """
    import os, signal, sys, time
    from job_stream import Work, getRank
    script = os.getpid()
    with Work(range(600)) as w:
        @w.job
        def work(x):
            time.sleep(0.002)
            if x >= int(sys.argv[1]) and getRank() == 1:
                os.kill(script, signal.SIGKILL)
            return x
        @w.reduce(store=list, emit=sorted)
        def gather(store, works, others):
            store.extend(works)
            for other in others:
                store.extend(other)
        @w.result
        def show(found):
            print("right" if found == list(range(600)) else "WRONG", flush=True)
    with Work(range(50)) as w:
        w.job(abs)
        @w.finish
        def show(found):
            print("again right" if sorted(found) == list(range(50)) else "WRONG", flush=True)
    """
    ended = mpirun(script(tmp_path, text), 3, moment, ulfm=True, env={"JOBS_CPUS": "1"})
    assert ended.out.splitlines() == ["right", "again right"], ended.err
