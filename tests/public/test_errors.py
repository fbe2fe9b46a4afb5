"""What becomes of an error in user code: raised as the user's own with its story, or tried again, or skipped."""

import os
import pickle
import socket
import threading
import time

import pytest
from support import gather, is_alive, reduce_to_sum, whole_text

import job_stream
from job_stream import Args, Multiple, Object, Work
from job_stream.errors import JobStreamError, StageError, StageTimeout


class Wrong(Exception):
    """The user's own."""


class Faithful(Exception):
    """With an __init__ of its own and a way to travel."""

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        self.code, self.reason = code, reason

    def __reduce__(self):
        return _faithful, (self.code, self.reason)


def _faithful(code, reason):
    return Faithful(code, reason=reason)


class CannotBePickled(Exception):
    def __reduce__(self):
        raise TypeError("this error stays here")


class CannotBeUnpickled(Exception):
    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("refused to be unpickled")


def fail(*_):
    raise Wrong("told", 42)


def failing_at(stage):
    """A Work that raises in the user code named, and the name of the stage that its error should tell."""
    w = Work([5])
    if stage.startswith("frame"):
        return failing_in_frame(w, stage)
    if stage.startswith("reduce"):
        return failing_in_reduce(w, stage)
    if stage == "source":
        return Work(5 if i < 3 else fail() for i in range(5)), "initial work"
    if stage == "Multiple of a job":

        @w.job
        def spread(work):
            return Multiple(work if i < 3 else fail() for i in range(5))

        return w, "spread"
    if stage == "init":

        @w.init
        def prepare():
            fail()

        return w, "prepare"
    getattr(w, stage)(fail)
    return w, "fail"


def failing_in_frame(w, stage):
    def at(name):
        if stage == name:
            fail()

    @w.frame(store=lambda: at("frame store") or Object(rounds=0), emit=lambda store: at("frame emit"))
    def loop(store, first):
        at("frame")
        store.rounds += 1
        if store.rounds == 2:
            at("frame again")
        if store.rounds < 3:
            return Multiple(first if i < 3 else at("frame Multiple") or first for i in range(4))

    @w.frameEnd
    def close(store, item):
        at("frameEnd")

    names = {"frameEnd": "close", "frame store": "loop (store)", "frame emit": "loop (emit)"}
    return w, names.get(stage, "loop")


def failing_in_reduce(w, stage):
    def at(name):
        if stage == name:
            fail()

    @w.reduce(store=lambda: at("reduce store") or [], emit=lambda store: at("reduce emit"))
    def fold(store, works, others):
        at("reduce")
        gather(store, works, others)

    names = {"reduce store": "fold (store)", "reduce emit": "fold (emit)"}
    return w, names.get(stage, "fold")


ON_WORKERS = [
    "job",
    "Multiple of a job",
    "frame",
    "frame again",
    "frame Multiple",
    "frameEnd",
    "frame store",
    "frame emit",
    "reduce",
    "reduce store",
    "reduce emit",
]
ON_PRIMARY = ["init", "source", "result", "finish"]


def test_an_exception_may_name_a_file_that_is_no_text():
    def read(name):
        raise Wrong(os.fsdecode(b"no \xff here"))

    with pytest.raises(Wrong, match="no \udcff here"):
        job_stream.map(read, [1])


# --- the user's own error ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("stage", ON_WORKERS + ON_PRIMARY)
def test_an_error_in_any_user_code_is_raised_as_it_is(stage):
    w, _ = failing_at(stage)
    with pytest.raises(Wrong) as raised:
        w.run()
    assert type(raised.value) is Wrong
    assert raised.value.args == ("told", 42)


@pytest.mark.parametrize("stage", ON_WORKERS + ON_PRIMARY)
def test_the_cause_of_an_error_names_the_stage(stage):
    w, name = failing_at(stage)
    with pytest.raises(Wrong) as raised:
        w.run()
    cause = raised.value.__cause__
    assert isinstance(cause, StageError)
    assert cause.stage == name
    assert f"While processing work with target: {name}" in str(cause)


@pytest.mark.parametrize("stage", ON_WORKERS)
def test_an_error_is_raised_at_the_end_of_a_block(stage):
    w, _ = failing_at(stage)
    with pytest.raises(Wrong), w:
        pass


def test_the_cause_of_an_error_tells_the_whole_story(tally):
    w = Work(["the item"])

    @w.job
    def explode(work):
        tally.note(os.getpid())
        raise Wrong("story")

    with pytest.raises(Wrong) as raised:
        w.run()
    cause = raised.value.__cause__
    assert cause.item == "'the item'"
    assert cause.pid == tally.numbers()[0]
    assert cause.host == socket.gethostname()
    assert 'raise Wrong("story")' in cause.traceback
    assert "in explode" in cause.traceback


def test_the_text_of_the_cause_holds_traceback_stage_item_process_and_host_in_this_order():
    w = Work(["the item"])

    @w.job
    def explode(work):
        raise Wrong("story")

    with pytest.raises(Wrong) as raised:
        w.run()
    cause = raised.value.__cause__
    text = str(cause)
    assert text.index("Traceback") < text.index("in explode") < text.index("While processing work with target: explode")
    rest = text[text.index("While processing") :]
    assert all(word in rest for word in ("'the item'", str(cause.pid), cause.host))


def test_the_failing_item_is_named_among_many():
    w = Work(range(1000), cpus=2)

    @w.job
    def explode(work):
        if work == 617:
            raise Wrong
        return work

    with pytest.raises(Wrong) as raised:
        w.run()
    assert raised.value.__cause__.item == "617"


def test_a_long_item_is_shortened():
    w = Work(["x" * 1_000_000])
    w.job(fail)
    with pytest.raises(Wrong) as raised:
        w.run()
    assert 0 < len(raised.value.__cause__.item) < 10_000
    assert raised.value.__cause__.item.startswith("'xxx")


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


def test_an_item_without_a_working_repr_does_not_hide_the_error():
    w = Work([NoRepr()])
    w.job(fail)
    with pytest.raises(Wrong):
        w.run()


def test_the_item_of_a_frame_end_is_what_came_to_it():
    w = Work([3])
    w.frame(lambda store, first: first)
    w.job(lambda item: item + 1000)
    w.frameEnd(lambda store, item: fail())
    with pytest.raises(Wrong) as raised:
        w.run()
    assert raised.value.__cause__.item == "1003"


def test_args_are_named_as_the_item():
    w = Work([Args(1, b="two")])
    w.job(lambda a, b: fail())
    with pytest.raises(Wrong) as raised:
        w.run()
    assert "1" in raised.value.__cause__.item
    assert "b='two'" in raised.value.__cause__.item


def test_arguments_that_do_not_fit_are_the_jobs_error():
    w = Work([Args(1, 2, 3)])

    @w.job
    def takes_two(a, b):
        return a

    with pytest.raises(TypeError, match="takes_two") as raised:
        w.run()
    assert raised.value.__cause__.stage == "takes_two"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a", 1),
        KeyError("key"),
        ZeroDivisionError(),
        StopIteration(3),
        OSError(2, "missing", "file"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        AssertionError("assert"),
    ],
    ids=repr,
)
def test_errors_of_python_are_raised_as_they_are(error):
    w = Work([1])

    @w.job
    def explode(work):
        raise error

    with pytest.raises(type(error)) as raised:
        w.run()
    assert type(raised.value) is type(error)
    assert raised.value.args == error.args


def test_an_error_keeps_its_attributes():
    w = Work([1])

    @w.job
    def explode(work):
        raise Faithful(7, reason="because")

    with pytest.raises(Faithful) as raised:
        w.run()
    assert (raised.value.code, raised.value.reason) == (7, "because")


@pytest.mark.parametrize("error", [CannotBePickled("kept"), CannotBeUnpickled("kept")], ids=repr)
def test_an_error_that_cannot_travel_is_told_by_a_stage_error(error):
    w = Work([1])

    @w.job
    def explode(work):
        raise error

    with pytest.raises(StageError) as raised:
        w.run()
    assert raised.value.stage == "explode"
    assert f"{type(error).__name__}: {error}" in str(raised.value)
    assert "raise error" in str(raised.value)


def test_an_error_that_holds_what_cannot_travel_is_raised_with_a_text_in_its_place():
    w = Work([1])

    @w.job
    def explode(work):
        raise Wrong("holds a lock", threading.Lock())

    with pytest.raises(Wrong, match="holds a lock") as raised:
        w.run()
    assert raised.value.__cause__.stage == "explode"
    assert "lock object" in raised.value.args[1]


def test_the_cause_of_the_users_error_is_told():
    w = Work([1])

    @w.job
    def explode(work):
        try:
            raise ValueError("the first")
        except ValueError as error:
            raise Wrong("the second") from error

    with pytest.raises(Wrong) as raised:
        w.run()
    assert "ValueError: the first" in str(raised.value.__cause__)


def test_a_job_that_exits_ends_the_run():
    w = Work([1])

    @w.job
    def leave(work):
        raise SystemExit("leaving")

    with pytest.raises((SystemExit, StageError)) as raised:
        w.run()
    assert "leave" in whole_text(raised.value)
    assert "leaving" in whole_text(raised.value)


def test_all_jobs_failing_at_once_is_one_error():
    w = Work(range(1000), cpus=3)
    w.job(fail)
    with pytest.raises(Wrong):
        w.run()


def test_a_stage_error_can_be_pickled():
    w = Work([1])
    w.job(fail)
    with pytest.raises(Wrong) as raised:
        w.run()
    cause = raised.value.__cause__
    assert str(pickle.loads(pickle.dumps(cause))) == str(cause)


def test_an_error_inside_a_nested_work_tells_both_stages():
    w = Work([1])

    @w.job
    def outer(work):
        inner = Work([2])

        @inner.job
        def inside(number):
            raise Wrong("deep")

        inner.run()

    with pytest.raises(Wrong, match="deep") as raised:
        w.run()
    assert raised.value.__cause__.stage == "outer"
    assert "inside" in str(raised.value.__cause__)


def test_the_first_error_of_the_result_handler_is_the_last_call_of_it():
    results = []
    w = Work(range(100))
    w.job(lambda work: work)

    @w.result
    def handle(result):
        results.append(result)
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert len(results) == 1


# --- values that cannot travel -----------------------------------------------------------------------------------
class Holder:
    """An object with an attribute that cannot be pickled."""

    def __init__(self):
        self.fine = 1
        self.the_lock = threading.Lock()


def test_an_item_that_cannot_travel_is_named():
    w = Work(iter([Holder()]))

    @w.job
    def take(work):
        return 1

    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "initial work" in whole_text(raised.value)
    assert "the_lock" in whole_text(raised.value)


def test_an_output_that_cannot_travel_is_named_with_its_stage():
    w = Work([1])

    @w.job
    def make(work):
        return Holder()

    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "make" in whole_text(raised.value)
    assert "the_lock" in whole_text(raised.value)


def test_one_output_of_many_that_cannot_travel_is_named_with_its_stage():
    w = Work(range(200), cpus=2)

    @w.job
    def make(work):
        return Holder() if work == 150 else work

    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "make" in whole_text(raised.value)
    assert "the_lock" in whole_text(raised.value)


def test_a_store_that_cannot_travel_is_named_with_its_stage():
    w = Work([1])

    @w.reduce(store=Holder)
    def fold(store, works, others):
        return None

    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "fold" in whole_text(raised.value)
    assert "the_lock" in whole_text(raised.value)


def test_a_store_that_a_frame_emits_and_that_cannot_travel_is_named_with_its_stage():
    w = Work([1])

    @w.frame(store=Holder)
    def loop(store, first):
        return None

    w.frameEnd(lambda store, item: None)
    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "loop" in whole_text(raised.value)
    assert "the_lock" in whole_text(raised.value)


def test_a_value_in_a_list_or_dictionary_that_cannot_travel_is_named():
    w = Work([1])

    @w.job
    def make(work):
        return {"rows": [1, {"deep_lock": threading.Lock()}]}

    with pytest.raises(JobStreamError) as raised:
        w.run()
    assert "make" in whole_text(raised.value)
    assert "deep_lock" in whole_text(raised.value)


class RefusesToBeUnpickled:
    def __reduce__(self):
        return _refuse, ()


def test_an_item_that_cannot_be_unpickled_is_an_error_that_says_why():
    w = Work(iter([1, RefusesToBeUnpickled(), 2]))

    @w.job
    def take(work):
        return 1

    with pytest.raises(Exception, match="refused to be unpickled") as raised:
        w.run()
    assert "take" in whole_text(raised.value) or "initial work" in whole_text(raised.value)


def test_a_result_that_cannot_be_unpickled_is_an_error_that_names_its_stage():
    w = Work([1])

    @w.job
    def make(work):
        return RefusesToBeUnpickled()

    with pytest.raises(Exception, match="refused to be unpickled") as raised:
        w.run()
    assert "make" in whole_text(raised.value)


# --- retries -----------------------------------------------------------------------------------------------------
def test_a_failed_call_is_made_again_as_often_as_asked(tally):
    w = Work([1], retries=3)

    @w.job
    def explode(work):
        tally.note("called")
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert len(tally) == 4


def test_without_retries_a_call_is_made_once(tally):
    w = Work([1])

    @w.job
    def explode(work):
        tally.note("called")
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert len(tally) == 1


def test_a_call_that_succeeds_when_made_again_is_no_failure(once, tally):
    w = Work(range(50), retries=1, onError="skip")

    @w.job
    def fail_once(work):
        tally.note(work)
        if work % 10 == 0 and once(work):
            raise Wrong
        return work

    assert sorted(w.run()) == list(range(50))
    assert list(w.failures) == []
    assert sorted(tally.numbers()) == sorted([*range(50), *range(0, 50, 10)])


def test_retries_of_a_stage_go_before_those_of_the_work(tally):
    w = Work([1], retries=5)

    @w.job(retries=1)
    def explode(work):
        tally.note("called")
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert len(tally) == 2


def test_retries_of_one_stage_do_not_repeat_the_others(once, tally):
    w = Work([1])

    @w.job
    def before(work):
        tally.note("before")
        return work

    @w.job(retries=2)
    def fail_once(work):
        if once():
            raise Wrong
        return work

    assert w.run() == [1]
    assert len(tally) == 1


WAYS = [{}, {"useMultiprocessing": False}, {"seed": 1}]
"""How streams run whose workers differ in how they take the elements of a Multiple."""


def raises_late(at, once):
    """So many numbers, of which all before the last one are given before the first call is known to have failed."""
    yield from range(at)
    if once():
        raise Wrong
    yield at


@pytest.mark.parametrize("at", [3, 300, 20_000])
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_multiple_that_raises_late_is_made_again_and_each_element_goes_on_once(way, at, once):
    w = Work([at], retries=1, **way)
    w.job(lambda work: Multiple(raises_late(work, once)))
    assert sorted(w.run()) == list(range(at + 1))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_multiple_that_a_frame_emits_and_that_raises_late_is_made_again(way, once):
    w = Work([1], retries=1, **way)
    w.frame(lambda store, first: None, emit=lambda store: Multiple(raises_late(300, once)))
    w.frameEnd(lambda store, item: None)
    assert sorted(w.run()) == list(range(301))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_multiple_that_a_reduction_emits_and_that_raises_late_is_made_again(way, once):
    w = Work([1], retries=1, **way)
    w.reduce(lambda store, works, others: None, emit=lambda store: Multiple(raises_late(300, once)))
    assert sorted(w.run()) == list(range(301))


def test_a_multiple_in_a_nested_work_is_made_again(once):
    def job(number):
        inner = Work([number], retries=1)
        inner.job(lambda work: Multiple(raises_late(work, once)))
        return sorted(inner.run())

    assert job_stream.map(job, [300]) == [list(range(301))]


@pytest.mark.parametrize("onError", ["raise", "skip"])
def test_a_multiple_that_raises_is_made_as_often_as_asked(onError, tally):
    w = Work([5], retries=2, onError=onError)

    @w.job
    def spread(work):
        tally.note(work)
        return Multiple(number if number < 100 + len(tally) else fail() for number in range(1000))

    if onError == "raise":
        with pytest.raises(Wrong):
            w.run()
    else:
        w.run()
        assert [(failure.item, failure.attempts) for failure in w.failures] == [(5, 3)]
    assert len(tally) == 3


def test_calls_and_the_elements_they_give_fail_on_one_account(tally):
    w = Work([5], retries=2, onError="skip")

    @w.job
    def spread(work):
        tally.note(work)
        if len(tally) < 3:
            fail()
        return Multiple(number if number < 100 else fail() for number in range(1000))

    w.run()
    assert len(tally) == 3


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("less", [lambda: None, lambda: 7, lambda: Multiple([7]), lambda: Multiple(iter([7]))])
def test_what_gives_less_when_it_is_made_again_has_ended(less, way, once):
    w = Work([5], retries=1, **way)
    w.job(lambda work: Multiple(raises_late(2000, lambda: True)) if once() else less())
    found = sorted(w.run())
    assert found == list(range(len(found)))


class RaisesInIter:
    def __iter__(self):
        raise Wrong("no iterator")


def test_what_cannot_be_iterated_after_all_is_an_error_of_its_stage():
    w = Work([5])

    @w.job
    def spread(work):
        return Multiple(RaisesInIter())

    with pytest.raises(Wrong) as raised:
        w.run()
    assert raised.value.__cause__.stage == "spread"


def test_a_failed_frame_end_is_made_again(once):
    w = Work([4])

    @w.frame(store=lambda: Object(came=None), emit=lambda store: sorted(store.came))
    def loop(store, first):
        if store.came is None:
            store.came = []
            return Multiple(range(first))

    @w.frameEnd(retries=1)
    def keep(store, item):
        if item == 2 and once():
            raise Wrong
        store.came.append(item)

    assert w.run() == [[0, 1, 2, 3]]


# --- onError='skip' ----------------------------------------------------------------------------------------------
def test_a_failed_item_is_skipped_and_all_others_arrive():
    w = Work(range(200), cpus=2, onError="skip")

    @w.job
    def explode(work):
        if work % 50 == 7:
            raise Wrong
        return work

    assert sorted(w.run()) == [work for work in range(200) if work % 50 != 7]
    assert sorted(failure.item for failure in w.failures) == [7, 57, 107, 157]


def test_a_failure_tells_item_stage_attempts_and_reason():
    w = Work(["good", "bad"], onError="skip", retries=2)

    @w.job
    def explode(work):
        if work == "bad":
            raise Wrong("the reason")
        return work

    assert w.run() == ["good"]
    (failure,) = w.failures
    assert (failure.item, failure.stage, failure.attempts) == ("bad", "explode", 3)
    assert "Traceback" in failure.reason
    assert "Wrong: the reason" in failure.reason


def test_skipping_is_asked_for_one_stage():
    w = Work(range(4))

    @w.job(onError="skip")
    def skipping(work):
        if work == 1:
            raise Wrong
        return work

    assert sorted(w.run()) == [0, 2, 3]
    assert [failure.stage for failure in w.failures] == ["skipping"]


def test_a_stage_may_raise_where_the_work_skips():
    w = Work(range(4), onError="skip")

    @w.job(onError="raise")
    def explode(work):
        if work == 1:
            raise Wrong

    with pytest.raises(Wrong):
        w.run()


def test_without_failures_the_list_is_empty():
    w = Work([1], onError="skip")
    w.job(lambda work: work)
    w.run()
    assert list(w.failures) == []


def test_skipped_items_are_told_in_one_line_at_the_end(capfd):
    w = Work(range(10), onError="skip")

    @w.job
    def explode(work):
        if work in (2, 3):
            raise Wrong

    w.run()
    lines = [line for line in capfd.readouterr().err.splitlines() if "skipped" in line]
    assert len(lines) == 1
    assert "2" in lines[0]


def test_nothing_is_said_when_nothing_was_skipped(capfd):
    w = Work(range(10), onError="skip")
    w.job(lambda work: work)
    w.run()
    assert "skipped" not in capfd.readouterr().err


def test_a_failed_item_in_a_frame_is_skipped_and_the_frame_goes_on():
    w = Work([4, 6], onError="skip")

    @w.frame(store=lambda: Object(came=None), emit=lambda store: sorted(store.came))
    def loop(store, first):
        if store.came is None:
            store.came = []
            return Multiple(range(first))

    @w.job
    def explode(work):
        if work == 2:
            raise Wrong
        return work

    @w.frameEnd
    def keep(store, item):
        if item == 3:
            raise Wrong
        store.came.append(item)

    assert sorted(w.run()) == [[0, 1], [0, 1, 4, 5]]
    assert sorted((failure.item, failure.stage) for failure in w.failures) == [(2, "explode")] * 2 + [(3, "keep")] * 2


def test_a_frame_that_fails_is_skipped_as_its_item():
    w = Work(range(5), onError="skip")

    @w.frame(emit=lambda store: store.first)
    def loop(store, first):
        store.first = first
        if first == 3:
            raise Wrong

    w.frameEnd(lambda store, item: None)
    assert sorted(w.run()) == [0, 1, 2, 4]
    assert [(failure.item, failure.stage) for failure in w.failures] == [(3, "loop")]


def test_a_multiple_that_fails_is_a_failure_of_the_item_that_gave_it():
    w = Work([10], onError="skip")

    @w.job
    def spread(work):
        def elements():
            yield from range(work)
            raise Wrong

        return Multiple(elements())

    assert set(w.run()) <= set(range(10))
    assert [(failure.item, failure.stage) for failure in w.failures] == [(10, "spread")]


def test_skipped_items_do_not_reach_a_reduction():
    w = Work(range(100), cpus=2, onError="skip")

    @w.job
    def explode(work):
        if work % 2:
            raise Wrong
        return work

    reduce_to_sum(w)
    assert w.run() == [sum(range(0, 100, 2))]
    assert len(w.failures) == 50


def test_all_items_may_be_skipped():
    w = Work(range(300), cpus=2, onError="skip")
    w.job(fail)
    assert w.run() == []
    assert sorted(failure.item for failure in w.failures) == list(range(300))


def test_an_item_skipped_in_map_leaves_its_place():
    def explode(work):
        if work == 2:
            raise Wrong
        return work

    assert job_stream.map(explode, range(4), onError="skip") == [0, 1, None, 3]


def test_failures_of_an_earlier_run_are_not_those_of_the_next(once):
    w = Work([1], onError="skip")

    @w.job
    def fail_once(work):
        if once():
            raise Wrong
        return work

    assert (w.run(), len(w.failures)) == ([], 1)
    assert (w.run(), len(w.failures)) == ([1], 0)


# --- time-outs ---------------------------------------------------------------------------------------------------
def test_a_call_that_takes_too_long_is_an_error(gate):
    w = Work([1])

    @w.job(timeout=0.2)
    def hang(work):
        gate.wait()

    with pytest.raises(StageTimeout) as raised:
        w.run()
    assert raised.value.stage == "hang"
    assert raised.value.item == "1"


def test_the_process_of_a_call_that_takes_too_long_ends(gate, tally):
    w = Work([1], onError="skip")

    @w.job(timeout=0.2)
    def hang(work):
        tally.note(os.getpid())
        gate.wait()

    w.run()
    assert not is_alive(tally.numbers()[0])


def test_a_call_that_takes_too_long_is_skipped_and_all_others_arrive(gate):
    w = Work(range(30), cpus=2)

    @w.job(timeout=0.3, onError="skip")
    def hang(work):
        if work in (0, 17):
            gate.wait()
        return work

    assert sorted(w.run()) == [work for work in range(30) if work not in (0, 17)]
    assert sorted(failure.item for failure in w.failures) == [0, 17]
    assert {failure.stage for failure in w.failures} == {"hang"}
    assert {failure.attempts for failure in w.failures} == {1}
    assert all("time" in failure.reason.lower() for failure in w.failures)


def test_a_call_that_takes_too_long_is_made_again(gate, once):
    w = Work(range(10), cpus=2)

    @w.job(timeout=0.3, retries=1)
    def hang_once(work):
        if work == 4 and once():
            gate.wait()
        return work

    assert sorted(w.run()) == list(range(10))
    assert once.happened()


def test_a_call_that_takes_too_long_is_made_as_often_as_asked(gate, tally):
    w = Work([1])

    @w.job(timeout=0.2, retries=2)
    def hang(work):
        tally.note("called")
        gate.wait()

    with pytest.raises(StageTimeout):
        w.run()
    assert len(tally) == 3


def test_a_timeout_is_for_each_call_and_not_for_all():
    w = Work(range(40), cpus=2)

    @w.job(timeout=20)
    def quick(work):
        return work

    assert sorted(w.run()) == list(range(40))


def test_a_timeout_of_the_work_is_one_of_each_stage(gate):
    w = Work([1], timeout=0.2)
    w.job(lambda work: work)

    @w.job
    def hang(work):
        gate.wait()

    with pytest.raises(StageTimeout) as raised:
        w.run()
    assert raised.value.stage == "hang"


@pytest.mark.parametrize("stage", ["frame", "frameEnd", "reduce"])
def test_any_stage_in_processes_can_take_too_long(gate, stage):
    w = Work([1])
    if stage == "reduce":
        w.reduce(lambda store, works, others: gate.wait(), timeout=0.2)
    else:
        hangs = {stage: gate.wait, **{other: lambda: None for other in {"frame", "frameEnd"} - {stage}}}
        limits = {stage: {"timeout": 0.2}}
        w.frame(lambda store, first: hangs["frame"]() or first, **limits.get("frame", {}))
        w.frameEnd(lambda store, item: hangs["frameEnd"](), **limits.get("frameEnd", {}))
    with pytest.raises(StageTimeout):
        w.run()


def test_slow_results_do_not_use_up_the_time_of_a_call(gate):
    """The limit is for the call, not for how long its answer waits to be handled."""
    w = Work(range(3), cpus=1)

    @w.job(timeout=0.3)
    def quick(work):
        return work

    @w.result
    def slow(result):
        time.sleep(0.5)

    w.run()


# --- limits of the system -----------------------------------------------------------------------------------------
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from job_stream import Multiple, Object, Work
from job_stream.errors import PayloadError

big = b"x" * 200_000
where = sys.argv[1]
w = Work((big for _ in range(3)) if where == "source" else range(3), cpus=2)
w.job(lambda x: big if where == "job" else Multiple([len(str(x))] * 20_000) if where == "many" else 1)
if where == "store":
    @w.reduce(store=lambda: Object(data=b""))
    def gather(store, works, others):
        store.data = big
try:
    print(len(w.run()))
except PayloadError as error:
    print("bytes cannot travel between processes" in str(error), "ulimit -f" in str(error))
"""


@pytest.mark.parametrize("where", ["source", "job", "store", "many"])
def test_a_limit_for_files_that_holds_for_shared_memory_too_is_named(start, where):
    ended = start(LIMITED, where).ended()
    assert (ended.code, ended.out) == (0, "True True\n"), ended.err


def test_small_values_travel_whatever_the_limit_for_files(start):
    ended = start(LIMITED, "small").ended()
    assert (ended.code, ended.out) == (0, "3\n"), ended.err
