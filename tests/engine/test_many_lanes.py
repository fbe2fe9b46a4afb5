"""Hundreds of lanes: what an event costs, how many are started, and what they are asked for."""

import random
import sys

import pytest
from engine_support import only, plan_of

from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.growth import AT_ONCE
from job_stream.engine.parcels import JOURNEY_S, Costs
from job_stream.engine.priorities import Lowest, Times
from job_stream.engine.rank import Rank
from job_stream.stream.plan import Builder, Kind, Stage

LANES = 600
TINY_S, LONG_S, FORK_S = 1e-6, 10.0, 0.002


def rank_of(items: int, lanes: int = LANES, lanes_of: tuple[int, ...] = ()) -> Rank:
    return Rank(plan_of(Kind.JOB), (Part(items),), lanes, lanes_of=lanes_of)


def repay(lend: m.Lend, each_s: float) -> m.Repaid:
    """A lane has done a whole parcel."""
    names = tuple(name for name, _ in lend.units)
    samples = tuple((work.place, work.count, each_s * work.count) for _, work in lend.units)
    return m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), samples=samples)


def run(rank: Rank, each_s: float) -> tuple[int, list[int]]:
    """Runs a rank whose lanes are done at once; gives how many were started, and how many items each parcel had."""
    started, counts = 0, []
    waiting = [*rank.handle(m.Nothing())]
    while waiting:
        action = waiting.pop(0)
        started += type(action) is m.StartLane
        if type(action) is m.Lend:
            counts.append(sum(work.count for _, work in action.units))
            waiting += rank.handle(repay(action, each_s))
        elif type(action) is m.TakeBack:
            waiting += rank.handle(m.Returned(action.lane, ()))
    assert rank.halted
    return started, counts


# how many are started -------------------------------------------------------------------------------------------------


def test_tiny_items_start_no_more_lanes_than_they_are_worth():
    started, counts = run(rank_of(LANES), TINY_S)
    assert sum(counts) == LANES
    assert started <= AT_ONCE


def fork_all(rank: Rank, started: list[m.StartLane], now: float) -> tuple[int, float]:
    """Forks one lane after the other, and those that are started meanwhile; gives how many, and when that was done."""
    count, started = 0, list(started)
    while started:
        now, count = now + FORK_S, count + 1
        started += only(m.StartLane, rank.handle(m.LaneForked(started.pop(0).lane), now))
        assert len(started) <= AT_ONCE
    return count, now


def test_long_items_have_all_lanes_started_one_after_the_other_as_soon_as_it_is_known_that_they_are_long():
    rank = rank_of(10 * LANES)
    actions = rank.handle(m.Nothing())
    assert len(only(m.StartLane, actions)) == AT_ONCE
    more = only(m.StartLane, rank.handle(repay(only(m.Lend, actions)[0], LONG_S)))
    count, _ = fork_all(rank, only(m.StartLane, actions)[1:] + more, 0.0)
    assert count == LANES - 1


def test_lanes_are_started_bit_by_bit_while_nothing_is_done():
    rank, now, steps = rank_of(10 * LANES), 0.0, []
    started = only(m.StartLane, rank.handle(m.Nothing()))
    while started:
        count, end = fork_all(rank, started, now)
        steps.append(count)
        if sum(steps) < LANES:
            assert rank.deadline == pytest.approx(end + (end - now))  # as long as it took to fork the last ones
            assert not only(m.StartLane, rank.handle(m.Nothing(), rank.deadline - 1e-6))
        now = rank.deadline
        started = only(m.StartLane, rank.handle(m.Nothing(), now))
    assert steps == [16, 16, 32, 64, 128, 256, 88]


def test_lanes_stuck_in_what_was_thought_to_be_short_do_not_keep_others_from_being_started():
    rank = rank_of(2 * AT_ONCE)
    actions = rank.handle(m.Nothing())
    rank.handle(repay(only(m.Lend, actions)[0], TINY_S))  # so all that is left is not worth a worker
    _, now = fork_all(rank, only(m.StartLane, actions)[1:], 0.0)
    assert not only(m.TakeBack, rank.handle(m.Nothing(), rank.deadline - 1e-6))
    now = rank.deadline
    lane = only(m.TakeBack, rank.handle(m.Nothing(), now))[0].lane
    loans = tuple(number for number, _ in rank._state.ledger.of(lane))[1:]
    (again,) = only(m.Lend, rank.handle(m.Returned(lane, loans), now))
    assert again.lane == AT_ONCE + 1


def test_threads_need_not_be_heard_of_before_there_are_more():
    builder = Builder()
    builder.add(Stage(Kind.JOB, "job", abs, processes=False))
    rank = Rank(builder.plan(), (Part(10 * LANES),), LANES)
    started, now = len(only(m.StartLane, rank.handle(m.Nothing()))), 0.0
    while started < LANES:
        assert rank.deadline > now
        now = rank.deadline
        assert now < 0.1
        started += len(only(m.StartLane, rank.handle(m.Nothing(), now)))


def test_few_lanes_are_all_started_at_once():
    assert len(only(m.StartLane, rank_of(100, lanes=AT_ONCE).handle(m.Nothing()))) == AT_ONCE


# what is lent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lanes", [64, 256, 768])
def test_a_parcel_holds_enough_to_keep_a_lane_busy_while_all_others_are_served(lanes):
    costs = Costs(1)
    for _ in range(20):
        costs.learn(0, 10_000, 1.0)
    assert costs.size(0, 10**8, lanes) * 1e-4 >= 2 * JOURNEY_S * lanes * 0.99
    assert costs.size(0, 10**8, 2) * 1e-4 <= 0.04


def test_small_pieces_are_lent_together_where_there_are_many_lanes():
    rank = rank_of(1, lanes=256)
    (lend,) = only(m.Lend, rank.handle(m.Nothing()))
    work = tuple(m.WorkBatch(0, 0, 1, m.SourceSlice(0, number, number + 1)) for number in range(200))
    actions = rank.handle(repay(lend, 1e-5)._replace(products=work))
    assert [len(again.units) for again in only(m.Lend, actions)] == [200]


# what they are asked for ----------------------------------------------------------------------------------------------


def lanes_with_two_parcels(lanes: int) -> tuple[Rank, dict[int, list[m.Lend]]]:
    rank = rank_of(2 * lanes, lanes)
    loans: dict[int, list[m.Lend]] = {}
    for lend in only(m.Lend, rank.handle(m.Nothing())):
        loans.setdefault(lend.lane, []).append(lend)
    return rank, loans


def test_no_more_parcels_are_taken_back_than_lanes_have_nothing_to_do():
    rank, loans = lanes_with_two_parcels(8)
    rank.handle(repay(loans[5][0], 1.0))
    actions = rank.handle(repay(loans[5][1], 1.0))
    assert only(m.TakeBack, actions) == [m.TakeBack(1)]
    again = only(m.Lend, rank.handle(m.Returned(1, (loans[1][1].loan,))))
    assert [lend.lane for lend in again] == [5]


def test_another_lane_is_asked_where_the_first_has_begun_its_parcel():
    rank, loans = lanes_with_two_parcels(8)
    rank.handle(repay(loans[5][0], 1.0))
    rank.handle(repay(loans[5][1], 1.0))
    assert only(m.TakeBack, rank.handle(m.Returned(1, ()))) == [m.TakeBack(2)]


def test_a_lane_that_dies_before_it_has_answered_is_not_waited_for():
    rank, loans = lanes_with_two_parcels(8)
    rank.handle(repay(loans[5][0], 1.0))
    rank.handle(repay(loans[5][1], 1.0))
    rank.handle(m.LaneLost(1, 0, 0, 0, "SIGKILL"))  # what it had is lent to lanes 5 and 9
    lost = {lend.loan: lend.lane for lend in loans[2]}
    assert rank.handle(m.Returned(1, tuple(lost))) == []


# what an event costs --------------------------------------------------------------------------------------------------


class Lines:
    """Counts the lines of Python that are executed, also those of loops in one line."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> "Lines":
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _trace(self, frame, event, argument):
        self.count += 1
        frame.f_trace_opcodes = True
        return self._trace


def lines_of_events(lanes: int, lanes_of: tuple[int, ...]) -> float:
    """What one event takes while all lanes have two parcels, on average."""
    rank = rank_of(10**7, lanes, lanes_of)
    loans = [only(m.Lend, rank.handle(m.Nothing()))]
    for lane in range(1, lanes + 1):
        while rank.deadline is not None and rank.deadline < 1.0:
            loans.append(only(m.Lend, rank.handle(m.Nothing(), rank.deadline)))
        loans.append(only(m.Lend, rank.handle(m.LaneForked(lane))))
    waiting = [lend for some in loans for lend in some]
    assert len(waiting) == 2 * lanes
    waiting.sort(key=lambda lend: lend.loan)
    for _ in range(2 * lanes):
        waiting += only(m.Lend, rank.handle(repay(waiting.pop(0), 1e-3), 1.0))
    with Lines() as lines:
        for _ in range(50):
            waiting += only(m.Lend, rank.handle(repay(waiting.pop(0), 1e-3), 1.0))
    return lines.count / 50


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_event_costs_the_same_however_many_lanes_there_are(ranks):
    few, many = (lines_of_events(lanes, (lanes,) * ranks if ranks > 1 else ()) for lanes in (16, 512))
    assert many < 1.5 * few


# numbers and times in order -------------------------------------------------------------------------------------------


def test_the_lowest_number_is_known_after_any_changes():
    chance, numbers, lowest = random.Random(1), set(), Lowest()
    for _ in range(3000):
        number = chance.randrange(40)
        if chance.random() < 0.5:
            numbers.add(number)
            lowest.add(number)
        else:
            numbers.discard(number)
            lowest.discard(number)
        assert (lowest.first, len(lowest)) == (min(numbers, default=None), len(numbers))
    assert len(lowest._heap) <= 40


def test_what_is_left_of_many_times_is_known_after_any_changes():
    chance, times, kept, now = random.Random(2), {}, Times(), 0.0
    for _ in range(5000):
        number = chance.randrange(40)
        if chance.random() < 0.8:
            times[number] = now + chance.random()
            kept.put(number, times[number])
        else:
            times.pop(number, None)
            kept.discard(number)
        now += 0.01 * chance.random()
        times = {number: time for number, time in times.items() if time > now}
        assert kept.first(now) == min(times.values(), default=None)
        assert kept.left(now) == pytest.approx(sum(times.values()) - now * len(times), abs=1e-6)
    assert len(kept._heap) < 200
