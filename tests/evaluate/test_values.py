"""What a returned value means: nothing, several, one, or arguments; the same at every place of a stream."""

import pickle
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import gather

from job_stream import Args, Multiple, Object, Work


# --- every place where a value is returned ----------------------------------------------------------------------------
def from_job(answer):
    w = Work([0])
    w.job(lambda work: answer())
    return w.run()


def from_init(answer):
    w = Work()
    w.init(answer)
    return w.run()


def from_reduce_emit(answer):
    w = Work([0])
    w.reduce(gather, store=list, emit=lambda store: answer())
    return w.run()


def from_frame_emit(answer):
    w = Work([0])
    w.frame(lambda store, first: None, emit=lambda store: answer())
    w.frameEnd(lambda store, item: None)
    return w.run()


def from_frame(answer):
    """What the first call of a frame returns, as it comes to the frame's end."""
    w = Work([0])

    @w.frame(store=lambda: Object(called=False, came=[]), emit=lambda store: Multiple(store.came))
    def begin(store, first):
        if not store.called:
            store.called = True
            return answer()

    @w.frameEnd
    def end(store, item):
        store.came.append(item)

    return w.run()


def from_frame_end(answer):
    """What a frame's end returns when 'go' comes, as it comes to the frame's end again."""
    w = Work([0])

    @w.frame(store=lambda: Object(called=False, came=[]), emit=lambda store: Multiple(store.came))
    def begin(store, first):
        if not store.called:
            store.called = True
            return "go"

    @w.frameEnd
    def end(store, item):
        if item == "go":
            return answer()
        store.came.append(item)

    return w.run()


def from_reduce(answer):
    """What a reduce returns when 'go' comes, as it comes to the reduce again."""
    w = Work(["go"])

    @w.reduce(store=list, emit=Multiple)
    def fold(store, works, others):
        gather(store, [work for work in works if work != "go"], others)
        if "go" in works:
            return answer()

    return w.run()


PLACES = [from_job, from_init, from_frame, from_frame_end, from_frame_emit, from_reduce, from_reduce_emit]
every_place = pytest.mark.parametrize("place", PLACES)


@every_place
def test_nothing_goes_on_when_nothing_is_returned(place):
    assert place(lambda: None) == []


@every_place
@pytest.mark.parametrize("value", [1, 0, "", False, "text", 2.5, b"bytes", {"a": 1}, {1, 2}], ids=repr)
def test_a_value_is_one_item(place, value):
    found = place(lambda: value)
    assert found == [value]
    assert type(found[0]) is type(value)


@every_place
@pytest.mark.parametrize("value", [[1, 2], (1, 2), [], (), [None], [[1], [2]]], ids=repr)
def test_a_list_or_tuple_is_one_item(place, value):
    assert place(lambda: value) == [value]


@every_place
def test_each_element_of_a_multiple_is_an_item(place):
    assert sorted(place(lambda: Multiple([3, 1, 2]))) == [1, 2, 3]


@every_place
def test_elements_of_a_multiple_that_are_none_are_left_out(place):
    assert sorted(place(lambda: Multiple([None, 0, None, 2]))) == [0, 2]


@every_place
@pytest.mark.parametrize("nothing", [(), [None, None]], ids=repr)
def test_a_multiple_without_values_is_nothing(place, nothing):
    assert place(lambda: Multiple(nothing)) == []


@every_place
def test_lists_in_a_multiple_are_items(place):
    assert sorted(place(lambda: Multiple([[2], [1, 1], []]))) == [[], [1, 1], [2]]


@every_place
def test_a_multiple_may_hold_any_iterable(place):
    assert sorted(place(lambda: Multiple(i * i for i in range(300)))) == [i * i for i in range(300)]


@every_place
def test_a_large_multiple_arrives_whole(place):
    assert sorted(place(lambda: Multiple(range(20_000)))) == list(range(20_000))


def test_an_element_of_initial_work_that_is_a_list_is_one_item():
    assert sorted(Work([[1, 2], [3]]).run()) == [[1, 2], [3]]


def test_a_multiple_is_taken_from_any_iterable_by_keyword():
    w = Work([0])
    w.job(lambda work: Multiple(workList={"a": 1, "b": 2}))
    assert sorted(w.run()) == ["a", "b"]


def test_a_multiple_of_what_cannot_be_iterated_is_refused():
    with pytest.raises(TypeError):
        Multiple(5)


# --- Args --------------------------------------------------------------------------------------------------------
def test_args_are_spread_into_a_job():
    w = Work([Args(1, 2, d=4, c=3)])
    w.job(lambda a, b, c, d: (a, b, c, d))
    assert w.run() == [(1, 2, 3, 4)]


def test_args_without_arguments_call_a_job_without_any():
    w = Work([Args(), 7])
    w.job(lambda work="none came": work)
    assert sorted(w.run(), key=str) == [7, "none came"]


def test_any_name_may_be_that_of_an_argument():
    w = Work([Args(self=1, args=2)])
    w.job(lambda self, args: (self, args))
    assert w.run() == [(1, 2)]


def test_args_are_spread_into_the_next_job():
    w = Work([5])
    w.job(lambda work: Args(work, double=2 * work))
    w.job(lambda work, double: [work, double])
    assert w.run() == [[5, 10]]


def test_each_args_of_a_multiple_is_spread():
    w = Work([0])
    w.job(lambda work: Multiple([Args(1, b=2), Args(3, 4)]))
    w.job(lambda a, b: a * 10 + b)
    assert sorted(w.run()) == [12, 34]


def test_args_are_spread_after_the_store_of_a_frame_each_time_it_is_called():
    w = Work([Args(2, step=3)])

    @w.frame(store=lambda: Object(calls=[]), emit=lambda store: store.calls)
    def begin(store, rounds, step):
        store.calls.append((rounds, step))
        if len(store.calls) <= rounds:
            return step

    w.frameEnd(lambda store, item: None)
    assert w.run() == [[(2, 3)] * 3]


def test_args_are_spread_after_the_store_of_a_frame_end():
    w = Work([1])

    @w.frame(store=lambda: Object(came=None), emit=lambda store: store.came)
    def begin(store, first):
        if store.came is None:
            return Args(first, b=2)

    @w.frameEnd
    def end(store, a, b):
        store.came = (a, b)

    assert w.run() == [(1, 2)]


def test_args_that_a_frame_end_recurs_are_spread_again():
    w = Work([3])

    @w.frame(store=lambda: Object(came=[]), emit=lambda store: store.came)
    def begin(store, first):
        if not store.came:
            return Args(first, "a")

    @w.frameEnd
    def end(store, left, word):
        store.came.append(word)
        if left > 1:
            return Args(left - 1, word + "a")

    assert w.run() == [["a", "aa", "aaa"]]


def test_a_reduce_gets_args_as_they_are():
    w = Work([Args(1, 2, c=3)])
    w.reduce(gather, store=list)
    ((found,),) = w.run()
    assert isinstance(found, Args)
    assert (found.args, found.kwargs) == ((1, 2), {"c": 3})


def test_args_that_a_reduce_recurs_are_spread_into_the_first_stage():
    w = Work([Args(3, 4)])
    w.job(lambda a, b: a * b)

    @w.reduce(store=list)
    def fold(store, works, others):
        gather(store, works, others)
        if 12 in works:
            return Args(5, b=5)

    assert [sorted(store) for store in w.run()] == [[12, 25]]


def test_args_that_are_emitted_by_a_reduce_are_spread():
    w = Work([1, 2])
    w.reduce(gather, store=list, emit=lambda store: Args(*sorted(store), c=3))
    w.job(lambda a, b, c: [a, b, c])
    assert w.run() == [[1, 2, 3]]


def test_args_that_are_emitted_by_a_frame_are_spread():
    w = Work([1])
    w.frame(lambda store, first: None, emit=lambda store: Args(8, b=9))
    w.frameEnd(lambda store, item: None)
    w.job(lambda a, b: [a, b])
    assert w.run() == [[8, 9]]


def test_args_that_init_returns_are_spread():
    w = Work()
    w.init(lambda: Multiple([Args(1, b=2)]))
    w.job(lambda a, b: a + b)
    assert w.run() == [3]


def test_args_are_spread_into_the_result_handler():
    found = []
    w = Work([1, 2])
    w.job(lambda work: Args(work, square=work * work))
    w.result(lambda work, square: found.append((work, square)))
    w.run()
    assert sorted(found) == [(1, 1), (2, 4)]


def test_finish_gets_args_as_they_are():
    w = Work([Args(1, b=2)])
    w.finish(lambda results: [(found.args, found.kwargs) for found in results])
    assert w.run() == [((1,), {"b": 2})]


def test_run_returns_args_as_they_are():
    (found,) = Work([Args(1, b=2)]).run()
    assert (found.args, found.kwargs) == ((1,), {"b": 2})


def test_args_inside_a_list_are_not_spread():
    w = Work([[Args(1)]])
    w.job(lambda work: work[0].args)
    assert w.run() == [(1,)]


# --- Object ------------------------------------------------------------------------------------------------------
def test_an_object_holds_what_it_was_made_with():
    assert (Object(a=1, b="two").a, Object(a=1, b="two").b) == (1, "two")


def test_an_object_takes_new_attributes():
    store = Object()
    store.count = 3
    assert store.count == 3


def test_an_object_has_only_what_it_was_given():
    assert not hasattr(Object(a=1), "b")


def test_an_object_shows_its_attributes():
    store = Object(a=1)
    store.b = "two"
    assert "a=1" in repr(store)
    assert "b='two'" in repr(store)


def test_an_object_travels():
    found = pickle.loads(pickle.dumps(Object(a=[1], b=Object(c=2))))
    assert (found.a, found.b.c) == ([1], 2)


def test_the_default_store_of_a_reduce_is_a_fresh_object():
    w = Work()
    w.reduce(lambda store, works, others: None)
    (store,) = w.run()
    assert type(store) is Object
    assert vars(store) == {}


def test_the_default_store_of_a_frame_is_a_fresh_object_for_each_item():
    w = Work([1, 2])

    @w.frame
    def begin(store, first):
        assert type(store) is Object
        assert vars(store) == {}
        store.first = first

    w.frameEnd(lambda store, item: None)
    assert sorted(store.first for store in w.run()) == [1, 2]


# --- values that travel ------------------------------------------------------------------------------------------
VALUES = st.recursive(
    st.integers() | st.text(max_size=5) | st.booleans() | st.binary(max_size=5) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@settings(max_examples=15, derandomize=True, deadline=None)
@given(st.lists(VALUES, max_size=8), st.sampled_from([list, iter]))
def test_items_arrive_equal_to_what_was_sent(values, kind):
    w = Work(kind(values), cpus=2)
    w.job(lambda value: [value])
    assert sorted(w.run(), key=repr) == sorted([[value] for value in values], key=repr)


def test_a_large_buffer_arrives_whole_and_can_be_written():
    w = Work((array("d", [i]) * 50_000 for i in range(6)), cpus=2)

    @w.job
    def change(values):
        values[0] += 0.5
        return values

    @w.job
    def change_again(values):
        values[1] += 0.25
        return values

    found = sorted(w.run(), key=lambda values: values[0])
    for i, values in enumerate(found):
        assert values[:3].tolist() == [i + 0.5, i + 0.25, i]
        assert len(values) == 50_000
        values[0] = 1


def test_a_large_array_arrives_whole_and_can_be_written():
    np = pytest.importorskip("numpy")
    w = Work((np.full(100_000, i) for i in range(6)), cpus=2)

    @w.job
    def change(values):
        values += 1
        return values

    w.reduce(gather, store=list, emit=Multiple)
    w.job(change)
    found = sorted(w.run(), key=lambda values: values[0])
    assert [values.tolist() == [i + 2] * 100_000 for i, values in enumerate(found)] == [True] * 6
    for values in found:
        values += 1


def test_an_array_can_be_a_store():
    np = pytest.importorskip("numpy")
    w = Work([np.arange(30_000) for _ in range(10)], cpus=2)

    @w.reduce(store=lambda: np.zeros(30_000))
    def add(store, works, others):
        for came in [*works, *others]:
            store += came

    (total,) = w.run()
    assert (total == 10 * np.arange(30_000)).all()


def test_an_item_may_compare_with_nothing():
    np = pytest.importorskip("numpy")
    w = Work([np.array([1, 2]), np.array([])])
    w.job(lambda values: Multiple([values, None, values]))
    assert sorted(map(len, w.run())) == [0, 0, 2, 2]


def test_a_very_large_item_arrives_whole():
    w = Work(iter([b"x" * 40_000_000]), cpus=1)
    w.job(lambda data: data + b"y")
    (found,) = w.run()
    assert len(found) == 40_000_001


class Local:
    """Made by reference in every process: the script's own classes travel."""

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return type(other) is Local and other.value == self.value

    def __hash__(self):
        return hash(self.value)


def test_objects_of_the_script_travel():
    w = Work(iter([Local(1), Local(2)]))
    w.job(lambda found: Local(found.value * 10))
    assert set(w.run()) == {Local(10), Local(20)}


def test_functions_travel_as_items():
    w = Work(iter([lambda: 3]))
    w.job(lambda function: function() + 1)
    assert w.run() == [4]


def test_functions_travel_as_results():
    w = Work([3])
    w.job(lambda number: lambda: number + 1)
    assert [function() for function in w.run()] == [4]
