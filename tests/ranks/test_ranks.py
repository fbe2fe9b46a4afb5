"""One script on several ranks: serial results, one traceback, clear errors where ranks part, and the death of one."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mpi_support import World, find_mpirun, is_open_mpi, mpirun, pythons
from support import DEADLINE_S, REPOSITORY, Ended, needs

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

EXAMPLES = REPOSITORY / "examples"
ARGUMENTS = {
    "word_count.py": lambda folder: [REPOSITORY / "job_stream"],
    "random_walks.py": lambda folder: [folder / "walks.checkpoint", 6],
}
LIBRARIES = {"sweep_pi.py": ["scipy", "pandas"], "sweep_sklearn.py": ["scipy", "pandas", "sklearn"]}
FEW_RANKS = ("build_report.py", "sweep_pi.py", "sweep_sklearn.py")
"""What loads large libraries on each rank runs on two, all else on four."""
OF_ONE_RANK = "shared_data.py"
"""Its jobs need what ``init`` has loaded, which other ranks don't have."""

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

each_mpi = pytest.mark.parametrize("python", pythons())


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def run(folder: Path, text: str, ranks: int, *arguments: object, python: str = sys.executable) -> Ended:
    """Runs a script on some ranks of one lane each; nothing may be left of them."""
    path = script(folder, text)
    with World(path, ranks, *arguments, env={"JOBS_CPUS": "1"}, python=python) as world:
        ended = world.ended()
        world.gone()
    return ended


@each_mpi
@pytest.mark.parametrize("ranks", [2, 4])
def test_streams_behave_on_several_ranks_as_on_one(tmp_path: Path, ranks: int, python: str) -> None:
    ended = run(tmp_path, BEHAVIOUR.replace("SIZE", str(ranks)), ranks, python=python)
    assert ended.code == 0, ended.err
    assert "WRONG" not in ended.out
    assert ended.out.count("ok ") == 14, ended.out
    assert ended.out.count("caught") == ended.out.count("True True") == ranks


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py") if path.name != OF_ONE_RANK))
def test_an_example_prints_the_same_on_several_ranks(tmp_path: Path, name: str) -> None:
    needs(*LIBRARIES.get(name, []))
    arguments = ARGUMENTS.get(name, lambda folder: [])
    here, there = tmp_path / "alone", tmp_path / "together"
    here.mkdir()
    there.mkdir()
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments(here))]
    alone = subprocess.run(command, capture_output=True, text=True, check=True, timeout=DEADLINE_S, cwd=here)
    ranks = 2 if name in FEW_RANKS else 4
    together = mpirun(EXAMPLES / name, ranks, *arguments(there), env={"JOBS_CPUS": "1"}, folder=there)
    assert together.code == 0, together.err
    assert sorted(together.out.splitlines()) == sorted(alone.stdout.splitlines())


@each_mpi
def test_an_exception_on_any_rank_ends_all_with_one_traceback(tmp_path: Path, python: str) -> None:
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
    ended = run(tmp_path, text, 3, python=python)
    assert ended.code != 0
    assert ended.err.count("ValueError: item") == 2, ended.err  # the worker's traceback, and the script's
    assert "rank 1" in ended.err
    assert "While processing work with target: fails" in ended.err


@each_mpi
def test_ranks_with_different_streams_are_told_which_stage_differs(tmp_path: Path, python: str) -> None:
    text = """
    import time
    from job_stream import Work, getRank
    with Work([0.2] * 10) as w:
        w.job(time.sleep)
        if getRank() == 1:
            @w.job
            def extra(x): return x
    """
    ended = run(tmp_path, text, 2, python=python)
    assert ended.code != 0
    assert "stage number 2 is" in ended.err
    assert "'extra' on rank 1" in ended.err


@each_mpi
def test_ranks_with_other_code_in_a_stage_are_told_so(tmp_path: Path, python: str) -> None:
    text = """
    import time
    from job_stream import Work, getRank
    with Work([0.2] * 10) as w:
        w.job((lambda s: time.sleep(s + 0.1)) if getRank() else (lambda s: time.sleep(s + 0.2)))
    """
    ended = run(tmp_path, text, 2, python=python)
    assert ended.code != 0
    assert "stage number 1 is job '<lambda>', whose code or targets are others on rank 1 than on rank 0" in ended.err


@each_mpi
def test_a_set_in_the_code_of_a_stage_is_the_same_on_all_ranks(tmp_path: Path, python: str) -> None:
    text = """
    from job_stream import Work
    w = Work(["alpha", "delta", "beta", "gamma"])
    @w.job
    def known(word):
        return word if word in {"alpha", "beta", "gamma"} else None
    words = w.run()
    print(words and sorted(words))
    """
    ended = run(tmp_path, text, 3, python=python)
    assert ended.code == 0, ended.err
    assert "['alpha', 'beta', 'gamma']" in ended.out


def test_streams_that_fail_and_streams_that_work_follow_each_other(tmp_path: Path) -> None:
    text = """
    from job_stream import Work, getRank
    from job_stream.inline import map
    def summed(numbers, worst):
        w = Work(numbers)
        @w.job
        def inverse(x):
            if x == worst:
                raise ArithmeticError(worst)
            return 2 * x
        @w.reduce(store=lambda: [0], emit=lambda store: store[0])
        def add(store, works, others):
            store[0] += sum(works) + sum(other[0] for other in others)
        try:
            return w.run()
        except ArithmeticError as error:
            return error.args
    told = [summed(range(100), None), summed(range(100), 77), map(abs, range(-3, 0)),
            summed(range(50), 0), summed(range(10), None)]
    print(getRank(), told, flush=True)
    """
    ended = run(tmp_path, text, 3)
    expected = [
        "0 [[9900], (77,), [3, 2, 1], (0,), [90]]",
        "1 [None, (77,), None, (0,), None]",
        "2 [None, (77,), None, (0,), None]",
    ]
    assert (ended.code, sorted(ended.out.splitlines())) == (0, expected), ended.err


@each_mpi
def test_every_rank_tells_its_number_and_the_counts_of_lanes(tmp_path: Path, python: str) -> None:
    text = """
    import os
    from job_stream import getCpuCount, getHostCpuCount, getRank
    os.environ["JOBS_CPUS"] = str(getRank() + 1)
    print(getRank(), getHostCpuCount(), getCpuCount(), flush=True)
    """
    ended = run(tmp_path, text, 3, python=python)
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["0 1 6", "1 2 6", "2 3 6"]), ended.err


def test_init_and_the_source_are_only_used_on_the_primary(tmp_path: Path) -> None:
    text = """
    import os
    from job_stream import Multiple, Work, getRank
    def pulled():
        os.write(1, f"pulled on {getRank()}\\n".encode())
        yield from range(10)
    with Work(pulled()) as w:
        @w.init
        def load():
            os.write(1, f"loaded on {getRank()}\\n".encode())
            return Multiple([10, 11])
        w.job(lambda x: x)
        @w.finish
        def show(found):
            os.write(1, f"{sorted(found) == list(range(12))}\\n".encode())
    """
    ended = run(tmp_path, text, 3)
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["True", "loaded on 0", "pulled on 0"]), ended.err


# --- ranks that part ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("streams", [0, 1])
def test_a_rank_whose_script_ends_early_leaves_the_work_to_the_others(tmp_path: Path, streams: int) -> None:
    text = """
    import sys
    from job_stream import getRank
    from job_stream.inline import map
    for turn in range(3):
        if getRank() == 1 and turn == int(sys.argv[1]):
            sys.exit()
        found = map(abs, range(50))
        if not getRank():
            print(found == list(range(50)), flush=True)
    """
    ended = run(tmp_path, text, 3, streams)
    assert (ended.code, ended.out) == (0, "True\n" * 3), ended.err


def test_a_primary_whose_script_ends_early_is_named(tmp_path: Path) -> None:
    text = """
    from job_stream import getRank
    from job_stream.inline import map
    map(abs, range(50))
    if getRank():
        map(abs, range(50))
    """
    ended = run(tmp_path, text, 3)
    assert ended.code != 0
    assert ended.err.count(", the primary, has ended its script, but this stream is not over") == 1
    assert "WorldError: rank 0 on " in ended.err


@each_mpi
@pytest.mark.parametrize("who", [0, 1])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_exit_code_of_one_rank_is_no_success(tmp_path: Path, who: int, moment: str, python: str) -> None:
    text = """
    import sys
    from job_stream import getRank
    from job_stream.inline import map
    leaves = getRank() == int(sys.argv[1])
    if leaves and sys.argv[2] == "before":
        sys.exit(3)
    map(abs, range(50))
    if leaves:
        sys.exit(3)
    """
    assert run(tmp_path, text, 2, who, moment, python=python).code != 0


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


def test_streams_of_several_threads_are_told_to_run_one_after_the_other(tmp_path: Path) -> None:
    """Ranks know by their order which stream a message belongs to."""
    text = """
    import sys, threading, time
    from pathlib import Path
    from job_stream import Work
    from job_stream.errors import PlanError
    from job_stream.runtime.together import _turn

    gate = Path(sys.argv[1])

    def wait(work):
        while not gate.exists():
            time.sleep(0.01)

    def long():
        w = Work(range(4))
        w.job(wait)
        w.run()

    thread = threading.Thread(target=long)
    thread.start()
    while not _turn._lock.locked():
        time.sleep(0.01)
    w = Work(range(4))
    w.job(lambda work: work)
    try:
        w.run()
    except PlanError as error:
        print("refused" if "one after the other" in str(error) else error, flush=True)
    gate.touch()
    thread.join()
    print(sorted(w.run() or []))
    """
    ended = run(tmp_path, text, 2, tmp_path / "gate")
    assert ended.code == 0, ended.err
    assert sorted(ended.out.splitlines()) == ["[0, 1, 2, 3]", "[]", "refused", "refused"]
