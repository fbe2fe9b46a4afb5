"""Jobs that generators declare are jobs like all others: asked for, explained, and refused where they are mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from build_support import quiet

from job_stream.errors import BuildError

pytestmark = pytest.mark.usefixtures("folder")


def generating():
    """A generator whose jobs have one that declares more, and a job that is there from the beginning."""
    b = quiet()

    @b.generate("outer")
    def outer(b):
        b.file("a.txt", lambda path: path.write_text("a"))

        @b.generate("inner")
        def inner(b):
            b.file("b.txt", lambda path: path.write_text("b"))

    b.file("c.csv", lambda path: path.write_text("c"))
    return b


def test_what_a_generator_declares_can_be_asked_for(monkeypatch):
    b = generating()
    b.run()
    assert b.run(again=["a.txt"]).reasons["a.txt"] == ["asked for"]
    assert generating().run(again="b.txt").reasons["b.txt"] == ["asked for"]
    report = generating().run(again=["*.txt"])
    assert (report.made, report.kept) == (["outer", "a.txt", "inner", "b.txt"], ["c.csv"])
    monkeypatch.setenv("JOBS_BUILD", "again:*")
    assert sorted(generating().run().made) == ["a.txt", "b.txt", "c.csv", "inner", "outer"]


def test_what_a_generator_declares_can_be_invalidated():
    b = generating()
    b.run()
    b.invalidate("a.txt")
    assert generating().run().reasons["a.txt"] == ["never made"]
    assert "a.txt" not in generating().run().made


def test_a_job_that_nobody_has_declared_yet_is_no_job_and_why_is_said():
    with pytest.raises(BuildError, match="declares is known only when it has run"):
        generating().run(again=["a.txt"])
    with pytest.raises(BuildError, match="generator"):
        generating().run(only=["a.txt"])


def test_what_is_asked_for_has_to_be_jobs_or_ids():
    b = generating()
    for wrong in (lambda: b.run(again=True), lambda: b.plan(only=5), lambda: b.accept(5), lambda: b.invalidate(1.5)):
        with pytest.raises(BuildError, match="takes jobs, ids and patterns"):
            wrong()


def test_why_of_a_job_that_a_generator_declared():
    b = generating()
    b.run()
    text = b.why("b.txt")
    assert "never made" in text
    assert "now: known once inner has declared it again" in text


def test_the_variable_of_a_loop_in_a_generator():
    b = quiet()

    @b.generate("numbers")
    def numbers(b):
        for n in range(3):
            b.file(f"{n}.txt", lambda path: path.write_text(str(n)))  # noqa: B023

    report = b.run(raiseErrors=False)
    assert (report.made, report.failed) == ([], ["numbers"])
    assert "uses `n`, which was 0 when it was declared and is 2 now" in str(numbers.exception)
    assert not list(Path().glob("*.txt"))
