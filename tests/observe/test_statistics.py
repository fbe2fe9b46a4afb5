"""Statistics at the end of a run: what is counted, how it is shown, and when."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from launcher_support import needs_mpirun, run
from mpi_support import clean_environment, mpirun
from support import DEADLINE_S, gather

import job_stream
from job_stream import Work
from job_stream.errors import PlanError
from job_stream.memory.codec import RankCodec
from job_stream.observe.observer import RunBegun, RunEnded
from job_stream.observe.statistics import Statistics, least_seconds, report
from job_stream.ranks.cluster import Cluster
from job_stream.ranks.protocol import KINDS as MESSAGES
from job_stream.ranks.protocol import Figures, Hello
from job_stream.ranks.transport import Left, Lost, Peer, Received
from job_stream.stream.plan import Policy
from job_stream.stream.recorder import Recording

RANK = re.compile(r"(\d+) (\d+)% user time, (\d+)% user cpu, (\d+) messages")
ALL = re.compile(r"C (\d+)% user time, (\d+)% user cpu, quality (\d+\.\d\d) cpus, ran (\d+\.\d\d\d)s")
ALL_LANES = 2
PLAN = Recording(True, Policy()).plan()


class Shown(NamedTuple):
    """What the line about the whole cluster says; ``rounding_s``: by how much that, being in percent, may be wrong."""

    wall_s: float
    cpu_s: float
    rounding_s: float


def shown(err: str, lanes: int = ALL_LANES) -> Shown:
    lines = err.splitlines()
    assert RANK.fullmatch(lines[-2]), err
    found = ALL.fullmatch(lines[-1])
    assert found, err
    share, cpu, quality, ran = map(float, found.groups())
    assert share / 100 * lanes == pytest.approx(quality, abs=0.02)
    return Shown(quality * ran, cpu / 100 * lanes * ran, 0.005 * lanes * ran)


@pytest.fixture(autouse=True)
def _everything_is_shown(monkeypatch):
    monkeypatch.setenv("JOBS_STATS", "1")


def spin(seconds: float) -> None:
    """Uses so much CPU time."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


# --- the text --------------------------------------------------------------------------------------------------------


def test_there_is_a_line_for_each_rank_and_one_for_all():
    ranks = {0: Figures(1, 9_000_000_000, 8_000_000_000, 14), 1: Figures(1, 8_400_000_000, 9_000_000_000, 3)}
    assert report(10.0, ranks).splitlines() == [
        "0 90% user time, 80% user cpu, 14 messages",
        "1 84% user time, 90% user cpu, 3 messages",
        "C 87% user time, 85% user cpu, quality 1.74 cpus, ran 10.000s",
    ]


def test_a_rank_without_figures_has_a_line_that_says_why():
    text = report(2.0, {0: Figures(2, 2_000_000_000, 1_000_000_000, 5), 1: "died"})
    assert text.splitlines()[1:] == ["1 died", "C 50% user time, 25% user cpu, quality 1.00 cpus, ran 2.000s"]


@pytest.mark.parametrize(("value", "seconds"), [("0", float("inf")), ("1", 0.0)])
@pytest.mark.parametrize("command_line", ["", "1"])
def test_the_environment_says_which_runs_are_shown(monkeypatch, value, seconds, command_line):
    monkeypatch.setenv("JOBS_STATS", value)
    monkeypatch.setenv("JOBS_COMMAND_LINE", command_line)
    assert least_seconds() == seconds


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stats", ["", None])
def test_runs_of_some_length_are_shown_to_who_looks(monkeypatch, stats):
    monkeypatch.delenv("JOBS_STATS") if stats is None else monkeypatch.setenv("JOBS_STATS", stats)
    assert least_seconds() == float("inf")
    monkeypatch.setattr("sys.stderr", Terminal())
    assert least_seconds() == 0.1
    monkeypatch.setattr("sys.stderr", io.StringIO())
    monkeypatch.setenv("JOBS_COMMAND_LINE", "1")
    assert least_seconds() == 0.1


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


class Odd:
    def isatty(self) -> bool:
        raise LookupError


@pytest.mark.parametrize("stream", [None, object(), closed(), Odd()], ids=["none", "no file", "closed", "odd"])
def test_a_script_without_a_standard_error_is_not_looked_at(monkeypatch, stream):
    monkeypatch.delenv("JOBS_STATS")
    monkeypatch.setattr("sys.stderr", stream)
    assert least_seconds() == float("inf")


def test_another_value_in_the_environment_is_an_error(monkeypatch):
    monkeypatch.setenv("JOBS_STATS", "yes")
    with pytest.raises(PlanError, match=r"JOBS_STATS must be 0 .* or 1 .*, not 'yes'"):
        job_stream.map(abs, [1])


# --- when ------------------------------------------------------------------------------------------------------------


NAPS = """
import time
import job_stream
job_stream.map(time.sleep, [0.2], cpus=2)
"""


@pytest.fixture
def naps(tmp_path: Path) -> Path:
    path = tmp_path / "naps.py"
    path.write_text(NAPS)
    return path


def stats(value: str) -> dict[str, str]:
    return clean_environment({"JOBS_STATS": value})


def said_to_a_pipe(*words: object, value: str = "") -> str:
    command = [sys.executable, *map(str, words)]
    done = subprocess.run(command, env=stats(value), capture_output=True, text=True, timeout=DEADLINE_S)
    assert done.returncode == 0, done.stderr
    return done.stderr


def said_to_a_terminal(path: Path, value: str = "") -> str:
    ours, theirs = os.openpty()
    try:
        done = subprocess.run([sys.executable, path], env=stats(value), stderr=theirs, timeout=DEADLINE_S)
        os.write(theirs, b"|")  # so that there is something to read in any case
        text = b""
        while not text.endswith(b"|"):
            text += os.read(ours, 1 << 16)
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0, text
    return text[:-1].decode().replace("\r\n", "\n")


def test_a_run_of_some_length_is_shown_on_a_terminal(naps):
    assert shown(said_to_a_terminal(naps)).wall_s > 0


def test_nothing_is_shown_to_a_pipe(naps):
    assert said_to_a_pipe(naps) == ""


def test_a_run_is_shown_to_a_pipe_that_wants_it(naps):
    assert shown(said_to_a_pipe(naps, value="1")).wall_s > 0


def test_a_run_is_not_shown_on_a_terminal_that_does_not_want_it(naps):
    assert said_to_a_terminal(naps, value="0") == ""


def test_a_run_is_shown_under_the_command_line(naps):
    assert shown(said_to_a_pipe("-m", "job_stream", "--", sys.executable, naps)).wall_s > 0


@needs_mpirun
def test_a_run_on_several_ranks_is_shown_under_the_command_line(naps, tmp_path):
    ended = run(tmp_path, "-n", 2, "--", sys.executable, naps, env={"JOBS_STATS": ""})
    assert ended.code == 0, ended.err
    assert ranks_of(ended.err) == ["0", "1", "C"], ended.err


def test_a_run_is_not_shown_under_the_command_line_if_that_is_not_wanted(naps):
    assert said_to_a_pipe("-m", "job_stream", "--", sys.executable, naps, value="0") == ""


def test_a_short_run_is_not_shown(monkeypatch, capfd):
    monkeypatch.setattr("job_stream.observe.statistics.NOTEWORTHY_S", 1e9)
    monkeypatch.setenv("JOBS_COMMAND_LINE", "1")
    monkeypatch.delenv("JOBS_STATS")
    job_stream.map(abs, [1])
    assert capfd.readouterr().err == ""


def test_nothing_is_shown_if_that_is_not_wanted(monkeypatch, capfd):
    monkeypatch.setenv("JOBS_STATS", "0")
    job_stream.map(time.sleep, [0.2])
    assert capfd.readouterr().err == ""


def test_a_run_that_failed_is_not_shown(capfd):
    w = Work([0])
    w.job(lambda number: 1 // number)
    with pytest.raises(ZeroDivisionError):
        w.run()
    assert capfd.readouterr().err == ""


def test_a_stream_inside_a_job_is_not_shown(capfd):
    assert job_stream.map(lambda n: job_stream.map(abs, [n]), [-1], cpus=ALL_LANES) == [[1]]
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_a_run_goes_well_if_nobody_takes_its_statistics(monkeypatch):
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Gone())
    assert job_stream.map(abs, [-1]) == [1]


# --- what is counted -------------------------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("useMultiprocessing", [True, False])


@KINDS
def test_sleep_is_user_time_without_cpu(capfd, useMultiprocessing):
    job_stream.map(time.sleep, [0.05] * 20, cpus=ALL_LANES, useMultiprocessing=useMultiprocessing)
    found = shown(capfd.readouterr().err)
    assert found.wall_s >= 0.98 - found.rounding_s
    assert found.cpu_s < 0.3 + found.rounding_s


@KINDS
def test_work_is_user_time_and_cpu(capfd, useMultiprocessing):
    job_stream.map(spin, [0.05] * 20, cpus=ALL_LANES, useMultiprocessing=useMultiprocessing)
    found = shown(capfd.readouterr().err)
    assert found.cpu_s >= 0.9 - found.rounding_s
    assert found.wall_s >= found.cpu_s * 0.95 - 2 * found.rounding_s


@KINDS
def test_every_function_of_a_stage_counts(capfd, tally, useMultiprocessing):
    def nap(*_: Any) -> None:
        tally.note("nap")
        time.sleep(0.02)

    w = Work(range(4), cpus=ALL_LANES, useMultiprocessing=useMultiprocessing)

    @w.frame(store=lambda: [nap()], emit=lambda store: nap() or len(store))
    def loop(store, item):
        nap()
        if len(store) == 1:
            return job_stream.Multiple(range(3))

    @w.job
    def inside(number):
        nap()
        return number

    @w.frameEnd
    def take(store, number):
        nap()
        store.append(number)

    @w.reduce(store=list, emit=lambda store: nap() or sorted(store))
    def all_of_them(store, works, others):
        nap()
        gather(store, works, others)

    assert w.run() == [[4, 4, 4, 4]]
    found = shown(capfd.readouterr().err)
    assert found.wall_s >= 0.02 * len(tally) * 0.98 - found.rounding_s


def test_functions_in_the_main_thread_do_not_count(capfd):
    w = Work([1], cpus=ALL_LANES)
    w.init(lambda: time.sleep(0.3))
    w.job(lambda number: number)
    w.result(lambda number: time.sleep(0.5))
    w.run()
    found = shown(capfd.readouterr().err)
    assert found.wall_s < 0.25 + found.rounding_s


def test_waiting_because_results_pile_up_does_not_count(capfd):
    w = Work([0], cpus=ALL_LANES)
    w.job(lambda number: job_stream.Multiple(range(200_000)))
    w.result(lambda number: number or time.sleep(0.7))
    w.run()
    found = shown(capfd.readouterr().err)
    assert found.wall_s < 1.0 + found.rounding_s


def test_time_of_a_worker_that_died_later_counts(capfd, once):
    w = Work([1, 2], cpus=1)

    @w.job
    def run(number):
        time.sleep(0.3)
        if number == 2 and once():
            os._exit(1)
        return number

    assert sorted(w.run()) == [1, 2]
    found = shown(capfd.readouterr().err, lanes=1)
    assert found.wall_s >= 0.58 - found.rounding_s


def test_messages_count(capfd):
    job_stream.map(time.sleep, [0.01] * 8, cpus=ALL_LANES)
    messages = int(RANK.findall(capfd.readouterr().err)[0][3])
    assert 2 <= messages <= 60


# --- ranks -----------------------------------------------------------------------------------------------------------

SLEEPS = """
import time
import job_stream
job_stream.map(time.sleep, [0.02] * 60, cpus=2)
job_stream.map(time.sleep, [0.02] * 60, cpus=2)
"""


def ranks_of(err: str) -> list[str]:
    return [line.split()[0] for line in err.splitlines()]


def test_every_rank_has_a_line_on_the_primary(tmp_path):
    path = tmp_path / "sleeps.py"
    path.write_text(SLEEPS)
    ended = mpirun(path, 3, env={"JOBS_STATS": "1"}, options=("--bind-to", "none"))
    assert ended.code == 0
    assert ranks_of(ended.err) == ["0", "1", "2", "C"] * 2
    for found in ALL.findall(ended.err):
        assert float(found[2]) * float(found[3]) >= 1.2 * 0.97


DIES = """
import os, signal, sys, time
from job_stream import Work, getRank

rank_pid = os.getpid()
w = Work(range(60))

@w.job
def run(item):
    if getRank() == 1:
        open(sys.argv[1], "w").close()
        os.kill(rank_pid, signal.SIGKILL)
    while not os.path.exists(sys.argv[1]):
        time.sleep(0.002)

w.run()
"""


def test_a_rank_that_died_has_a_line_that_says_so(tmp_path):
    path = tmp_path / "dies.py"
    path.write_text(DIES)
    env = {"JOBS_STATS": "1", "JOBS_CPUS": "1"}
    ended = mpirun(path, 3, tmp_path / "killed", ulfm=True, env=env, options=("--bind-to", "none"))
    assert "1 died; its figures are not known" in ended.err.splitlines(), ended.err
    assert RANK.search(ended.err)
    assert ALL.search(ended.err)


class Others:
    """A transport to ranks that say what they are told to say, in that order, and then nothing."""

    rank, size, expelled, recovers = 0, 3, False, False
    peers = tuple(Peer(name, 1, 1) for name in ("alpha", "beta", "gamma"))

    def __init__(self, *news: Any) -> None:
        self._news = list(news)

    def poll(self, room: Any) -> list[Any]:
        return [self._news.pop(0)] if self._news else []


def hears(rank: int, message: Any, epoch: int = 0) -> Received:
    return Received(rank, epoch.to_bytes(4, "little") + RankCodec(MESSAGES).encode(message)[0], None)


def hello(rank: int) -> Received:
    return hears(rank, Hello(()))


def figures(rank: int, epoch: int = 0) -> Received:
    return hears(rank, Figures(2, 1, 1, rank), epoch)


def gathered(cluster: Cluster) -> Statistics:
    """What the primary has to say of a run that is over."""
    statistics = Statistics()
    statistics.begun(RunBegun(PLAN, (), 0, (2, 1, 1), cluster))
    statistics.ended(RunEnded(Figures(2, 1, 1, 7), None))
    statistics.gather(lambda size: (memoryview(b""), None))
    return statistics


@pytest.mark.parametrize(
    ("news", "lines"),
    [
        ([figures(2), figures(1)], ["1 messages", "2 messages"]),
        ([figures(1)], ["1 messages", "2 did not tell its figures within 0.5 s"]),
        ([Lost(1), figures(2)], ["1 died; its figures are not known", "2 messages"]),
        ([Left(1), figures(2)], ["1 ended its script before this run was over", "2 messages"]),
        ([figures(1, epoch=1), figures(2)], ["1 did not tell its figures within 0.5 s", "2 messages"]),
    ],
    ids=["all", "silent", "dead", "at its end", "of another stream"],
)
def test_the_primary_waits_for_figures_but_not_for_long(monkeypatch, news, lines):
    is_silent = any("did not tell" in line for line in lines)
    monkeypatch.setattr("job_stream.observe.statistics.PATIENCE_S", 0.5 if is_silent else DEADLINE_S)
    cluster = Cluster(Others(hello(1), hello(2), *news))  # type: ignore[arg-type]
    for _ in range(2):
        cluster.news(lambda size: (memoryview(b""), None))
    statistics = gathered(cluster)
    said = statistics.text.splitlines()
    assert len(said) == 4
    assert all(found.endswith(expected) for found, expected in zip(said[1:3], lines, strict=True)), said


def test_ranks_that_have_not_come_to_the_run_are_not_waited_for(monkeypatch):
    monkeypatch.setattr("job_stream.observe.statistics.PATIENCE_S", 1e9)
    statistics = gathered(Cluster(Others()))  # type: ignore[arg-type]
    assert statistics.text.splitlines()[1:3] == [f"{rank} had not come to this run when it was over" for rank in (1, 2)]


def test_figures_that_cannot_be_heard_do_not_spoil_a_run():
    class Broken(Others):
        def poll(self, room: Any) -> list[Any]:
            if not self._news:
                raise OSError("the network is gone")
            return super().poll(room)

    cluster = Cluster(Broken(hello(1)))  # type: ignore[arg-type]
    cluster.news(lambda size: (memoryview(b""), None))
    statistics = gathered(cluster)
    assert statistics.text == "job_stream: no statistics of this run: the network is gone"
