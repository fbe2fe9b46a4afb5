"""``job_stream build``: a build is looked at, and tidied up, from its history, without its script."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from launcher_support import run

from job_stream.baked.build import build
from job_stream.baked.build.build_commands import build_commands
from job_stream.baked.build.event_log import EventLog
from job_stream.errors import BuildError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("source.txt").write_text("text")
    return tmp_path


def call(*words):
    """What a command says; its errors are raised."""
    ended = CliRunner().invoke(build_commands, words, standalone_mode=False)
    if ended.exception is not None:
        raise ended.exception
    return ended.output


def twice(path, source, n):
    path.write_text(source.read_text() * n)


def thrice(path, source, n):
    path.write_text(source.read_text() * n + "!")


def fails(path):
    print("what it said")
    raise ValueError("first line\nno such luck")


def ran(function=twice, n=2, more=True, is_bad=False):
    b = build(quiet=True)
    first = b.file("out/first", function, needs={"source": "source.txt"}, params={"n": n})
    temp = b.temp("between", lambda path: path.write_text("x"), needs=[first])
    if more:
        b.file("out/second", fails if is_bad else lambda path: path.write_text("x"), needs=[temp])
        b.file("out/third", lambda path: path.write_text("x"), needs=["out/second"])
    b.run(raiseErrors=False)


def lines(text):
    return [" ".join(line.split()) for line in text.splitlines()]


def test_status_counts_and_names_what_went_wrong(folder):
    ran(is_bad=True)
    ended = CliRunner().invoke(build_commands, ["status"], standalone_mode=False)
    assert ended.return_value == 1
    assert lines(ended.output) == [
        "made 2, failed 1, blocked 1", "failed out/second no such luck", "blocked out/third",
    ]  # fmt: skip


def test_why_of_a_blocked_job_names_what_blocks_it(folder):
    ran(is_bad=True)
    assert lines(call("why", "out/third")) == ["out/third (file): blocked", "it did not run, because of: out/second"]


def test_status_of_a_second_run_that_had_nothing_to_do(folder):
    ran()
    assert lines(call("status")) == ["made 4"]
    ran()
    assert lines(call("status")) == ["kept 4"]


def test_failures_are_told_after_the_history_was_written_anew(folder, monkeypatch):
    monkeypatch.setattr(sys.modules[EventLog.__module__], "MANY_LINES", 0)
    for n in range(1, 8):
        ran(n=n, is_bad=True)
    assert Path(".build/history.jsonl").read_text().count('["failed"') < 7
    assert call("status").splitlines()[1].split()[:2] == ["failed", "out/second"]
    assert "blocked" in call("status")


def test_the_folder_may_be_given_as_the_one_of_the_build_or_the_one_around_it(folder, monkeypatch):
    ran()
    monkeypatch.chdir(folder.parent)
    assert call(folder.name, "status") == call(f"{folder.name}/.build", "status") == "made 4\n"


def test_a_folder_without_a_history_is_named(folder):
    with pytest.raises(BuildError, match=r"\.build/history\.jsonl: No such file"):
        call("status")


def test_the_graph_is_written_down_only_where_it_has_changed(folder):
    def written():
        return Path(".build/history.jsonl").read_text().count('\n["graph"')

    ran()
    once = written()
    ran()
    assert written() == once == 1
    ran(more=False)
    assert written() == 2


def test_looking_leaves_the_history_as_it_is(folder):
    ran()
    path = Path(".build/history.jsonl")
    path.write_bytes(path.read_bytes() + b'["begin",["out/fi')  # somebody is writing that right now
    before = path.read_bytes(), path.stat().st_mtime_ns
    for words in (["status"], ["why", "out/first"], ["graph", "graph.json"], ["orphans"], ["clean", "-n", "--outputs"]):
        call(*words)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_job_that_had_begun_when_its_build_was_killed_is_stopped(folder):
    ran()
    log = EventLog(".build/history.jsonl", pytest.fail)
    log.append(log.events[0]._replace(kind="run", data={"host": "elsewhere", "pid": 1}))
    log.append(log.events[-1]._replace(kind="begin", subject="out/first", data=None))
    log.close()
    assert lines(call("status"))[0] == "blocked 3, stopped 1"


def test_why_tells_reasons_with_the_old_and_the_new(folder):
    ran()
    ran(function=thrice, n=3)
    told = call("why", "out/first")
    assert "why it ran: code changed; params changed: n 2 -> 3" in told
    assert "+    path.write_text(source.read_text() * n + \"!\")" in told
    assert "param n: 2 -> 3" in told
    assert "need out/first: " in call("why", "between")


def test_why_tells_what_has_changed_since(folder):
    ran()
    assert "since then" not in call("why", "out/first")
    Path("source.txt").write_text("another")
    Path("out/first").unlink()
    told = call("why", "out/first")
    assert "since then: need source.txt has changed" in told
    assert "since then: file out/first cannot be read: No such file or directory" in told


def test_a_job_that_is_not_known_is_answered_with_the_nearest(folder):
    ran()
    with pytest.raises(BuildError, match=r"no job is called 'out/frist' in \.build: did you mean 'out/first'"):
        call("why", "out/frist")


def test_a_path_is_taken_as_it_is_seen_from_here(folder, monkeypatch):
    ran()
    monkeypatch.chdir("out")
    assert call("..", "why", "first").startswith("out/first (file): made")


def test_the_graph_is_that_of_the_last_run(folder):
    ran(is_bad=True)
    assert call("graph", "graph.json") == "graph.json\n"
    found = json.loads(Path("graph.json").read_text())
    jobs = {job["id"]: job for job in found["jobs"]}
    assert {job_id: (job["kind"], job["state"], job["needs"]) for job_id, job in jobs.items()} == {
        "source.txt": ("source", "kept", []),
        "out/first": ("file", "made", ["source.txt"]),
        "between": ("temp", "made", ["out/first"]),
        "out/second": ("file", "failed", ["between"]),
        "out/third": ("file", "blocked", ["out/second"]),
    }
    assert "source.read_text() * n" in found["codes"][jobs["out/first"]["code"]]
    for suffix in ("dot", "svg", "html"):
        call("graph", f"graph.{suffix}")
        assert "out/second" in Path(f"graph.{suffix}").read_text()


def test_the_log_of_a_failure_is_shown(folder):
    ran(is_bad=True)
    assert "what it said" in call("log", "out/second")
    with pytest.raises(BuildError, match=r"no log of 'out/first' was kept.*logs='all'"):
        call("log", "out/first")


def test_orphans_are_what_no_job_of_the_last_run_makes(folder):
    ran()
    assert call("orphans") == ""
    ran(more=False)
    assert lines(call("orphans")) == ["out/second", "out/third"]
    assert lines(call("clean", "-n")) == ["out/second", "out/third"]
    assert Path("out/second").exists()
    assert lines(call("clean")) == ["out/second", "out/third"]
    assert sorted(os.listdir("out")) == ["first"]
    assert call("orphans") == ""


def test_what_a_failed_generator_declared_before_is_no_orphan(folder):
    def generating(is_bad):
        b = build(quiet=True)

        def declare(b):
            if is_bad:
                raise ValueError("no")
            b.file("generated", lambda path: path.write_text("x"))

        b.generate("some", declare)
        b.run(raiseErrors=False)

    generating(False)
    assert "made 2" in call("status")
    generating(True)
    assert call("orphans") == ""
    assert "failed 1" in call("status")
    generating(False)
    assert "made 1, kept 1" in call("status")


def test_what_a_generator_of_a_failed_generator_declared_before_is_no_orphan(folder):
    for is_bad in (False, True):
        b = build(quiet=True)

        def inner(b):
            b.file("generated", lambda path: path.write_text("x"))

        def outer(b, is_bad=is_bad):
            if is_bad:
                raise ValueError("no")
            b.generate("inner", inner)

        b.generate("outer", outer)
        b.run(raiseErrors=False)
        assert call("orphans") == ""
        assert b.orphans() == []


def test_what_a_run_has_made_that_was_killed_is_no_orphan(folder):
    script = '''
import os, signal
from job_stream.baked import build
SCRIPT = os.getpid()
with build(quiet=True) as b:
    @b.generate("some")
    def declare(b):
        b.file("generated", lambda path: path.write_text("x"))
        @b.file("last", needs=["generated"])
        def last(path):
            os.kill(SCRIPT, signal.SIGKILL)
'''
    Path("script.py").write_text(script)
    assert subprocess.run([sys.executable, "script.py"], timeout=100).returncode == -signal.SIGKILL
    assert Path("generated").exists()
    assert call("orphans") == ""
    b = build(quiet=True)
    b.generate("some", lambda b: b.file("generated", lambda path: path.write_text("x")))
    assert b.orphans() == []
    b.run()
    assert call("orphans") == ""
    b = build(quiet=True)
    assert b.orphans() == ["generated"]
    b.run()
    assert lines(call("orphans")) == ["generated"]


def test_clean_removes_temporary_files_that_are_left(folder):
    ran(is_bad=True)
    assert Path("between").exists()
    assert lines(call("clean", "--temp")) == ["between"]
    assert not Path("between").exists()
    assert sorted(os.listdir("out")) == ["first"]


def test_clean_removes_outputs_and_never_sources(folder):
    ran()
    Path("out/mine").write_text("by hand")
    assert lines(call("clean", "--outputs")) == ["out/first", "out/second", "out/third"]
    assert os.listdir("out") == ["mine"]
    assert Path("source.txt").exists()
    ran()
    assert lines(call("status")) == ["made 4"]


def test_nothing_is_removed_while_a_build_runs(folder):
    ran()
    seen = []
    b = build(quiet=True)

    def within(b):
        with pytest.raises(BuildError, match="another build is under way"):
            call("clean", "--outputs")
        seen.append(call("status"))

    b.generate("look", within)
    b.run()
    assert len(seen) == 1
    assert Path("out/first").exists()


def test_the_command_is_there_and_its_errors_end_with_2(folder):
    ran()
    ended = run(folder, "build", "status")
    assert (ended.code, ended.out, ended.err) == (0, "made 4\n", "")
    ended = run(folder, "build", "why", "out/frist")
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("job_stream: no job is called 'out/frist'")
    ended = run(folder, "build", "statsu")
    assert ended.code == 2
    assert "Did you mean 'status'?" in ended.err
    ended = run(folder, "-n", "2", "build", "status")
    assert ended.code == 2
    assert "build takes no such options" in ended.err
