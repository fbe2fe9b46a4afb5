"""The parallel map: like the built-in one, but a list."""

import builtins
import itertools
import operator
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import job_stream
from job_stream import Multiple, Work
from job_stream.errors import StageError


class Wrong(Exception):
    pass


def square(number):
    return number * number


def test_map_returns_a_list_in_the_order_of_its_sequence():
    assert job_stream.map(square, range(1000)) == [i * i for i in range(1000)]


def test_the_order_holds_when_later_items_are_done_first(gate):
    def slow_first(number):
        if number == 0:
            gate.wait()
        if number == 199:
            gate.open()
        return number

    assert job_stream.map(slow_first, range(200), cpus=2) == list(range(200))


@pytest.mark.parametrize("seed", [None, 1])
def test_the_order_holds_where_one_lane_hands_over_to_another(seed):
    def slow_then_quick_then_slow(number):
        time.sleep(0.004 if number % 100 > 60 else 0)
        return number

    assert job_stream.map(slow_then_quick_then_slow, range(200), cpus=2, seed=seed) == list(range(200))


def test_map_takes_one_item_of_each_sequence():
    assert job_stream.map(lambda a, b, c: (a, b, c), [1, 2], "xy", (True, False)) == [(1, "x", True), (2, "y", False)]


def test_map_ends_with_the_shortest_sequence():
    assert job_stream.map(operator.add, [1, 2, 3], [10, 20]) == [11, 22]
    assert job_stream.map(operator.add, [1], [10, 20]) == [11]


def test_map_ends_with_the_shortest_sequence_also_when_another_is_endless():
    assert job_stream.map(operator.mul, itertools.count(), [1, 1, 1]) == [0, 1, 2]


def test_map_takes_any_iterable():
    assert job_stream.map(square, (i for i in range(5))) == [0, 1, 4, 9, 16]
    assert job_stream.map(square, {3: "a", 4: "b"}) == [9, 16]


def test_map_over_nothing_is_empty():
    assert job_stream.map(square, []) == []
    assert job_stream.map(operator.add, [], [1]) == []


def test_map_takes_a_lambda():
    assert job_stream.map(lambda x: x + 1, [1, 2]) == [2, 3]


def test_map_takes_a_closure():
    offset = 10
    assert job_stream.map(lambda x: x + offset, [1, 2]) == [11, 12]


@pytest.mark.parametrize(
    ("function", "sequence"),
    [
        (len, ["a", "bb", ""]),
        (str, [1, 2.5, None]),
        (int, ["1", "22"]),
        (str.upper, ["a", "b"]),
        ("-".join, ["ab", "c"]),
        (operator.itemgetter(0), ["ab", "cd"]),
        (bool, [0, 1, None, ""]),
    ],
)
def test_map_takes_builtins_and_methods(function, sequence):
    assert job_stream.map(function, sequence) == [function(element) for element in sequence]


def test_map_takes_a_builtin_of_several_sequences():
    assert job_stream.map(max, [1, 5], [4, 2], [3, 3]) == [4, 5]


def test_none_is_a_result_like_any_other():
    assert job_stream.map(lambda x: None if x % 2 else x, range(4)) == [0, None, 2, None]


def test_none_is_an_element_like_any_other():
    assert job_stream.map(lambda x: x is None, [None, 1, None]) == [True, False, True]


def test_a_multiple_is_a_result_like_any_other():
    found = job_stream.map(lambda x: Multiple([x, x + 1]), [1, 5])
    assert [type(element) for element in found] == [Multiple, Multiple]
    assert [list(element.workList) for element in found] == [[1, 2], [5, 6]]


def test_lists_and_tuples_are_results_like_any_others():
    assert job_stream.map(lambda x: [x, (x,)], [1, 2]) == [[1, (1,)], [2, (2,)]]


def test_tuples_are_not_spread():
    assert job_stream.map(lambda pair: pair[0] + pair[1], [(1, 2), (3, 4)]) == [3, 7]


def test_map_runs_in_other_processes():
    assert os.getpid() not in job_stream.map(lambda x: os.getpid(), range(10))


def test_map_takes_the_keywords_of_a_work():
    assert set(job_stream.map(lambda x: os.getpid(), range(10), useMultiprocessing=False)) == {os.getpid()}
    assert len(set(job_stream.map(lambda x: os.getpid(), range(100), cpus=1))) == 1


def test_an_error_of_map_is_the_users_own():
    def fail(number):
        if number == 7:
            raise Wrong("seven")
        return number

    with pytest.raises(Wrong, match="seven") as raised:
        job_stream.map(fail, range(20))
    assert isinstance(raised.value.__cause__, StageError)
    assert raised.value.__cause__.stage == "fail"
    assert "7" in raised.value.__cause__.item


def test_an_error_of_a_sequence_of_map_is_the_users_own():
    def sequence():
        yield 1
        raise Wrong("sequence")

    with pytest.raises(Wrong, match="sequence"):
        job_stream.map(square, sequence())


def test_a_stop_iteration_of_the_function_is_an_error_and_ends_nothing_early():
    def stop(number):
        if number == 3:
            raise StopIteration
        return number

    with pytest.raises((StopIteration, StageError)):
        job_stream.map(stop, range(10))


def test_a_failed_call_of_map_is_made_again(once):
    def fail_once(number):
        if number == 5 and once():
            raise Wrong
        return number

    assert job_stream.map(fail_once, range(10), retries=1) == list(range(10))


def test_maps_follow_each_other():
    assert job_stream.map(square, job_stream.map(square, [1, 2, 3])) == [1, 16, 81]


def test_map_is_the_same_as_a_work_of_one_job():
    w = Work(range(50))
    w.job(square)
    assert sorted(w.run()) == job_stream.map(square, range(50))


def test_large_elements_come_back_in_order():
    found = job_stream.map(lambda i: bytes([i]) * 200_000, range(12), cpus=2)
    assert found == [bytes([i]) * 200_000 for i in range(12)]


@settings(max_examples=20, derandomize=True, deadline=None)
@given(
    st.lists(st.lists(st.none() | st.integers() | st.text(max_size=3), max_size=20), min_size=1, max_size=3),
    st.sampled_from([1, 2, 3]),
)
def test_map_gives_what_the_built_in_map_gives(sequences, cpus):
    def together(*elements):
        return elements[0] if len(set(map(str, elements))) == 1 else [*elements]

    assert job_stream.map(together, *sequences, cpus=cpus) == list(builtins.map(together, *sequences))
