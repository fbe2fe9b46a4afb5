"""The pure engine, without processes: events go in, actions come out."""

import random

import pytest
from engine_support import Payload, only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.parcels import Costs
from job_stream.engine.rank import Rank
from job_stream.engine.stores import Stores
from job_stream.stream.plan import Builder, Kind, Stage


def rank_of(*kinds: str, items: int = 4, lanes: int = 2) -> Rank:
    return Rank(plan_of(*kinds), (Part(items),), lanes)


def repay(lend: m.Lend, *products: m.Product, seconds: float = 0.01) -> m.Repaid:
    """Repays a whole parcel."""
    units = tuple(name for name, _ in lend.units)
    samples = tuple((work.place, work.count, seconds) for _, work in lend.units)
    return m.Repaid(lend.lane, lend.loan, ((lend.loan, units),), products, samples=samples)


def test_the_first_items_are_lent_alone_to_learn_what_they_cost():
    lends = only(m.Lend, rank_of(Kind.JOB, items=100).handle(m.Nothing()))
    assert [work.count for lend in lends for _, work in lend.units] == [1, 1, 1, 1]
    assert [lend.lane for lend in lends] == [1, 2, 1, 2]


def test_no_more_lanes_are_started_than_there_are_items():
    assert len(only(m.StartLane, rank_of(Kind.JOB, items=1, lanes=8).handle(m.Nothing()))) == 1


def test_a_stream_without_items_halts_at_once():
    assert rank_of(Kind.JOB, items=0).handle(m.Nothing()) == [m.Halt()]


def test_a_stream_halts_when_everything_has_been_repaid_and_not_before():
    rank = rank_of(Kind.JOB, items=3)
    lends = only(m.Lend, rank.handle(m.Nothing()))
    first, second, third = lends
    assert not only(m.Halt, rank.handle(repay(first)) + rank.handle(repay(second)))
    assert only(m.Halt, rank.handle(repay(third)))


def test_what_a_unit_led_to_is_counted_before_the_unit_is_closed():
    rank = rank_of(Kind.JOB, Kind.JOB, items=1)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    actions = rank.handle(repay(lend, m.WorkBatch(0, 1, 5, Payload("rest"))))
    assert not only(m.Halt, actions)
    (again,) = only(m.Lend, actions)
    assert again.units[0][1].count == 5


def test_a_repayment_of_a_unit_that_is_not_open_is_ignored_as_a_whole():
    rank = rank_of(Kind.JOB, items=2, lanes=1)
    first, _ = only(m.Lend, rank.handle(m.Nothing()))
    rank.handle(repay(first, m.Output(0, 1, 1, Payload("once"))))
    assert not only(m.Deliver, rank.handle(repay(first, m.Output(0, 1, 1, Payload("twice")))))


def test_a_repayment_that_mixes_open_and_closed_units_is_ignored_as_a_whole():
    rank = rank_of(Kind.JOB, items=2, lanes=1)
    first, second = only(m.Lend, rank.handle(m.Nothing()))
    rank.handle(repay(first))
    mixed = m.Repaid(1, second.loan, ((first.loan, (0,)), (second.loan, (0,))), (m.Output(0, 1, 1, Payload("r")),))
    assert not only(m.Deliver, rank.handle(mixed))
    assert only(m.Halt, rank.handle(repay(second)))


def test_what_a_dead_lane_had_borrowed_is_lent_again():
    rank = rank_of(Kind.JOB, items=2)
    first, _second = only(m.Lend, rank.handle(m.Nothing()))
    actions = rank.handle(m.LaneLost(first.lane, first.loan, 0, 0, "SIGKILL"))
    (again,) = only(m.Lend, actions)
    assert again.units[0][1].payload == first.units[0][1].payload
    assert again.one_by_one
    assert again.lane != first.lane


def test_an_item_that_kills_three_times_is_given_up_and_no_other():
    rank = rank_of(Kind.JOB, items=2)
    first, _ = only(m.Lend, rank.handle(m.Nothing()))
    lend, actions = first, []
    for _ in range(3):
        actions = rank.handle(m.LaneLost(lend.lane, lend.loan, 0, 0, "SIGSEGV"))
        lend = next(iter(only(m.Lend, actions)), lend)
    (fail,) = only(m.Fail, actions)
    assert (fail.payload, fail.attempts, fail.final) == (first.units[0][1].payload, 3, True)


def test_a_lane_that_dies_with_nothing_begun_blames_nobody():
    rank = rank_of(Kind.JOB, items=2)
    first, _ = only(m.Lend, rank.handle(m.Nothing()))
    (again,) = only(m.Lend, rank.handle(m.LaneLost(first.lane, 0, 0, 0, "SIGKILL")))
    assert not again.one_by_one


def test_a_chunk_of_suspects_is_cut_into_parts_that_are_lent_alone():
    rank = rank_of(Kind.JOB, items=10_000, lanes=1)
    lends = only(m.Lend, rank.handle(m.Nothing()))
    while lends[-1].units[0][1].count < 64:
        lends += only(m.Lend, rank.handle(repay(lends.pop(0), seconds=1e-5)))
    actions = rank.handle(m.LaneLost(1, lends[0].loan, 0, 0, "SIGKILL"))
    while not only(m.Lend, actions) or not only(m.Lend, actions)[0].one_by_one:
        actions = rank.handle(m.LaneLost(only(m.Lend, actions)[0].lane, lends[0].loan, 0, 0, "SIGKILL"))
    assert all(len(lend.units) == 1 for lend in only(m.Lend, actions))


def test_an_idle_lane_gets_what_another_has_not_begun():
    rank = rank_of(Kind.JOB, items=4)
    lends = only(m.Lend, rank.handle(m.Nothing()))
    mine = [lend for lend in lends if lend.lane == 1]
    actions = rank.handle(repay(mine[0])) + rank.handle(repay(mine[1]))
    assert m.TakeBack(2) in actions
    (again,) = only(m.Lend, rank.handle(m.Returned(2, (lends[3].loan,))))
    assert (again.lane, again.units[0][1].payload) == (1, lends[3].units[0][1].payload)


def test_others_are_told_when_somebody_has_nothing_to_do():
    rank = rank_of(Kind.JOB, items=2)
    lends = only(m.Lend, rank.handle(m.Nothing()))
    assert m.Signal(True, False) in rank.handle(repay(lends[0]))


def test_nothing_new_is_lent_while_results_pile_up():
    rank = rank_of(Kind.JOB, items=1000)
    lends = only(m.Lend, rank.handle(m.Nothing()))
    large = Payload("large")
    large.nbytes = 1 << 30
    actions = rank.handle(repay(lends[0], m.Output(0, 1, 1, large))._replace(awaits=True))
    assert not only(m.Lend, actions)
    assert not only(m.Resume, actions)
    assert m.Signal(False, True) in actions
    actions = rank.handle(m.ResultsTaken(1, large.nbytes))
    assert only(m.Lend, actions)
    assert m.Resume(1) in actions


def test_a_reduction_of_nothing_is_emitted_once():
    rank = rank_of(Kind.FOLD, items=0)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    assert lend.units[0][1] == m.WorkBatch(0, 0, 1, None, resume=True)
    assert only(m.Halt, rank.handle(repay(lend, m.Output(0, 1, 1, Payload("r")))))


def test_the_store_of_a_single_lane_is_emitted_without_a_keeper():
    rank = rank_of(Kind.JOB, Kind.FOLD, items=1)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    store = Payload("store")
    actions = rank.handle(repay(lend, m.Fold(0, 1, store)))
    assert not only(m.StartKeeper, actions)
    assert only(m.Lend, actions)[0].units[0][1].payload is store


def keeper_with_two_stores() -> tuple[Rank, list]:
    rank = rank_of(Kind.JOB, Kind.FOLD, items=2)
    first, second = only(m.Lend, rank.handle(m.Nothing()))
    rank.handle(repay(first, m.Fold(0, 1, Payload("a"))))
    return rank, rank.handle(repay(second, m.Fold(0, 1, Payload("b"))))


def test_a_second_store_is_merged_into_the_first_by_the_keeper():
    _, actions = keeper_with_two_stores()
    assert [(call.kind, str(call.payload)) for call in only(m.Call, actions)] == [("adopt", "a"), ("merge", "b")]


def test_a_new_keeper_is_given_what_the_dead_one_held():
    rank, _ = keeper_with_two_stores()
    actions = rank.handle(m.KeeperLost(True, 0, 1, "SIGKILL"))
    assert only(m.StartKeeper, actions)
    assert [(call.kind, str(call.payload)) for call in only(m.Call, actions)] == [("adopt", "a"), ("merge", "b")]


def test_an_answer_that_has_counted_does_not_count_again():
    rank, actions = keeper_with_two_stores()
    _, merge = only(m.Call, actions)
    rank.handle(m.Answered(merge.call, (m.WorkBatch(0, 0, 1, Payload("recurred")),)))
    rank.handle(m.KeeperLost(True, 0, 1, "SIGKILL"))
    again = rank.handle(m.Answered(merge.call, (m.WorkBatch(0, 0, 1, Payload("recurred")),)))
    assert not only(m.Lend, again)


def test_no_two_calls_of_keepers_have_the_same_number():
    builder = Builder()
    for processes in (True, False):
        builder.open_frame(Stage(Kind.FRAME, "frame", print, processes))
        builder.close_frame(Stage(Kind.END, "frameEnd", print, processes))
    rank = Rank(builder.plan(), (Part(1),), 2)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    opened = [m.Open(-1, 0, 0, Payload("store"), ()), m.Open(-2, 0, 1, Payload("store"), ())]
    outputs = [m.Output(-1, 3, 1, Payload("output")), m.Output(-2, 4, 1, Payload("output"))]
    calls = only(m.Call, rank.handle(repay(lend, *opened, *outputs)))
    assert [call.processes for call in calls] == [True, True, False, False]
    assert len({call.call for call in calls}) == 4


def test_a_call_that_gave_a_long_multiple_is_never_forgotten():
    rank = rank_of(Kind.FRAME, Kind.JOB, "frameEnd", items=1, lanes=1)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    outputs = [m.Output(-1, 3, 1, Payload(str(number))) for number in range(300)]
    children = [m.WorkBatch(-1, 2, 1, Payload("child")) for _ in range(9)]
    calls = only(m.Call, rank.handle(repay(lend, m.Open(-1, 0, 0, Payload("store"), ()), *children, *outputs)))
    for call in calls:
        gave = call.kind == "end" and str(call.payload) == "0"
        rank.handle(m.Answered(call.call, (), Payload("copy") if call.kind == "copy" else None, gave))
    again = only(m.Call, rank.handle(m.KeeperLost(True, 0, 3, "SIGKILL")))
    assert "0" in [str(call.payload) for call in again if call.kind == "end"]


def copies_of(store_bytes: int, calls: int, at_once: int = 1) -> int:
    """How many copies of a store are asked for in so many calls, each of which makes it larger by so many bytes.
    Answers come when so many calls have been given."""
    name = (1, 2)
    stores = Stores(plan_of(Kind.FRAME, Kind.JOB, "frameEnd"), True)
    stores.adopt(name, Payload("store"))
    waiting: list[m.Call] = []
    copies = 0
    for number in range(1, calls + 1):
        stores.call(m.CallKind.END, name, 2, Payload("output"))
        waiting += stores.take_actions()
        if number % at_once == 0:
            for call in only(m.Call, waiting):
                copy = Payload("copy")
                copy.nbytes = store_bytes * number
                copies += call.kind == "copy"
                stores.answered(call.call, copy if call.kind == "copy" else None, False)
            waiting = []
    return copies


def test_a_store_is_copied_once_in_a_while_so_that_not_all_calls_have_to_be_kept():
    assert copies_of(store_bytes=0, calls=1000) == 5


def test_no_second_copy_is_asked_for_while_the_first_is_under_way():
    assert copies_of(store_bytes=0, calls=1000, at_once=500) == 2


def test_a_store_that_grows_is_copied_more_and_more_seldom():
    assert copies_of(store_bytes=1000, calls=2000) == 3


def test_a_frame_that_has_drained_becomes_a_piece_again():
    rank = rank_of(Kind.FRAME, Kind.JOB, "frameEnd", items=1)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    store = Payload("store")
    opened = (m.Open(-1, 0, 0, store, ()), m.WorkBatch(-1, 2, 1, Payload("child")))
    (child,) = only(m.Lend, rank.handle(repay(lend, *opened)))
    (again,) = only(m.Lend, rank.handle(repay(child)))
    assert again.units[0][1] == m.WorkBatch(0, 0, 1, store, resume=True)


def test_a_lane_goes_on_with_a_child_of_a_frame_that_it_has_handed_over():
    """It is not told the number of that scope, but names it by the unit that it goes on with."""
    rank = rank_of(Kind.FRAME, Kind.JOB, "frameEnd", items=1, lanes=1)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    lane, loan, stand_in = lend.lane, lend.loan, m.HOME - 1
    opened = m.Open(-1, 0, 0, Payload("store"), ())
    child = m.WorkBatch(-1, 2, 1, Payload("child"))
    rank.handle(m.Repaid(lane, loan, ((loan, (0,)),), (opened,), kept=((1, child),)))
    output, more = m.Output(stand_in, 3, 1, Payload("output")), child._replace(scope=stand_in)
    actions = rank.handle(
        m.Repaid(lane, loan, ((loan, (1,)),), (output,), kept=((2, more),), stand_ins=((stand_in, 1),))
    )
    (end,) = [call for call in only(m.Call, actions) if call.kind == "end"]
    assert (end.payload, end.store[1]) == (output.payload, 3)
    actions = rank.handle(m.Repaid(lane, loan, ((loan, (2,)),), (output,), stand_ins=((stand_in, 2),)))
    assert [call.store for call in only(m.Call, actions) if call.kind == "end"] == [end.store]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_events_give_the_same_actions(seed):
    assert conversation(seed) == conversation(seed)


@pytest.mark.parametrize("seed", range(200))
def test_each_item_counts_once_whatever_dies_and_in_whatever_order_things_happen(seed):
    delivered, _ = conversation(seed)
    assert sorted(delivered) == list(range(60))


def conversation(seed: int) -> tuple[list[int], list[str]]:
    """A rank and lanes that finish, hand back and die at random; gives the items delivered, and all actions."""
    chance = random.Random(seed)
    rank = Rank(plan_of(Kind.JOB, Kind.JOB), (Part(60),), chance.choice([1, 2, 5]))
    inboxes: dict[int, list[m.Lend]] = {}
    delivered: list[int] = []
    story: list[str] = []
    waiting: list[m.Event] = [m.Nothing()]
    while not rank.halted:
        event = waiting.pop(0) if waiting else random_event(chance, inboxes)
        for action in rank.handle(event):
            story.append(repr(action))
            if type(action) is m.Lend:
                inboxes.setdefault(action.lane, []).append(action)
            elif type(action) is m.TakeBack:
                taken, inboxes[action.lane] = inboxes[action.lane][1:], inboxes[action.lane][:1]
                waiting.append(m.Returned(action.lane, tuple(lend.loan for lend in taken)))
            elif type(action) is m.Deliver:
                delivered += action.payload.items
    return delivered, story


class Items(Payload):
    def __init__(self, items: list[int]) -> None:
        super().__init__(f"items{items}")
        self.items = items


def values_of(work: m.WorkBatch) -> list[int]:
    payload = work.payload
    items = list(range(payload.start, payload.stop)) if type(payload) is m.SourceSlice else payload.items
    return items[work.skip :]


def random_event(chance: random.Random, inboxes: dict[int, list[m.Lend]]) -> m.Event:
    lane = chance.choice([lane for lane, lends in inboxes.items() if lends])
    lend = inboxes[lane][0]
    if chance.random() < 0.1:
        del inboxes[lane]
        begun = chance.choice([0, lend.loan])
        return m.LaneLost(lane, begun, 0, 1, "chance")
    inboxes[lane].pop(0)
    products: list[m.Product] = []
    for _, work in lend.units:
        values = values_of(work)
        cut = chance.randint(0, len(values)) if work.place == 0 else 0
        products += [m.WorkBatch(0, 1, 1, Items([value])) for value in values[:cut]]
        if values[cut:]:
            products.append(m.Output(0, 2, len(values) - cut, Items(values[cut:])))
    return repay(lend, *products, seconds=chance.choice([1e-6, 1e-2]))


def test_parcels_hold_a_few_milliseconds_of_work():
    costs = Costs(1)
    for _ in range(20):
        costs.learn(0, 50, 50 * 1e-4)
    assert 40 <= costs.size(0, None, 2) <= 60


def test_parcels_shrink_with_what_is_left():
    costs = Costs(1)
    costs.learn(0, 1, 5e-3)
    assert costs.size(0, 12, 2) == 1
    costs.learn(0, 1000, 1.0)
    assert costs.size(0, 120, 2) > costs.size(0, 24, 2) > costs.size(0, 6, 2)


def test_parcels_are_worth_a_journey_to_the_last():
    costs = Costs(1)
    costs.learn(0, 1000, 1e-4)
    assert costs.size(0, 12, 2) == 12


def test_a_single_lane_has_nobody_to_leave_a_share_to():
    costs = Costs(1)
    costs.learn(0, 1000, 1.0)
    assert costs.size(0, 12, 1) == 12  # and not four, as for one of two lanes


def test_parcels_shrink_where_costs_spread():
    even, uneven = Costs(1), Costs(1)
    for seconds in [1e-3, 1e-3, 1e-3, 1e-3]:
        even.learn(0, 1, seconds)
    for seconds in [1e-5, 4e-3, 1e-5, 4e-3]:
        uneven.learn(0, 1, seconds)
    assert uneven.size(0, None, 2) < even.size(0, None, 2)
