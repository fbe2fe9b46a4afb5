"""Checkpoints where runs are stopped: by kills at any moment, by signals and by time limits.

JOBS_TEST_KILLS=200 asks for that many kills at random moments instead of a few.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from checkpoint_scripts import LONG_FRAMES, SCRIPTS, STOPPED, Saved, are_long, right, saved_again, stamp
from engine_support import plan_of
from mpi_support import World, find_mpirun, is_open_mpi, pythons
from support import DEADLINE_S, FrameModel, JobModel, ReduceModel, Script, SlowModel, serially, wait_until

from job_stream.checkpoints import stopping
from job_stream.checkpoints.saver import EngineThread, Saver
from job_stream.checkpoints.stopping import TimeLimit
from job_stream.engine.rank import Rank
from job_stream.stream.plan import ResultsUse

Make = Callable[[str], Saved]
KILLS = int(os.environ.get("JOBS_TEST_KILLS", "12"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "1"))

open_mpi = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Make]:
    """``saved(text)`` makes a script with a checkpoint."""
    with contextlib.ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


def on_ranks(
    script: Saved, ranks: int, *arguments: object, ulfm: bool = False, python: str = sys.executable, **env: object
) -> World:
    texts = {"JOBS_CPUS": "1", **{name: str(value) for name, value in env.items()}}
    return World(script.path, ranks, *arguments, ulfm=ulfm, env=texts, python=python)


# --- kills at any moment ----------------------------------------------------------------------------------------------
STAGES = """(
    JobModel(7, 3, 1),
    Strike(),
    Loop(3, 3, 5, (JobModel(0, 2, 3), Strike(), Loop(2, 2, 1, (JobModel(5, 1, 2), Strike())), ReduceModel(4))),
    JobModel(0, 2, 6),
    Strike(),
    Loop(2, 3, 2, (Strike(), JobModel(0, 1, 8))),
)"""
ITEMS = [(x % 97, 2) for x in range(60)]

STRIKING = f"""
import json
from typing import NamedTuple
from support import FrameModel, JobModel, ReduceModel, record

victim, count, number = sys.argv[1], int(sys.argv[2]), sys.argv[3]
rank_pid = os.getpid()
calls = os.open(here / f"calls{{number}}", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
is_lane = False

def called(by_lane):
    '''Counts the calls of all processes; the one that makes call number count strikes, or the next that can.'''
    global is_lane
    is_lane = is_lane or by_lane
    os.write(calls, b".")
    if os.fstat(calls).st_size >= count and may_strike() and Once(here)(f"struck{{number}}"):
        strike()

def may_strike():
    return {{"keeper": not is_lane, "lane": is_lane, "rank": getRank() != 0}}.get(victim, True)

def strike():
    if victim == "all":
        os.killpg(os.getpgid(rank_pid), signal.SIGKILL)
    os.kill(rank_pid if "rank" in victim else os.getpid(), signal.SIGKILL)
    time.sleep(60)

class Strike(NamedTuple):
    def record(self, w):
        @w.job
        def work(item):
            called(True)
            time.sleep(3e-4)
            return item

class Loop(FrameModel):
    def again(self, item):
        called(False)
        return super().again(item)

w = Work({ITEMS}, cpus=None if getRank() else 2, checkpointFile=state, checkpointInterval=0.01)
record(w, {STAGES})
if sys.argv[4] == "reduced":
    @w.reduce(store=list, emit=Multiple)
    def collect(store, works, others):
        called(False)
        gather(store, works, others)
if sys.argv[4] == "handled":
    @w.result
    def write(item):
        note("results", *item)
results = w.run()
if getRank() == 0:
    lines = Tally(here / "results").lines()
    print(json.dumps(sorted(results or [tuple(map(int, line.split())) for line in lines])))
"""


def serial() -> Counter[tuple[int, int]]:
    models = {"JobModel": JobModel, "ReduceModel": ReduceModel, "Loop": FrameModel, "Strike": lambda: SlowModel(99)}
    return Counter(serially(eval(STAGES, models), ITEMS))


class Killing:
    """Runs that are killed at seeded moments, and gone on with until one comes to its end.

    Args:
        folder: for what they leave.
        victims: what may be killed.
        start: starts a run: with the script, which run it is, and its arguments.
    """

    def __init__(self, folder: Path, victims: list[str], start: Callable[..., tuple[int, str, str]]) -> None:
        self._folder = folder
        self._victims = victims
        self._start = start
        self._chance = random.Random(SEED)
        self.kills: Counter[str] = Counter()
        self.stories = 0

    def story(self, kind: str) -> tuple[str, str]:
        """One run from its beginning to its end, over all kills; what it printed, and how it was told."""
        self.stories += 1
        told = [kind]
        with Saved(self._folder / f"story{self.stories}", STRIKING) as script:
            for number in range(1000):
                victim, count = self._chance.choice(self._victims), int(self._chance.expovariate(1 / 700))
                told.append(f"{victim} at {count}")
                code, out, err = self._start(self._chance, script, victim, count, number, kind)
                struck = (script.folder / f"struck{number}.once").exists()
                self.kills[victim] += struck
                if code == 0:
                    return out, f"seed {SEED}, story {self.stories}: {told}"
                assert struck, f"{told}: {code}, {err}"
        raise AssertionError(f"no end: {told}")

    def check(self, kills: int) -> None:
        """Goes on until so many processes have been killed."""
        signal.setitimer(signal.ITIMER_REAL, DEADLINE_S + 4 * kills, 15)  # the test's limit, which is for a few
        expected = serial()
        while self.kills.total() < kills:
            kind, before = self._chance.choice(["kept", "reduced", "handled"]), self.kills.total()
            out, told = self.story(kind)
            found = Counter(map(tuple, json.loads(out)))
            repeated = found - expected  # a call of the handler may have been under way
            assert found - repeated == expected, told
            assert repeated.total() <= (self.kills.total() - before if kind == "handled" else 0), told
        print(f"{dict(self.kills)} killed in {self.stories} runs, all identical to the serial run")


def test_kills_at_any_moment_change_no_result(tmp_path: Path) -> None:
    def start(chance: random.Random, script: Saved, *arguments: object) -> tuple[int, str, str]:
        started = script.start(*arguments)
        ended = started.ended()
        started.kill()
        return ended

    Killing(tmp_path, ["lane", "keeper", "all", "all"], start).check(KILLS)


@open_mpi
def test_kills_of_ranks_at_any_moment_change_no_result_on_any_number_of_ranks(tmp_path: Path) -> None:
    def start(chance: random.Random, script: Saved, victim: str, *arguments: object) -> tuple[int, str, str]:
        with on_ranks(script, chance.choice([1, 2, 4]), victim, *arguments, ulfm=victim == "rank") as world:
            return world.ended()

    Killing(tmp_path, ["lane", "keeper", "rank", "any rank", "any rank"], start).check(-(-KILLS // 3))


@open_mpi
@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [("jobs", 2, 1), ("frames", 1, 2), ("reductions", 4, 2), ("a reduction in a frame", 2, 4), ("map", 4, 1)],
)
def test_a_run_goes_on_with_another_number_of_ranks(saved: Make, kind: str, before: int, after: int) -> None:
    text, expected = SCRIPTS[kind]
    script = saved(text.replace("print(", "print_once(").replace("cpus=2", "cpus=1"))
    helper = "\ndef print_once(result):\n    if getRank() == 0:\n        print(result)\n"
    script.path.write_text(script.path.read_text().replace("\nwent_on =", helper + "\nwent_on ="))
    text = script.path.read_text().replace("sorted(w.run())", "sorted(w.run() or [])")
    script.path.write_text(text)
    with on_ranks(script, before):
        script.gate("held").wait()
        saved_again(script.state)
    script.go_on()
    with on_ranks(script, after) as world:
        ended = world.ended()
    right(ended, expected)
    assert "going on from" in ended.err


@open_mpi
@pytest.mark.parametrize("ranks", [2, 3])  # with three, one has nothing to do
def test_the_rounds_of_long_frames_on_any_rank_are_not_done_again(saved: Make, ranks: int) -> None:
    script = saved(LONG_FRAMES)
    with on_ranks(script, ranks, 2, 1):
        for item in range(2):
            script.gate(f"busy {item}").wait()
        saved_again(script.state, 4)
    script.go_on()
    with on_ranks(script, ranks, 2, 1) as world:
        ended = world.ended()
    assert ended.code == 0, ended.err
    are_long(eval(ended.out), script, 2)


# --- signals and time limits ------------------------------------------------------------------------------------------
STOPPING = """
import json
keywords.update(checkpointInterval=600, **json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}"))
w = Work(range(300), cpus=1 if "JOBS_CPUS" in os.environ else 2, **keywords)
@w.job
def work(x):
    note(f"calls {went_on}", x)
    hold(x == 200)
    return x
results = w.run()
if results is not None:
    print(sorted(results))
"""


def goes_on(script: Saved) -> None:
    """Checks that what was stopped can be gone on with."""
    script.go_on()
    ended = script.run()
    right(ended, list(range(300)))
    assert "going on from" in ended.err


def was_saved_late(script: Saved) -> None:
    """Checks that not all is done again."""
    assert len(script.notes("calls True")) < 300


def waiting(script: Saved) -> Script:
    """Starts it, and waits until there is a checkpoint, and a lane that is stuck."""
    started = script.start()
    script.gate("held").wait()
    wait_until(script.state.exists, "the first checkpoint")
    return started


def test_a_checkpoint_can_be_asked_for(saved: Make) -> None:
    script = saved(STOPPING)
    started = waiting(script)
    for _ in range(2):
        os.kill(started.pid, signal.SIGUSR1)
        saved_again(script.state, 1)
    assert script.info().delivered > 0
    assert started.process.poll() is None
    started.kill()
    goes_on(script)
    was_saved_late(script)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["the script", "all its processes"])
def test_a_run_that_is_asked_to_end_saves_first(saved: Make, send: Callable[[int, int], None]) -> None:
    script = saved(STOPPING)
    started = waiting(script)
    before = stamp(script.state)
    send(started.pid, signal.SIGTERM)
    ended = started.ended()
    assert ended.code == STOPPED, ended.err
    assert stamp(script.state) != before
    wait_until(lambda: not started.living(), "all processes to end")
    goes_on(script)
    was_saved_late(script)


def test_who_is_asked_to_end_while_saving_saves_what_came_since(tmp_path: Path) -> None:
    plan = plan_of("job")
    posted: list[Any] = []
    woken = threading.Event()
    engine = EngineThread(posted.append, woken.set)
    saver = Saver(str(tmp_path / "state"), 600, TimeLimit(None), plan, ResultsUse.KEPT, engine)
    saver.begin(())
    state = Rank(plan, (), 1).capture()
    write = saver._file.write

    def asked(*what: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert woken.wait(DEADLINE_S)
        write(*what)

    saver._file.write = asked  # type: ignore[method-assign]

    def saves() -> None:
        with saver.signals():
            saver.save(state)
            wait_until(lambda: saver.due is not None, "the writing to end")
            assert not posted
            assert saver.is_due(time.monotonic())
            saver._file.write = write  # type: ignore[method-assign]
            saver.save(state)
            saver.close()

    with pytest.raises(SystemExit):
        saves()
    assert [error.code for error in posted] == [STOPPED]


def test_who_is_asked_to_end_when_nobody_looks_any_more_ends(tmp_path: Path) -> None:
    engine = EngineThread(print, lambda: None)
    saver = Saver(str(tmp_path / "state"), 600, TimeLimit(None), plan_of("job"), ResultsUse.KEPT, engine)
    with pytest.raises(SystemExit) as caught, saver.signals():
        os.kill(os.getpid(), signal.SIGTERM)
    assert caught.value.code == STOPPED


def test_the_time_of_the_environment_is_for_all_streams_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(stopping, "monotonic", lambda: now)
    monkeypatch.setenv("JOBS_TIME_LIMIT", "100")
    stopping._begin.cache_clear()
    first = TimeLimit(None).due(0)
    now += 60
    second, own = TimeLimit(None).due(0), TimeLimit(100).due(0)
    stopping._begin.cache_clear()
    assert (first, second, own) == (1090, 1096, 1150), "a tenth of what is left is kept"


class Interrupted(Saver):
    """SIGTERM comes while it answers SIGUSR1."""

    asked = False

    @property
    def _asked(self) -> bool:
        return self.asked

    @_asked.setter
    def _asked(self, value: bool) -> None:
        if self.asked and not value:
            self.asked = False
            self._on_signal(signal.SIGTERM, None)
        self.asked = value


def test_who_is_asked_to_end_while_another_signal_is_answered_ends(tmp_path: Path) -> None:
    plan = plan_of("job")
    posted: list[Any] = []
    engine = EngineThread(posted.append, lambda: None)
    saver = Interrupted(str(tmp_path / "state"), 1e6, TimeLimit(None), plan, ResultsUse.KEPT, engine)
    saver.begin(())
    state = Rank(plan, (), 1).capture()
    saver._on_signal(signal.SIGUSR1, None)
    while saver.is_due(time.monotonic()):
        saver.save(state)
        saver._join()
    saver.close()
    assert [error.code for error in posted] == [STOPPED]


@pytest.mark.parametrize("by", ["timeLimit", "JOBS_TIME_LIMIT", "SLURM_JOB_END_TIME"])
def test_a_run_whose_time_is_up_saves_and_ends(saved: Make, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = saved(STOPPING)
    if by == "timeLimit":
        ended = script.run('{"timeLimit": 1.5}')
    else:
        monkeypatch.setenv(by, str(1.5 + (time.time() if by == "SLURM_JOB_END_TIME" else 0)))
        ended = script.run()
        monkeypatch.delenv(by)
    assert (ended.code, ended.out) == (STOPPED, ""), ended.err
    goes_on(script)


def test_an_interrupt_leaves_a_checkpoint_that_can_be_gone_on_from(saved: Make) -> None:
    script = saved(STOPPING)
    started = waiting(script)
    os.kill(started.pid, signal.SIGUSR1)
    saved_again(script.state, 1)
    os.kill(started.pid, signal.SIGINT)
    ended = started.ended()
    assert ended.code not in (0, STOPPED)
    assert "KeyboardInterrupt" in ended.err
    goes_on(script)
    was_saved_late(script)


@open_mpi
@pytest.mark.parametrize("python", pythons())
def test_ranks_whose_time_is_up_save_and_end(saved: Make, python: str) -> None:
    script = saved(STOPPING)
    with on_ranks(script, 2, python=python, JOBS_TIME_LIMIT=3) as world:
        ended = world.ended()
        world.gone()
    assert (ended.code, ended.out) == (STOPPED, ""), ended.err
    assert "Traceback" not in ended.err
    goes_on(script)


@open_mpi
@pytest.mark.parametrize("whom", ["the launcher", "the ranks", "all processes"])
@pytest.mark.parametrize("python", pythons())
def test_ranks_that_are_asked_to_end_save_first(saved: Make, whom: str, python: str) -> None:
    script = saved(STOPPING)
    with on_ranks(script, 2, python=python) as world:
        script.gate("held").wait()
        wait_until(script.state.exists, "the first checkpoint")
        before = stamp(script.state)
        pids = {"the launcher": {world.process.pid}, "the ranks": set(world.pids().values())}
        for pid in pids.get(whom, world.living()):
            os.kill(pid, signal.SIGTERM)
        ended = world.ended()
        world.gone()
    assert ended.code == STOPPED or (whom != "the ranks" and ended.code != 0), ended
    assert stamp(script.state) != before
    assert "Traceback" not in ended.err
    goes_on(script)
    was_saved_late(script)


@open_mpi
@pytest.mark.parametrize("python", pythons())
def test_ranks_are_told_that_there_is_nothing_to_do(saved: Make, python: str) -> None:
    script = saved(STOPPING)
    script.go_on()
    for text in (f"{list(range(300))}\n", ""):
        with on_ranks(script, 2, python=python) as world:
            ended = world.ended()
            world.gone()
        assert (ended.code, ended.out) == (0, text), ended.err
    assert ended.err.count("nothing to do") == 1
    assert len(script.notes("calls True")) == 300


@open_mpi
@pytest.mark.parametrize("fails", ["checkpoint", "init"])
@pytest.mark.parametrize("python", pythons())
def test_all_ranks_end_when_the_first_cannot_begin(saved: Make, fails: str, python: str) -> None:
    script = saved(
        """
        w = Work(range(300), **keywords)
        @w.init
        def begin():
            raise ValueError("nothing to begin with")
        w.job(abs)
        w.run()
        """
    )
    if fails == "checkpoint":
        script.state.write_text("something else")
    with on_ranks(script, 2, python=python) as world:
        ended = world.ended()
        world.gone()
    assert (ended.code, ended.out) == (1, "")
    assert ended.err.count("CheckpointError: ") == (fails == "checkpoint"), ended.err
    assert ended.err.count("\nValueError: nothing to begin with") == 2 * (fails == "init"), "its cause has it, too"


# --- functions that run in the script ---------------------------------------------------------------------------------
HANDLING = """
w = Work(range(100), cpus=2, checkpointFile=state, checkpointInterval=600)
w.job(abs)
@w.result
def handle(x):
    note("results", x)
    if not went_on and len(Tally(here / "results").lines()) == 5:
        Gate(here / "held").open()
        Gate(here / "let go").wait()
w.run()
"""


def handling(script: Saved) -> Script:
    """Starts it, and waits until the function is called with the fifth result, while all others wait."""
    started = script.start()
    script.gate("held").wait()
    wait_until(script.state.exists, "the first checkpoint")
    return started


def test_a_run_of_which_only_results_wait_to_be_handled_stops_between_two_of_them(saved: Make) -> None:
    script = saved(HANDLING)
    started = handling(script)
    os.kill(started.pid, signal.SIGTERM)
    wait_until(lambda: "stopped, with" in started.err.read_text(), "the run to be stopped")
    script.gate("let go").open()
    ended = started.ended()
    assert ended.code == STOPPED, ended.err
    assert f"stopped, with exit code 75; started again, it goes on from {script.state}" in ended.err
    assert len(script.notes("results")) == 5
    script.go_on()
    ended = script.run()
    assert ended.code == 0, ended.err
    assert sorted(map(int, script.notes("results"))) == list(range(100))


def test_checkpoints_are_written_as_long_as_results_wait_to_be_handled(saved: Make) -> None:
    script = saved(HANDLING)
    started = handling(script)
    for _ in range(2):
        os.kill(started.pid, signal.SIGUSR1)
        saved_again(script.state, 1)
    assert script.info().open == 0
    script.gate("let go").open()
    ended = started.ended()
    assert ended.code == 0, ended.err
    assert sorted(map(int, script.notes("results"))) == list(range(100))


FINISHING = """
w = Work(range(300), cpus=2, checkpointFile=state, checkpointInterval=600, **eval(sys.argv[1]))
@w.job
def work(x):
    note(f"calls {went_on}", x)
    return x
@w.finish
def finish(results):
    if not went_on and sys.argv[2] == "raise":
        raise ValueError("full")
    hold()
    return sum(results)
print(w.run())
"""


@pytest.mark.parametrize("end", ["SIGTERM", "SIGKILL", "time limit", "raise"])
def test_nothing_is_computed_again_for_a_finish_function_that_was_stopped(saved: Make, end: str) -> None:
    script = saved(FINISHING)
    started = script.start({"timeLimit": 1} if end == "time limit" else {}, end)
    if end.startswith("SIG"):
        script.gate("held").wait()
        if end == "SIGKILL":
            wait_until(lambda: script.state.exists() and script.info().open == 0, "the checkpoint of the end")
        os.kill(started.pid, signal.Signals[end])
    ended = started.ended()
    assert ended.code == {"SIGKILL": -9, "raise": 1}.get(end, STOPPED), ended.err
    script.go_on()
    right(script.run({}, end), sum(range(300)))
    assert not script.notes("calls True")
