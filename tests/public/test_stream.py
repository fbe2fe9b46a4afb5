"""A stream of jobs from its source to its results: order, laziness, init, finish, runs, and Works in Works."""

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import FrameModel, JobModel, ReduceModel, SlowModel, gather, record, reduce_to_sum, serially, wait_until

import job_stream
from job_stream import Multiple, Object, Work, getCpuCount, getHostCpuCount, getRank

FAR_TOO_MANY = 50_000_000


class Enough(Exception):
    """Raised by a test that has seen what it wanted of an endless stream."""


def endless(pulled=None):
    """0, 1, 2 ... without end; one that is taken as a whole is found out before memory is."""
    for number in range(FAR_TOO_MANY):
        if pulled is not None:
            pulled.value = number + 1
        yield number
    raise AssertionError("an endless source was taken as a whole")


def stop_after(count):
    """A result handler that has enough after some results."""
    results = []

    def handle(result):
        results.append(result)
        if len(results) == count:
            raise Enough

    return handle


def run_until_enough(w, count=100):
    w.result(stop_after(count))
    with pytest.raises(Enough):
        w.run()


def increment(work):
    return work + 1


def double(work):
    return 2 * work


def test_every_item_passes_the_jobs_in_source_order():
    w = Work([1, 2, 3])
    w.job(increment)
    w.job(double)
    assert sorted(w.run()) == [4, 6, 8]


def test_a_stream_without_stages_gives_its_source():
    assert sorted(Work([3, 1, 2]).run()) == [1, 2, 3]


def test_an_item_that_a_job_drops_goes_no_further(tally):
    w = Work(range(10))
    w.job(lambda work: work if work % 2 else None)
    w.job(tally.note)
    w.run()
    assert sorted(tally.numbers()) == [1, 3, 5, 7, 9]


def test_a_job_is_called_once_for_each_item(tally):
    w = Work(range(1000), cpus=2)

    @w.job
    def note(work):
        tally.note(work)
        return work

    assert sorted(w.run()) == list(range(1000))
    assert sorted(tally.numbers()) == list(range(1000))


def test_equal_items_are_items_of_their_own():
    w = Work([5] * 100)
    w.job(increment)
    assert w.run() == [6] * 100


def test_one_function_may_stand_several_times_in_a_stream():
    w = Work([0])
    w.job(increment)
    w.job(increment)
    w.job(double)
    w.job(increment)
    assert w.run() == [5]


def test_one_function_may_stand_in_several_streams():
    first, second = Work([1]), Work([10])
    for w in (first, second):
        w.job(increment)
    second.job(increment)
    assert (first.run(), second.run()) == ([2], [12])


def test_one_function_may_be_a_job_and_a_result_handler():
    seen = []
    w = Work([1])

    def note(work):
        seen.append(work)
        return work

    w.job(note)
    w.result(note)
    w.run()
    assert seen == [1]


@pytest.mark.parametrize(
    ("function", "item", "found"),
    [
        (len, "abc", 3),
        (str.upper, "abc", "ABC"),
        (int, "7", 7),
        ("a-b".split, "-", ["a", "b"]),
        (sorted, "ba", ["a", "b"]),
    ],
)
def test_builtins_and_methods_are_jobs(function, item, found):
    w = Work([item])
    w.job(function)
    assert w.run() == [found]


class Scaler:
    """An object with a method for a job, and callable itself."""

    def __init__(self, factor):
        self.factor = factor

    def scale(self, work):
        return self.factor * work

    def __call__(self, work):
        return self.factor + work


def test_a_bound_method_is_a_job():
    w = Work([2])
    w.job(Scaler(10).scale)
    assert w.run() == [20]


def test_a_callable_object_is_a_job():
    w = Work([2])
    w.job(Scaler(10))
    assert w.run() == [12]


def test_a_class_is_a_job_that_makes_objects():
    w = Work([2])
    w.job(Scaler)
    w.job(lambda scaler: scaler.scale(4))
    assert w.run() == [8]


def test_jobs_see_what_the_script_has_loaded_without_sending_it():
    shared = {"lock": threading.Lock(), "table": {1: "one", 2: "two"}}
    w = Work([1, 2])

    @w.job
    def look_up(work):
        with shared["lock"]:
            return shared["table"][work]

    assert sorted(w.run()) == ["one", "two"]


def test_process_jobs_run_in_other_processes():
    w = Work(range(10))
    w.job(lambda work: os.getpid())
    assert os.getpid() not in w.run()


def test_as_many_processes_as_asked_work_at_the_same_time(tally):
    w = Work(range(3), cpus=3)

    @w.job
    def meet(work):
        tally.note(os.getpid())
        wait_until(lambda: len(tally) >= 3, "the others")
        return os.getpid()

    assert len(set(w.run())) == 3


@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_no_more_processes_work_than_asked(cpus):
    w = Work(range(500), cpus=cpus)
    w.job(lambda work: os.getpid())
    assert len(set(w.run())) <= cpus


# --- sources -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "make", [list, tuple, set, str, lambda: iter([])], ids=["list", "tuple", "set", "str", "iterator"]
)
def test_an_empty_source_has_no_results(make):
    w = Work(make())
    w.job(increment)
    assert w.run() == []


@pytest.mark.parametrize(
    "make",
    [list, tuple, set, dict.fromkeys, iter, lambda items: (item for item in items)],
    ids=["list", "tuple", "set", "dict", "iterator", "generator"],
)
def test_initial_work_is_any_iterable(make):
    w = Work(make([1, 2]))
    w.job(increment)
    assert sorted(w.run()) == [2, 3]


def test_falsy_items_are_items():
    assert sorted(Work([0, False, 0.0]).run()) == [0, 0, 0]


def test_a_source_is_pulled_in_the_scripts_own_process():
    pulled_by = set()

    def source():
        for number in range(100):
            pulled_by.add(os.getpid())
            yield number

    w = Work(source())
    w.job(increment)
    w.run()
    assert pulled_by == {os.getpid()}


def test_a_source_is_not_pulled_before_the_stream_runs():
    def source():
        raise AssertionError("pulled")
        yield

    w = Work(source())
    w.job(increment)


def test_an_endless_source_gives_results():
    w = Work(endless())
    w.job(increment)
    run_until_enough(w)


def test_an_endless_source_can_end_with_an_error_of_a_job():
    w = Work(endless())

    @w.job
    def fail(work):
        if work == 50:
            raise Enough

    with pytest.raises(Enough):
        w.run()


def test_a_source_is_not_pulled_far_ahead_of_the_jobs(counter):
    w = Work(endless(counter), cpus=1)
    w.job(lambda work: counter.settled(limit=200_000))
    w.result(stop_after(1))
    with pytest.raises(Enough):
        w.run()
    assert counter.value < 100_000


def test_a_source_of_large_items_is_not_pulled_far_ahead_of_the_jobs(counter):
    w = Work((bytes(256 * 1024) for _ in endless(counter)), cpus=1)
    w.job(lambda work: counter.settled(limit=1500))
    w.result(stop_after(1))
    with pytest.raises(Enough):
        w.run()
    assert counter.value < 1000


def test_a_source_is_not_pulled_far_ahead_of_the_results(counter):
    ahead = []
    w = Work(endless(counter), cpus=2)

    @w.result
    def handle(result):
        if len(ahead) == 3:
            raise Enough
        ahead.append(counter.value)

    with pytest.raises(Enough):
        w.run()
    assert max(ahead) < 200_000


def test_a_source_may_wait_for_what_becomes_of_its_items(gate):
    def source():
        yield 1
        gate.wait()
        yield 2

    w = Work(source())

    @w.job
    def open_gate(work):
        gate.open()
        return work

    assert sorted(w.run()) == [1, 2]


def test_a_source_may_be_slower_than_the_jobs(tally):
    def source():
        for number in range(5):
            wait_until(lambda: len(tally) >= number, "the items before")  # noqa: B023
            yield number

    w = Work(source(), cpus=2)
    w.job(tally.note)
    w.run()
    assert sorted(tally.numbers()) == list(range(5))


def test_a_multiple_of_a_job_is_taken_piece_by_piece():
    w = Work([0])
    w.job(lambda work: Multiple(endless()))
    w.job(increment)
    run_until_enough(w)


def test_a_multiple_of_a_job_is_not_taken_far_ahead_of_the_results(counter):
    ahead = []
    w = Work([0], cpus=1)
    w.job(lambda work: Multiple(endless(counter)))
    w.job(increment)

    @w.result
    def handle(result):
        ahead.append(counter.settled(limit=2_000_000))
        raise Enough

    with pytest.raises(Enough):
        w.run()
    assert ahead[0] < 1_000_000


def test_a_multiple_of_init_is_taken_piece_by_piece():
    w = Work()
    w.init(lambda: Multiple(endless()))
    w.job(increment)
    run_until_enough(w)


def test_a_multiple_that_a_reduce_emits_is_taken_piece_by_piece():
    w = Work([0])
    w.reduce(gather, store=list, emit=lambda store: Multiple(endless()))
    w.job(increment)
    run_until_enough(w)


def test_a_multiple_that_a_frame_emits_is_taken_piece_by_piece():
    w = Work([0])
    w.frame(lambda store, first: None, emit=lambda store: Multiple(endless()))
    w.frameEnd(lambda store, item: None)
    run_until_enough(w)


def test_a_multiple_that_a_frame_recurs_is_taken_piece_by_piece():
    w = Work([0])
    w.frame(lambda store, first: Multiple(endless()))

    @w.frameEnd
    def end(store, item):
        if item == 1000:
            raise Enough

    with pytest.raises(Enough):
        w.run()


def test_a_multiple_that_a_frame_end_recurs_is_taken_piece_by_piece():
    w = Work([0])
    w.frame(lambda store, first: "go")

    @w.frameEnd
    def end(store, item):
        if item == "go":
            return Multiple(endless())
        if item == 1000:
            raise Enough

    with pytest.raises(Enough):
        w.run()


def test_a_multiple_that_a_reduce_recurs_is_taken_piece_by_piece():
    w = Work(["go"])

    @w.reduce(store=list)
    def fold(store, works, others):
        if "go" in works:
            return Multiple(endless())
        if any(work >= 1000 for work in works):
            raise Enough

    with pytest.raises(Enough):
        w.run()


def test_a_large_source_arrives_whole():
    w = Work(range(200_000), cpus=2)
    w.job(increment)
    reduce_to_sum(w)
    assert w.run() == [sum(range(1, 200_001))]


# --- results -----------------------------------------------------------------------------------------------------
def test_the_result_handler_is_called_once_for_each_result():
    results = []
    w = Work(range(500), cpus=2)
    w.job(double)
    w.result(results.append)
    w.run()
    assert sorted(results) == list(range(0, 1000, 2))


def test_the_result_handler_runs_in_the_main_thread_of_the_script():
    places = set()
    w = Work(range(50))
    w.job(increment)
    w.result(lambda result: places.add((os.getpid(), threading.current_thread())))
    w.run()
    assert places == {(os.getpid(), threading.main_thread())}


def test_results_are_handled_while_the_source_still_gives(tally):
    def source():
        yield from range(10)
        for number in range(10, FAR_TOO_MANY):
            if tally.lines():
                return
            yield number

    w = Work(source(), cpus=2)
    w.job(increment)
    w.result(tally.note)
    w.run()
    assert tally.lines()


def test_the_result_handler_is_not_called_without_results():
    w = Work([1, 2])
    w.job(lambda work: None)
    w.result(lambda result: pytest.fail("called"))
    w.run()


def test_what_a_result_handler_returns_goes_nowhere():
    w = Work([1])
    w.result(lambda result: Multiple([1, 2]))
    assert not w.run()


def test_finish_is_called_once_with_all_results():
    calls = []
    w = Work([3, 1, 2])
    w.job(increment)
    w.finish(lambda results: calls.append(sorted(results)))
    w.run()
    assert calls == [[2, 3, 4]]


def test_finish_gets_a_list():
    w = Work([1])
    w.finish(type)
    assert w.run() is list


def test_finish_is_called_without_results_too():
    w = Work([])
    w.finish(lambda results: ["called", *results])
    assert w.run() == ["called"]


def test_run_returns_what_finish_returns():
    w = Work([1, 2, 3])
    w.finish(lambda results: sum(results))
    assert w.run() == 6


@pytest.mark.parametrize("answer", [None, [1], Multiple([1, 2])], ids=repr)
def test_run_returns_what_finish_returns_whatever_it_is(answer):
    w = Work([1])
    w.finish(lambda results: answer)
    assert w.run() is answer


def test_finish_runs_in_the_main_thread_of_the_script():
    w = Work([1])
    w.finish(lambda results: (os.getpid(), threading.current_thread()))
    assert w.run() == (os.getpid(), threading.main_thread())


# --- init --------------------------------------------------------------------------------------------------------
def test_what_init_returns_is_added_to_the_initial_work():
    w = Work([1])
    w.init(lambda: 10)
    w.job(double)
    assert sorted(w.run()) == [2, 20]


def test_each_init_runs_once_in_source_order():
    calls = []
    w = Work([1, 2, 3])
    w.init(lambda: calls.append("first"))
    w.job(increment)
    w.init(lambda: calls.append("second"))
    w.run()
    assert calls == ["first", "second"]


def test_init_runs_in_the_main_thread_of_the_script():
    places = []
    w = Work([1])
    w.init(lambda: places.append((os.getpid(), threading.current_thread())))
    w.run()
    assert places == [(os.getpid(), threading.main_thread())]


def test_init_runs_before_the_source_is_pulled():
    order = []

    def source():
        order.append("source")
        yield 1

    w = Work(source())
    w.job(increment)
    w.init(lambda: order.append("init"))
    w.run()
    assert order == ["init", "source"]


def test_init_runs_before_any_job_wherever_it_stands(tally):
    w = Work(range(5))

    @w.job
    def note(work):
        tally.note("job")
        return work

    reduce_to_sum(w)
    w.init(lambda: tally.note("init"))
    w.run()
    assert tally.lines()[0] == "init"
    assert tally.lines().count("init") == 1


def test_what_init_returns_enters_at_the_first_stage_wherever_init_stands():
    w = Work()
    w.job(increment)
    w.init(lambda: 1)
    w.job(double)
    assert w.run() == [4]


def test_jobs_see_what_init_has_loaded():
    loaded = {}
    w = Work(["key"])
    w.init(lambda: loaded.update(key="value"))
    w.job(lambda work: loaded[work])
    assert w.run() == ["value"]


def test_init_runs_without_any_work():
    calls = []
    w = Work([])
    w.init(lambda: calls.append(1))
    w.run()
    assert calls == [1]


# --- runs --------------------------------------------------------------------------------------------------------
def test_a_block_runs_at_its_end():
    results = []
    with Work([1, 2]) as w:
        w.job(increment)
        w.result(results.append)
        assert results == []
    assert sorted(results) == [2, 3]


def test_a_block_without_a_handler_drops_its_results(tally):
    with Work([1, 2]) as w:
        w.job(increment)
        w.job(tally.note)
    assert sorted(tally.numbers()) == [2, 3]


def test_a_block_that_raised_does_not_run(tally):
    with pytest.raises(Enough):  # noqa: PT012, SIM117
        with Work([1, 2]) as w:
            w.job(tally.note)
            raise Enough
    assert tally.lines() == []


def test_a_block_that_ran_is_not_run_again_at_its_end(tally):
    with Work([1, 2]) as w:
        w.job(tally.note)
        w.run()
    assert len(tally) == 2


def test_run_in_a_block_returns_the_results():
    with Work([1, 2]) as w:
        w.job(increment)
        assert sorted(w.run()) == [2, 3]


def test_a_stream_can_run_again():
    w = Work([1, 2])
    w.job(increment)
    assert sorted(w.run()) == sorted(w.run()) == [2, 3]


def test_a_stream_that_runs_again_starts_from_fresh_stores():
    w = Work([1, 2])
    reduce_to_sum(w)
    assert (w.run(), w.run()) == ([3], [3])


def test_stages_can_be_added_between_two_runs():
    w = Work([1])
    w.job(increment)
    assert w.run() == [2]
    w.job(double)
    assert w.run() == [4]


def test_several_streams_run_one_after_the_other():
    found = []
    for start in range(4):
        w = Work(range(start, start + 3))
        w.job(double)
        found.append(sorted(w.run()))
    assert found == [[0, 2, 4], [2, 4, 6], [4, 6, 8], [6, 8, 10]]


def test_the_results_of_a_stream_can_be_the_source_of_the_next():
    first = Work(range(5))
    first.job(increment)
    second = Work(first.run())
    second.job(double)
    assert sorted(second.run()) == [2, 4, 6, 8, 10]


def test_a_stream_may_be_recorded_before_another_runs():
    first, second = Work([1]), Work([2])
    second.job(double)
    first.job(increment)
    assert (second.run(), first.run()) == ([4], [2])


def test_a_stream_runs_after_one_that_failed():
    failing = Work([1])

    @failing.job
    def fail(work):
        raise Enough

    with pytest.raises(Enough):
        failing.run()
    w = Work([1])
    w.job(increment)
    assert w.run() == [2]


def test_a_stream_that_failed_can_run_again(once):
    w = Work([1])

    @w.job
    def fail_once(work):
        if once():
            raise Enough
        return work

    with pytest.raises(Enough):
        w.run()
    assert w.run() == [1]


# --- a Work inside a job -----------------------------------------------------------------------------------------
def test_a_work_inside_a_job_gives_its_results_there():
    w = Work([2, 3])

    @w.job
    def outer(work):
        inner = Work(range(work))
        inner.job(increment)
        return sorted(inner.run())

    assert sorted(w.run()) == [[1, 2], [1, 2, 3]]


def test_a_work_inside_a_job_runs_in_the_same_process():
    w = Work(range(4), cpus=2)

    @w.job
    def outer(work):
        inner = Work(range(5), cpus=2)
        inner.job(lambda number: os.getpid())
        return [os.getpid(), *set(inner.run())]

    assert all(outside == inside for outside, inside in w.run())


def test_a_work_inside_a_job_does_frames_and_reductions():
    w = Work([3, 4])

    @w.job
    def outer(work):
        with Work(range(1, work + 1)) as inner:

            @inner.frame(store=lambda: Object(left=None, total=0), emit=lambda store: store.total)
            def sum_to(store, first):
                if store.left is None:
                    store.left = first
                    return Multiple(range(first + 1))

            @inner.frameEnd
            def add(store, item):
                store.total += item

            reduce_to_sum(inner)
            inner.init(lambda: 10)
            inner.finish(lambda results: results)
            return inner.run()

    assert sorted(w.run()) == [[10 + 55], [20 + 55]]


def test_a_work_inside_a_job_takes_its_source_piece_by_piece():
    w = Work([0])

    @w.job
    def outer(work):
        inner = Work(endless())
        inner.job(increment)
        run_until_enough(inner)
        return "ended"

    assert w.run() == ["ended"]


def test_the_error_of_a_work_inside_a_job_can_be_caught_there():
    w = Work([0])

    @w.job
    def outer(work):
        inner = Work([1])

        @inner.job
        def fail(number):
            raise Enough

        try:
            inner.run()
        except Enough:
            return "caught"

    assert w.run() == ["caught"]


def test_a_work_inside_a_work_inside_a_job():
    w = Work([1])

    @w.job
    def outer(work):
        middle = Work([work + 1])

        @middle.job
        def further(number):
            inner = Work([number + 1])
            inner.job(increment)
            return inner.run()

        return middle.run()

    assert w.run() == [[[4]]]


def test_a_map_inside_a_job():
    w = Work([3])
    w.job(lambda work: job_stream.map(increment, range(work)))
    assert w.run() == [[1, 2, 3]]


@pytest.mark.parametrize("stage", ["frame", "frameEnd", "reduce"])
def test_a_work_inside_any_stage(stage):
    def inner():
        w = Work([1, 2])
        w.job(double)
        reduce_to_sum(w)
        return w.run()[0]

    w = Work([0])
    if stage == "reduce":

        @w.reduce(store=list)
        def fold(store, works, others):
            gather(store, works, others)
            store.extend(inner() for _ in works)

        assert w.run() == [[0, 6]]
        return

    @w.frame(store=list)
    def begin(store, first):
        if not store:
            store.append(inner() if stage == "frame" else 6)
            return first

    @w.frameEnd
    def end(store, item):
        store.append(inner() if stage == "frameEnd" else 6)

    assert w.run() == [[6, 6]]


# --- numbers of the cluster --------------------------------------------------------------------------------------
def test_without_a_launcher_there_is_one_rank():
    assert getRank() == 0


def test_the_cpus_of_one_rank_are_the_cpus_of_all():
    assert getCpuCount() == getHostCpuCount() >= 1


def test_jobs_are_told_the_same_numbers_as_the_script():
    w = Work(range(20))
    w.job(lambda work: (getRank(), getCpuCount(), getHostCpuCount()))
    assert set(w.run()) == {(getRank(), getCpuCount(), getHostCpuCount())}


def test_all_jobs_are_told_the_same_numbers():
    w = Work(range(50), cpus=3)
    w.job(lambda work: (getRank(), getCpuCount(), getHostCpuCount()))
    w.job(lambda numbers: (numbers, (getRank(), getCpuCount(), getHostCpuCount())))
    assert len({numbers for pair in w.run() for numbers in pair}) == 1


# --- the rule in general -----------------------------------------------------------------------------------------
def stages(depth, *others):
    """Jobs, reduces and, down to a depth, frames of them; and what else may stand among them."""
    plain = st.one_of(
        st.builds(JobModel, drop=st.sampled_from([0, 2, 3]), fan=st.integers(1, 3), salt=st.integers(0, 96)),
        st.builds(ReduceModel, salt=st.integers(0, 96)),
        *others,
    )
    if depth == 0:
        return plain
    frames = st.builds(
        FrameModel,
        rounds=st.integers(0, 2),
        width=st.integers(1, 3),
        salt=st.integers(0, 96),
        stages=st.lists(stages(depth - 1, *others), max_size=2).map(tuple),
    )
    return plain | frames


SLOW = st.builds(SlowModel, every=st.integers(2, 5))
PLANS = st.lists(stages(2), max_size=4)
SOURCES = st.lists(st.tuples(st.integers(0, 96), st.just(2)), max_size=12)
SEEDS = st.sampled_from([None, 1])


@settings(max_examples=40, derandomize=True, deadline=None)
@given(PLANS, SOURCES, st.sampled_from([1, 2, 3]), SEEDS)
def test_any_stream_gives_what_it_gives_serially(plan, source, cpus, seed):
    w = Work(source, cpus=cpus, seed=seed)
    record(w, plan)
    assert sorted(w.run()) == sorted(serially(plan, source))


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.lists(stages(2, SLOW), min_size=1, max_size=3), SOURCES, st.booleans(), SEEDS)
def test_any_stream_of_slow_jobs_gives_what_it_gives_serially(plan, source, processes, seed):
    w = Work(iter(source), processes, cpus=2, seed=seed)
    record(w, [*plan, SlowModel(3)])
    assert sorted(w.run()) == sorted(serially(plan, source))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(PLANS, SOURCES)
def test_any_stream_in_threads_gives_what_it_gives_serially(plan, source):
    w = Work(source, useMultiprocessing=False, cpus=2)
    record(w, plan)
    assert sorted(w.run()) == sorted(serially(plan, source))


@settings(max_examples=10, derandomize=True, deadline=None)
@given(PLANS, SOURCES)
def test_any_stream_inside_a_job_gives_what_it_gives_serially(plan, source):
    w = Work([source], cpus=1)

    @w.job
    def outer(items):
        inner = Work(items)
        record(inner, plan)
        return sorted(inner.run())

    assert w.run() == [sorted(serially(plan, source))]


@settings(max_examples=6, derandomize=True, deadline=None)
@given(st.lists(stages(1), max_size=3), st.integers(0, 96))
def test_any_stream_of_many_items_gives_what_it_gives_serially(plan, first):
    source = [((first + i) % 97, 2) for i in range(600)]
    w = Work(source, cpus=2)
    record(w, plan)
    assert sorted(w.run()) == sorted(serially(plan, source))
