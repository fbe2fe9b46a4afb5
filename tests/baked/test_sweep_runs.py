"""Runs of sweeps as users start them: on a terminal and without, on several ranks, killed and gone on with."""

import errno
import json
import os
import pty
import random
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import DEADLINE_S, REPOSITORY, Gate, Script, Tally, needs, wait_until

from job_stream.baked.sweep.display import duration, line_of
from job_stream.baked.sweep.progress_table import ProgressTable, TrialCounts

needs("scipy", "pandas")

PRELUDE = f"""
import os, sys
sys.path.insert(0, {str(REPOSITORY / "tests")!r})
from pathlib import Path
from job_stream import getRank, rng
from job_stream.baked import sweep
from job_stream.baked.sweep import display
from support import Gate, Tally
here = Path(__file__).parent
"""


def script_of(folder, text):
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(text), encoding="utf-8")
    return path


# --- what is said about progress --------------------------------------------------------------------------------------


def board_of(*slots):
    board = ProgressTable(len(slots))
    for id, slot in enumerate(slots):
        board.note(id, *slot)
    return board


def test_a_board_adds_up_its_combinations():
    board = board_of((10, 10, True), (5, 40, False), (7, 10, False))
    assert board.figures() == TrialCounts(1, 3, 22, 60)


def test_combinations_that_have_not_begun_are_expected_to_be_like_the_others():
    assert board_of((10, 10, True), (20, 30, False), (0, 0), (0, 0)).figures().expected == 80


def test_nothing_is_expected_before_anything_is_known():
    assert board_of((0, 0), (0, 0)).figures() == TrialCounts(0, 2, 0, None)


@pytest.mark.parametrize(
    ("figures", "line"),
    [
        (TrialCounts(0, 4, 0, None), "sweep: 0 of 4 combinations, 0 trials"),
        (TrialCounts(1, 4, 50, 200), "sweep: 1 of 4 combinations, 50 of about 200 trials, about 0:05:00 left"),
        (TrialCounts(4, 4, 200, 200), "sweep: 4 of 4 combinations, 200 trials, took 0:01:40"),
    ],
)
def test_a_line_tells_combinations_trials_and_time(figures, line):
    assert line_of(figures, 100) == line


def test_trials_of_an_earlier_run_do_not_make_this_one_look_faster():
    board = board_of((100, 200))
    board.begin()
    board.note(0, 150, 200)
    assert line_of(board.figures(), 100).endswith("about 0:01:40 left")


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00:00"), (61.4, "0:01:01"), (36000, "10:00:00")])
def test_durations_are_hours_minutes_and_seconds(seconds, text):
    assert duration(seconds) == text


HELD = """
with sweep({"a": [1, 2]}, trials=2, cpus=2) as w:
    @w.job
    def stage(id, trial, a):
        if trial == 1:
            Gate(here / "gate").wait()
        return {"x": a}
"""


def test_without_a_terminal_there_is_a_line_every_few_seconds(start, gate):
    script = start(PRELUDE + "display.LINE_S = 0.02\n" + HELD)
    wait_until(lambda: "sweep: 0 of 2 combinations, " in script.err.read_text(), "a line")
    gate.open()
    ended = script.ended()
    assert ended.code == 0, ended.err
    assert re.search(r"sweep: 2 of 2 combinations, 4 trials, took \d:\d\d:\d\d\n$", ended.err)
    assert "sweep:" not in ended.out


def test_no_progress_is_shown_where_it_is_not_wanted(start, gate):
    gate.open()
    ended = start(PRELUDE + HELD.replace("trials=2", "trials=2, showProgress=False")).ended()
    assert (ended.code, ended.err) == (0, "")


class Terminal:
    """A script whose stderr is a terminal; ``text`` is what was written there so far."""

    def __init__(self, path: Path) -> None:
        self._own, other = pty.openpty()
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm", "COLUMNS": "150"}
        command = [sys.executable, "-W", "error", str(path)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=other, env=environment)
        os.close(other)
        os.set_blocking(self._own, False)
        self.text = ""

    def shows(self, words: str) -> bool:
        try:
            while data := os.read(self._own, 65536):
                self.text += data.decode()
        except BlockingIOError:
            pass
        except OSError as error:  # what Linux says when nobody is left at the other end
            if error.errno != errno.EIO:
                raise
        return words in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.text)

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait(DEADLINE_S)
        os.close(self._own)


def test_on_a_terminal_there_is_a_live_line(tmp_path, gate):
    pytest.importorskip("rich")
    with Terminal(script_of(tmp_path, HELD)) as terminal:
        wait_until(lambda: terminal.shows("sweep: 0 of 2 combinations, "), "the live line")
        gate.open()
        wait_until(lambda: terminal.shows("2 of 2 combinations, 4 trials, took"), "the last state of the line")
        assert terminal.process.wait(DEADLINE_S) == 0
        terminal.shows("")
        assert "\x1b[2K" in terminal.text  # the line is written over
        assert terminal.text.count("\n") <= 2


def test_the_display_ends_when_the_script_is_killed(start, gate):
    script = start(PRELUDE + HELD)
    wait_until(lambda: script.living() - {script.pid}, "the display to begin")
    os.kill(script.pid, signal.SIGKILL)
    script.process.wait(DEADLINE_S)
    wait_until(lambda: not script.living(), "all processes to end")


def test_a_sweep_goes_on_when_its_display_is_killed(start, gate, tally):
    shown = """
    def show(board, ends_within):
        Tally(here / "tally").note(os.getpid())
        while not ends_within(60):
            pass
    display._show_lines = show
    """
    script = start(PRELUDE + textwrap.dedent(shown) + HELD)
    wait_until(lambda: len(tally), "the display to begin")
    os.kill(tally.numbers()[0], signal.SIGKILL)
    gate.open()
    assert script.ended().code == 0


def test_a_failed_sweep_ends_its_display(start):
    ended = start(PRELUDE + HELD.replace("if trial == 1", "raise ArithmeticError\n        if trial == 1")).ended()
    assert ended.code == 1
    assert ended.err.count("sweep: ") >= 1
    assert "ArithmeticError" in ended.err


# --- several ranks ----------------------------------------------------------------------------------------------------

needs_mpi = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

SWEPT = """
with sweep({"a": [1, 2, 5], "b": [0.5, 1]}, seed=6, **KEYWORDS) as w:
    @w.job
    def stage(id, trial, a, b):
        return {"x": a + b * rng().normal(), "y": trial % 2}
assert (w.table is None) == (getRank() > 0)
"""


def swept(**keywords):
    return SWEPT.replace("KEYWORDS", repr({"trialsParms": {"E": 0.2, "eps": 0.2}, **keywords}))


@needs_mpi
def test_two_ranks_give_the_same_table(tmp_path):
    path = script_of(tmp_path, swept())
    alone = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=DEADLINE_S)
    assert alone.returncode == 0, alone.stderr
    together = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert together.code == 0, together.err
    assert together.out == alone.stdout
    assert together.err.count("sweep: 6 of 6 combinations") == 1


@needs_mpi
def test_all_ranks_write_to_the_log(tmp_path):
    log = tmp_path / "trials.jsonl"
    ended = mpirun(script_of(tmp_path, swept(log=str(log), trials=30, trialsParms={})), 2, env={"JOBS_CPUS": "1"})
    assert ended.code == 0, ended.err
    trials = [(line["id"], line["trial"]) for line in map(json.loads, log.read_text().splitlines())]
    assert sorted(trials) == [(id, trial) for id in range(6) for trial in range(30)]


@needs_mpi
def test_variables_that_differ_between_ranks_are_noticed(tmp_path):
    text = """
    with sweep({"a": [getRank() + i for i in range(40)]}, trials=200, showProgress=False) as w:
        @w.job
        def stage(id, trial, a):
            return {"x": sum(range(20000))}
    """
    ended = mpirun(script_of(tmp_path, text), 2, env={"JOBS_CPUS": "1"})
    assert ended.code != 0
    assert "the variables of the sweep, its trials or its seed are not the same on every rank" in ended.err


# --- killed, and gone on with -----------------------------------------------------------------------------------------


class Killed:
    """A sweep with 300 trials in 6 combinations that tells how many trials have begun."""

    TEXT = """
    with sweep({"a": [1, 2, 5], "b": [0.5, 1]}, trials=50, seed=6, cpus=2, **KEYWORDS) as w:
        @w.job
        def stage(id, trial, a, b):
            begun.note(id, trial)
            time.sleep(0.002)
            return {"x": a + b * rng().normal()}
    """

    def __init__(self, start, folder, **keywords):
        self._source = self.source(**keywords)
        self._start = start
        self.begun = Tally(folder / "begun")

    @classmethod
    def source(cls, **keywords):
        text = textwrap.dedent(cls.TEXT).replace("KEYWORDS", repr({"showProgress": False, **keywords}))
        return PRELUDE + "import time\nbegun = Tally(here / 'begun')\n" + text

    def kill_after(self, count):
        """Runs it until so many trials more have begun, and kills its process group."""
        script, before = self._start(self._source), len(self.begun)
        wait_until(lambda: len(self.begun) >= before + count or script.process.poll() is not None, "trials to begin")
        assert script.process.poll() is None, script.ended().err
        os.killpg(script.pid, signal.SIGKILL)
        script.process.wait(DEADLINE_S)
        wait_until(lambda: not script.living(), "all its processes to end")

    def run(self):
        ended = self._start(self._source).ended()
        assert ended.code == 0, ended.err
        return ended.out


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The table without any interruption."""
    path = tmp_path_factory.mktemp("undisturbed") / "script.py"
    path.write_text(Killed.source(), encoding="utf-8")
    ended = Script(path, ()).ended()
    assert ended.code == 0, ended.err
    return ended.out


@pytest.mark.parametrize("seed", range(3))
def test_a_killed_sweep_with_a_checkpoint_ends_with_the_right_table(start, tmp_path, undisturbed, seed):
    state = tmp_path / "state"
    sweep = Killed(start, tmp_path, checkpointFile=str(state), checkpointInterval=0.02)
    moments = random.Random(seed)
    for _ in range(2):
        sweep.kill_after(moments.randrange(1, 100))
    out = sweep.run()
    assert out == undisturbed
    assert (tmp_path / "state.done").exists()


def test_a_killed_sweep_goes_on_from_its_log(start, tmp_path, undisturbed):
    log = tmp_path / "trials.jsonl"
    sweep = Killed(start, tmp_path, log=str(log), resume=True)
    for count in (20, 70, 40):
        sweep.kill_after(count)
    logged = {tuple(json.loads(line)[name] for name in ("id", "trial")) for line in log.read_text().splitlines()}
    assert len(logged) > 50
    before = len(sweep.begun)
    out = sweep.run()
    made = {tuple(map(int, line.split())) for line in sweep.begun.lines()[before:]}
    assert not made & logged
    assert len(made | logged) == 300
    assert out == undisturbed


def test_a_checkpoint_of_another_sweep_is_refused(start, tmp_path):
    keywords = {"checkpointFile": str(tmp_path / "state"), "checkpointInterval": 0.02}
    text = """
    given = {"variables": {"a": [1, 2]}, "trials": 50, "seed": 1, **eval(sys.argv[1])}
    with sweep(**given, cpus=2, showProgress=False, **KEYWORDS) as w:
        @w.job
        def stage(id, trial, a):
            if trial == 40 and a == 1:
                Gate(here / "held").open()
                Gate(here / "gate").wait()
            return {"x": a}
    """
    source = PRELUDE + textwrap.dedent(text).replace("KEYWORDS", repr(keywords))
    script = start(source, {})
    Gate(tmp_path / "held").wait()
    wait_until((tmp_path / "state").exists, "a checkpoint")
    stamp = (tmp_path / "state").stat().st_mtime_ns
    wait_until(lambda: (tmp_path / "state").stat().st_mtime_ns > stamp, "another one")
    script.kill()
    Gate(tmp_path / "gate").open()
    for changed in ({"variables": {"a": [1, 3]}}, {"trials": 45}, {"seed": 2}):
        ended = start(source, changed).ended()
        assert ended.code == 1, changed
        assert "not those of the checkpoint that the run goes on from" in ended.err.replace("\n", " "), changed
    assert start(source, {}).ended().code == 0
