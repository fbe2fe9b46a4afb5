"""Checkpoints in real runs: what is killed goes on when it is started again, and ends as if nothing had happened.

Scripts come to a stop by themselves at a certain item, so that a kill hits its moment at any speed of the machine.
"""

from __future__ import annotations

import contextlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoint_scripts import LONG_FRAMES, SCRIPTS, Saved, are_long, right, saved_again
from support import wait_until

Make = Callable[[str], Saved]


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Make]:
    """``saved(text)`` makes a script with a checkpoint."""
    with contextlib.ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


# --- the serial result --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", SCRIPTS)
def test_a_killed_script_gives_the_serial_result_when_it_is_started_again(saved: Make, kind: str) -> None:
    text, expected = SCRIPTS[kind]
    script = saved(text)
    script.killed()
    ended = script.run()
    right(ended, expected)
    assert f"job_stream: going on from {script.state}: " in ended.err


def test_a_run_may_be_killed_again_and_again(saved: Make) -> None:
    script = saved(
        """
        w = Work(range(300), cpus=2, **keywords)
        @w.job
        def work(x):
            note("calls", x)
            hold(len(sys.argv) > 1 and x >= int(sys.argv[1]))
            return x
        print(sorted(w.run()))
        """
    )
    for stop in (50, 120, 180, 240):
        script.held(stop).kill()
        script.gate("held").path.unlink()
    right(script.run(), list(range(300)))
    assert len(script.notes("calls")) < 2 * 300


def test_random_numbers_are_the_same_as_without_a_kill(saved: Make) -> None:
    script = saved(
        """
        w = Work(range(100), cpus=2, seed=5, **keywords)
        @w.job
        def fan(x):
            hold(x == 60)
            return Multiple([x + job_stream.rng().random(), x - job_stream.rng().random()])
        @w.job
        def blur(x):
            return x + job_stream.rng().random()
        print(sorted(w.run()))
        """
    )
    script.killed()
    interrupted = script.run()
    script.done.unlink()
    assert (interrupted.code, interrupted.out) == script.run()[:2], interrupted.err
    assert len(eval(interrupted.out)) == 200


# --- where it is written, and when ----------------------------------------------------------------------------------
WHERE = """
w = Work(range(20), cpus=1)
@w.job
def work(x):
    hold(x == 10)
    return x
print(sorted(w.run()))
"""


def test_the_environment_names_the_checkpoint(saved: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    script = saved(WHERE)
    monkeypatch.setenv("JOBS_CHECKPOINT", str(script.state))
    started = script.start()
    wait_until(script.state.exists, "the first checkpoint")
    script.gate("held").wait()
    started.kill()
    script.go_on()
    ended = script.run()
    right(ended, list(range(20)))
    assert "going on from" in ended.err
    assert script.done.exists()


def test_the_keyword_wins(saved: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    script = saved(WHERE.replace("cpus=1", "cpus=1, **keywords"))
    monkeypatch.setenv("JOBS_CHECKPOINT", str(script.folder / "other"))
    script.killed()
    right(script.run(), list(range(20)))
    assert script.done.exists()
    assert not list(script.folder.glob("other*"))


def test_checkpoints_are_written_while_work_goes_on(saved: Make) -> None:
    script = saved(
        """
        w = Work(range(1_000_000_000), cpus=1, **keywords)
        @w.job
        def work(x):
            if (here / "enough").exists():
                os.kill(os.getppid(), signal.SIGKILL)  # lanes go with it
            return None
        w.run()
        """
    )
    script.start()
    saved_again(script.state, 4)
    info = script.info()
    assert (info.finished, info.open > 0, info.delivered, info.stages) == (False, True, 0, ("job work",))


# --- results that a function handles ----------------------------------------------------------------------------------
HANDLER = """
import struct
from job_stream.checkpoints.log import _COUNTER

def handled():
    '''How many calls of the handler have come to their end.'''
    with open(here / "state.journal", "rb") as file:
        return struct.unpack_from("=Q", file.read(_COUNTER + 8), _COUNTER)[0]

def source():
    for x in range(60):
        if x and x % 12 == 0 and Once(here)(x):
            while handled() < 2 * x:  # all that has come so far
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGKILL)
        yield x

w = Work(source(), cpus=2, checkpointFile=state, checkpointInterval=float(sys.argv[1]))
@w.job
def work(x):
    return Multiple([x, x + 1000])
"""
TO_A_FILE = """
@w.result
def write(x):
    with open(here / "results", "a") as file:
        print(x, file=file)
w.run()
"""
TO_A_TABLE = """
import sqlite3
table = sqlite3.connect(here / "table")
table.execute("create table if not exists results (x integer)")
@w.result
def insert(x):
    with table:
        table.execute("insert into results values (?)", (x,))
w.run()
with open(here / "results", "w") as file:
    print(*(x for (x,) in table.execute("select x from results")), sep="\\n", file=file)
table.close()
"""
HANDLED = Counter(x + more for x in range(60) for more in (0, 1000))


def killed_often(script: Saved, *arguments: object) -> int:
    """Starts it until it comes to its end; how often it was killed."""
    kills = 0
    while (ended := script.run(*arguments)).code == -signal.SIGKILL:
        kills += 1
    assert ended.code == 0, ended.err
    return kills


@pytest.mark.parametrize("interval_s", [0.02, 600])
@pytest.mark.parametrize("where", [TO_A_FILE, TO_A_TABLE], ids=["file", "table"])
def test_each_result_is_handled_once_if_no_call_is_under_way(saved: Make, where: str, interval_s: float) -> None:
    script = saved(HANDLER + where)
    assert killed_often(script, interval_s) == 4
    assert Counter(map(int, script.notes("results"))) == HANDLED


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_only_a_call_that_is_under_way_is_repeated(saved: Make, before: bool) -> None:
    script = saved(
        f"""
        w = Work(range(60), cpus=2, **keywords)
        w.job(abs)
        @w.result
        def handle(x):
            dies = x in (5, 30, 59) and Once(here)(x)
            if dies and {before}:
                os.kill(os.getpid(), signal.SIGKILL)
            note("results", x)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)
        w.run()
        """
    )
    assert killed_often(script) == 3
    twice = [] if before else [5, 30, 59]
    assert Counter(map(int, script.notes("results"))) == Counter([*range(60), *twice])


def test_a_result_is_known_again_whatever_the_order_in_its_sets_and_the_sharing_of_its_parts(saved: Make) -> None:
    script = saved(
        """
        w = Work(iter(range(20)), cpus=1, checkpointFile=state, checkpointInterval=600)
        @w.job
        def work(x):
            name = f"number {x}"
            parts = (name, name) if went_on else (name, f"number {x}")
            elements = {f"element {x} {i}" for i in range(9)}
            return {"parts": parts, "set": elements, "frozen": [frozenset(elements)]}
        @w.result
        def handle(result):
            note("results", result["parts"][1])
            hold(len(Tally(here / "results").lines()) == 10)
        w.run()
        """
    )
    script.start()
    script.gate("held").wait()
    script.started[0].kill()
    script.go_on()
    ended = script.run()
    assert ended.code == 0, ended.err
    twice = Counter(script.notes("results")) - Counter(f"number {x}" for x in range(20))
    assert twice.total() == 1, "the call that was under way"


def test_results_that_wait_for_a_slow_handler_are_not_lost(saved: Make) -> None:
    script = saved(
        """
        def source():
            for x in range(100):
                if x == 50:
                    hold()  # all before it are on their way to the handler, or with it
                yield x
        w = Work(source(), cpus=2, **keywords)
        w.job(abs)
        @w.result
        def handle(x):
            if not went_on and len(Tally(here / "results").lines()) == 5:
                Gate(here / "stuck").open()
                time.sleep(600)
            note("results", x)
        w.run()
        """
    )
    started = script.start()
    script.gate("stuck").wait()
    script.gate("held").wait()
    saved_again(script.state, 3)
    assert script.info().delivered <= 5
    started.kill()
    script.go_on()
    assert script.run().code == 0
    assert Counter(map(int, script.notes("results"))) == Counter(range(100))


@pytest.mark.parametrize("last", ["result", "finish"])
def test_a_function_that_failed_is_called_again_with_what_it_failed_for(saved: Make, last: str) -> None:
    script = saved(
        f"""
        w = Work(range(30), cpus=2, **keywords)
        w.job(abs)
        @w.{last}
        def handle(found):
            if not went_on and {"found == 10" if last == "result" else "len(found) == 30"}:
                raise ValueError("full")
            note("results", *(sorted(found) if type(found) is list else [found]))
        w.run()
        """
    )
    ended = script.run()
    assert ended.code == 1
    assert "ValueError: full" in ended.err
    script.go_on()
    ended = script.run()
    assert ended.code == 0, ended.err
    assert sorted(map(int, " ".join(script.notes("results")).split())) == list(range(30))


def test_a_run_ends_with_its_last_result_and_not_when_a_checkpoint_is_due(saved: Make) -> None:
    script = saved(
        """
        import threading
        from job_stream.engine import messages as m
        from job_stream.runtime.loop import Loop
        from job_stream.runtime.runtime import Runtime

        handling, ending, taken = (threading.Event() for _ in range(3))
        deliver, tell = Runtime._deliver, Loop._handle

        def delivered(self, *arguments):
            deliver(self, *arguments)
            taken.set()

        def told(self, event):
            if type(event) is m.Repaid and handling.is_set():
                ending.set()  # this ends the stream; the result is taken just before, when nobody sleeps yet
                taken.wait(60)
            tell(self, event)

        Runtime._deliver, Loop._handle = delivered, told

        def source():
            yield 1
            handling.wait(60)
            yield 0

        w = Work(source(), cpus=1, checkpointFile=state, checkpointInterval=1e6)
        w.job(lambda x: x or None)
        @w.result
        def handle(x):
            handling.set()
            ending.wait(60)
            print(x)
        w.run()
        """
    )
    right(script.run(), 1)


# --- threads ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["iter(made())", "made()"], ids=["iterator", "list"])
def test_in_threads_items_come_back_as_they_were_given(saved: Make, source: str) -> None:
    script = saved(
        f"""
        def made():
            return [[x] for x in range(20)]
        w = Work({source}, useMultiprocessing=False, cpus=2, **keywords)
        @w.job
        def fan(item):
            item.append("fan")
            return Multiple([item, [*item, "second"]])
        @w.frame(store=lambda: Object(rounds=0, items=[]), emit=lambda store: store.items)
        def loop(store, item):
            store.rounds += 1
            item.append(store.rounds)
            if store.rounds <= 2:
                return item
        @w.job
        def change(item):
            item.append("changed")
            hold(item[0] == 10)
            return item
        @w.frameEnd
        def keep(store, item):
            store.items.append(len(item))
        print(sorted(w.run()))
        """
    )
    script.killed()
    resumed = script.run()
    script.done.unlink()
    assert resumed == script.run()._replace(err=resumed.err)
    assert resumed.code == 0, resumed.err
    assert len(eval(resumed.out)) == 40


# --- long work in one lane --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("cpus", [1, 2])  # with two, one has nothing to do
def test_the_rounds_of_a_long_frame_are_not_done_again(saved: Make, cpus: int) -> None:
    script = saved(LONG_FRAMES)
    started = script.start(1, cpus)
    script.gate("busy 0").wait()
    saved_again(script.state, 4)
    started.kill()
    script.go_on()
    ended = script.run(1, cpus)
    assert ended.code == 0, ended.err
    are_long(eval(ended.out), script, 1)


def test_the_elements_of_a_long_multiple_are_not_worked_on_again(saved: Make) -> None:
    script = saved(
        """
        w = Work([3], cpus=1, **keywords)
        @w.job
        def fan(x):
            return Multiple(range(2000))
        @w.job
        def work(x):
            if not went_on:
                time.sleep(0.001)
            note(f"calls {went_on}", x)
            if x == 1000:
                Gate(here / "busy").open()
            return x
        results = w.run()
        print(sorted(results) == list(range(2000)))
        """
    )
    started = script.start()
    script.gate("busy").wait()
    saved_again(script.state, 2)
    started.kill()
    script.go_on()
    right(script.run(), True)
    assert len(script.notes("calls True")) < 1500
