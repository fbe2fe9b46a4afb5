"""Signals to a script with a checkpoint: SIGTERM ends it with 75 at any moment once it has begun; SIGUSR1 never does.

JOBS_TEST_KILLS=200 asks for that many random moments instead of a few.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from checkpoint_scripts import STOPPED, Saved, right
from mpi_support import World, find_mpirun, is_open_mpi
from support import Ended, wait_until

Make = Callable[[str], Saved]
MOMENTS = int(os.environ.get("JOBS_TEST_KILLS", "12"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "1"))
TERM, USR1 = signal.SIGTERM, signal.SIGUSR1

open_mpi = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


def sent(script: Saved, *numbers: int, place: str = "") -> Ended:
    """Starts it, sends signals while it is held, one when the one before has come, and waits for its end."""
    started = script.start(place)
    script.gate("held").wait()
    for number in numbers:
        os.kill(started.pid, number)
        wait_until(lambda number=number: not is_pending(started.pid, number), "the signal to come")
    script.gate("let go").open()
    ended = started.ended()
    wait_until(lambda: not started.living(), "all processes to end")
    return ended


def is_pending(pid: int, number: int) -> bool:
    """Whether a signal has not come to any thread yet; one that is no more has got all."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    if any(line.startswith("State:\tZ") for line in lines):
        return False
    pending = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd:", "ShdPnd:"))]
    return any(mask >> (number - 1) & 1 for mask in pending)


# --- places where a script can be -------------------------------------------------------------------------------------
HELD = """
def here_it_is():
    Gate(here / "held").open()
    end = time.monotonic() + 60
    while not Gate(here / "let go").is_open and time.monotonic() < end:
        time.sleep(0.01)

def place(name):
    if name == sys.argv[1] and not went_on:
        here_it_is()
"""
PLACES = """
import atexit, threading
from concurrent.futures import ThreadPoolExecutor
atexit.register(place, "an exit function")
w = Work(range(20), cpus=1, checkpointFile=state, checkpointInterval=600)
place("before the stream")
@w.init
def load():
    place("an init function")
@w.job
def work(x):
    return x
@w.result
def take(x):
    place("a result function")
    note("results", x)
w.run()
place("after the stream")
def linger():
    if sys.argv[1] == "a thread" and not went_on:
        while threading.main_thread().is_alive():
            time.sleep(0.01)
        here_it_is()
threading.Thread(target=linger).start()
print("over", flush=True)
"""
WHERE = [
    *("before the stream", "an init function", "a result function", "after the stream", "a thread"),
    "an exit function",
]


def comes_to_its_end(script: Saved, place: str) -> None:
    script.go_on()
    ended = script.run(place)
    assert ended.code == 0, ended.err
    assert "nothing to do" in ended.err or ended.out.endswith("over\n")
    assert sorted(map(int, script.notes("results"))) == list(range(20))
    assert script.done.exists()


@pytest.mark.parametrize("place", WHERE)
def test_a_script_that_is_asked_to_end_ends_with_75_wherever_it_is(saved: Make, place: str) -> None:
    script = saved(HELD + PLACES)
    ended = sent(script, TERM, place=place)
    assert ended.code == STOPPED, ended.err
    assert ended.err.count("with exit code 75") == 1
    comes_to_its_end(script, place)


@pytest.mark.parametrize("second", [TERM, USR1])
@pytest.mark.parametrize("place", WHERE)
def test_more_signals_change_nothing(saved: Make, place: str, second: int) -> None:
    script = saved(HELD + PLACES)
    ended = sent(script, USR1, TERM, second, second, place=place)
    assert ended.code == STOPPED, ended.err
    comes_to_its_end(script, place)


@pytest.mark.parametrize("place", WHERE)
def test_asking_for_a_checkpoint_ends_no_script_wherever_it_is(saved: Make, place: str) -> None:
    script = saved(HELD + PLACES)
    ended = sent(script, USR1, USR1, place=place)
    assert (ended.code, ended.out) == (0, "over\n"), ended.err
    assert sorted(map(int, script.notes("results"))) == list(range(20))


ON_THE_WAY_OUT = """
w = Work(range(20), cpus=1, checkpointFile=state, checkpointInterval=600)
@w.{kind}
def function({parameters}):
    if not went_on:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60 if "{kind}" != "result" else 0)
if "{kind}" == "init":
    w.job(abs)
try:
    w.run()
finally:
    if not went_on:
        here_it_is()
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("kind", ["init", "result", "finish"])
@pytest.mark.parametrize("handlers", ["", "for number in (10, 15): signal.signal(number, lambda *_: os._exit(3))\n"])
def test_a_second_signal_on_the_way_out_does_not_undo_the_first(saved: Make, kind: str, handlers: str) -> None:
    script = saved(HELD + handlers + ON_THE_WAY_OUT.format(kind=kind, parameters="" if kind == "init" else "x"))
    ended = sent(script, USR1, TERM, TERM, USR1)
    assert (ended.code, ended.out) == (STOPPED, "cleaned up\n"), ended.err
    script.go_on()
    assert script.run().code == 0


def test_a_script_that_has_begun_nothing_ends_as_any_other(saved: Make) -> None:
    script = saved(HELD + "here_it_is()\nWork([1], checkpointFile=state)")
    assert sent(script, TERM).code == -TERM


def test_a_script_without_a_checkpoint_ends_as_any_other(saved: Make) -> None:
    script = saved(HELD + "w = Work([1])\nw.job(abs)\nw.run()\nhere_it_is()")
    assert sent(script, TERM).code == -TERM


def test_whoever_goes_on_after_a_stop_can_be_stopped_again(saved: Make) -> None:
    script = saved(
        HELD
        + """
w = Work(range(3), checkpointFile=state)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
except SystemExit:
    pass
here_it_is()
"""
    )
    assert sent(script, TERM).code == STOPPED


# --- any moment -------------------------------------------------------------------------------------------------------
TRACED = """
pid, count, at, number = os.getpid(), 0, int(sys.argv[1]), int(sys.argv[2])

def trace(frame, event, argument):
    global count
    if event == "line" and os.getpid() == pid:
        count += 1
        if count == at:
            os.kill(pid, number)
    return trace

w = Work(range(30), cpus=1, checkpointFile=state, checkpointInterval=0.01)
sys.settrace(trace)
try:
    w.init(lambda: None)
    w.job(abs)
    @w.result
    def take(x):
        note("results", x)
    w.run()
finally:
    sys.settrace(None)
    print("over", count, flush=True)
"""


def lines_of(script: Saved) -> int:
    """How many lines the script's thread passes from the making of the Work to the end of the stream."""
    ended = script.run(0, 0)
    assert ended.code == 0, ended.err
    return int(ended.out.split()[-1])


@pytest.mark.parametrize("number", [TERM, USR1])
def test_signals_at_any_moment_lose_nothing(tmp_path: Path, number: int) -> None:
    with Saved(tmp_path / "dry", TRACED) as script:
        lines = lines_of(script)
    assert lines > 500
    chance = random.Random(SEED)
    for moment in range(MOMENTS):
        line = int(lines * (moment + chance.random()) / MOMENTS) + 1
        with Saved(tmp_path / str(moment), TRACED) as script:
            ended = script.run(line, number)
            told = f"line {line} of {lines}: {ended}"
            assert ended.code in ((STOPPED,) if number == TERM and "\nover" not in ended.out else (0, STOPPED)), told
            assert number == TERM or ended.code == 0, told
            if ended.code == STOPPED:
                assert script.run(0, 0).code == 0
            found = sorted(map(int, script.notes("results")))
            assert found == list(range(30)), told


FROM_OUTSIDE = """
w = Work(range(30), cpus=1, checkpointFile=state, checkpointInterval=0.01)
(here / "made").touch()
w.job(abs)
@w.result
def take(x):
    note("results", x)
w.run()
print("over", flush=True)
"""


@pytest.mark.parametrize("number", [TERM, USR1])
def test_signals_from_outside_end_a_script_with_75_or_come_too_late(tmp_path: Path, number: int) -> None:
    chance = random.Random(SEED)
    for moment in range(MOMENTS):
        with Saved(tmp_path / str(moment), FROM_OUTSIDE) as script:
            started = script.start()
            wait_until((script.folder / "made").exists, "the Work to be made")
            time.sleep(chance.random() * 0.3)
            os.kill(started.pid, number)
            ended = started.ended()
            stopped = [(STOPPED, ""), (STOPPED, "over\n")] if number == TERM else []
            assert (ended.code, ended.out) in [(0, "over\n"), *stopped], ended
            if ended.code == STOPPED:
                assert script.run().code == 0
            assert sorted(map(int, script.notes("results"))) == list(range(30))


# --- other handlers ---------------------------------------------------------------------------------------------------
C_HANDLERS = """
import faulthandler
file = (here / "told").open("w")
def count():
    return (here / "told").read_text().count("most recent call first")
{before}
w = Work(range(3), cpus=1, checkpointFile=state)
{between}
w.job(abs)
@w.init
def load():
    {within}
@w.result
def take(x):
    pass
w.run()
os.kill(os.getpid(), signal.SIGUSR1)
print(count(), flush=True)
"""
REGISTER = "faulthandler.register(signal.SIGUSR1, file)"


@pytest.mark.parametrize("when", ["before", "between", "within"])
def test_handlers_of_c_code_are_back_after_a_stream(saved: Make, when: str) -> None:
    texts = {"before": "", "between": "", "within": "pass", when: REGISTER}
    right(saved(C_HANDLERS.format(**texts)).run(), 1)


@pytest.mark.parametrize("when", ["before", "between", "within"])
@pytest.mark.parametrize("number", [TERM, USR1])
def test_handlers_of_the_script_are_its_own_before_and_after_a_stream(saved: Make, when: str, number: int) -> None:
    register = f"signal.signal({number:d}, lambda *_: note('handled', 1))"
    ask = f"os.kill(os.getpid(), {number:d})"
    texts = {"before": "", "between": "", "within": "pass", when: register}
    if when != "within":
        texts["between"] += f"; {ask}" if texts["between"] else ask
    text = C_HANDLERS.format(**texts).replace("print(count()", f"{ask}\nprint(len(Tally(here / 'handled').lines())")
    text = text.replace("os.kill(os.getpid(), signal.SIGUSR1)", "")
    right(saved(text).run(), 2 if when != "within" else 1)


def test_a_signal_that_is_ignored_stays_so_outside_of_a_stream(saved: Make) -> None:
    script = saved(
        """
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        w = Work(range(3), cpus=1, checkpointFile=state)
        os.kill(os.getpid(), signal.SIGTERM)
        w.job(abs)
        found = sorted(w.run())
        os.kill(os.getpid(), signal.SIGTERM)
        print(found, signal.getsignal(signal.SIGTERM) == signal.SIG_IGN)
        """
    )
    right(script.run(), "[0, 1, 2] True")


# --- processes of the script ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("where", ["before the stream", "in a result function"])
@pytest.mark.parametrize("number", [TERM, USR1])
def test_processes_that_the_script_forks_end_as_any_others(saved: Make, where: str, number: int) -> None:
    script = saved(
        f"""
        import multiprocessing
        def child():
            fork = multiprocessing.get_context("fork")
            process = fork.Process(target=time.sleep, args=(60,))
            process.start()
            os.kill(process.pid, {number:d})
            process.join(30)
            print(process.exitcode, flush=True)
            process.kill()
            process.join()
        w = Work(range(1), cpus=1, checkpointFile=state)
        if {where == "before the stream"}:
            child()
        w.job(abs)
        @w.result
        def take(x):
            if {where != "before the stream"}:
                child()
        w.run()
        """
    )
    right(script.run(), -number)


def test_a_signal_to_all_processes_while_they_begin_ends_with_75(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    for moment in range(MOMENTS):
        text = f"""
            import threading
            w = Work(range(1000), cpus=2, checkpointFile=state, checkpointInterval=600)
            def send():
                time.sleep({chance.random() * 0.05})
                os.killpg(0, signal.SIGTERM)
            @w.job
            def work(x):
                time.sleep(0.01)
                return x
            threading.Thread(target=send, daemon=True).start()
            w.run()
            """
        with Saved(tmp_path / str(moment), text) as script:
            ended = script.run()
            assert (ended.code, ended.out) == (STOPPED, ""), ended.err
            assert "Traceback" not in ended.err


@open_mpi
@pytest.mark.parametrize("place", ["before the stream", "an init function", "after the stream"])
def test_ranks_end_with_75_when_they_are_asked_to_wherever_the_first_is(saved: Make, place: str) -> None:
    script = saved(
        HELD
        + f"""
def hold_at(place):
    if place == {place!r} and getRank() == 0:
        here_it_is()
w = Work(range(20), cpus=1, checkpointFile=state)
Gate(here / f"made {{getRank()}}").open()
hold_at("before the stream")
@w.init
def load():
    hold_at("an init function")
w.job(abs)
w.run()
hold_at("after the stream")
"""
    )
    with World(script.path, 2, env={"JOBS_CPUS": "1"}) as world:
        for name in ("held", "made 1"):
            script.gate(name).wait()
        for pid in set(world.pids().values()):
            os.kill(pid, TERM)
        ended = world.ended()
        world.gone()
    assert ended.code == STOPPED, ended.err
    assert "Traceback" not in ended.err
