"""The engine on many ranks in virtual time: whatever dies or is late, results are the serial ones."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from job_stream import simulate
from job_stream.engine import backlog, capture, rank, rank_state, routing
from job_stream.engine import messages as m
from job_stream.engine.allotments import Allotments
from job_stream.engine.capture import PieceState
from job_stream.engine.lane_table import LaneTable
from job_stream.engine.ledger import Piece
from job_stream.engine.pauses import Pauses
from job_stream.engine.rank import Rank, _last_of
from job_stream.engine.rank_state import RankState
from job_stream.engine.recall import Recall
from job_stream.engine.routing import Router
from job_stream.engine.scopes import Debt, Scope
from job_stream.engine.stores import Stores, StoreState
from job_stream.simulate import workers
from job_stream.simulate.__main__ import main
from job_stream.simulate.cases import case_of
from job_stream.stream.plan import Kind

SEEDS = 2000
MUTANT_SEEDS = 400
MANY_ITEMS = 150
"""As many as a case has at most. One case in five has them, and three quarters of the time would go into those."""
EVENTS = ("Lend", "Repaid", "Refuse", "rank deaths", "lane deaths", "Cancel", "crashes", "Saved", "snapshots", "Report",
          "Reported", "resumed", "frames handed home", "Pause", "allotted", "resumes")  # fmt: skip


def _has_many_items(seed: int) -> bool:
    return case_of(seed).items >= MANY_ITEMS


@pytest.mark.parametrize("first", range(0, SEEDS, 200))
def test_random_plans_on_random_ranks_give_the_serial_results(first: int) -> None:
    """Of the seeds with many items it takes every third: as many with crashes as without."""
    seeds = [seed for seed in range(first, first + 200) if seed // 3 % 3 == 0 or not _has_many_items(seed)]
    counts: Counter[str] = Counter()
    failures = [text for seed in seeds if (text := simulate.failure(seed, counts))]
    assert not failures, "\n".join(failures)
    assert not [what for what in EVENTS if not counts[what]], "the seeds are to cover this"


def test_the_same_seed_gives_the_same_run() -> None:
    def story(seed: int) -> tuple[Any, Counter[str]]:
        cluster = simulate.SimulatedCluster(seed)
        return cluster.run(), cluster.counts

    assert [story(seed) for seed in range(20)] == [story(seed) for seed in range(20)]


def test_the_seeds_cover_routes() -> None:
    switches = Counter(
        "of a frame" if place.body else "of the stream"
        for seed in range(200)
        for place in case_of(seed).plan.places
        if place.kind == Kind.SWITCH and any(goal < place.number for goal in place.routes.values())
    )
    assert switches["of a frame"] > 10
    assert switches["of the stream"] > 10


def test_a_wrong_way_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "goal_of", lambda place, value: place.next)
    assert _fails()


def test_a_failure_says_how_to_replay_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(simulate.check, "serial", lambda plan, body, values: [1])
    assert main(["--first", "7", "--seeds", "1"]) == 1
    assert "python -m job_stream.simulate --first 7 --seeds 1" in capsys.readouterr().out


# mutants of the engine's rules ------------------------------------------------------------------------------------


def _forget_the_dead(rank: Rank, event: m.RankLost) -> None:
    """What a dead rank held is not lent again."""
    rank._peer_lending.died(event.rank)
    rank._debts.lender_died(event.rank)


def _close_before_counting(rank: Rank, event: m.Repaid) -> None:
    """Units are closed, and scopes end, before their products are filed."""
    state = rank._state
    if event.awaits:
        rank._lane_table.awaits(event.lane)
    if not state.ledger.is_open(event.lane, event.closed) or (event.lane > 0 and event.lane not in rank._lane_table):
        return
    stand_ins = {m.HOME: state.ledger.scope_of(*_last_of(event.closed))} if event.lane < 0 else {}
    kept = rank._kept(event, stand_ins)
    closed = [piece for number, names in event.closed for piece in state.ledger.close(number, names)]
    if kept:
        state.ledger.keep(event.lane, event.loan, kept, None)
    for piece in closed:
        state.close_piece(piece)
    rank._progress.advance()
    if not rank._progress.stream_ended:
        rank._router.file(event.products, stand_ins)
    if event.lane > 0:
        rank._settle_lane(event)


def _forget_stores(router: Router, fold: m.Fold) -> None:
    """A store that comes home replaces the one that is there."""
    router._state.scopes[fold.scope].active.add(router._plan.places[fold.place].segment)
    router._state.stores_at(fold.place).adopt((fold.scope, fold.place), fold.payload)


def _lose_the_rest(rank: Rank, event: m.Repaid, stand_ins: dict[int, int]) -> tuple[Any, ...]:
    """What a borrower goes on with is forgotten."""
    return ()


def _lose_others(state: RankState, pieces: list[Piece]) -> None:
    """Of several pieces that come back, only the first is lent again."""
    give_back(state, pieces[:1])


def _cut_too_short(work: m.WorkBatch, count: int) -> tuple[m.WorkBatch, m.WorkBatch]:
    """An item between two parts of a piece is lost."""
    first, rest = cut(work, count)
    return first._replace(payload=first.payload._replace(stop=first.payload.stop - 1)), rest


def _capture_only_what_waits(state: RankState, scopes: set[int]) -> tuple[PieceState, ...]:
    """Pieces that are lent are left out of a capture."""
    lent = {id(piece.work) for piece in state.ledger.pieces}
    return tuple(piece for piece in pieces(state, scopes) if id(piece.work) not in lent)


def _count_again(stores: Stores, *given: Any) -> tuple[StoreState, ...]:
    """A capture forgets which calls have counted."""
    return tuple(store._replace(calls=tuple(call._replace(answered=False) for call in store.calls))
                 for store in capture_stores(stores, *given))  # fmt: skip


def _pause_for_each_other(pauses: Pauses, rank: int, change: int) -> None:
    """A pause that was heard counts until whoever told of it lifts it, be it passed on in a circle."""
    by = pauses.__dict__.setdefault("by", set())
    (by.add if change % 2 else by.discard)(rank)
    if bool(by) != pauses.paused:
        pauses._change += 1


def _tell_only_debtors(pauses: Pauses, debtors: set[int]) -> list[m.Send]:
    """Who owes nothing any more is not told that a pause is over."""
    told = tell(pauses, debtors)
    return [send for send in told if pauses.paused or send.rank in debtors]


def _keep_frames(recall: Recall, frame: Scope, debt: Debt, own: list[Piece]) -> None:
    """A frame goes home, and goes on here as well."""


def _any_host(allotments: Allotments, needs: tuple[str, int]) -> list[int]:
    """Allotted work goes to whatever rank has room."""
    return [rank for ranks in allotments._ranks.values() for rank in ranks]


def _more_than_there_are(allotments: Allotments, piece: Piece, rank: int) -> None:
    """What has been given to a host counts as one core, whatever it needs."""
    allotments._given[piece] = rank
    allotments._lanes[rank] -= 1
    allotments._free[allotments._hosts_of[rank]] -= 1


give_back, cut, pieces, capture_stores = RankState.give_back, backlog.cut, capture._pieces, Stores.capture
tell = Pauses.tell


def _fails() -> bool:
    return any(simulate.failure(seed) for seed in range(MUTANT_SEEDS))


@pytest.mark.parametrize(
    ("table", "key", "mutant"),
    [
        (rank._HANDLERS, m.RankLost, _forget_the_dead),
        (rank._HANDLERS, m.Repaid, _close_before_counting),
        (routing._FILERS, m.Fold, _forget_stores),
    ],
)
def test_a_broken_rule_is_caught(monkeypatch: pytest.MonkeyPatch, table: dict[type, Any], key: type, mutant: Any):
    monkeypatch.setitem(table, key, mutant)
    assert _fails()


@pytest.mark.parametrize(
    ("where", "name", "mutant"),
    [
        (Rank, "_kept", _lose_the_rest),
        (RankState, "register", lambda state, piece: None),
        (RankState, "give_back", _lose_others),
        (rank_state, "cut", _cut_too_short),
        (capture, "_pieces", _capture_only_what_waits),
        (Router, "outstanding", property(lambda router: ())),
        (Stores, "capture", _count_again),
        (Recall, "_hand_home", _keep_frames),
        (Recall, "_stores_of", lambda recall, scope, stand_in: []),
        (Pauses, "heard", _pause_for_each_other),
        (Pauses, "tell", _tell_only_debtors),
        (LaneTable, "resume", lambda lane_table: None),
        (Allotments, "_possible", _any_host),
        (Allotments, "keep", _more_than_there_are),
        (Allotments, "release", lambda allotments, piece: None),
        (Allotments, "pieces", property(lambda allotments: [])),
    ],
)
def test_a_broken_step_is_caught(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, mutant: Any) -> None:
    monkeypatch.setattr(where, name, mutant)
    assert _fails()
