"""The errors of builds go through pickle with all that is in them."""

from __future__ import annotations

import pickle

import pytest

from job_stream.errors import (
    BuildError,
    CycleError,
    GraphError,
    JobContractError,
    JobDied,
    JobStreamError,
    JobTimeout,
)


@pytest.mark.parametrize("kind", [BuildError, CycleError, JobContractError, JobTimeout, JobDied])
def test_a_build_error_can_be_pickled(kind: type[BuildError]) -> None:
    again = pickle.loads(pickle.dumps(kind("job 'a': words")))
    assert (type(again), str(again)) == (kind, "job 'a': words")
    assert isinstance(again, JobStreamError)


@pytest.mark.parametrize(("code", "name"), [(5, None), (None, "SIGKILL")])
def test_how_a_job_died_is_kept(code: int | None, name: str | None) -> None:
    again = pickle.loads(pickle.dumps(JobDied("job 'a' died", exitCode=code, signal=name)))
    assert (str(again), again.exitCode, again.signal) == ("job 'a' died", code, name)


def test_the_failures_of_a_graph_are_kept() -> None:
    failures = {"a": ValueError("no"), "b": JobDied("b died", exitCode=1)}
    again = pickle.loads(pickle.dumps(GraphError("2 jobs failed", failures)))
    assert str(again) == "2 jobs failed"
    assert {name: (type(error), str(error)) for name, error in again.failures.items()} == {
        "a": (ValueError, "no"), "b": (JobDied, "b died"),
    }  # fmt: skip
    assert isinstance(again, BuildError)
