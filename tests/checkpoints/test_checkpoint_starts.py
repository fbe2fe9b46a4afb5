"""What a start with a checkpoint finds: the same initial work or other, a run that has ended, and what is refused."""

from __future__ import annotations

import contextlib
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from checkpoint_scripts import FAN_OUT, SCRIPTS, Saved, edited, right, saved_again
from support import DEADLINE_S, Gate, Tally

from job_stream import Work
from job_stream.checkpoints.options import Checkpointing
from job_stream.errors import PlanError

Make = Callable[[str], Saved]


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Make]:
    """``saved(text)`` makes a script with a checkpoint."""
    with contextlib.ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


# --- the initial work -------------------------------------------------------------------------------------------------
GENERATOR = """
length = int(sys.argv[1])
def source():
    for x in range(length):
        hold(x == 40)
        note(f"given {went_on}", x)
        yield x
w = Work(source(), cpus=1, **keywords)
@w.job
def work(x):
    note("calls", x)
    return x
print(sorted(w.run()))
"""


def test_a_generator_goes_on_behind_what_it_has_given(saved: Make) -> None:
    script = saved(GENERATOR)
    script.killed(60)
    right(script.run(60), list(range(60)))
    assert script.notes("given True") == [str(x) for x in range(60)]
    assert sorted(map(int, script.notes("calls"))) == list(range(60))


def test_a_generator_that_ends_earlier_than_before_is_refused(saved: Make) -> None:
    script = saved(GENERATOR)
    script.killed(60)
    ended = script.run(5)
    assert ended.code == 1
    assert "CheckpointError: the initial work ended after 5 items, but the run that goes on here had taken" in ended.err
    right(script.run(60), list(range(60)))


def test_a_list_of_another_length_is_refused(saved: Make) -> None:
    script = saved(
        """
        w = Work([*range(int(sys.argv[1]))], cpus=1, **keywords)
        @w.job
        def work(x):
            note("calls", x)
            hold(x == 30)
            return x
        print(sorted(w.run()))
        """
    )
    script.killed(60)
    calls = len(script.notes("calls"))
    ended = script.run(50)
    assert ended.code == 1
    assert "belongs to other initial work: it had 60 items, and now has 50 items" in ended.err
    assert len(script.notes("calls")) == calls
    right(script.run(60), list(range(60)))


def test_init_runs_once_and_what_it_gave_is_there_all_the_same(saved: Make) -> None:
    script = saved(
        """
        w = Work(iter(range(3)), cpus=1, **keywords)
        @w.init
        def several():
            note("inits", "several")
            return Multiple([10, None, 20])
        @w.init
        def one():
            note("inits", "one")
            return 30
        @w.job
        def work(x):
            hold(x == 1)
            return x
        print(sorted(w.run()))
        """
    )
    script.killed()
    right(script.run(), [0, 1, 2, 10, 20, 30])
    assert script.notes("inits") == ["several", "one"]


def test_skipped_items_are_remembered(saved: Make) -> None:
    script = saved(
        """
        w = Work(range(60), cpus=1, onError="skip", **keywords)
        @w.job
        def work(x):
            hold(x == 30)
            if x in (3, 50):
                raise ValueError(x)
            return x
        results = w.run()
        print(len(results), sorted((failure.item, failure.stage) for failure in w.failures))
        """
    )
    script.killed()
    ended = script.run()
    right(ended, "58 [(3, 'work'), (50, 'work')]")
    assert "2 items were skipped" in ended.err


def test_skipped_items_need_not_be_picklable(saved: Make) -> None:
    script = saved(
        """
        import threading
        locks = [(x, threading.Lock()) for x in range(30)]
        w = Work(locks, useMultiprocessing=False, cpus=1, onError="skip", **keywords)
        @w.job
        def work(item):
            hold(item[0] == 20)
            raise ValueError(item[0])
        w.run()
        print(len(w.failures))
        """
    )
    script.killed()
    right(script.run(), 30)


# --- the end ----------------------------------------------------------------------------------------------------------
SHORT = """
w = Work(range(20), **keywords)
@w.init
def begin():
    note("inits")
@w.job
def work(x):
    return x
print(sorted(w.run()))
print("the script goes on")
"""


def test_a_second_run_says_that_there_is_nothing_to_do(saved: Make) -> None:
    script = saved(SHORT)
    right(script.run(), f"{list(range(20))}\nthe script goes on")
    assert [path.name for path in script.folder.glob("state*")] == ["state.done"]
    ended = script.run()
    assert (ended.code, ended.out, script.notes("inits")) == (0, "", [""])
    assert ended.err.startswith(f"job_stream: nothing to do: {script.done} says that this run has ended")
    script.done.unlink()
    right(script.run(), f"{list(range(20))}\nthe script goes on")


# --- several streams --------------------------------------------------------------------------------------------------
def test_streams_one_after_the_other_have_checkpoints_of_their_own(saved: Make) -> None:
    script = saved(
        """
        def squares(name, first):
            if (here / f"{name}.done").exists():
                return
            w = Work(range(first, first + 60), cpus=1, checkpointFile=here / name, checkpointInterval=0.03)
            @w.job
            def square(x):
                note("calls", x)
                hold(x == 140)
                return x * x
            w.result(lambda x: note("results", x))
            w.run()
        squares("other", 0)
        squares("state", 100)
        print("all done")
        """
    )
    script.killed()
    right(script.run(), "all done")
    assert sorted(map(int, script.notes("results"))) == [x * x for x in (*range(60), *range(100, 160))]
    calls = list(map(int, script.notes("calls")))
    assert [calls.count(x) for x in range(60)] == [1] * 60


def test_a_stream_that_failed_goes_on_in_the_same_process(tmp_path: Path) -> None:
    calls = Tally(tmp_path / "calls")

    def run(fails: bool) -> list[int]:
        w = Work(range(200), cpus=1, checkpointFile=tmp_path / "state", checkpointInterval=0.01)

        @w.job
        def work(x: int) -> int:
            calls.note(x)
            if x == 150 and fails:
                saved_again(tmp_path / "state", 2)
                raise ValueError(x)
            return x

        return sorted(w.run())

    with pytest.raises(ValueError, match="150"):
        run(fails=True)
    assert run(fails=False) == list(range(200))
    assert len(calls) < 2 * 200
    with pytest.raises(PlanError, match=r"a stream of this process has ended .*\bremove \S*state.done to run it again"):
        run(fails=False)
    (tmp_path / "state.done").unlink()
    assert run(fails=False) == list(range(200))


def test_a_stream_that_failed_leaves_its_files_to_other_processes(tmp_path: Path) -> None:
    def run() -> list[int]:
        w = Work(range(5), cpus=1, checkpointFile=tmp_path / "state")
        w.job(lambda x: 1 // x)
        return w.run()

    with pytest.raises(ZeroDivisionError):
        run()
    again = f"""if True:
        from job_stream import Work
        w = Work(range(5), cpus=1, checkpointFile={str(tmp_path / "state")!r})
        w.job(lambda x: x)
        w.run()
    """
    ended = subprocess.run([sys.executable, "-c", again], capture_output=True, text=True, timeout=DEADLINE_S)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["state", "./state", "link/state"])
def test_two_streams_at_a_time_cannot_have_the_same_checkpoint(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    w = Work(range(5), cpus=1, checkpointFile=tmp_path / "state")
    w.job(abs)

    @w.result
    def handle(x: int) -> None:
        inner = Work(range(5), cpus=1, checkpointFile=f"{tmp_path}/{name}")
        inner.job(abs)
        inner.run()

    with pytest.raises(PlanError, match="is the checkpoint of another stream that runs in this process"):
        w.run()


def test_a_second_stream_does_not_end_the_script_for_the_first_ones_sake(
    saved: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = saved(
        """
        for _ in range(2):
            w = Work(range(5), cpus=1)
            w.job(abs)
            print(sorted(w.run()))
        """
    )
    monkeypatch.setenv("JOBS_CHECKPOINT", str(script.state))
    ended = script.run()
    assert (ended.code, ended.out) == (1, "[0, 1, 2, 3, 4]\n"), ended.err
    assert f"PlanError: a stream of this process has ended with the checkpoint {script.state}: give each" in ended.err


# --- what is refused before anything is done --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("missing/state", "the folder {folder}/missing of checkpoint {folder}/missing/state does not exist"),
        ("/proc/state", "no checkpoint can be written to /proc: "),
        (".", "{folder}/. is a folder: give the name of a file"),
    ],
    ids=["missing", "unwritable", "folder"],
)
def test_a_checkpoint_that_cannot_be_written_is_an_error_before_init(saved: Make, path: str, text: str) -> None:
    script = saved(SHORT.replace("**keywords", f"checkpointFile=f'{{here}}/{path}'" if path[0] != "/" else
                                 f"checkpointFile={path!r}"))  # fmt: skip
    ended = script.run()
    assert (ended.code, ended.out, script.notes("inits")) == (1, "", [])
    assert "CheckpointError: " + text.format(folder=script.folder) in ended.err


@pytest.mark.parametrize("name", ["JOBS_TIME_LIMIT", "SLURM_JOB_END_TIME"])
@pytest.mark.parametrize("text", ["soon", "01:00:00", "0", "-5", "nan"])
def test_a_time_limit_that_is_none_is_an_error_before_init(
    saved: Make, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    script = saved(SHORT)
    monkeypatch.setenv(name, text)
    ended = script.run()
    assert (ended.code, ended.out, script.notes("inits")) == (1, "", [])
    assert f"PlanError: {name} must be a number of seconds above 0, not {text!r}" in ended.err


@pytest.mark.parametrize("seconds", [math.inf, 1e12, np.float32(1e9), np.int64(10**9), Fraction(10**9)])
def test_an_interval_may_be_a_number_of_any_type_and_size(tmp_path: Path, seconds: float) -> None:
    assert Checkpointing(tmp_path / "state", seconds, seconds).path == str(tmp_path / "state")


def test_an_interval_may_be_longer_than_the_run(saved: Make) -> None:
    script = saved(
        SHORT.replace("**keywords", "checkpointFile=state, checkpointInterval=float('inf'), timeLimit=1e300")
    )
    right(script.run(), f"{list(range(20))}\nthe script goes on")


CHANGED = """
w = Work(range(60), cpus=1, **keywords)
@w.job
def {name}(x):
    note("calls", x)
    hold(x == 30)
    return {value}
print(sorted(w.run()))
"""


def test_a_checkpoint_of_another_stream_is_refused(saved: Make) -> None:
    saved(CHANGED.format(name="work", value="x")).killed()
    script = saved(CHANGED.format(name="renamed", value="x"))
    calls = len(script.notes("calls"))
    ended = script.run()
    assert ended.code == 1
    assert "is of another stream: stage number 1 was job 'work' when it was written, and is job 'renamed'" in ended.err
    assert len(script.notes("calls")) == calls


def test_other_code_in_the_same_stages_goes_on_and_is_told(saved: Make) -> None:
    saved(CHANGED.format(name="work", value="x")).killed()
    script = saved(CHANGED.format(name="work", value="x + 1000"))
    ended = script.run()
    assert ended.code == 0, ended.err
    assert "job_stream: the code of work has changed since; going on with the new code" in ended.err
    assert sorted(x % 1000 for x in eval(ended.out)) == list(range(60))
    assert 1059 in eval(ended.out)


def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(saved: Make) -> None:
    script = saved(FAN_OUT)
    script.killed()

    def flip(data: bytearray) -> None:
        data[-100] ^= 1

    edited(script.state, flip)
    ended = script.run()
    right(ended, SCRIPTS["jobs"][1])
    assert f"job_stream: checkpoint {script.state} is damaged" in ended.err
    assert f"going on from {script.state}.previous of " in ended.err


def test_a_checkpoint_stays_where_it_is_when_the_script_goes_elsewhere(saved: Make) -> None:
    script = saved(
        """
        (here / "elsewhere").mkdir(exist_ok=True)
        w = Work(range(60), cpus=1, checkpointFile="state", checkpointInterval=0.03)
        os.chdir(here / "elsewhere")
        @w.job
        def work(x):
            hold(x == 30)
            return x
        print(sorted(w.run()))
        """
    )
    script.killed()
    right(script.run(), list(range(60)))
    assert script.done.exists()
    assert not list((script.folder / "elsewhere").iterdir())


# --- other processes --------------------------------------------------------------------------------------------------
def test_a_checkpoint_that_another_process_uses_is_refused(saved: Make) -> None:
    script = saved(FAN_OUT)
    first = script.held()
    second = Saved(script.folder / "second", FAN_OUT.replace("**keywords", "checkpointFile=here.parent / 'state'"))
    with second:
        ended = second.run()
    assert ended.code == 1
    assert f"CheckpointError: {script.state}.journal is in use by another process" in ended.err
    assert os.path.exists(f"/proc/{first.pid}")
    first.kill()
    script.go_on()
    right(script.run(), SCRIPTS["jobs"][1])


def test_a_work_inside_a_job_has_no_checkpoint_of_its_own(saved: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    script = saved(
        """
        w = Work(range(5), cpus=1)
        @w.job
        def work(x):
            inner = Work(range(x))
            inner.job(abs)
            return sum(inner.run())
        print(sorted(w.run()))
        """
    )
    monkeypatch.setenv("JOBS_CHECKPOINT", str(script.state))
    right(script.run(), [0, 0, 1, 3, 6])
    assert Gate(script.done).is_open
