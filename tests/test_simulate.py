"""The engine on many ranks in virtual time: whatever dies or is late, results are the serial ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from job_stream import simulate
from job_stream.engine import messages as m
from job_stream.engine.rank import Rank
from job_stream.simulate.__main__ import main

SEEDS = 2000
MUTANT_SEEDS = 150


@pytest.mark.parametrize("first", range(0, SEEDS, 200))
def test_random_plans_on_random_ranks_give_the_serial_results(first: int) -> None:
    failures = [text for seed in range(first, first + 200) if (text := simulate.failure(seed))]
    assert not failures, "\n".join(failures)


def test_the_same_seed_gives_the_same_run() -> None:
    def story(seed: int) -> tuple[Any, Counter[str]]:
        cluster = simulate.Cluster(seed)
        return cluster.run(), cluster.counts

    assert [story(seed) for seed in range(20)] == [story(seed) for seed in range(20)]


def test_the_seeds_cover_what_they_are_for() -> None:
    counts: Counter[str] = Counter()
    for seed in range(200):
        simulate.failure(seed, counts)
    for what in ("Lend", "Repaid", "Refuse", "rank deaths", "lane deaths", "Cancel"):
        assert counts[what], what


def test_a_failure_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(simulate.check, "serial", lambda plan, body, values: [1])
    assert main(["--first", "7", "--seeds", "1"]) == 1
    assert "python -m job_stream.simulate --first 7 --seeds 1" in capsys.readouterr().out


# mutants of the engine's rules ------------------------------------------------------------------------------------


def _forgetTheDead(rank: Rank, event: m.RankDied) -> None:
    """What a dead rank held is not lent again."""
    rank._sharing.died(event.rank)
    rank._dropDebts(lambda debt: debt.lender == event.rank)


def _closeBeforeCounting(rank: Rank, event: m.Repaid) -> None:
    """Units are closed, and scopes end, before their products are filed."""
    if not rank._ledger.isOpen(event.lane, event.closed) or (event.lane > 0 and event.lane not in rank._lanes):
        return
    kept = rank._kept(event)
    closed = [piece for number, names in event.closed for piece in rank._ledger.close(number, names)]
    if kept:
        rank._ledger.keep(event.lane, event.loan, kept, None)
    for piece in closed:
        rank._closePiece(piece)
    rank._advance()
    if not rank.halted:
        rank._file(event.products)
    if event.lane > 0:
        rank._settleLane(event)


def _forgetStores(rank: Rank, fold: m.Fold) -> None:
    """A store that comes home replaces the one that is there."""
    rank._scopes[fold.scope].active.add(rank._plan.places[fold.place].segment)
    rank._stores[True].adopt((fold.scope, fold.place), fold.payload)


def _loseTheRest(rank: Rank, event: m.Repaid) -> tuple[Any, ...]:
    """What a borrower goes on with is forgotten."""
    return ()


def _fails() -> bool:
    return any(simulate.failure(seed) for seed in range(MUTANT_SEEDS))


@pytest.mark.parametrize(
    ("table", "key", "mutant"),
    [
        ("_HANDLERS", m.RankDied, _forgetTheDead),
        ("_HANDLERS", m.Repaid, _closeBeforeCounting),
        ("_FILERS", m.Fold, _forgetStores),
    ],
)
def test_a_broken_rule_is_caught(monkeypatch: pytest.MonkeyPatch, table: str, key: type, mutant: Any) -> None:
    from job_stream.engine import rank

    monkeypatch.setitem(getattr(rank, table), key, mutant)
    assert _fails()


@pytest.mark.parametrize(
    ("name", "mutant"),
    [
        ("_kept", _loseTheRest),
        ("_register", lambda rank, piece: None),
        ("_giveBack", lambda rank, pieces: Rank_giveBack(rank, pieces[:1])),
    ],
)
def test_a_broken_step_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, mutant: Any) -> None:
    monkeypatch.setattr(Rank, name, mutant)
    assert _fails()


Rank_giveBack = Rank._giveBack
