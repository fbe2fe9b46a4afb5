"""The state of a stream as plain data: what it holds, and that a rank made from it goes on where the other one was."""

from __future__ import annotations

from collections import deque

import pytest
from engine_support import Payload, only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part, SourceState
from job_stream.engine.capture import KeeperState, PieceState, State
from job_stream.engine.debts import NEW_NAMES
from job_stream.engine.rank import Rank
from job_stream.engine.scopes import ScopeState
from job_stream.engine.stores import THREADS, CallState, StoreState
from job_stream.errors import EngineError
from job_stream.stream.plan import Kind

A, B, C, STORE, CHILD = map(Payload, ("a", "b", "c", "store", "child"))
JOBS = (Kind.JOB,)
FOLDING = (Kind.JOB, Kind.FOLD)
FRAME = (Kind.FRAME, Kind.JOB, "frameEnd")
NESTED = (Kind.FRAME, Kind.FRAME, Kind.JOB, "frameEnd", "frameEnd")


def sent(rank: int, kind: type, actions: list) -> list:
    return [send.message for send in only(m.Send, actions) if send.rank == rank and type(send.message) is kind]


def repay(lend: m.Lend, *products: m.Product) -> m.Repaid:
    units = tuple(name for name, _ in lend.units)
    return m.Repaid(lend.lane, lend.loan, ((lend.loan, units),), products)


def lent_to(other: int, rank: Rank) -> m.Lend:
    """What another rank is lent when it asks, once it is no use to wait for measurements any longer."""
    actions = rank.handle(m.Heard(other, m.Ask(1, True)), 0.5) + rank.handle(m.Nothing(), 1.0)
    (lend,) = sent(other, m.Lend, actions)
    return lend


def begun(*kinds: str, items: int = 4, lanes: int = 2, ranks: int = 1, now: float = 0.0) -> tuple[Rank, list]:
    rank = Rank(plan_of(*kinds), (Part(items),), lanes, 0, (lanes,) * ranks)
    return rank, only(m.Lend, rank.handle(m.Nothing(), now))


def resumed(state: State, *kinds: str, items: int | None = 4, lanes: int = 2, ranks: int = 1) -> Rank:
    return Rank(plan_of(*kinds), (Part(items),), lanes, 0, (lanes,) * ranks, state)


def item(number: int) -> PieceState:
    return PieceState(m.WorkBatch(0, 0, 1, m.SourceSlice(0, number, number + 1), number), False, 0, 0)


STREAM = ScopeState(0, 0, -1, -1, (), 0)
NO_STORES = (KeeperState(True, 0, ()), KeeperState(False, THREADS, ()))


# what a state holds ---------------------------------------------------------------------------------------------------


def test_lent_items_are_open():
    rank, _ = begun(*JOBS, items=6)
    source = SourceState(0, 4, 4, ())
    assert rank.capture() == State(source, tuple(map(item, range(4))), (STREAM,), NO_STORES, (), 0, 0, 4)


def test_repaid_items_are_not_open_and_what_came_of_them_is():
    rank, lends = begun(Kind.JOB, Kind.JOB, items=2)
    rank.handle(repay(lends[0], m.WorkBatch(0, 1, 3, A)))
    assert [saved.work for saved in rank.capture().pieces] == [item(1).work, m.WorkBatch(0, 1, 3, A)]


def test_results_that_were_not_taken_are_in_it_in_order():
    rank, lends = begun(*JOBS, items=3)
    for lend, payload in zip(lends, (A, B), strict=False):
        rank.handle(repay(lend, m.Output(0, 1, 1, payload)))
    assert rank.capture().deliveries == (m.Deliver(A, 1, None), m.Deliver(B, 1, None))
    rank.handle(m.ResultsTaken(1, A.nbytes))
    state = rank.capture()
    assert (state.deliveries, state.results) == ((m.Deliver(B, 1, None),), 1)


def test_results_that_were_not_delivered_cannot_be_taken():
    rank, lends = begun(*JOBS)
    rank.handle(repay(lends[0], m.Output(0, 1, 1, A)))
    with pytest.raises(EngineError, match="2 results were taken of a delivery of 1"):
        rank.handle(m.ResultsTaken(2, A.nbytes))


def test_a_suspect_stays_one():
    rank, lends = begun(*JOBS, items=1)
    rank.handle(m.LaneLost(lends[0].lane, lends[0].loan, 0, 0, "SIGSEGV"))
    (saved,) = rank.capture().pieces
    assert saved == item(0)._replace(one_by_one=True, deaths=1)
    (lend,) = only(m.Lend, resumed(rank.capture(), *JOBS, items=1).handle(m.Nothing()))
    assert lend.one_by_one


def with_log() -> tuple[Rank, m.Call]:
    """A reduction whose keeper has been given a second store, and its call."""
    rank, lends = begun(*FOLDING, items=3)
    rank.handle(repay(lends[0], m.Fold(0, 1, A)))
    adopt, merge = only(m.Call, rank.handle(repay(lends[1], m.Fold(0, 1, B))))
    rank.handle(m.Answered(adopt.call, ()))
    return rank, merge


def test_a_store_is_a_copy_and_the_calls_since():
    rank, merge = with_log()
    (store,) = rank.capture().keepers[0].stores
    assert store == StoreState(0, 1, A, (CallState(merge.call, "merge", 1, B, False, False),), False)
    rank.handle(m.Answered(merge.call, ()))
    (store,) = rank.capture().keepers[0].stores
    assert store.calls == (CallState(merge.call, "merge", 1, B, True, False),)


def test_stores_go_to_the_keeper_of_the_kind_that_their_stage_has_now():
    before = with_log()[0].capture()
    plan = plan_of(*FOLDING)
    for place in plan.places:
        place.processes = False
    moved = Rank(plan, (Part(4),), 2, 0, (2,), before).capture()
    assert [keeper.stores for keeper in moved.keepers] == [(), before.keepers[0].stores]
    back = resumed(moved, *FOLDING).capture()
    assert [keeper.stores for keeper in back.keepers] == [before.keepers[0].stores, ()]


def in_frame(kinds: tuple[str, ...] = FRAME, **more: int) -> tuple[Rank, m.Lend]:
    """An open frame with one child, which is lent."""
    rank, (lend,) = begun(*kinds, items=1, **more)
    opened = (m.Open(-1, 0, 0, STORE, (), 7), m.WorkBatch(-1, 2, 1, CHILD))
    (child,) = only(m.Lend, rank.handle(repay(lend, *opened)))
    return rank, child


def test_an_open_frame_is_a_scope_with_a_store():
    state = in_frame()[0].capture()
    assert state.scopes == (STREAM, ScopeState(1, 1, 0, 0, (), 7))
    assert state.pieces == (PieceState(m.WorkBatch(1, 2, 1, CHILD), False, 0, 0),)
    assert state.keepers[0].stores == (StoreState(1, 3, STORE, (), False),)
    assert (state.source, state.last_scope) == (SourceState(1, 0, 1, ()), 1)


def pulled(chunks: tuple[tuple[int, Payload], ...], done: bool) -> Rank:
    rank = Rank(plan_of(*JOBS), (Part(None), Part(5)), 1)
    rank.handle(m.Nothing())
    rank.handle(m.SourceGave(chunks, done))
    return rank


def test_a_pulled_source_says_how_many_items_were_pulled_and_which_wait():
    state = pulled(((2, A), (3, B), (1, C)), done=False).capture()
    assert state.source == SourceState(0, 6, 6, (m.WorkBatch(0, 0, 1, C, 5),))
    assert [saved.work for saved in state.pieces] == [m.WorkBatch(0, 0, 2, A, 0), m.WorkBatch(0, 0, 3, B, 2)]


def test_a_source_that_has_been_pulled_to_its_end_is_over():
    state = pulled(((2, A), (3, B), (1, C)), done=True).capture()
    assert state.source == SourceState(1, 0, 6, (m.WorkBatch(0, 0, 1, C, 5),))


def test_what_other_ranks_have_borrowed_is_open():
    rank, _ = begun(*JOBS, items=8, ranks=2)
    lend = lent_to(1, rank)
    works = [saved.work for saved in rank.capture().pieces]
    assert [work for _, work in lend.units] == works[4:]


def test_what_rank_0_has_borrowed_itself_is_left_out():
    rank, _ = begun(*FOLDING, items=2, ranks=2)
    before = rank.capture()
    actions = rank.handle(m.Heard(1, m.Lend(0, 3, ((0, m.WorkBatch(9, 0, 1, A)), (1, m.WorkBatch(9, 0, 1, B))))))
    first, *_ = only(m.Lend, actions)
    after = rank.capture()
    assert after == before._replace(last_scope=1, last_loan=after.last_loan)
    rank.handle(repay(first, m.Fold(first.units[0][1].scope, 1, C)))
    assert rank.capture().keepers == before.keepers


# going on -------------------------------------------------------------------------------------------------------------


def states() -> dict[str, tuple[State, tuple[str, ...], int]]:
    deliveries, lends = begun(*JOBS, items=9)
    deliveries.handle(repay(lends[0], m.Output(0, 1, 1, A)))
    return {
        "lent items": (begun(*JOBS, items=6)[0].capture(), JOBS, 6),
        "deliveries": (deliveries.capture(), JOBS, 9),
        "a store": (with_log()[0].capture(), FOLDING, 3),
        "a frame": (in_frame()[0].capture(), FRAME, 1),
    }


@pytest.mark.parametrize("name", states())
def test_a_rank_made_from_a_state_is_in_that_state(name: str):
    state, kinds, items = states()[name]
    again = resumed(state, *kinds, items=items).capture()
    calls = [keeper.last for keeper in again.keepers]
    before = tuple(keeper._replace(last=last) for keeper, last in zip(state.keepers, calls, strict=True))
    assert again == state._replace(keepers=before)  # a new keeper is handed stores with new calls


@pytest.mark.parametrize("lanes", [1, 3, 8])
def test_what_is_open_is_done_once_on_any_number_of_lanes(lanes: int):
    rank, lends = begun(*JOBS, items=6)
    for lend in lends[:2]:
        rank.handle(repay(lend, m.Output(0, 1, 1, lend.units[0][1].payload)))
        rank.handle(m.ResultsTaken(1, 0))
    rank = resumed(rank.capture(), *JOBS, items=6, lanes=lanes)
    actions, done = rank.handle(m.Nothing()), []
    waiting = deque(only(m.Lend, actions))
    while waiting:
        lend = waiting.popleft()
        done += [work.payload.start for _, work in lend.units for _ in range(work.count)]
        actions = rank.handle(repay(lend))
        waiting += only(m.Lend, actions)
    assert only(m.Halt, actions)
    assert len(done) == 4
    assert set(done) == {2, 3, 4, 5}


def test_what_ranks_had_borrowed_is_lent_to_lanes_where_there_are_no_ranks():
    rank, _ = begun(*JOBS, items=8, ranks=2)
    lent_to(1, rank)
    rank = resumed(rank.capture(), *JOBS, items=8, lanes=8)
    starts = {work.payload.start for lend in only(m.Lend, rank.handle(m.Nothing())) for _, work in lend.units}
    assert starts == set(range(8))


def test_results_that_were_not_taken_are_delivered_again_first():
    rank, lends = begun(*JOBS, items=3)
    for lend, payload in zip(lends, (A, B), strict=False):
        rank.handle(repay(lend, m.Output(0, 1, 1, payload)))
    rank.handle(m.ResultsTaken(1, A.nbytes))
    rank = resumed(rank.capture(), *JOBS, items=3)
    actions = rank.handle(m.Nothing())
    assert only(m.Deliver, actions) == [m.Deliver(B, 1, None)]
    assert not only(m.Deliver, rank.handle(m.ResultsTaken(1, B.nbytes)))
    assert rank.capture().results == 2


def test_a_stream_of_which_only_deliveries_are_left_halts_after_them():
    rank, (lend,) = begun(*JOBS, items=1)
    assert rank.handle(repay(lend, m.Output(0, 1, 1, A))) == [m.Deliver(A, 1, None), m.Halt()]
    assert resumed(rank.capture(), *JOBS, items=1).handle(m.Nothing()) == [m.Deliver(A, 1, None), m.Halt()]


def test_calls_since_the_copy_are_made_again():
    rank, merge = with_log()
    rank = resumed(rank.capture(), *FOLDING, items=3)
    actions = rank.handle(m.Nothing())
    assert only(m.StartKeeper, actions) == [m.StartKeeper(True)]
    assert [(call.kind, call.payload) for call in only(m.Call, actions)] == [("adopt", A), ("merge", B)]
    (lend,) = only(m.Lend, actions)
    assert not only(m.Call, rank.handle(repay(lend)))
    (checkout,) = only(m.Call, rank.handle(m.Answered(merge.call, ())))
    assert checkout.kind == "checkout"
    (emission,) = only(m.Lend, rank.handle(m.Answered(checkout.call, (), C)))
    assert emission.units[0][1] == m.WorkBatch(0, 1, 1, C, resume=True)
    assert only(m.Halt, rank.handle(repay(emission)))


def test_answers_that_had_counted_do_not_count_again():
    rank, merge = with_log()
    recurred = (m.WorkBatch(0, 0, 1, C),)
    rank.handle(m.Answered(merge.call, recurred))
    rank = resumed(rank.capture(), *FOLDING, items=3)
    rank.handle(m.Nothing())
    rank.handle(m.Answered(merge.call, recurred))
    assert [saved.work.payload for saved in rank.capture().pieces].count(C) == 1


def test_what_a_call_still_holds_is_asked_for_once_the_new_keeper_has_made_it_again():
    rank, child = in_frame()
    end = only(m.Call, rank.handle(repay(child, m.Output(1, 3, 1, A))))[1]
    more = only(m.Call, rank.handle(m.Answered(end.call, (), more=True)))[0]
    assert (more.kind, more.payload) == ("more", end.call)
    busy, lends = in_frame(FRAME, lanes=1)
    products = [*(m.WorkBatch(1, 2, 1, CHILD) for _ in range(9)), m.Output(1, 3, 1, A)]
    end = only(m.Call, busy.handle(repay(lends, *products)))[1]
    assert not only(m.Call, busy.handle(m.Answered(end.call, (), more=True)))  # there is enough to do
    (store,) = busy.capture().keepers[0].stores
    assert store.lazy
    assert store.calls[0].more
    calls = only(m.Call, resumed(busy.capture(), *FRAME, items=1, lanes=8).handle(m.Nothing()))
    assert [(call.kind, call.payload) for call in calls] == [("adopt", STORE), ("end", A), ("more", end.call)]


def test_a_frame_goes_on_with_its_children():
    rank = resumed(in_frame()[0].capture(), *FRAME, items=1)
    (child,) = only(m.Lend, rank.handle(m.Nothing()))
    assert child.units[0][1] == m.WorkBatch(1, 2, 1, CHILD)
    (again,) = only(m.Lend, rank.handle(repay(child)))
    assert again.units[0][1] == m.WorkBatch(0, 0, 1, STORE, resume=True)
    assert only(m.Halt, rank.handle(repay(again)))


def test_numbers_of_scopes_are_not_given_twice():
    rank = resumed(in_frame()[0].capture(), *FRAME, items=1)
    (child,) = only(m.Lend, rank.handle(m.Nothing()))
    rank.handle(repay(child, m.Open(-1, 0, 0, B, ()), m.WorkBatch(-1, 2, 1, C)))
    assert [scope.number for scope in rank.capture().scopes] == [0, 2]


def test_an_iterator_is_pulled_on_and_positions_go_on():
    state = pulled(((2, A), (3, B), (1, C)), done=False).capture()
    rank = Rank(plan_of(*JOBS), (Part(None), Part(5)), 4, state=state)
    actions = rank.handle(m.Nothing())
    assert {lend.units[0][1].payload for lend in only(m.Lend, actions)} == {A, B, C}
    assert only(m.Pull, actions)
    rank.handle(m.SourceGave(((1, STORE),), True))
    assert [saved.work.base for saved in rank.capture().pieces if saved.work.payload is STORE] == [6]
    assert rank.capture().source.part in (1, 2)


# asking for a state ---------------------------------------------------------------------------------------------------


def test_the_state_comes_at_once_where_nobody_has_anything():
    rank = Rank(plan_of(*JOBS), (Part(1),), 1)
    report, saved, *_ = rank.handle(m.Save())
    assert report == m.Report(1)
    assert saved.state == State(SourceState(0, 0, 0, ()), (), (STREAM,), NO_STORES, (), 0, 0, 0)


def test_lanes_have_a_moment_to_report():
    rank, lends = begun(*JOBS, items=2, now=5.0)
    assert rank.handle(m.Save(), 5.0) == [m.Report(1)]
    assert rank.deadline == pytest.approx(5.1)
    assert not only(m.Saved, rank.handle(repay(lends[0]), 5.05))
    (saved,) = only(m.Saved, rank.handle(m.Nothing(), 5.11))
    assert saved.state.pieces == (item(1),)
    assert rank.deadline > 5.11 + 1


def test_the_state_comes_early_when_lanes_are_done():
    rank, lends = begun(Kind.JOB, Kind.FOLD, items=1, now=5.0)
    computed = m.Repaid(lends[0].lane, lends[0].loan, (), computed=(0,))
    rank.handle(m.Save(), 5.0)
    assert not only(m.Saved, rank.handle(computed, 5.01))
    (saved,) = only(m.Saved, rank.handle(repay(lends[0], m.Fold(0, 1, A)), 5.02))
    assert not saved.state.pieces
    assert saved.state.keepers[0].stores[0].copy is A


def test_lanes_that_hold_computed_work_are_told_to_repay_it():
    rank, lends = begun(Kind.JOB, Kind.FOLD, items=100, lanes=1)
    rank.handle(m.Repaid(1, lends[0].loan, (), computed=(0,)))
    assert m.Flush(1) in rank.handle(m.Save())
    assert not only(m.Flush, rank.handle(m.Nothing()))


def test_a_second_wish_while_the_state_is_under_way_is_the_same():
    rank, _ = begun(*JOBS, items=2)
    assert rank.handle(m.Save(), 0.0) == [m.Report(1)]
    assert rank.handle(m.Save(), 0.01) == []
    assert len(only(m.Saved, rank.handle(m.Nothing(), 0.2))) == 1
    assert rank.handle(m.Save(), 1.0) == [m.Report(2)]


def holding() -> tuple[Rank, m.Call, list]:
    """A rank that waits for a fresh copy of a store, with one loan out; the call for the copy, and all its actions."""
    rank, merge = with_log()
    rank.handle(m.Answered(merge.call, ()))
    rank.handle(m.Save(), 1.0)
    actions = rank.handle(m.Nothing(), 1.2)
    (copy,) = only(m.Call, actions)
    return rank, copy, actions


def test_the_state_waits_for_fresh_copies_of_stores():
    rank, copy, actions = holding()
    assert (copy.kind, copy.store) == ("copy", (0, 1))
    assert not only(m.Saved, actions)
    (saved,) = only(m.Saved, rank.handle(m.Answered(copy.call, (), C), 1.21))
    assert saved.state.keepers[0].stores == (StoreState(0, 1, C, (), False),)


def test_calls_are_kept_back_until_the_copies_are_there_and_belong_to_the_state():
    rank, copy, _ = holding()
    assert not only(m.Call, rank.handle(m.Repaid(1, 3, ((3, (0,)),), (m.Fold(0, 1, B),)), 1.21))
    assert not rank.capture().pieces
    actions = rank.handle(m.Answered(copy.call, (), C), 1.22)
    (saved,) = only(m.Saved, actions)
    (store,) = saved.state.keepers[0].stores
    assert (store.copy, [(call.kind, call.payload) for call in store.calls]) == (C, [("merge", B)])
    assert [(call.kind, call.payload) for call in only(m.Call, actions)] == [("merge", B)]
    calls = only(m.Call, resumed(saved.state, *FOLDING, items=3).handle(m.Nothing()))
    assert [(call.kind, call.payload) for call in calls] == [("adopt", C), ("merge", B)]


def test_a_copy_that_does_not_come_in_time_is_replaced_by_the_calls():
    rank, _, _ = holding()
    assert rank.deadline == pytest.approx(3.0)
    (saved,) = only(m.Saved, rank.handle(m.Nothing(), 3.1))
    (store,) = saved.state.keepers[0].stores
    assert (store.copy, [call.payload for call in store.calls]) == (A, [B])


def test_a_keeper_that_dies_over_the_copies_does_not_hold_the_state_up():
    rank, _, _ = holding()
    actions = rank.handle(m.KeeperLost(True, 0, 1, "SIGKILL"), 1.3)
    (saved,) = only(m.Saved, actions)
    assert [call.payload for call in saved.state.keepers[0].stores[0].calls] == [B]
    assert [(call.kind, call.payload) for call in only(m.Call, actions)] == [("adopt", A), ("merge", B)]


def lending() -> Rank:
    """Rank 0 of 3, which has lent to both others and whose lanes have nothing to do any more."""
    rank, lends = begun(*JOBS, items=8, lanes=1, ranks=3)
    for other in (1, 2):
        lent_to(other, rank)
    while lends:
        lends += only(m.Lend, rank.handle(repay(lends.pop(0)), 1.0))
    return rank


def test_borrowers_are_waited_for():
    rank = lending()
    actions = rank.handle(m.Save(), 2.0)
    assert only(m.Send, actions) == [m.Send(1, m.Report(1)), m.Send(2, m.Report(1))]
    assert not only(m.Saved, rank.handle(m.Heard(1, m.Reported(1)), 2.3))
    assert only(m.Saved, rank.handle(m.Heard(2, m.Reported(1)), 2.4))


def test_borrowers_are_waited_for_no_longer_than_a_second():
    rank = lending()
    rank.handle(m.Save(), 2.0)
    assert rank.deadline == pytest.approx(3.0)
    assert only(m.Saved, rank.handle(m.Nothing(), 3.01))


def test_an_answer_to_an_older_wish_does_not_count():
    rank = lending()
    rank.handle(m.Save(), 2.0)
    rank.handle(m.Nothing(), 3.01)
    rank.handle(m.Save(), 4.0)
    for other in (1, 2):
        assert not only(m.Saved, rank.handle(m.Heard(other, m.Reported(1)), 4.1))


def test_a_dead_borrower_is_not_waited_for():
    rank = lending()
    rank.handle(m.Save(), 2.0)
    rank.handle(m.Heard(1, m.Reported(1)), 2.1)
    actions = rank.handle(m.RankLost(2), 2.2)
    assert only(m.Saved, actions) or only(m.Saved, rank.handle(m.Nothing(), 2.3))


def test_only_rank_0_can_be_asked_for_the_state():
    with pytest.raises(EngineError, match="only rank 0"):
        Rank(plan_of(*JOBS), (), 1, 1, (1, 1)).handle(m.Save())


# reports of borrowers -------------------------------------------------------------------------------------------------


def borrower(kinds: tuple[str, ...], *works: m.WorkBatch, ranks: int = 2) -> tuple[Rank, list]:
    """Rank 1, which has borrowed units of rank 0; and what its lanes were lent."""
    rank = Rank(plan_of(*kinds), (), 1, 1, (1,) * ranks)
    rank.handle(m.Nothing())
    lend = m.Lend(0, 5, tuple(enumerate(works)))
    return rank, only(m.Lend, rank.handle(m.Heard(0, lend)))


def report(rank: Rank, now: float = 1.0) -> list:
    """What a rank says to a Report, when its lanes have had their moment."""
    actions = rank.handle(m.Heard(0, m.Report(1)), now)
    return actions + rank.handle(m.Nothing(), now + 0.2)


def test_a_rank_that_owes_nothing_answers_at_once():
    rank = Rank(plan_of(*JOBS), (), 1, 1, (1, 1))
    assert sent(0, m.Reported, rank.handle(m.Heard(0, m.Report(1)))) == [m.Reported(1)]


def test_a_report_that_is_over_is_answered_at_once():
    rank, _ = borrower(JOBS, m.WorkBatch(0, 0, 1, A), ranks=3)
    report(rank)
    assert sent(2, m.Reported, rank.handle(m.Heard(2, m.Report(1)), 2.0)) == [m.Reported(1)]


def test_folded_stores_go_home_with_the_rest():
    rank, lends = borrower(FOLDING, m.WorkBatch(0, 0, 1, A), m.WorkBatch(0, 0, 1, B))
    scope = lends[0].units[0][1].scope
    rank.handle(repay(lends[0], m.Fold(scope, 1, C)))
    actions = report(rank)
    (repaid,) = sent(0, m.Repaid, actions)
    assert repaid.products == (m.Fold(m.HOME, 1, C),)
    assert len(repaid.closed[0][1]) == 1
    assert not repaid.kept
    assert sent(0, m.Reported, actions) == [m.Reported(1)]


def test_later_folds_begin_a_new_store():
    rank, lends = borrower(FOLDING, m.WorkBatch(0, 0, 1, A), m.WorkBatch(0, 0, 1, B))
    scope = lends[0].units[0][1].scope
    lends += only(m.Lend, rank.handle(repay(lends[0], m.Fold(scope, 1, C))))
    report(rank)
    (repaid,) = sent(0, m.Repaid, rank.handle(repay(lends[1], m.Fold(scope, 1, STORE)), 2.0))
    assert repaid.products == (m.Fold(m.HOME, 1, STORE),)


def in_borrowed_frame() -> tuple[Rank, m.Lend]:
    """Rank 1 with a borrowed item that has become an open frame, with a frame inside that has a child."""
    rank, (lend,) = borrower(NESTED, m.WorkBatch(0, 0, 1, A))
    scope = lend.units[0][1].scope
    opened = (
        m.Open(-1, scope, 0, STORE, (), 7),
        m.Open(-2, -1, 2, B, ()),
        m.WorkBatch(-2, 4, 1, CHILD),
    )
    (child,) = only(m.Lend, rank.handle(repay(lend, *opened)))
    return rank, child


def test_open_frames_go_home_with_the_frames_inside():
    rank, _ = in_borrowed_frame()
    (repaid,) = sent(0, m.Repaid, report(rank))
    outer, inner = repaid.products
    assert outer == m.Open(outer.scope, m.HOME, 0, STORE, (), 7)
    assert inner == m.Open(inner.scope, outer.scope, 2, B, ())
    assert [work for _, work in repaid.kept] == [m.WorkBatch(inner.scope, 4, 1, CHILD)]
    assert repaid.closed == ((5, (0,)),)


def test_what_comes_of_the_rest_of_a_frame_belongs_to_the_scope_of_its_unit():
    rank, child = in_borrowed_frame()
    (before,) = sent(0, m.Repaid, report(rank))
    end = rank._plan.bodies[2].end
    (repaid,) = sent(0, m.Repaid, rank.handle(repay(child, m.Output(child.units[0][1].scope, end, 1, C)), 2.0))
    assert repaid.closed == ((5, (before.kept[0][0],)),)
    assert repaid.products == (m.Output(m.HOME, end, 1, C),)


def test_a_frame_that_came_home_goes_on_there():
    lender, lends = begun(*NESTED, items=3, lanes=1, ranks=2)
    lent = lent_to(1, lender)
    work = lent.units[0][1]
    there, _ = in_borrowed_frame()
    (repaid,) = sent(0, m.Repaid, report(there))
    lender.handle(m.Heard(1, repaid._replace(loan=lent.loan, closed=((lent.loan, (0,)),))), 1.0)
    state = lender.capture()
    assert [(scope.parent, scope.place, scope.key) for scope in state.scopes[1:]] == [(0, 0, 7), (1, 2, 0)]
    assert m.WorkBatch(2, 4, 1, CHILD) in [saved.work for saved in state.pieces]
    assert work not in [saved.work for saved in state.pieces]
    rest = repaid.kept[0][0]
    actions = lender.handle(m.Heard(1, m.Repaid(0, lent.loan, ((lent.loan, (rest,)),))), 1.1)
    while lends:  # the inner frame has drained, and becomes a piece of the outer one
        lend = lends.pop(0)
        if lend.units[0][1] == m.WorkBatch(1, 2, 1, B, resume=True):
            return
        lends += only(m.Lend, actions)
        actions = lender.handle(repay(lend), 1.2)
        lends += only(m.Lend, actions)
    raise AssertionError("the frame did not go on")


def test_a_reduction_that_nothing_has_come_to_is_still_empty_when_it_was_reported():
    lender, _ = begun(Kind.FRAME, Kind.JOB, Kind.FOLD, "frameEnd", items=3, lanes=1, ranks=2)
    lent = lent_to(1, lender)
    opened, empty = m.Open(-1, m.HOME, 0, STORE, ()), m.WorkBatch(-1, 3, 1, None, resume=True)
    repaid = m.Repaid(0, lent.loan, ((lent.loan, (0,)),), (opened,), kept=((NEW_NAMES + 1, empty),))
    lender.handle(m.Heard(1, repaid), 1.0)
    assert [saved.work.payload for saved in lender.capture().pieces if saved.work.resume] == [None]


def test_calls_that_were_kept_back_go_home_too():
    rank, (lend,) = borrower(FRAME, m.WorkBatch(0, 0, 1, A))
    scope = lend.units[0][1].scope
    opened = (m.Open(-1, scope, 0, STORE, ()), *(m.WorkBatch(-1, 2, 1, CHILD) for _ in range(3)))
    lends = only(m.Lend, rank.handle(repay(lend, *opened)))
    frame = lends[0].units[0][1].scope
    actions = rank.handle(repay(lends[0], m.Output(frame, 3, 1, B)))
    lends += only(m.Lend, actions)
    for call in only(m.Call, actions):
        rank.handle(m.Answered(call.call, ()))
    rank.handle(m.Heard(0, m.Report(1)), 1.0)
    (copy,) = only(m.Call, rank.handle(m.Nothing(), 1.2))
    actions = rank.handle(repay(lends[1], m.Output(frame, 3, 1, C)), 1.21)
    assert not only(m.Call, actions)
    actions = rank.handle(m.Answered(copy.call, (), STORE), 1.22)
    (repaid,) = sent(0, m.Repaid, actions)
    opening, output = repaid.products
    assert output == m.Output(opening.scope, 3, 1, C)
    assert [call.kind for call in only(m.Call, actions)] == ["checkout"]  # so that the keeper drops the store


def test_a_borrower_asks_its_own_borrowers_and_waits_for_them():
    rank, _ = borrower(JOBS, *(m.WorkBatch(0, 0, 1, A) for _ in range(6)), ranks=3)
    lent_to(2, rank)
    actions = rank.handle(m.Heard(0, m.Report(1)), 1.0)
    assert sent(2, m.Report, actions) == [m.Report(1)]
    assert not sent(0, m.Reported, rank.handle(m.Nothing(), 1.2))
    assert sent(0, m.Reported, rank.handle(m.Heard(2, m.Reported(1)), 1.3)) == [m.Reported(1)]


# ranks that borrow from each other ------------------------------------------------------------------------------------


def with_borrowed_frame(rank: Rank, lender: int) -> Rank:
    """The rank, with a frame that came of an item of another rank, and a child of it with its lane."""
    (lend,) = only(m.Lend, rank.handle(m.Heard(lender, m.Lend(0, 9, ((0, m.WorkBatch(0, 0, 1, A)),))), 1.0))
    opened = (m.Open(-1, lend.units[0][1].scope, 0, STORE, ()), m.WorkBatch(-1, 2, 1, CHILD))
    assert only(m.Lend, rank.handle(repay(lend, *opened), 1.0))
    return rank


def kinds_sent(rank: int, actions: list) -> list[type]:
    return [type(action.message) for action in only(m.Send, actions) if action.rank == rank]


def lending_frames() -> Rank:
    """Rank 0 of 2, which has lent all it had to the other, and has borrowed an item back that is an open frame."""
    rank, lends = begun(*FRAME, items=8, lanes=1, ranks=2)
    lent_to(1, rank)
    while lends:
        lends += only(m.Lend, rank.handle(repay(lends.pop(0)), 1.0))
    return with_borrowed_frame(rank, 1)


def test_what_rank_0_has_borrowed_goes_home_before_the_state_is_captured():
    rank = lending_frames()
    rank.handle(m.Save(), 2.0)
    rank.handle(m.Heard(1, m.Report(1)), 2.01)
    actions = rank.handle(m.Nothing(), 2.2)
    assert kinds_sent(1, actions) == [m.Repaid, m.Reported]
    assert not only(m.Saved, actions)


def test_rank_0_asks_again_until_nobody_was_told_anything_new():
    rank = lending_frames()
    rank.handle(m.Save(), 2.0)
    rank.handle(m.Heard(1, m.Report(1)), 2.01)
    rank.handle(m.Nothing(), 2.2)
    again = m.Send(1, m.Report(2, again=True))
    assert rank.handle(m.Heard(1, m.Reported(1)), 2.3) == [again]  # it was told of the frame
    assert rank.handle(m.Heard(1, m.Reported(2, moved=True)), 2.4) == [again._replace(message=m.Report(3, again=True))]
    assert only(m.Saved, rank.handle(m.Heard(1, m.Reported(3)), 2.5))


def test_rank_0_does_not_ask_again_when_it_is_late():
    rank = lending_frames()
    rank.handle(m.Save(), 2.0)
    rank.handle(m.Heard(1, m.Report(1)), 2.01)
    rank.handle(m.Nothing(), 2.2)
    assert only(m.Saved, rank.handle(m.Heard(1, m.Reported(1)), 3.1))


def test_lanes_are_not_asked_again_by_the_same_wish():
    rank, _ = borrower(JOBS, m.WorkBatch(0, 0, 1, A))
    assert only(m.Report, rank.handle(m.Heard(0, m.Report(1)), 1.0))
    rank.handle(m.Nothing(), 1.2)
    actions = rank.handle(m.Heard(0, m.Report(2, again=True)), 1.3)
    assert not only(m.Report, actions)
    assert sent(0, m.Reported, actions) == [m.Reported(2)]


def test_who_told_others_of_a_rest_says_so():
    rank = with_borrowed_frame(borrower(FRAME, ranks=3)[0], 2)
    rank.handle(m.Heard(0, m.Lend(0, 5, ((0, m.WorkBatch(0, 0, 1, A)),))), 1.0)
    rank.handle(m.Heard(0, m.Report(1)), 1.0)
    rank.handle(m.Heard(2, m.Report(1)), 1.01)
    actions = rank.handle(m.Nothing(), 1.2)
    assert sent(2, m.Reported, actions) == [m.Reported(1)]
    assert sent(0, m.Reported, actions) == [m.Reported(1, moved=True)]


def test_what_rank_0_has_borrowed_goes_home_also_if_its_lender_has_not_asked():
    rank = lending_frames()
    rank.handle(m.Save(), 2.0)
    actions = rank.handle(m.Heard(1, m.Reported(1)), 2.3)
    assert kinds_sent(1, actions) == [m.Repaid, m.Report]
    assert only(m.Saved, rank.handle(m.Heard(1, m.Reported(2)), 2.4))


def test_who_asks_later_is_answered_before_borrowers_have_answered():
    rank, _ = borrower(JOBS, *(m.WorkBatch(0, 0, 1, A) for _ in range(6)), ranks=3)
    lent_to(2, rank)
    rank.handle(m.Heard(0, m.Report(1)), 1.0)
    rank.handle(m.Heard(2, m.Report(1)), 1.01)
    actions = rank.handle(m.Nothing(), 1.2)
    assert (kinds_sent(0, actions), kinds_sent(2, actions)) == ([], [m.Reported])
    assert kinds_sent(0, rank.handle(m.Heard(2, m.Reported(1)), 1.3)) == [m.Reported]
