"""What tells plans apart: equal for equal scripts in every process, and different where code has changed."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from support import REPOSITORY

from job_stream import common
from job_stream.stream.adapting import adapt
from job_stream.stream.fingerprint import Difference, differences, fingerprint
from job_stream.stream.plan import Builder, Kind, Stage

WITH_SETS = """
from job_stream.stream.fingerprint import fingerprint
from job_stream.stream.plan import Builder, Kind, Stage

def keep(word):
    nested = [other for other in word if other in {("alpha", "beta"), "gamma"}]
    return nested, (lambda: None), word in {"alpha", "beta", "gamma", "delta", 3, (4, "epsilon")}

builder = Builder()
builder.add(Stage(Kind.JOB, "keep", keep))
print(fingerprint(builder.plan()))
"""


def of(function: Callable[..., Any], **parts: Any) -> tuple[tuple[str, str, int], ...]:
    """The fingerprint of a stream with one stage."""
    builder = Builder()
    builder.add(Stage(Kind.JOB, "stage", function, **parts))
    return fingerprint(builder.plan())


def same(work: Any) -> Any:
    return work


def in_process(seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run([sys.executable, "-c", WITH_SETS], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_it_is_the_same_in_every_process() -> None:
    assert in_process(1) == in_process(2)


def test_the_same_code_has_the_same_fingerprint() -> None:
    first, second = (eval("lambda work: [each + 1 for each in work]") for _ in range(2))
    assert of(first) == of(second)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("work + 1", "work + 2"),
        ("work in {1, 2}", "work in {1, 3}"),
        ("work.a", "work.b"),
        ("[each + 1 for each in work]", "[each + 2 for each in work]"),
        ("sorted(work, key=lambda each: each[0])", "sorted(work, key=lambda each: each[1])"),
    ],
)
@pytest.mark.parametrize(
    "made",
    [
        lambda function: function,
        lambda function: functools.wraps(function)(lambda work: same(work)),
        lambda function: functools.lru_cache(function),
        lambda function: functools.partial(function),
    ],
    ids=["bare", "wrapped", "cached", "partial"],
)
def test_a_change_in_the_code_of_a_function_is_seen(made: Callable[..., Any], before: str, after: str) -> None:
    assert of(made(eval(f"lambda work: {before}"))) != of(made(eval(f"lambda work: {after}")))


@pytest.mark.parametrize("part", ["store", "emit", "key"])
def test_a_change_in_another_function_of_a_stage_is_seen(part: str) -> None:
    assert of(same, **{part: lambda *_: 1}) != of(same, **{part: lambda *_: 2})


def test_a_change_in_any_method_of_a_class_is_seen() -> None:
    class First(common.Job):
        def handleWork(self, work: Any) -> None:
            self.emit(work)

    class Second(First):
        @functools.wraps(First.postSetup)
        def postSetup(self) -> None:
            self.least = 1

    assert of(adapt("job", First, "stage", {})["function"]) != of(adapt("job", Second, "stage", {})["function"])


def test_a_function_that_wraps_itself_has_a_fingerprint() -> None:
    def endless(work: Any) -> Any:
        return work

    vars(endless)["__wrapped__"] = endless
    assert of(endless) == of(same)


def test_what_has_no_code_has_a_fingerprint() -> None:
    assert of(len) == of(abs)


# --- where two plans differ -------------------------------------------------------------------------------------------

A, B = ("job", "a", 1), ("fold", "b", 2)


def test_equal_plans_do_not_differ() -> None:
    assert list(differences((A, B), (A, B))) == []


def test_every_place_that_differs_is_told_in_words_of_both_sides() -> None:
    changed, other = ("job", "a", 3), ("job", "c", 2)
    assert list(differences((A, B), (changed, other))) == [
        Difference(1, "a", "job 'a'", "job 'a'"),
        Difference(2, "b", "fold 'b'", "job 'c'"),
    ]


def test_places_that_differ_in_code_alone_are_told_apart() -> None:
    assert [each.is_of_code for each in differences((A, B), (("job", "a", 3), A))] == [True, False]


def test_a_place_that_one_plan_lacks_is_missing_there() -> None:
    assert list(differences((A, B), (A,))) == [Difference(2, "b", "fold 'b'", "missing")]
    assert list(differences((A,), (A, B))) == [Difference(2, "", "missing", "fold 'b'")]
