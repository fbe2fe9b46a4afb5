"""What a rank says to others about the work that it has, and when it has its lanes hand some over for them."""

import random
from collections import Counter

import pytest
from engine_support import Payload, only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Backlog, Part
from job_stream.engine.ledger import Piece
from job_stream.engine.parcels import Costs
from job_stream.engine.rank import Rank
from job_stream.stream.plan import Kind

ITEM_S = 0.015


def rank_of(number: int, ranks: int = 2) -> Rank:
    return Rank(plan_of(Kind.JOB), (), 1, number, (1,) * ranks)


def lent(items: int) -> m.Lend:
    return m.Lend(0, 1, tuple((name, m.WorkBatch(0, 0, 1, Payload("item"))) for name in range(items)))


def repay(lend: m.Lend, count: int = 1, item_s: float = ITEM_S) -> m.Repaid:
    names = tuple(name for name, _ in lend.units[:count])
    return m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), samples=((0, count, count * item_s),))


def asks(actions: list) -> list[m.Ask]:
    return [action.message for action in only(m.Send, actions) if type(action.message) is m.Ask]


def loans(actions: list) -> list[m.Lend]:
    """What is lent to other ranks."""
    return [action.message for action in only(m.Send, actions) if type(action.message) is m.Lend]


def borrowed(lend: m.Lend) -> int:
    """The scope at the borrower."""
    return lend.units[0][1].scope


def at_work(items: int, ranks: int = 2) -> tuple[Rank, list[m.Lend], list]:
    """Rank 1 knows what an item takes, and has begun with so many more; with what it did about that, at 1 s."""
    rank = rank_of(1, ranks)
    rank.handle(m.Nothing(), 0.9)
    lends = only(m.Lend, rank.handle(m.Heard(0, lent(items + 1)), 0.9))
    actions = rank.handle(repay(lends[0]), 1.0)
    return rank, [*lends[1:], *only(m.Lend, actions)], actions


# --- asking -----------------------------------------------------------------------------------------------------------
def test_a_rank_says_how_long_it_still_has_work():
    _, _, actions = at_work(2)
    assert asks(actions) == [m.Ask(1, True, pytest.approx(2 * ITEM_S))]


def test_a_rank_with_much_to_do_does_not_ask():
    rank, _, actions = at_work(10)
    assert not asks(actions)
    assert rank.has_plenty


def test_a_rank_that_runs_dry_sooner_than_it_had_said_tells_so_once():
    rank, lends, _ = at_work(2)
    assert not asks(rank.handle(repay(lends[0]), 1.001))
    assert asks(rank.handle(repay(lends[1]), 1.002)) == [m.Ask(1, True, 0.0)]
    assert not asks(rank.handle(m.Nothing(), 1.003))


def test_a_rank_that_runs_dry_when_it_had_said_tells_nothing():
    rank, lends, _ = at_work(2)
    rank.handle(repay(lends[0]), 1.015)
    assert not asks(rank.handle(repay(lends[1]), 1.03))


def test_a_rank_asks_others_just_before_its_lanes_have_nothing_to_do():
    rank, lends, _ = at_work(2, ranks=4)
    assert not [ask for ask in asks(rank.handle(repay(lends[0]), 1.0)) if not ask.wait]
    assert 1.0 < rank.deadline < 1.0 + ITEM_S
    assert [ask.wait for ask in asks(rank.handle(m.Nothing(), rank.deadline + 1e-6))].count(False) == 1


def test_a_lane_that_is_late_has_something_to_do():
    rank, *_ = at_work(1, ranks=4)
    assert all(ask.wait for ask in asks(rank.handle(m.Nothing(), 1.0 + ITEM_S + 0.02)))


def test_parcels_of_many_pieces_count_in_full():
    rank = rank_of(1)
    rank.handle(m.Nothing(), 0.9)
    first, _ = only(m.Lend, rank.handle(m.Heard(0, lent(401)), 0.9))
    assert asks(rank.handle(repay(first, item_s=1e-4), 1.0)) == [m.Ask(1, True, pytest.approx(400e-4))]


def test_a_rank_at_which_others_wait_needs_work_at_once():
    rank = rank_of(2, ranks=4)
    rank.handle(m.Nothing(), 0.9)
    (first,) = only(m.Lend, rank.handle(m.Heard(0, lent(1)), 0.9))
    rank.handle(repay(first), 1.0)
    rank.handle(m.Heard(3, m.Ask(1, True, 0.0)), 1.0)
    assert asks(rank.handle(m.Heard(0, lent(1)), 1.0)) == [m.Ask(2, True, 0.0)]


@pytest.mark.parametrize(("length", "plenty"), [(1000, True), (None, False)])
def test_a_rank_that_pulls_items_has_never_plenty(length, plenty):
    rank = Rank(plan_of(Kind.JOB), (Part(length),), 1, 0, (1, 1))
    rank.handle(m.Nothing(), 0.9)
    if length is None:
        rank.handle(m.SourceGave(tuple((1, Payload("item")) for _ in range(100)), False), 0.9)
    assert rank.busy
    assert rank.has_plenty == plenty


# --- being asked ------------------------------------------------------------------------------------------------------
def test_lanes_hand_work_over_for_a_rank_that_has_none():
    rank, *_ = at_work(1)
    actions = rank.handle(m.Heard(0, m.Ask(1, True, 0.0)), 1.0)
    assert m.Signal(True, False) in actions


def test_lanes_are_left_alone_until_the_rank_that_waits_will_soon_have_none():
    rank, *_ = at_work(1)
    actions = rank.handle(m.Heard(0, m.Ask(1, True, 0.1)), 1.0)
    assert m.Signal(True, False) not in actions
    assert 1.0 < rank.deadline < 1.1
    while rank.deadline < 1.08:
        assert m.Signal(True, False) not in rank.handle(m.Nothing(), rank.deadline)
    assert m.Signal(True, False) in rank.handle(m.Nothing(), rank.deadline + 1e-6)


def test_a_rank_that_has_as_much_work_left_is_lent_none():
    rank, *_ = at_work(5)
    assert not loans(rank.handle(m.Heard(0, m.Ask(1, True, 5 * ITEM_S)), 1.0))
    assert loans(rank.handle(m.Heard(0, m.Ask(1, True, 0.0)), 1.0))


def test_a_late_lane_does_not_make_what_waits_look_less():
    rank, *_ = at_work(10)
    (loan,) = loans(rank.handle(m.Heard(0, m.Ask(1, True, 0.0)), 3.0))
    assert len(loan.units) > 2


def test_who_asks_once_is_refused_after_a_moment():
    rank, *_ = at_work(1)
    assert m.Send(0, m.Refuse()) not in rank.handle(m.Heard(0, m.Ask(1, False, 0.0)), 1.0)
    assert 1.0 < rank.deadline < 1.004
    assert m.Send(0, m.Refuse()) in rank.handle(m.Nothing(), rank.deadline + 1e-6)
    assert m.Send(0, m.Refuse()) not in rank.handle(m.Nothing(), 1.01)


def test_who_waits_and_asks_besides_is_refused_once_and_waits_on_for_as_many_lanes():
    rank, lends, _ = at_work(1)
    rank.handle(m.Heard(0, m.Ask(3, True, 0.0)), 1.0)
    rank.handle(m.Heard(0, m.Ask(1, False, 0.0)), 1.0)
    assert m.Send(0, m.Refuse()) in rank.handle(m.Nothing(), 1.01)
    assert m.Send(0, m.Refuse()) not in rank.handle(m.Nothing(), 1.011)
    children = tuple(m.WorkBatch(borrowed(lends[0]), 0, 1, Payload("child")) for _ in range(20))
    (loan,) = loans(rank.handle(repay(lends[0])._replace(products=children), 1.012))
    assert len(loan.units) > 12


def test_what_an_event_takes_does_not_grow_with_what_waits(monkeypatch):
    def estimates(items: int) -> int:
        rank, lends, _ = at_work(items)
        counted = Counter[str]()
        estimate = Costs.estimate
        with monkeypatch.context() as patch:
            patch.setattr(Costs, "estimate", lambda *given: counted.update(["calls"]) or estimate(*given))
            rank.handle(repay(lends[0]), 1.0)
        return counted["calls"]

    assert estimates(3000) <= estimates(30)


@pytest.mark.parametrize("seed", range(20))
def test_what_waits_is_counted_right_whatever_comes_and_goes(seed):
    chance = random.Random(seed)
    costs = Costs(3)
    for place in range(3):
        costs.learn(place, 1, 10.0**-place)
    backlog = Backlog(costs)

    def piece_at(place: int) -> Piece:
        return Piece(m.WorkBatch(chance.randrange(3), place, chance.randint(1, 9), None))

    moves = {
        "push": lambda: backlog.push(piece_at(chance.randrange(3))),
        "suspect": lambda: backlog.push(Piece(m.WorkBatch(0, 0, 1, None, one_by_one=True))),
        "pop": lambda: backlog.oldest and backlog.pop(),
        "share": lambda: backlog.oldest and backlog.share(),
        "take": lambda: backlog.take(2),
        "replace": lambda: backlog.oldest and backlog.replace(backlog.oldest, piece_at(backlog.oldest.work.place)),
        "discard": lambda: chance.random() < 0.1 and backlog.discard({chance.randrange(3)}),
    }  # fmt: skip
    for _ in range(300):
        moves[chance.choice([*moves, "push", "push"])]()
        shareable = [piece.work for piece in backlog.pieces if not piece.one_by_one]
        assert backlog.seconds(0.0) == pytest.approx(sum(costs.estimate(work.place, work.count) for work in shareable))
