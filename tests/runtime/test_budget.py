"""How much memory values may take on their way: what is asked for, and what there is otherwise."""

from __future__ import annotations

from typing import Any

import pytest

import job_stream
from job_stream import Work
from job_stream.errors import PlanError
from job_stream.ranks.transport import Peer
from job_stream.runtime import budget as budgets
from job_stream.runtime.budget import LEAST, MOST, SHARE, budget, results_limit


@pytest.mark.parametrize("memory", [0, -1, True, 1.5, "", "many", "0GB", b"1GB", [1], 1 << 70, "9999999TB"], ids=repr)
def test_memory_that_makes_no_sense_is_refused_with_the_way_out(memory: Any) -> None:
    with pytest.raises(PlanError, match=r"memory must be bytes above 0, or a text such as .*; leave it out"):
        Work([1], memory=memory)
    with pytest.raises(PlanError, match="memory must be"):
        job_stream.map(abs, [1], memory=memory)


def test_an_environment_that_makes_no_sense_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_MEMORY", "many")
    with pytest.raises(PlanError, match=r"JOBS_MEMORY must be bytes above 0, .*; unset it"):
        Work([1]).run()
    with pytest.raises(PlanError, match="JOBS_MEMORY must be"), job_stream.Pool(1) as pool:
        pool.map(abs, [-1])


def _limits(monkeypatch: pytest.MonkeyPatch, **keywords: Any) -> list[int]:
    """What streams allow for results that wait."""
    seen: list[int] = []

    def noted(memory: int) -> int:
        seen.append(memory)
        return results_limit(memory)

    monkeypatch.setattr("job_stream.runtime.runtime.results_limit", noted)
    assert job_stream.map(abs, [-1], cpus=1, **keywords) == [1]
    return seen


def test_the_keyword_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOBS_MEMORY", "2MB")
    assert _limits(monkeypatch) == [2_000_000]
    assert _limits(monkeypatch, memory="3MB") == [3_000_000]
    assert _limits(monkeypatch, memory=4_000_000) == [4_000_000]


@pytest.mark.parametrize(
    ("gigabytes", "peers", "share"), [(8, 0, 1), (8, 2, 2), (1, 0, None), (1000, 0, MOST), (8, 3, 2)]
)
def test_otherwise_it_is_a_share_of_what_the_host_has_for_each_of_its_ranks(
    monkeypatch: pytest.MonkeyPatch, gigabytes: int, peers: int, share: int | None
) -> None:
    monkeypatch.setattr(budgets, "memory_bytes", lambda root, membership: gigabytes << 30)
    hosts = ["here", "here", "elsewhere"][:peers]
    found = budget(None, 0, [Peer(host, 1, number) for number, host in enumerate(hosts)])
    assert found == (LEAST if share is None else share if share == MOST else (gigabytes << 30) // (SHARE * share))
