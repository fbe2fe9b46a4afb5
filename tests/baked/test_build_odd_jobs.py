"""What functions of jobs do that functions seldom do: nothing of it is lost, and each is told as what it was."""

from __future__ import annotations

import os
import sys

import pytest
from build_support import quiet

from job_stream.errors import JobDied

pytestmark = pytest.mark.usefixtures("folder")


def failure(function, **keywords):
    """The exception of a job."""
    b = quiet(**keywords)
    b.file("odd", function)
    b.file("other", lambda path: path.write_text("done"))
    report = b.run(raiseErrors=False)
    assert (report.failed, report.blocked, report.stopped) == (["odd"], [], [])
    return b["odd"]


class Basic(BaseException):
    """What ``except Exception`` does not catch."""


class Silent(Exception):
    """An exception that cannot say anything."""

    def __str__(self):
        raise RuntimeError("no text")


def test_a_process_that_ends_well_without_a_word_has_died():
    for leave in (lambda path: sys.exit(), lambda path: sys.exit(0), lambda path: os._exit(0)):
        job = failure(leave)
        assert (type(job.exception), job.exception.exitCode, job.exitCode) == (JobDied, 0, 0)


def test_the_text_of_an_exit_is_in_the_log():
    for is_isolated in (True, False):
        job = failure(lambda path: sys.exit("no more ink"), isolate=is_isolated)
        assert (job.exception.exitCode, job.stderr) == (1, "no more ink\n")


def test_an_exception_of_any_kind_is_the_failure_of_its_job():
    def interrupted(path):
        raise KeyboardInterrupt

    def basic(path):
        raise Basic("from below")

    for is_isolated in (True, False):
        assert isinstance(failure(interrupted, isolate=is_isolated).exception, KeyboardInterrupt)
        assert repr(failure(basic, isolate=is_isolated).exception) == "Basic('from below')"


def test_an_exception_without_a_text_is_told_by_its_class(capfd):
    def silent(path):
        raise Silent

    assert isinstance(failure(silent).exception, Silent)
    assert "odd failed: Silent: (its text cannot be told)" in capfd.readouterr().err


def test_a_job_may_take_its_streams_away():
    def streamless(path):
        sys.stdout = sys.stderr = None
        path.write_text("done")

    b = quiet()
    b.file("a", streamless)
    b.file("b", streamless, isolate=False)
    assert b.run().made == ["a", "b"]


def test_a_load_that_leaves_in_any_way_has_failed():
    def basic():
        raise Basic("from below")

    for leave, expected in ((sys.exit, JobDied), (lambda: sys.exit(0), JobDied), (basic, Basic)):
        b = quiet()
        value = b.load("value", lambda leave=leave: leave())
        b.file("user", lambda path, value: path.write_text("done"), needs={"value": value})
        report = b.run(raiseErrors=False)
        assert (report.failed, report.blocked, report.stopped) == (["value"], ["user"], [])
        assert type(value.exception) is expected


def test_a_generator_that_exits_has_failed():
    b = quiet()

    @b.generate("more")
    def more(b):
        sys.exit(3)

    b.file("user", lambda path: path.write_text("done"), needs=[more])
    b.file("other", lambda path: path.write_text("done"))
    report = b.run(raiseErrors=False)
    assert (report.made, report.failed, report.blocked) == (["other"], ["more"], ["user"])
    assert more.exitCode == 3


@pytest.mark.parametrize(("retries", "failed"), [(1, ["more", "value"]), (2, [])])
def test_loads_and_generators_are_tried_again(retries, failed, folder):
    def fails_twice(name):
        with (folder / name).open("a") as file:
            file.write("x")
        if (folder / name).stat().st_size < 3:
            raise ValueError(name)

    b = quiet()
    value = b.load("value", lambda: fails_twice("load"), retries=retries)
    b.file("user", lambda path, value: path.write_text("done"), needs={"value": value})
    b.generate("more", lambda b: fails_twice("generator"), retries=retries)
    report = b.run(raiseErrors=False)
    assert (sorted(report.failed), report.blocked) == (failed, ["user"] if failed else [])
    assert (folder / "load").stat().st_size == (folder / "generator").stat().st_size == retries + 1
