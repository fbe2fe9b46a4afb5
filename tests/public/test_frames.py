"""Frames: a loop for each item, with its own store, over the stages between frame and frameEnd."""

import os
import time

import pytest
from support import gather, reduce_to_sum

from job_stream import Args, Multiple, Object, Work

both = pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])


def sum_through(w, **keywords):
    """Appends a frame that emits (n, 1 + 2 + ... + n) for n."""

    @w.frame(store=lambda: Object(first=None, total=0), emit=lambda store: (store.first, store.total), **keywords)
    def begin(store, first):
        if store.first is None:
            store.first = first
            return first

    @w.job(**keywords)
    def count_to(number):
        return Multiple(range(1, number + 1))

    @w.frameEnd
    def add(store, number):
        store.total += number


def begin_once(store, first):
    """A frame function that recurs its item once."""
    if not hasattr(store, "came"):
        store.came = []
        return first


def keep(store, item):
    """A frameEnd function that keeps what comes."""
    store.came.append(item)


def kept(store):
    return store.came


@both
def test_a_frame_gathers_what_came_of_its_item(processes):
    w = Work([4, 5, 8], useMultiprocessing=processes)
    sum_through(w)
    assert sorted(w.run()) == [(4, 10), (5, 15), (8, 36)]


def test_a_frame_emits_its_store_unless_told():
    w = Work([3])
    w.frame(begin_once)
    w.frameEnd(keep)
    (store,) = w.run()
    assert type(store) is Object
    assert store.came == [3]


def test_a_frame_emits_what_emit_returns():
    w = Work([3])
    w.frame(begin_once, emit=lambda store: [store.came, "emitted"])
    w.frameEnd(keep)
    assert w.run() == [[[3], "emitted"]]


def test_a_store_is_made_by_what_store_says():
    w = Work([3])
    w.frame(lambda store, first: store.append(first), store=lambda: ["made"])
    w.frameEnd(lambda store, item: None)
    assert w.run() == [["made", 3]]


def test_each_item_has_a_frame_of_its_own():
    w = Work([7] * 50, cpus=2)
    w.frame(begin_once, emit=kept)
    w.frameEnd(keep)
    assert w.run() == [[7]] * 50


def test_a_frame_is_called_with_its_item_each_time():
    w = Work([5])

    @w.frame(store=list)
    def begin(store, first):
        store.append(first)
        if len(store) < 4:
            return "round"

    w.frameEnd(lambda store, item: None)
    assert w.run() == [[5, 5, 5, 5]]


def test_a_frame_is_called_again_when_all_that_it_recurred_is_finished():
    w = Work([6])

    @w.frame(store=lambda: Object(seen=[], came=0), emit=lambda store: store.seen)
    def begin(store, first):
        store.seen.append(store.came)
        if len(store.seen) <= 3:
            return Multiple(range(first * len(store.seen)))

    w.job(lambda item: Multiple([item, item]))

    @w.frameEnd
    def count(store, item):
        store.came += 1

    assert w.run() == [[0, 12, 36, 72]]


def test_a_frame_is_called_again_only_after_what_its_end_recurred():
    w = Work([10])

    @w.frame(store=lambda: Object(seen=[], came=0), emit=lambda store: store.seen)
    def begin(store, first):
        store.seen.append(store.came)
        if len(store.seen) == 1:
            return first

    @w.frameEnd
    def count_down(store, left):
        store.came += 1
        if left > 1:
            return left - 1

    assert w.run() == [[0, 10]]


def test_a_frame_that_recurs_nothing_at_first_emits_at_once(tally):
    w = Work([1])
    w.frame(lambda store, first: None, emit=lambda store: "emitted")
    w.job(tally.note)
    w.frameEnd(lambda store, item: tally.note(item))
    assert w.run() == ["emitted"]
    assert tally.lines() == []


def test_a_frame_may_be_the_end_of_the_stream_and_emit_nothing():
    w = Work([1, 2])
    w.frame(begin_once, emit=lambda store: None)
    w.frameEnd(keep)
    assert w.run() == []


def test_what_a_frame_emits_goes_on_after_its_end():
    w = Work([4, 5])
    sum_through(w)
    w.job(lambda pair: pair[1] + 1)
    assert sorted(w.run()) == [11, 16]


def test_each_element_that_a_frame_emits_goes_on():
    w = Work([3])
    w.frame(begin_once, emit=lambda store: Multiple(store.came * 3))
    w.frameEnd(keep)
    w.job(lambda item: item + 1)
    assert w.run() == [4, 4, 4]


def test_jobs_stand_before_a_frame():
    w = Work([3])
    w.job(lambda item: item + 1)
    sum_through(w)
    assert w.run() == [(4, 10)]


def test_a_frame_without_stages_inside():
    w = Work([3])
    w.frame(begin_once, emit=kept)
    w.frameEnd(keep)
    assert w.run() == [[3]]


def test_several_jobs_stand_inside_a_frame_in_source_order():
    w = Work([3])
    w.frame(begin_once, emit=kept)
    w.job(lambda item: item + 1)
    w.job(lambda item: item * 10)
    w.frameEnd(keep)
    assert w.run() == [[40]]


def test_what_a_frame_end_recurs_passes_the_jobs_inside_again():
    w = Work([1])
    w.frame(begin_once, emit=kept)
    w.job(lambda item: item * 2)

    @w.frameEnd
    def again(store, item):
        store.came.append(item)
        if item < 20:
            return item + 1

    assert w.run() == [[2, 6, 14, 30]]


def test_a_frame_end_recurs_several_items():
    w = Work([4])
    w.frame(begin_once, emit=lambda store: sorted(store.came))

    @w.frameEnd
    def halve(store, item):
        store.came.append(item)
        if item > 1:
            return Multiple([item // 2, item // 2])

    assert w.run() == [[1, 1, 1, 1, 2, 2, 4]]


@both
def test_a_frame_whose_jobs_drop_everything_goes_on_to_its_next_round(processes):
    w = Work([1, 2], useMultiprocessing=processes)

    @w.frame(store=list)
    def begin(store, first):
        store.append(first)
        if len(store) < 3:
            return Multiple(range(5))

    w.job(lambda item: None)
    w.frameEnd(lambda store, item: pytest.fail("nothing comes"))
    assert sorted(w.run()) == [[1, 1, 1], [2, 2, 2]]


def test_frames_follow_each_other():
    w = Work([2, 3])
    sum_through(w)
    w.job(lambda pair: pair[1])
    sum_through(w)
    assert sorted(w.run()) == [(3, 6), (6, 21)]


@pytest.mark.parametrize("depth", [2, 3, 6])
def test_frames_nest(depth):
    w = Work([1, 2], cpus=2)
    for _ in range(depth):

        @w.frame(store=lambda: Object(begun=False, total=0), emit=lambda store: store.total)
        def begin(store, first):
            if not store.begun:
                store.begun = True
                return Multiple([first, first + 1])

    for _ in range(depth):

        @w.frameEnd
        def add(store, number):
            store.total += number

    def serially(first, levels):
        return first if not levels else serially(first, levels - 1) + serially(first + 1, levels - 1)

    assert sorted(w.run()) == [serially(1, depth), serially(2, depth)]


@both
def test_frames_inside_frames_each_fan_out(processes):
    w = Work([3, 4, 5], useMultiprocessing=processes, cpus=2)

    @w.frame(store=lambda: Object(first=None, sums=[]), emit=lambda store: (store.first, sorted(store.sums)))
    def outer(store, first):
        if store.first is None:
            store.first = first
            return Multiple(range(first))

    sum_through(w)
    w.job(lambda pair: pair[1])

    @w.frameEnd
    def collect(store, total):
        store.sums.append(total)

    assert sorted(w.run()) == [(n, [i * (i + 1) // 2 for i in range(n)]) for n in (3, 4, 5)]


@both
def test_ten_thousand_frames_inside_frames(processes):
    w = Work(range(100), useMultiprocessing=processes, cpus=2)

    @w.frame(store=lambda: Object(begun=False, total=0), emit=lambda store: store.total)
    def outer(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(range(first, first + 100))

    sum_through(w)

    @w.frameEnd
    def add(store, pair):
        store.total += pair[0]

    assert sorted(w.run()) == sorted(sum(range(first, first + 100)) for first in range(100))


def test_ten_thousand_frames_inside_one_frame():
    w = Work([10_000], cpus=2)

    @w.frame(store=lambda: Object(begun=False, total=0), emit=lambda store: store.total)
    def outer(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(Args(number) for number in range(first))

    w.frame(begin_once, emit=kept)
    w.job(lambda number: number + 1)
    w.frameEnd(keep)

    @w.frameEnd
    def add(store, came):
        store.total += came[0]

    assert w.run() == [sum(range(1, 10_001))]


def test_a_frame_end_that_recurs_ten_thousand_times():
    w = Work([10_000])

    @w.frame(store=lambda: Object(came=None), emit=lambda store: store.came)
    def begin(store, first):
        if store.came is None:
            store.came = 0
            return first

    w.job(lambda left: left - 1)

    @w.frameEnd
    def again(store, left):
        store.came += 1
        return left or None

    assert w.run() == [10_000]


def test_a_frame_of_a_thousand_rounds():
    w = Work([1000])

    @w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: store.total)
    def begin(store, rounds):
        store.rounds += 1
        if store.rounds <= rounds:
            return Multiple([store.rounds, store.rounds])

    @w.frameEnd
    def add(store, number):
        store.total += number

    assert w.run() == [1000 * 1001]


def test_a_frame_that_fans_out_far():
    w = Work([100_000], cpus=2)
    sum_through(w)
    assert w.run() == [(100_000, 100_000 * 100_001 // 2)]


def test_a_frame_of_slow_jobs_is_worked_on_by_all_processes():
    w = Work([60], cpus=2)

    @w.frame(
        store=lambda: Object(begun=False, pids=set(), came=[]), emit=lambda store: (store.pids, sorted(store.came))
    )
    def begin(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(range(first))

    @w.job
    def slow(number):
        time.sleep(0.005)
        return number, os.getpid()

    @w.frameEnd
    def note(store, pair):
        store.came.append(pair[0])
        store.pids.add(pair[1])

    ((pids, came),) = w.run()
    assert came == list(range(60))
    assert len(pids) == 2


def test_slow_frames_inside_a_slow_frame_are_worked_on_by_all_processes():
    w = Work([6], cpus=2)

    @w.frame(
        store=lambda: Object(begun=False, pids=set(), sums=[]), emit=lambda store: (store.pids, sorted(store.sums))
    )
    def outer(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(range(first))

    @w.frame(store=lambda: Object(begun=False, pids=set(), total=0), emit=lambda store: (store.pids, store.total))
    def inner(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(range(first, first + 10))

    @w.job
    def slow(number):
        time.sleep(0.005)
        return number, os.getpid()

    @w.frameEnd
    def add(store, pair):
        store.total += pair[0]
        store.pids.add(pair[1])

    @w.frameEnd
    def collect(store, pair):
        store.pids |= pair[0]
        store.sums.append(pair[1])

    ((pids, sums),) = w.run()
    assert sums == [sum(range(first, first + 10)) for first in range(6)]
    assert len(pids) == 2


def test_a_slow_frame_of_many_rounds_that_recurs():
    w = Work([3, 4], cpus=2)

    @w.frame(store=lambda: Object(first=None, rounds=0, came=[]), emit=lambda store: (store.first, sorted(store.came)))
    def begin(store, first):
        store.first = first
        store.rounds += 1
        if store.rounds <= first:
            return Multiple((store.rounds, left) for left in range(3))

    @w.job
    def slow(item):
        time.sleep(0.003)
        return item

    @w.frameEnd
    def again(store, item):
        store.came.append(item)
        number, left = item
        if left:
            return (number, left - 1)

    def serially(rounds):
        return sorted(
            (number, left) for number in range(1, rounds + 1) for most in range(3) for left in range(most + 1)
        )

    assert sorted(w.run()) == [(3, serially(3)), (4, serially(4))]


def test_the_items_of_a_frame_do_not_come_to_another():
    w = Work(range(200), cpus=2)

    @w.frame(store=lambda: Object(first=None, came=[]), emit=lambda store: (store.first, sorted(store.came)))
    def begin(store, first):
        if store.first is None:
            store.first = first
            return Multiple((first, i) for i in range(first % 7))

    w.frameEnd(keep)
    assert sorted(w.run()) == [(first, [(first, i) for i in range(first % 7)]) for first in range(200)]


# --- a reduce inside a frame --------------------------------------------------------------------------------------
@both
def test_a_reduce_inside_a_frame_gathers_what_is_under_way_in_that_frame(processes):
    w = Work([3, 5, 8], useMultiprocessing=processes, cpus=2)
    w.frame(begin_once, emit=kept)
    w.job(lambda number: Multiple(range(1, number + 1)))
    reduce_to_sum(w)
    w.frameEnd(keep)
    assert sorted(w.run()) == [[6], [15], [36]]


def test_a_reduce_inside_a_frame_emits_in_each_round():
    w = Work([4])

    @w.frame(store=lambda: Object(came=[]), emit=kept)
    def begin(store, first):
        if len(store.came) < first:
            return Multiple(range(len(store.came) + 2))

    reduce_to_sum(w)
    w.frameEnd(keep)
    assert w.run() == [[1, 3, 6, 10]]


def test_a_reduce_inside_a_frame_emits_when_nothing_came():
    w = Work([4])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: None)
    reduce_to_sum(w)
    w.frameEnd(keep)
    assert w.run() == [[0]]


def test_jobs_follow_a_reduce_inside_a_frame():
    w = Work([4])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: Multiple(range(number)))
    reduce_to_sum(w)
    w.job(lambda total: Multiple([total, total + 1]))
    w.frameEnd(keep)
    assert [sorted(came) for came in w.run()] == [[6, 7]]


def test_two_reduces_inside_a_frame():
    w = Work([4, 10])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: Multiple(range(number)))
    reduce_to_sum(w)
    w.job(lambda total: Multiple([total, total]))
    reduce_to_sum(w)
    w.frameEnd(keep)
    assert sorted(w.run()) == [[12], [90]]


def test_two_reduces_inside_a_frame_emit_when_nothing_came():
    w = Work([4])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: None)
    reduce_to_sum(w)
    w.job(lambda total: None)
    reduce_to_sum(w)
    w.job(lambda total: total - 1)
    w.frameEnd(keep)
    assert w.run() == [[-1]]


def test_what_a_reduce_inside_a_frame_recurs_enters_after_the_frame():
    w = Work([5])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: number * 2)

    @w.reduce(store=list, emit=sorted)
    def fold(store, works, others):
        gather(store, works, others)
        return Multiple(work + 1 for work in works if work < 40)

    w.frameEnd(keep)
    assert w.run() == [[[10, 22, 46]]]


def test_what_a_frame_end_recurs_is_reduced_again():
    w = Work([1])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: Multiple([number, number]))
    reduce_to_sum(w)

    @w.frameEnd
    def again(store, total):
        store.came.append(total)
        if total < 10:
            return total

    assert w.run() == [[2, 4, 8, 16]]


def test_a_reduce_inside_a_frame_inside_a_frame():
    w = Work([3])
    w.frame(begin_once, emit=kept)
    w.job(lambda number: Multiple(range(1, number + 1)))
    w.frame(begin_once, emit=lambda store: store.came[0])
    w.job(lambda number: Multiple(range(1, number + 1)))
    reduce_to_sum(w)
    w.frameEnd(keep)
    reduce_to_sum(w)
    w.frameEnd(keep)
    assert w.run() == [[1 + 3 + 6]]


def test_a_frame_of_slow_jobs_with_a_reduce_inside():
    w = Work([40, 20], cpus=2)

    @w.frame(store=lambda: Object(came=[]), emit=kept)
    def begin(store, first):
        if len(store.came) < 2:
            return Multiple(range(first))

    @w.job
    def slow(number):
        time.sleep(0.003)
        return number

    reduce_to_sum(w)
    w.frameEnd(keep)
    assert sorted(w.run()) == [[190, 190], [780, 780]]


def test_a_reduce_follows_a_frame():
    w = Work([4, 5, 8])
    sum_through(w)
    w.job(lambda pair: pair[1])
    reduce_to_sum(w)
    assert w.run() == [61]


def test_a_frame_follows_a_reduce():
    w = Work([1, 2])
    reduce_to_sum(w)
    sum_through(w)
    assert w.run() == [(3, 6)]


NESTED = """
from job_stream import Work

DEPTH = 16_000

def frame(store, first):
    if not hasattr(store, "came"):
        store.came = []
        return first

def end(store, x):
    store.came.append(x)

w = Work([1], cpus=3)
for _ in range(DEPTH):
    w.frame(frame, emit=lambda store: sum(store.came))
w.job(lambda x: x + 1)
for _ in range(DEPTH):
    w.frameEnd(end)
print(w.run())
"""


def test_thousands_of_frames_in_one_another_while_workers_wait_for_work(start):
    """The workers that have nothing to do ask for some all the time, and each look at what is left sees all frames."""
    assert start(NESTED).ended() == (0, "[2]\n", "")
