"""How builds end before they are through: signals, kills of the script, of workers and of ranks; how they go on."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import signal
import sys

import pytest
from mpi_support import World
from support import Script, children, wait_until

SCRIPT = """
import os, sys, time
from pathlib import Path
from job_stream.baked.build import build

with build() as b:
    @b.file("early")
    def early(path):
        path.write_text("x")

    @b.file("held", needs=early, cores="all")
    def held(path):
        path.write_text("half")
        Path(f"began.{os.getpid()}").touch()
        while not Path("go").exists():
            time.sleep(0.01)
        with open("ran.log", "a") as file:
            file.write("held ")

    @b.file("late", needs=held)
    def late(path):
        path.write_text("x")
"""


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    started = []

    def start():
        for began in tmp_path.glob("began.*"):
            began.unlink()
        started.append(Script(path, ()))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def pid_of_job(folder):
    found = wait_until(lambda: list(folder.glob("began.*")), "the job to begin")
    return int(found[0].suffix[1:])


def test_ctrl_c_once_lets_running_jobs_finish(script, tmp_path):
    first = script()
    pid_of_job(tmp_path)
    os.killpg(first.pid, signal.SIGINT)
    wait_until(lambda: "nothing new is begun; 1 running jobs may finish" in first.err.read_text(), "the answer")
    (tmp_path / "go").touch()
    ended = first.ended()
    assert ended.code == 130
    assert "made 2, kept 0, failed 0, stopped 1" in ended.err
    assert (tmp_path / "held").exists()
    assert not (tmp_path / "late").exists()
    assert not first.living()
    assert "made 1, kept 2" in script().ended().err


@pytest.mark.parametrize(("number", "times", "code"), [(signal.SIGINT, 2, 130), (signal.SIGTERM, 1, 75)])
def test_running_jobs_are_ended(script, tmp_path, number, times, code):
    first = script()
    pid_of_job(tmp_path)
    for n in range(times):
        os.killpg(first.pid, number)
        if n < times - 1:
            wait_until(lambda: "nothing new" in first.err.read_text(), "the answer")
    ended = first.ended()
    assert ended.code == code
    assert not (tmp_path / "held").exists()
    assert not first.living()
    assert "made 1, kept 0, failed 0, stopped 2" in ended.err
    (tmp_path / "go").touch()
    assert "made 2, kept 1" in script().ended().err


def test_sigusr1_tells_what_runs(script, tmp_path):
    first = script()
    pid_of_job(tmp_path)
    os.kill(first.pid, signal.SIGUSR1)
    wait_until(lambda: "late waits for held" in first.err.read_text(), "the answer")
    (tmp_path / "go").touch()
    assert first.ended().code == 0


def test_after_the_script_was_killed_what_ended_is_kept(script, tmp_path):
    first = script()
    pid_of_job(tmp_path)
    os.kill(first.pid, signal.SIGKILL)
    wait_until(lambda: not first.living(), "the end of all that it had started")
    (tmp_path / "go").touch()
    assert "made 2, kept 1" in script().ended().err


def test_a_worker_that_is_killed_costs_the_attempt_only(script, tmp_path):
    first = script()
    job = pid_of_job(tmp_path)
    worker = next(pid for pid in first.living() if job in children(pid))
    (tmp_path / f"began.{job}").unlink()
    os.kill(worker, signal.SIGKILL)
    assert pid_of_job(tmp_path) != job
    wait_until(lambda: job not in first.living(), "the end of the job of the dead worker")
    (tmp_path / "go").touch()
    ended = first.ended()
    assert (ended.code, (tmp_path / "ran.log").read_text()) == (0, "held ")
    assert "made 3, kept 0" in ended.err


TIMEOUT = """
import os, subprocess, time
from pathlib import Path
from job_stream.baked.build import build
b = build()

@b.file("out", timeout=0.5)
def out(path):
    subprocess.run("sleep 1000 & setsid sleep 1000 & wait", shell=True)

b.run(raiseErrors=False)
print(type(out.exception).__name__)
"""


def test_after_a_timeout_nothing_is_left(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(TIMEOUT)
    started = Script(path, ())
    assert started.ended().out == "JobTimeout\n"
    assert not started.living()


GRAPH = """
import sys, time
from job_stream.baked.build import build

width, depth = 6, 4
with build(isolate=sys.argv[1] == "isolated") as b:
    for i in range(width):
        before = "source"
        for j in range(depth):
            @b.file(f"out/{i}.{j}", needs={"before": before})
            def step(path, before):
                with open("ran.log", "a") as file:
                    file.write(f"{path.name} ")
                path.write_text(before.read_text() + "x")
            before = step
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_event_of_the_history_it_goes_on(tmp_path, seed):
    """Killed when so many lines are written, again and again: what ended is kept, and it all comes out right."""
    path = tmp_path / "script.py"
    path.write_text(GRAPH)
    (tmp_path / "source").write_text("s")
    rng = random.Random(seed)
    history = tmp_path / ".build" / "history.jsonl"

    def lines():
        return history.read_bytes().count(b"\n") if history.exists() else 0

    for _ in range(4):
        script = Script(path, ["isolated" if seed % 2 else "here"])
        limit = lines() + rng.randint(0, 12)
        wait_until(lambda limit=limit, script=script: lines() >= limit or script.process.poll() is not None, "an event")
        script.kill()
    ended = Script(path, ["isolated"]).ended()
    assert ended.code == 0, ended.err
    assert {file.read_text() for file in (tmp_path / "out").glob("*.3")} == {"sxxxx"}
    (tmp_path / "ran.log").unlink()
    assert "made 0, kept 24" in Script(path, ["isolated"]).ended().err
    assert not (tmp_path / "ran.log").exists()


@pytest.mark.parametrize("ranks", [2, 4])
def test_on_several_ranks_as_on_one(tmp_path, ranks):
    path = tmp_path / "script.py"
    path.write_text(GRAPH)
    (tmp_path / "source").write_text("s")
    with World(path, ranks, "isolated") as world:
        ended = world.ended()
    assert ended.code == 0, ended.err
    assert "made 24, kept 0" in ended.err
    assert sorted((tmp_path / "ran.log").read_text().split()) == sorted(f"{i}.{j}" for i in range(6) for j in range(4))
    with World(path, ranks, "here") as world:
        assert "made 0, kept 24" in world.ended().err
    (tmp_path / "source").unlink()
    with World(path, ranks, "here") as world:
        ended = world.ended()
    assert ended.code != 0
    assert "'source' does not exist" in ended.err


HELD = """
import os, time
from pathlib import Path
from job_stream import getRank
from job_stream.baked.build import build

with build() as b:
    for i in range(8):
        @b.file(f"out/{i}", params={"i": i})
        def out(path, i):
            Path(f"began.{getRank()}.{os.getpid()}").touch()
            while not Path("go").exists():
                time.sleep(0.01)
            path.write_text(str(i))

        @b.file(f"after/{i}", needs={"out": out})
        def after(path, out):
            path.write_text(out.read_text())
"""


def test_the_death_of_a_rank_loses_nothing(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(HELD)
    with World(path, 2, ulfm=True) as world:
        wait_until(lambda: list(tmp_path.glob("began.1.*")), "a job on rank 1")
        os.kill(world.pids()[1], signal.SIGKILL)
        (tmp_path / "go").touch()
        ended = world.ended()
    assert "made 16, kept 0, failed 0" in ended.err
    assert sorted(file.read_text() for file in (tmp_path / "after").iterdir()) == [str(i) for i in range(8)]


PROGRAM = """
from job_stream.baked.build import build

with build() as b:
    b.program("x", ["sh", "-c", "setsid sleep 1000 & sleep 1000 & echo $! > ../began; wait"], cwd=".build")
"""


def test_what_programs_start_ends_with_a_build_that_is_killed(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(PROGRAM)
    script = Script(path, ())
    try:
        wait_until((tmp_path / "began").exists, "the program to start others")
        os.kill(script.pid, signal.SIGKILL)
        wait_until(lambda: not script.living(), "the end of all of them")
    finally:
        script.kill()


GENERATING = """
from job_stream.baked.build import build

with build() as b:
    first = b.file("first", lambda path: path.write_text("1"))

    @b.generate("generator", needs={"first": first})
    def generator(b, first):
        text = first.read_text()
        value = b.load("value", lambda: text + "2")
        for i in range(6):
            b.file(f"out/{i}", lambda path, value: path.write_text(value), needs={"value": value})
"""


def test_generated_jobs_run_on_all_ranks(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(GENERATING)
    with World(path, 2) as world:
        ended = world.ended()
    assert ended.code == 0, ended.err
    assert "made 9, kept 0" in ended.err
    assert {file.read_text() for file in (tmp_path / "out").iterdir()} == {"12"}


def test_enter_tells_what_runs(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(tmp_path)
        os.execv(sys.executable, [sys.executable, str(path)])
    try:
        pid_of_job(tmp_path)
        os.write(terminal, b"\n")
        said = b""
        while b"late waits for held" not in said:
            said += os.read(terminal, 4096)
        (tmp_path / "go").touch()
        with contextlib.suppress(OSError):  # what Linux gives at the end of a terminal
            while more := os.read(terminal, 4096):
                said += more
        assert os.waitpid(pid, 0)[1] == 0, said.decode()
    finally:
        os.close(terminal)


MANY = """
import os, time
from pathlib import Path
from job_stream.baked.build import build

with build(cores=2) as b:
    for i in range(12):
        @b.file(f"out/{i}", params={"i": i})
        def out(path, i):
            path.write_text("half")
            mark = Path(f"began.{i}.{os.getpid()}")
            mark.touch()
            while not Path("go").exists() and not list(Path().glob(f"killed.{i}")):
                time.sleep(0.005)
            path.write_text(str(i))
"""


def test_workers_that_are_killed_again_and_again(tmp_path):
    """The worker of each job is killed once while the job is under way; each job is made all the same."""
    path = tmp_path / "script.py"
    path.write_text(MANY)
    script = Script(path, ())
    try:
        killed = set()
        while len(killed) < 12:
            found = wait_until(
                lambda: [mark for mark in tmp_path.glob("began.*") if mark.suffixes[0] not in killed], "another job"
            )
            number, job = found[0].name.split(".")[1:]
            worker = next((pid for pid in script.living() if int(job) in children(pid)), None)
            if worker is None:
                found[0].unlink()  # its worker was killed with that of another
                continue
            os.kill(worker, signal.SIGKILL)
            wait_until(lambda job=job: int(job) not in script.living(), "the end of the job of the dead worker")
            killed.add(f".{number}")
            (tmp_path / f"killed.{number}").touch()
        (tmp_path / "go").touch()
        ended = script.ended()
    finally:
        script.kill()
    assert ended.code == 0, ended.err
    assert "made 12, kept 0, failed 0" in ended.err
    assert sorted(int(file.read_text()) for file in (tmp_path / "out").iterdir()) == list(range(12))


IMPATIENT = """
import os, signal
from pathlib import Path
from job_stream.baked.build import build, building

SCRIPT = os.getpid()
build_of = building.Build

class Watched(build_of):
    def _release(self):
        if self._lock is not None:
            os.kill(SCRIPT, signal.SIGINT)
        super()._release()

building.Build = Watched

with build() as b:
    @b.file("early")
    def early(path):
        path.write_text("x")
        os.kill(SCRIPT, signal.SIGINT)

    b.file("late", lambda path: path.write_text("x"), needs=[early])
"""


def test_ctrl_c_again_while_a_build_puts_its_things_away_changes_nothing(tmp_path):
    (tmp_path / "script.py").write_text(IMPATIENT)
    ended = Script(tmp_path / "script.py", ()).ended()
    assert (ended.code, "Traceback" in ended.err) == (130, False)
