"""The logs of jobs: of each attempt its own, whatever the job is called, and none that is older than the attempt."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from build_support import quiet

from job_stream.errors import JobDied

pytestmark = pytest.mark.usefixtures("folder")


def logs():
    return sorted(path.name for path in Path(".build/logs").rglob("*") if path.is_file())


def failing(path):
    print("said")
    raise ValueError("the reason")


def test_a_job_with_a_name_of_any_length_has_a_log():
    b = quiet()
    names = ["a" * 255, "ü" * 127, "deep/" + "b" * 251]
    for name in names:
        b.file(name, failing)
    b.run(raiseErrors=False)
    for name in names:
        assert (str(b[name].exception), b[name].stdout) == ("the reason", "said\n")
    assert len(logs()) == 6
    made = quiet(logs="all")
    for name in names:
        made.file(name, lambda path: path.write_text("done"))
    assert len(made.run().made) == 3


def test_a_log_that_cannot_stay_is_no_failure():
    Path(".build/logs/a.out").mkdir(parents=True)
    b = quiet(logs="all")
    b.file("a", lambda path: path.write_text("done"))
    assert b.run().made == ["a"]


def test_the_log_of_a_failure_goes_with_the_next_attempt():
    def twice(path):
        print("said")
        if not Path("tried").exists():
            Path("tried").touch()
            raise ValueError
        path.write_text("done")

    for keywords in ({}, {"retries": 1}):
        Path("tried").unlink(missing_ok=True)
        b = quiet()
        b.file("a", twice, **keywords)
        b.run(raiseErrors=False)
        assert bool(logs()) is not bool(keywords)
        b.run(again="a")
        assert not logs()


def test_an_older_log_is_not_taken_for_that_of_a_worker_that_died(capfd):
    b = quiet()
    b.file("a", failing)
    b.run(raiseErrors=False)
    capfd.readouterr()
    b = quiet(isolate=False)
    b.file("a", lambda path: os.kill(os.getpid(), signal.SIGKILL))
    b.run(raiseErrors=False)
    assert isinstance(b["a"].exception, JobDied)
    assert "log:" not in capfd.readouterr().err


def test_what_a_load_has_written_stays_if_it_fails():
    def value():
        print("said")
        print("warned", file=sys.stderr)
        raise ValueError

    b = quiet()
    load = b.load("value", value)
    user = b.file("user", lambda path, value: path.write_text("done"), needs={"value": load})
    b.run(raiseErrors=False)
    assert (load.stdout, load.stderr, user.stdout) == ("said\n", "warned\n", "")
    assert logs() == ["value.err", "value.out"]


def test_all_logs_are_those_of_loads_too():
    b = quiet(logs="all")
    first = b.load("first", lambda: print("one"))
    second = b.load("second", lambda first: print("two"), needs={"first": first})
    b.file("user", lambda path, second: path.write_text("done"), needs={"second": second})
    b.run()
    said = {path.stem: path.read_text() for path in Path(".build/logs").glob("*.out")}
    assert said == {"first": "one\n", "second": "two\n", "user": ""}
