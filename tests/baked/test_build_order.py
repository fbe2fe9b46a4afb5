"""Jobs that only come after others, files that are temporary beside lasting ones, titles, and events of a run."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from job_stream.baked.build import build
from job_stream.errors import BuildError, CycleError, GraphError

pytestmark = pytest.mark.usefixtures("folder")


def write(path, text="x"):
    path.write_text(text)


def fail(path):
    raise ValueError("no")


def test_after_orders_and_nothing_else():
    def later(path):
        path.write_text(Path("early").read_text())

    def declared(text):
        b = build(quiet=True, undeclared="off")
        early = b.file("early", write, params={"text": text})
        b.file("late", later, after=[early])
        return b

    assert declared("1").run().made == ["early", "late"]
    assert Path("late").read_text() == "1"
    assert declared("2").run().made == ["early"]


def test_after_a_failure_goes_on_where_the_build_does():
    def declared(keep_going):
        b = build(quiet=True, keepGoing=keep_going)
        b.file("late", write, after=b.file("early", fail))
        return b

    with pytest.raises(GraphError):
        declared(False).run()
    assert not Path("late").exists()
    with pytest.raises(GraphError):
        declared(True).run()
    assert Path("late").exists()


def test_after_takes_jobs_only():
    b = build(quiet=True)
    with pytest.raises(BuildError, match="after='early' is no job"):
        b.file("late", write, after=["early"])


def test_after_cannot_be_a_circle():
    b = build(quiet=True)
    early = b.file("early", write, needs=["late"])
    b.file("late", write, after=[early])
    with pytest.raises(CycleError):
        b.run()


def both(path):
    path["temp"].write_text("t")
    path["stays"].write_text("s")


def test_some_of_several_files_are_temporary():
    def declared(text="x"):
        b = build(quiet=True)
        made = b.files({"temp": "t", "stays": "s"}, both, temp={"temp"})
        b.file("user", lambda path, temp, text: path.write_text(temp.read_text() + text), needs={"temp": made["temp"]},
               params={"text": text})  # fmt: skip
        return b

    assert declared().run().made == ["t", "user"]
    assert sorted(os.listdir()) == [".build", "s", "user"]
    assert declared().run().made == []
    assert declared("y").run().made == ["t", "user"]
    assert not Path("t").exists()


def test_who_reads_only_what_lasts_has_nothing_made_again():
    def declared(text):
        b = build(quiet=True)
        made = b.files({"temp": "t", "stays": "s"}, both, temp={"temp"})
        b.file("user", lambda path, stays, text: path.write_text(stays.read_text() + text),
               needs={"stays": made["stays"]}, params={"text": text})  # fmt: skip
        return b

    declared("1").run()
    assert declared("2").plan().ids("keep") == ["t"]
    assert declared("2").run().made == ["user"]
    Path("s").unlink()
    assert declared("2").run().made == ["t"]
    assert sorted(os.listdir()) == [".build", "s", "user"]


def test_temp_names_keys():
    with pytest.raises(BuildError, match=r"temp= names 'c', and the keys of its files are 'a', 'b'"):
        build(quiet=True).files({"a": "a", "b": "b"}, both, temp={"c"})


def test_a_program_makes_temporary_files_too():
    b = build(quiet=True)
    words = ["sh", "-c", "echo t > {path[t]}; echo s > {path[s]}"]
    made = b.program({"t": b.root / "t", "s": b.root / "s"}, words, temp={"t"})
    b.file("user", lambda path: path.write_text(Path("t").read_text()), needs=made)
    b.run()
    assert sorted(os.listdir()) == [".build", "s", "user"]


def test_a_title_is_what_failures_are_told_by(capsys):
    b = build(quiet=True)
    b.file("x", fail, title="the step")
    b.run(raiseErrors=False)
    assert "build: the step failed: ValueError: no" in capsys.readouterr().err


def test_events_tell_of_each_job_in_the_script_s_thread():
    def declared():
        b = build(quiet=True)
        bad = b.file("bad", fail)
        b.file("blocked", write, needs=bad)
        b.file("good", write)
        return b

    told, threads = [], set()

    def note(job_id, state, seconds):
        told.append((job_id, state))
        threads.add(threading.get_ident())
        assert seconds >= 0

    declared().run(raiseErrors=False, events=note)
    assert sorted(told) == [
        ("bad", "failed"),
        ("bad", "running"),
        ("blocked", "blocked"),
        ("good", "made"),
        ("good", "running"),
    ]
    assert threads == {threading.get_ident()}
    told.clear()
    declared().run(raiseErrors=False, events=note)
    assert ("good", "kept") in told


def test_events_that_raise_change_nothing(capsys):
    b = build(quiet=True)
    b.file("a", write)
    b.file("b", write)

    def events(*event):
        raise KeyError(event[0])

    assert b.run(events=events).made == ["a", "b"]
    assert capsys.readouterr().err.count("events= raised") == 1


def test_long_names_can_be_atomic():
    name = "n" * 251 + ".wav"
    b = build(quiet=True)
    b.file(name, write, atomic=True)
    assert b.run().made == [name]
