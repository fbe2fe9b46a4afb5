"""Watching a run: which hooks are called when, and that nothing is where nobody watches."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from engine_support import Payload

from job_stream.engine import messages as m
from job_stream.observe.observer import Observer, RunBegun, RunEnded, Watchers
from job_stream.observe.statistics import Statistics
from job_stream.runtime.runtime import Runtime
from job_stream.runtime.source import InitialWork
from job_stream.stream.plan import Policy
from job_stream.stream.recorder import Recording


class Recorder(Observer):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def all(self, hook: str) -> list[Any]:
        return [what for name, what in self.told if name == hook]

    def begun(self, run: RunBegun) -> None:
        self.told.append(("begun", run))

    def lent(self, loan: m.Lend, rank: int | None) -> None:
        self.told.append(("lent", (loan.lane, loan.loan, rank)))

    def repaid(self, repaid: m.Repaid, rank: int | None) -> None:
        self.told.append(("repaid", (repaid.lane, repaid.loan, rank)))

    def stage_batch(self, lane: int, rank: int | None, place: int, items: int, seconds: float) -> None:
        self.told.append(("stage_batch", (rank, place, items)))

    def item_failed(self, failed: m.Skip | m.Fail) -> None:
        self.told.append(("item_failed", type(failed)))

    def lane_died(self, death: m.LaneLost | m.KeeperLost) -> None:
        self.told.append(("lane_died", death.cause))

    def rank_lost(self, rank: int) -> None:
        self.told.append(("rank_lost", rank))

    def checkpoint(self, state: Any) -> None:
        self.told.append(("checkpoint", state))

    def delivered(self, count: int, nbytes: int) -> None:
        self.told.append(("delivered", count))

    def taken(self, count: int, nbytes: int) -> None:
        self.told.append(("taken", count))

    def ended(self, run: RunEnded) -> None:
        self.told.append(("ended", run.error))


def run(job: Any, items: list[int], *observers: Observer, skip: bool = True) -> list[Any]:
    recording = Recording(True, Policy(skip=skip))
    recording.job(job)
    results: list[Any] = []
    runtime = Runtime(recording.plan(), InitialWork([items]), [], 2, None, False, observers=observers)
    runtime.run(lambda values, base: results.extend(values))
    return results


def fragile(item: int) -> int:
    if item == 3:
        raise ValueError
    if item == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_run_is_told_as_it_goes():
    watcher = Recorder()
    results = run(fragile, list(range(6)), watcher)
    assert sorted(results) == [0, 1, 2, 5]
    (begun,) = watcher.all("begun")
    assert (begun.rank, begun.lanes_of, [part.length for part in begun.parts]) == (0, (2,), [6])
    assert [name for name, _ in watcher.told][:: len(watcher.told) - 1] == ["begun", "ended"]
    assert sum(watcher.all("delivered")) == sum(watcher.all("taken")) == 4
    assert {(rank, place) for rank, place, items in watcher.all("stage_batch") if items > 0} == {(None, 0)}
    assert set(watcher.all("item_failed")) == {m.Skip, m.Fail}
    assert all("SIGKILL" in cause for cause in watcher.all("lane_died"))
    assert len(watcher.all("lane_died")) >= 3  # more, if it was not alone at first
    assert set(watcher.all("repaid")) <= set(watcher.all("lent"))
    assert watcher.all("ended") == [None]


def test_a_run_that_fails_is_told_with_what_ended_it():
    watcher = Recorder()
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        run(fragile, [3], watcher, skip=False)
    assert watcher.all("ended") == [caught.value]


def test_what_other_ranks_do_is_told():
    watcher = Recorder()
    loan = m.Lend(0, 7, ())
    handle = Watchers([watcher]).watched(lambda event, now: [m.Send(2, loan), m.Send(1, m.Refuse())])
    for event in (m.Heard(1, m.Repaid(0, 7, (), samples=((0, 5, 0.1),))), m.Heard(1, m.Refuse()), m.RankLost(2)):
        handle(event, 0.0)
    assert watcher.all("stage_batch") == [(1, 0, 5)]
    assert watcher.all("repaid") == [(0, 7, 1)]
    assert watcher.all("lent") == [(0, 7, 2)] * 3
    assert watcher.all("rank_lost") == [2]


def test_a_checkpoint_is_told_before_it_is_written():
    watcher, state = Recorder(), object()
    Watchers([watcher]).saving(lambda written: watcher.told.append(("written", written)))(state)  # type: ignore[arg-type]
    assert watcher.told == [("checkpoint", state), ("written", state)]


def test_where_nobody_watches_nothing_is_between_the_engine_and_who_asks_it():
    def handle(event: m.Event, now: float) -> list[m.Action]:
        return []

    def save(state: Any) -> None: ...

    for watchers in (Watchers([]), Watchers([Statistics()])):
        assert watchers.watched(handle) is handle
        assert watchers.saving(save) is save


def test_only_what_somebody_cares_for_is_told():
    class Lent(Observer):
        def lent(self, loan: m.Lend, rank: int | None) -> None: ...

    watchers = Watchers([Lent()])
    assert watchers.saving(print) is print
    handle = watchers.watched(lambda event, now: [m.Deliver(None, 1, None)])  # whose bytes nobody asks for
    assert handle(m.Nothing(), 0.0) == [m.Deliver(None, 1, None)]


def test_a_watcher_that_fails_ends_no_run_and_is_told_nothing_any_more(capfd):
    class Broken(Recorder):
        def delivered(self, count: int, nbytes: int) -> None:
            super().delivered(count, nbytes)
            raise ArithmeticError("no")

    broken, watcher = Broken(), Recorder()
    handle = Watchers([broken, watcher]).watched(lambda event, now: [m.Deliver(Payload("a"), 1, None)])
    for _ in range(3):
        handle(m.RankLost(1), 0.0)
    assert broken.told == [("rank_lost", 1), ("delivered", 1)]
    assert len(watcher.all("delivered")) == len(watcher.all("rank_lost")) == 3
    assert capfd.readouterr().err.count("Broken.delivered failed, and watches this run no longer: ") == 1
