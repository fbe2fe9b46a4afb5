"""Reductions: all that comes is folded into stores, stores are joined, and one emission goes on at the end."""

import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gather, reduce_to_sum

from job_stream import Multiple, Object, Work

both = pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])


@both
def test_all_that_comes_is_emitted_as_one_item(processes):
    w = Work(range(1, 101), useMultiprocessing=processes, cpus=2)
    reduce_to_sum(w)
    assert w.run() == [5050]


def test_a_reduce_emits_its_store_unless_told():
    w = Work([1, 2, 3])
    w.reduce(gather, store=list)
    assert [sorted(store) for store in w.run()] == [[1, 2, 3]]


def test_emit_is_called_once(tally):
    w = Work(range(300), cpus=3)
    w.job(lambda work: work)

    @w.reduce(store=list, emit=lambda store: tally.note(len(store)))
    def fold(store, works, others):
        gather(store, works, others)

    assert w.run() == []
    assert tally.numbers() == [300]


def test_store_and_emit_may_be_given_in_a_plain_call():
    w = Work([3, 1])
    w.reduce(gather, store=list, emit=sorted)
    assert w.run() == [[1, 3]]


def test_works_and_others_are_lists():
    w = Work(range(10), cpus=2)

    @w.reduce(store=set)
    def fold(store, works, others):
        store.update({type(works), type(others)}, *others)

    assert w.run() == [{list}]


def test_every_item_is_folded_exactly_once():
    w = Work(range(5000), cpus=3)
    w.job(lambda work: Multiple([work, -work]))
    w.reduce(gather, store=list, emit=sorted)
    assert w.run() == [sorted([*range(5000), *range(0, -5000, -1)])]


def test_the_stores_of_several_processes_are_joined():
    w = Work(range(60), cpus=2)

    @w.job
    def slow(number):
        time.sleep(0.002)
        return number

    @w.reduce(store=lambda: Object(total=0, pids=set()), emit=lambda store: (store.total, store.pids))
    def fold(store, works, others):
        store.total += sum(works) + sum(other.total for other in others)
        store.pids.update({os.getpid()} if works else (), *(other.pids for other in others))

    ((total, pids),) = w.run()
    assert total == sum(range(60))
    assert os.getpid() not in pids


def test_a_reduce_emits_a_fresh_store_when_the_source_is_empty():
    w = Work([])
    w.reduce(gather, store=lambda: ["fresh"])
    assert w.run() == [["fresh"]]


@both
def test_a_reduce_emits_a_fresh_store_when_jobs_dropped_everything(processes):
    w = Work(range(100), useMultiprocessing=processes)
    w.job(lambda work: None)
    reduce_to_sum(w)
    assert w.run() == [0]


def test_a_reduce_may_emit_nothing():
    w = Work([1, 2])
    w.reduce(gather, store=list, emit=lambda store: None)
    w.job(lambda work: pytest.fail("nothing comes"))
    assert w.run() == []


def test_a_reduce_may_emit_several():
    w = Work([3, 1, 2])
    w.reduce(gather, store=list, emit=Multiple)
    w.job(lambda work: work * 10)
    assert sorted(w.run()) == [10, 20, 30]


def test_jobs_follow_a_reduce():
    w = Work([1, 2])
    reduce_to_sum(w)
    w.job(lambda total: total + 1)
    w.job(lambda total: total * 2)
    assert w.run() == [8]


@both
def test_reduces_follow_each_other(processes):
    w = Work([1, 2, 3], useMultiprocessing=processes)
    reduce_to_sum(w)
    w.job(lambda total: Multiple(range(total)))
    reduce_to_sum(w)
    w.job(lambda total: Multiple(range(total)))
    reduce_to_sum(w)
    assert w.run() == [sum(range(sum(range(6))))]


def test_reduces_without_stages_between_them():
    w = Work([1, 2, 3])
    reduce_to_sum(w)
    reduce_to_sum(w)
    w.reduce(gather, store=list)
    assert w.run() == [[6]]


def test_each_of_several_reduces_emits_when_nothing_came():
    w = Work([])
    w.reduce(gather, store=list, emit=len)
    w.job(lambda count: None)
    w.reduce(gather, store=list, emit=lambda store: ["second", *store])
    assert w.run() == [["second"]]


def test_one_function_may_reduce_twice():
    w = Work([1, 2])
    w.reduce(gather, store=list, emit=Multiple)
    w.reduce(gather, store=list, emit=sorted)
    assert w.run() == [[1, 2]]


def test_what_a_reduce_recurs_enters_at_the_first_stage():
    w = Work([1])
    w.job(lambda work: work + 1)
    w.job(lambda work: work * 2)

    @w.reduce(store=list, emit=sorted)
    def fold(store, works, others):
        gather(store, works, others)
        return Multiple(work for work in works if work < 20)

    assert w.run() == [[4, 10, 22]]


def test_what_a_second_reduce_recurs_enters_after_the_first():
    w = Work([1, 2])
    reduce_to_sum(w)
    w.job(lambda work: work + 1)

    @w.reduce(store=list, emit=sorted)
    def fold(store, works, others):
        gather(store, works, others)
        return Multiple(work for work in works if work < 8)

    assert w.run() == [[4, 5, 6, 7, 8]]


@both
def test_a_reduce_that_recurs_a_thousand_times(processes):
    w = Work([1000], useMultiprocessing=processes)

    @w.reduce(store=lambda: Object(came=0), emit=lambda store: store.came)
    def fold(store, works, others):
        store.came += len(works) + sum(other.came for other in others)
        return Multiple(work - 1 for work in works if work > 1)

    assert w.run() == [1000]


def test_a_reduce_that_recurs_more_than_came():
    w = Work([6, 6], cpus=2)

    @w.reduce(store=lambda: Object(came=0), emit=lambda store: store.came)
    def fold(store, works, others):
        store.came += len(works) + sum(other.came for other in others)
        return Multiple(work - 1 for work in works if work for _ in range(2))

    assert w.run() == [2 * (2**7 - 1)]


def test_a_reduce_can_recur_what_it_has_gathered():
    w = Work(range(10))

    @w.reduce(store=lambda: Object(total=0, recurred=False), emit=lambda store: store.total)
    def fold(store, works, others):
        store.total += sum(works) + sum(other.total for other in others)
        if 9 in works:
            return 100

    assert w.run() == [145]


def test_a_reduction_goes_on_until_all_that_it_recurred_has_come():
    w = Work([0], cpus=2)

    @w.job
    def slow(work):
        time.sleep(0.002)
        return work

    @w.reduce(store=list, emit=sorted)
    def fold(store, works, others):
        gather(store, works, others)
        return Multiple(child for work in works for child in (2 * work + 1, 2 * work + 2) if child < 31)

    assert w.run() == [list(range(31))]


def test_a_reduce_after_a_frame_gathers_what_frames_emit():
    w = Work(range(20), cpus=2)
    w.frame(lambda store, first: setattr(store, "first", first), emit=lambda store: store.first)
    w.frameEnd(lambda store, item: None)
    w.reduce(gather, store=list, emit=sorted)
    assert w.run() == [list(range(20))]


def test_a_large_store_is_joined_from_all_processes():
    w = Work(range(200), cpus=2)
    w.job(lambda number: (number, bytes([number]) * 10_000))

    @w.reduce(store=dict)
    def fold(store, works, others):
        for came in [works, *others]:
            store.update(came)

    (store,) = w.run()
    assert store == {number: bytes([number]) * 10_000 for number in range(200)}


def test_a_word_count():
    text = "the cat and the dog and the bird"
    w = Work(text.split(), cpus=2)

    @w.reduce(store=dict)
    def count(store, works, others):
        for word in works:
            store[word] = store.get(word, 0) + 1
        for other in others:
            for word, times in other.items():
                store[word] = store.get(word, 0) + times

    assert w.run() == [{"the": 3, "cat": 1, "and": 2, "dog": 1, "bird": 1}]


def test_finish_after_a_reduce_gets_its_emission():
    w = Work([1, 2, 3])
    reduce_to_sum(w)
    w.finish(lambda results: results)
    assert w.run() == [6]


@settings(max_examples=12, derandomize=True, deadline=None)
@given(st.lists(st.integers(), max_size=40), st.sampled_from([1, 2, 3]))
def test_a_reduction_does_not_depend_on_how_its_items_are_grouped(values, cpus):
    w = Work(values, cpus=cpus)
    w.reduce(gather, store=list, emit=sorted)
    assert w.run() == [sorted(values)]
