"""Several ranks run a stream as one: they end it together, and what only the primary runs meanwhile works as on one."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun, pythons
from support import Ended

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)
each_mpi = pytest.mark.parametrize("python", pythons())

PRELUDE = """
import asyncio, multiprocessing, sys, threading, time
from pathlib import Path
from job_stream import Work, getRank, invoke, map

rank, here = getRank(), Path(__file__).parent

def announce(name):
    (here / name).touch()

def wait_for(name):
    end = time.monotonic() + 50
    while not (here / name).exists():
        if time.monotonic() > end:
            raise TimeoutError(name)
        time.sleep(0.001)

def say(*words):
    print(*words, flush=True)
"""


def on_ranks(folder: Path, text: str, ranks: int, *arguments: object, python: str = sys.executable) -> Ended:
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(text), encoding="utf-8")
    return mpirun(path, ranks, *arguments, python=python, env={"JOBS_CPUS": "1"})


# --- the end ------------------------------------------------------------------------------------------------------
ENDS = """
def fail(here, there, kind):
    if here == there:
        raise kind("from the primary")

def stream(place, kind):
    w = Work([1])
    w.init(lambda: fail(place, "init", kind))
    if place == "finish":
        w.finish(lambda found: fail(place, "finish", kind))
    else:
        w.result(lambda x: fail(place, "result", kind))
    return w

for place in ("init", "result", "finish"):
    for kind in (ValueError, SystemExit, KeyboardInterrupt):
        try:
            stream(place, kind).run()
            say(rank, place, "went on")
        except BaseException as error:
            say(rank, place, type(error).__name__, error)
say(rank, stream("nowhere", ValueError).run())
"""


@each_mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_what_a_function_of_the_script_raises_on_the_primary_is_raised_everywhere(tmp_path, ranks, python):
    ended = on_ranks(tmp_path, ENDS, ranks, python=python)
    assert ended.code == 0, ended.err
    kinds = ("ValueError", "SystemExit", "KeyboardInterrupt")
    expected = [f"{place} {kind} from the primary" for place in ("init", "result", "finish") for kind in kinds]
    for rank in range(ranks):
        lines = [line[2:] for line in ended.out.splitlines() if line.startswith(f"{rank} ")]
        assert lines == [*expected, "None"], ended


def test_nobody_goes_on_before_the_primary_has_called_its_last_function(tmp_path):
    text = """
    def last(found):
        announce("in finish")
        wait_for("asked")
        say("finished")

    def ask():  # by then the other rank has had time to go on, if it does
        wait_for("in finish")
        time.sleep(0.3)
        announce("asked")

    if rank == 0:
        threading.Thread(target=ask).start()
    w = Work([1])
    w.finish(last)
    w.run()
    say("on")
    """
    ended = on_ranks(tmp_path, text, 3)
    assert (ended.code, ended.out) == (0, "finished\non\non\non\n"), ended.err


@pytest.mark.parametrize("place", ["init", "result", "finish"])
def test_a_script_that_ends_itself_in_a_function_of_its_own_ends_with_that_status_on_all_ranks(tmp_path, place):
    text = """
    w = Work([1])
    getattr(w, sys.argv[1])((lambda: sys.exit(3)) if sys.argv[1] == "init" else lambda found: sys.exit(3))
    w.run()
    say("went on")
    """
    ended = on_ranks(tmp_path, text, 2, place)
    assert (ended.code, ended.out) == (3, "")


@pytest.mark.parametrize("place", ["init", "result", "finish"])
def test_an_error_of_such_a_function_ends_all_with_one_traceback(tmp_path, place):
    text = """
    def fail():
        raise ValueError("from the primary")

    w = Work([1])
    getattr(w, sys.argv[1])(fail if sys.argv[1] == "init" else lambda found: fail())
    w.run()
    say("went on")
    """
    ended = on_ranks(tmp_path, text, 3, place)
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("ValueError: from the primary\n") == 2, ended.err  # its own, and that of its cause


@pytest.mark.parametrize("place", ["result", "finish"])
@pytest.mark.parametrize("saved", [False, True])
def test_the_primary_answers_while_its_functions_take_longer_than_others_wait_for_an_answer(tmp_path, place, saved):
    text = """
    import job_stream.ranks.silence
    job_stream.ranks.silence.PRIMARY_SILENT_S = 0.6
    w = Work([1], checkpointFile=here / "state" if sys.argv[2] == "True" else None)
    getattr(w, sys.argv[1])(lambda found: time.sleep(2))
    w.run()
    say("on")
    """
    ended = on_ranks(tmp_path, text, 2, place, saved)
    assert (ended.code, ended.out) == (0, "on\non\n"), ended.err


# --- ranks that lag behind ----------------------------------------------------------------------------------------
LATE = """
def add(x):
    if x < 0:
        raise ValueError(x)
    return x + 1

map(abs, [0])  # all have met
if rank == 1:
    wait_for("over")
done = 0
for number in range(int(sys.argv[1])):
    try:
        map(add, [number, 1] if number % 3 else [-1])
    except ValueError:
        done += 1
if rank == 0:
    announce("over")
say(rank, done)
"""


@each_mpi
@pytest.mark.parametrize("streams", [1, 3, 20])
def test_a_rank_that_comes_when_the_script_of_the_primary_is_over_catches_up(tmp_path, streams, python):
    ended = on_ranks(tmp_path, LATE, 3, streams, python=python)
    failed = (streams + 2) // 3
    assert (ended.code, sorted(ended.out.splitlines())) == (0, [f"{rank} {failed}" for rank in range(3)]), ended.err


# --- streams in the midst of others -------------------------------------------------------------------------------
WITHIN = """
def total(n):
    w = Work(range(n))
    w.job(lambda y: y + 1)
    return sum(w.run())

def mapped(n):
    return sum(map(lambda y: y + 1, range(n)))

def threads(n):
    return sum(map(lambda y: y + 1, range(n), useMultiprocessing=False))

def elsewhere(n):
    return asyncio.run(asyncio.to_thread(total, n))

def program(n):
    out, _ = invoke([sys.executable, "-c", f"from job_stream import map; print(sum(map(abs, range({n} + 1))))"])
    return int(out)

for inner in (total, mapped, threads, elsewhere, program):
    w = Work((inner(x) for x in range(3)))
    w.init(lambda: inner(4))
    w.job(lambda x: x)
    found = w.run()

    sums = []
    w = Work(range(4))
    w.job(lambda x: x)
    w.result(lambda x: sums.append(inner(x)))
    w.run()

    w = Work([2])
    w.finish(lambda found: inner(found[0]))
    last = w.run()
    if rank == 0:
        say(inner.__name__, sorted(found), sorted(sums), last)
"""
INNER = ("total", "mapped", "threads", "elsewhere", "program")
FOUND_WITHIN = "".join(f"{name} [0, 1, 3, 10] [0, 1, 3, 6] 3\n" for name in INNER)


@each_mpi
def test_a_stream_in_a_function_of_the_script_or_in_the_initial_work_runs_on_several_ranks(tmp_path, python):
    ended = on_ranks(tmp_path, WITHIN, 2, python=python)
    assert (ended.code, ended.out) == (0, FOUND_WITHIN), ended.err


def test_a_stream_in_a_function_of_the_script_or_in_the_initial_work_runs_on_one_rank(start):
    ended = start(PRELUDE + WITHIN).ended()
    assert (ended.code, ended.out) == (0, FOUND_WITHIN), ended.err


def test_an_error_in_such_a_stream_is_raised_where_it_was_run_and_then_everywhere(tmp_path):
    text = """
    w = Work([3])

    @w.result
    def result(x):
        try:
            map(lambda y: 1 / y, [0])
        except ZeroDivisionError:
            say("caught", rank)
        map(lambda y: 1 / y, [0])

    try:
        w.run()
    except ZeroDivisionError:
        say("raised", rank)
    """
    ended = on_ranks(tmp_path, text, 2)
    assert (ended.code, sorted(ended.out.splitlines())) == (0, ["caught 0", "raised 0", "raised 1"]), ended.err


@each_mpi
def test_a_stream_of_another_thread_is_refused_while_one_is_under_way(tmp_path, python):
    text = """
    def other():
        wait_for(f"begun {rank}")
        try:
            map(abs, [1])
        except Exception as error:
            say(rank, type(error).__name__, error)
        announce(f"refused {rank}")

    def work(x):
        for number in (0, 1):
            announce(f"begun {number}")
            wait_for(f"refused {number}")
        return x

    thread = threading.Thread(target=other)
    thread.start()
    found = map(work, [7])
    thread.join()
    say(rank, found)
    thread = threading.Thread(target=lambda: say(rank, map(abs, [-5])))  # one after the other is fine
    thread.start()
    thread.join()
    """
    ended = on_ranks(tmp_path, text, 2, python=python)
    refusal = "PlanError a stream is under way already, in thread 'MainThread': on several ranks streams run one after"
    lines = sorted(ended.out.splitlines())
    assert ended.code == 0, ended
    assert [line for line in lines if "Error" not in line] == ["0 [5]", "0 [7]", "1 None", "1 None"]
    assert [line[: 2 + len(refusal)] for line in lines if "Error" in line] == [f"0 {refusal}", f"1 {refusal}"]


@each_mpi
def test_a_child_process_of_any_rank_and_a_thread_of_a_job_run_streams_of_their_own(tmp_path, python):
    text = """
    def child(found):
        found.put(map(abs, [-rank - 1]))

    def work(x):
        time.sleep(0.01)
        found = []
        thread = threading.Thread(target=lambda: found.append((getRank(), map(abs, [-x]))))
        thread.start()
        thread.join()
        return found[0]

    for again in range(2):  # the second time, MPI is there already
        found = map(work, range(40))
        if rank == 0:
            say({r for r, _ in found} == {0, 1}, [x for _, (x,) in found] == list(range(40)))
        context = multiprocessing.get_context("fork")
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        say(rank, queue.get())
        process.join()
    """
    ended = on_ranks(tmp_path, text, 2, python=python)
    assert ended.code == 0, ended
    assert sorted(ended.out.splitlines()) == ["0 [1]", "0 [1]", "1 [2]", "1 [2]", "True True", "True True"], ended.err
