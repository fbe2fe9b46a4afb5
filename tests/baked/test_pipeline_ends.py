"""Jobs that are interrupted, killed, run twice at a time and on several ranks: nothing is lost, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from launcher_support import Command, needs_mpirun
from pipeline_support import JOB, letters, module, ran
from support import is_alive, wait_until

from job_stream.baked.pipeline import Pipeline
from job_stream.errors import GraphError

WAITING = """
import json, os, subprocess, sys, time
from pathlib import Path

with open(os.environ["RAN"], "a") as file:
    file.write("b ")
output = sys.argv[sys.argv.index("--output") + 1]
with open(output, "a") as file:
    file.write("half")
    file.flush()
    if not os.path.exists(os.environ["GO"]):
        sleep = ["sleep", "1000"]
        started = [subprocess.Popen(sleep), subprocess.Popen(sleep, start_new_session=True)]
        text = json.dumps([os.getpid(), os.getppid(), *(each.pid for each in started)])
        Path(os.environ["PIDS"] + "~").write_text(text)
        os.rename(os.environ["PIDS"] + "~", os.environ["PIDS"])
        print("waiting", file=sys.stderr, flush=True)
        while not os.path.exists(os.environ["GO"]):
            time.sleep(0.01)
    file.write(" whole")
"""
"""Starts two programs, one of them in a session of its own, and waits for a file."""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RAN", "GO", "PIDS"):
        monkeypatch.setenv(name, str(tmp_path / name))
    letters()
    module("b", program=WAITING)
    return tmp_path


def started():
    """The processes of the entry that waits: program, its guardian, and what the program has started."""
    wait_until(Path("PIDS").exists, "the entry to wait")
    pids = json.loads(Path("PIDS").read_text())
    Path("PIDS").unlink()
    return pids


def gone(pids):
    wait_until(lambda: not any(map(is_alive, pids)), "the end of all that the entry has started")


def command(folder, *words, ranks=(), id="me"):
    names = ("RAN", "GO", "PIDS")
    return Command(folder, *ranks, "pipeline", "job.yaml", "start.txt", "--id", id, *words,
                   env={name: os.environ[name] for name in names})  # fmt: skip


def test_whatever_ends_a_run_the_same_command_goes_on(folder):
    """SIGKILL, SIGTERM, Ctrl-C twice, to the whole group: programs end, and what has ended well is not run again."""
    for signals, code in (([signal.SIGKILL], -9), ([signal.SIGTERM], 75), ([signal.SIGINT] * 2, 130)):
        with command(folder) as run:
            pids = started()
            assert not Path("storage/me/public/b.txt").exists()
            assert Path("storage/me/temp/a.txt").read_text() == "sa"
            for count, number in enumerate(signals):
                os.killpg(run.process.pid, number)
                if count + 1 < len(signals):
                    wait_until(lambda: "1 running jobs may finish" in run.err.read_text(), "an answer")
            assert run.ended().code == code
            gone(pids)
            run.gone()
        log = Path("storage/me/logs/two.b.1.log").read_text().splitlines()
        assert log[1] == "waiting"
        assert not log[2:] or log[2].startswith("ended with job_stream, "), "unless the guardian was killed, too"
        assert list(Path("storage/me/public").glob("b*")) == []
    Path("GO").touch()
    with command(folder) as run:
        ended = run.ended()
    assert (ended.code, ended.out) == (0, "storage/me/public/b.txt\n"), ended.err
    assert Path("storage/me/public/b.txt").read_text() == "half whole"
    assert ran() == ["a", "b", "b", "b", "b"]
    left = {str(path.relative_to("storage/me")) for path in Path("storage/me").rglob("*") if not path.is_dir()}
    assert left == {"public/b.txt", "input/start.txt", "logs/one.a.1.log", "logs/two.b.1.log",
                    ".build/history.jsonl", ".build/lock"}  # fmt: skip


def test_a_second_run_of_the_id_is_refused_and_ctrl_c_lets_the_first_one_finish_what_it_has_begun(folder):
    """And another id in the same storage is not in its way."""
    with command(folder) as first:
        pids = started()
        with command(folder) as second:
            ended = second.ended()
        assert (ended.code, ended.out) == (2, "")
        Path("job.yaml").write_text(JOB.replace("module: b", "module: a"))
        with command(folder, id="other") as third:
            assert third.ended().code == 0
        said = ended.err.splitlines()[-1]
        assert "another build is under way" in said
        assert f"on {os.uname().nodename}, since 2" in said
        first.signal(signal.SIGINT)
        wait_until(lambda: "1 running jobs may finish" in first.err.read_text(), "an answer")
        first.signal(signal.SIGUSR1)
        wait_until(lambda: "\n  two/b: for " in first.err.read_text(), "what runs")
        Path("GO").touch()
        ended = first.ended()
    assert ended.code == 130
    assert "pipeline: nothing new is begun" in ended.err
    assert "[two/b] waiting\n" in ended.err
    assert Path("storage/me/public/b.txt").read_text() == "half whole"
    gone(pids)


@pytest.mark.parametrize("number", [0, 1])
def test_an_entry_that_is_killed_fails_with_all_that_it_has_started(number):
    def kill(update):
        if (update.entry, update.state) == ("two/b", "running"):
            pids.extend(started())
            os.kill(pids[number], signal.SIGKILL)

    pids = []
    with pytest.raises(GraphError, match=r"two/b \(module b\) failed: .*ended by SIGKILL after \d") as caught:
        Pipeline("job.yaml").run(["start.txt"], id="me", progress=kill)
    gone(pids)
    assert list(caught.value.failures) == ["two/b"]
    assert "ended by SIGKILL" in Path("storage/me/logs/two.b.1.log").read_text().splitlines()[-1]
    assert list(Path("storage/me/public").iterdir()) == []
    assert Path("storage/me/temp/a.txt").exists()


def test_a_time_limit_ends_an_entry_with_all_that_it_has_started():
    module("b", program=WAITING, more="timeout: 0.5\n")
    with pytest.raises(GraphError, match=r"took longer than its timeout of 0.5 s"):
        Pipeline("job.yaml").run(["start.txt"], id="me")
    assert "took longer" in Path("storage/me/logs/two.b.1.log").read_text().splitlines()[-1]


KILLS = int(os.environ.get("JOBS_TEST_KILLS", "3"))


def test_kills_at_any_moment(folder):
    """A chain beside a fan, killed again and again: in the end all is right, and what was on record has run once."""
    rng = random.Random(int(os.environ.get("JOBS_TEST_SEED", "1")))
    names = ["start.txt", *(f"{n}.txt" for n in range(5))]
    steps = [{"name": str(n), "entries": [entry(names[n], names[n + 1]), entry("start.txt", f"side {n}.txt")]}
             for n in range(5)]  # fmt: skip
    job = {"name": "x", "version": 1, "steps": steps, "input_artifacts": [artifact("start.txt", "input")]}
    Path("job.yaml").write_text(json.dumps(job))
    public = Path("storage/me/public")
    for _ in range(KILLS):
        with command(folder) as run:
            delay_s = rng.uniform(0, 1.5)
            with suppress(subprocess.TimeoutExpired):
                run.process.wait(delay_s)
            run.signal(signal.SIGKILL)
            run.gone()
        assert {path.read_text() for path in public.glob("[!.]*")} <= {"s" + "a" * n for n in range(1, 6)}
    done = [json.loads(line.rpartition("]")[0] + "]") for line in history().splitlines() if line.startswith('["done"')]
    ran()
    result = Pipeline("job.yaml").run(["start.txt"], id="me")
    assert {name: path.read_text() for name, path in result.public.items()} == {
        **{f"{n}.txt": "s" + "a" * (n + 1) for n in range(5)}, **{f"side {n}.txt": "sa" for n in range(5)}}  # fmt: skip
    assert len(ran()) == 10 - len({event[1][0] for event in done})
    assert len(os.listdir(public)) == 10


def history():
    path = Path("storage/me/.build/history.jsonl")
    return path.read_text() if path.exists() else ""


def artifact(name, param, **more):
    return {"name": name, "param_name": param, "type": "text", **more}


def entry(given, made):
    return {"module": "a", "inputs": [artifact(given, "input")], "outputs": [artifact(made, "output", public=True)]}


@needs_mpirun
def test_on_two_ranks(folder):
    """Both run entries, which are no ranks themselves; what is wrong is told once."""
    module("a", program="import os, sys; open(sys.argv[4], 'w').write(str(sum('OMPI_COMM' in n for n in os.environ)))")
    Path("GO").touch()
    text = Path("job.yaml").read_text().replace("      - module: a\n", "      - module: a\n        name: x\n")
    Path("job.yaml").write_text(text)
    with command(folder, "--keep-temp", ranks=("-n", "2")) as run:
        ended = run.ended()
    assert (ended.code, ended.out) == (0, "storage/me/public/b.txt\n"), ended.err
    assert ended.err.count("made 2, kept 0, failed 0") == 1
    assert Path("storage/me/temp/a.txt").read_text() == "0"
    Path("job.yaml").write_text(text.replace("module: b", "module: bb"))
    with command(folder, ranks=("-n", "2")) as run:
        ended = run.ended()
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.count("there is no module 'bb'") == 1
