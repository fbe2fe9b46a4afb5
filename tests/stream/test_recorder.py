"""How a stream is written down: the forms of a decorator, what functions it takes, and the order of stages."""

import functools
import operator

import pytest

import job_stream
from job_stream import Work, inline
from job_stream.errors import JobStreamError, PlanError, StageError


def no_argument():
    return None


def one(work):
    return work


def two(store, work):
    return None


def three(store, works, others):
    return None


def four(store, works, others, more):
    return None


def any_positional(*args):
    return None


def any_keyword(**kwargs):
    return None


class Holder:
    """A class whose one argument is the item; its methods count without ``self``."""

    def __init__(self, work):
        self.work = work

    def no_argument(self):
        return None

    def one(self, work):
        return None

    def two(self, store, work):
        return None

    def three(self, store, works, others):
        return None

    @classmethod
    def of_class(cls, work):
        return None

    @staticmethod
    def static(work):
        return None


class TakesNone:
    def __call__(self):
        return None


class TakesOne:
    def __call__(self, work):
        return None


class TakesThree:
    def __call__(self, store, works, others):
        return None


FITTING = {
    "init": no_argument,
    "job": one,
    "frame": two,
    "frameEnd": two,
    "reduce": three,
    "result": one,
    "finish": one,
}
STAGES = ["job", "frame", "frameEnd", "reduce"]
HANDLERS = ["init", "result", "finish"]

every_decorator = pytest.mark.parametrize("name", FITTING)
every_stage = pytest.mark.parametrize("name", STAGES)
every_handler = pytest.mark.parametrize("name", HANDLERS)


def decorator(name, w=None):
    """The named decorator of a Work in which it may stand."""
    w = w or Work([])
    if name == "frameEnd":
        w.frame(two)
    return getattr(w, name)


# --- names -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "name", ["Work", "Args", "Multiple", "Object", "map", "rng", "getRank", "getCpuCount", "getHostCpuCount"]
)
def test_the_package_and_its_inline_module_offer_the_same_names(name):
    assert getattr(job_stream, name) is getattr(inline, name)


def test_every_error_is_a_job_stream_error():
    for name in ("PlanError", "StageError", "LaneDied", "StageTimeout"):
        assert issubclass(getattr(job_stream.errors, name), JobStreamError)


def test_a_dead_lane_and_a_time_out_are_stage_errors():
    assert issubclass(job_stream.errors.LaneDied, StageError)
    assert issubclass(job_stream.errors.StageTimeout, StageError)


# --- forms -------------------------------------------------------------------------------------------------------
@every_decorator
def test_a_bare_decorator_returns_the_function_itself(name):
    assert decorator(name)(FITTING[name]) is FITTING[name]


@every_decorator
def test_a_decorator_with_empty_parentheses_returns_the_function_itself(name):
    assert decorator(name)()(FITTING[name]) is FITTING[name]


@every_stage
def test_a_decorator_with_a_keyword_returns_the_function_itself(name):
    assert decorator(name)(retries=1)(FITTING[name]) is FITTING[name]


@every_stage
def test_a_plain_call_with_a_keyword_returns_the_function_itself(name):
    assert decorator(name)(FITTING[name], retries=1) is FITTING[name]


@pytest.mark.parametrize("name", ["reduce", "frame"])
def test_store_and_emit_are_taken_by_a_plain_call(name):
    assert decorator(name)(FITTING[name], store=dict, emit=one) is FITTING[name]


@pytest.mark.parametrize("name", ["reduce", "frame"])
def test_store_and_emit_are_taken_in_parentheses(name):
    assert decorator(name)(store=dict, emit=one)(FITTING[name]) is FITTING[name]


@every_stage
@pytest.mark.parametrize(
    "keywords",
    [
        {"onError": "raise"},
        {"onError": "skip"},
        {"retries": 0},
        {"retries": 2},
        {"timeout": 1.5},
        {"timeout": None},
    ],
    ids=str,
)
def test_every_stage_takes_the_keywords_of_its_policy(name, keywords):
    assert decorator(name)(FITTING[name], **keywords) is FITTING[name]


@every_stage
@pytest.mark.parametrize("processes", [True, False])
def test_a_stage_may_say_whether_it_runs_in_processes(name, processes):
    assert decorator(name)(FITTING[name], useMultiprocessing=processes) is FITTING[name]


@pytest.mark.parametrize(
    "keywords",
    [
        {"seed": 7},
        {"seed": None},
        {"onError": "raise"},
        {"onError": "skip"},
        {"retries": 3},
        {"timeout": 2},
        {"timeout": None},
        {"cpus": 1},
        {"cpus": None},
        {"useMultiprocessing": True},
        {"useMultiprocessing": False},
    ],
    ids=str,
)
def test_work_takes_the_keywords_of_a_run(keywords):
    Work([], **keywords)


def test_work_takes_use_multiprocessing_as_its_second_argument():
    Work([1], False)


def test_work_needs_no_initial_work():
    Work()


# --- which functions fit -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("job", one),
        ("job", two),
        ("job", any_positional),
        ("job", any_keyword),
        ("job", lambda work: None),
        ("job", Holder(0).one),
        ("job", Holder.of_class),
        ("job", Holder.static),
        ("job", Holder),
        ("job", TakesOne()),
        ("job", len),
        ("job", int),
        ("job", str),
        ("job", str.upper),
        ("job", "abc".count),
        ("job", print),
        ("job", functools.partial(two, None)),
        ("job", functools.lru_cache(one)),
        ("job", operator.itemgetter(0)),
        ("frame", two),
        ("frame", three),
        ("frame", Holder(0).two),
        ("frame", lambda store, *args: None),
        ("frame", lambda store, **kwargs: None),
        ("frameEnd", two),
        ("frameEnd", three),
        ("frameEnd", Holder(0).two),
        ("frameEnd", lambda store, *args: None),
        ("reduce", three),
        ("reduce", Holder(0).three),
        ("reduce", TakesThree()),
        ("result", one),
        ("result", two),
        ("result", any_positional),
        ("result", print),
        ("result", [].append),
        ("finish", one),
        ("finish", [].extend),
        ("init", no_argument),
        ("init", Holder(0).no_argument),
        ("init", TakesNone()),
    ],
)
def test_a_function_with_fitting_arguments_is_taken(name, function):
    assert decorator(name)(function) is function


@pytest.mark.parametrize(
    ("name", "function", "called"),
    [
        ("job", no_argument, "no_argument"),
        ("job", Holder(0).no_argument, "no_argument"),
        ("job", TakesNone(), "TakesNone"),
        ("frame", one, "one"),
        ("frame", no_argument, "no_argument"),
        ("frame", Holder(0).one, "one"),
        ("frame", any_positional, "any_positional"),
        ("frameEnd", one, "one"),
        ("frameEnd", any_keyword, "any_keyword"),
        ("reduce", two, "two"),
        ("reduce", four, "four"),
        ("reduce", Holder(0).two, "two"),
        ("reduce", any_positional, "any_positional"),
        ("reduce", TakesOne(), "TakesOne"),
        ("result", no_argument, "no_argument"),
        ("finish", no_argument, "no_argument"),
        ("finish", two, "two"),
        ("init", one, "one"),
        ("init", two, "two"),
    ],
)
def test_a_function_with_other_arguments_is_refused_by_name(name, function, called):
    refuse = decorator(name)
    with pytest.raises(PlanError, match=called):
        refuse(function)


def test_the_refusal_tells_how_many_arguments_are_taken_and_needed():
    with pytest.raises(PlanError, match=r"3.*2|2.*3"):
        Work([]).reduce(two)


@every_decorator
def test_what_cannot_be_called_is_refused(name):
    refuse = decorator(name)
    with pytest.raises(PlanError):
        refuse(3)


def test_arguments_are_checked_where_the_parentheses_are_closed():
    waiting = Work([]).reduce(store=list)
    with pytest.raises(PlanError, match="two"):
        waiting(two)


# --- keywords ----------------------------------------------------------------------------------------------------
@every_decorator
def test_an_unknown_keyword_is_refused_by_name(name):
    refuse = decorator(name)
    with pytest.raises(PlanError, match="colour"):
        refuse(FITTING[name], colour="red")


@every_stage
def test_an_unknown_keyword_in_parentheses_is_refused_by_name(name):
    waiting = decorator(name)
    with pytest.raises(PlanError, match="colour"):
        waiting(colour="red")(FITTING[name])


def test_an_unknown_keyword_of_work_is_refused_by_name():
    with pytest.raises(PlanError, match="colour"):
        Work([], colour="red")


def test_the_nearest_keyword_is_named():
    with pytest.raises(PlanError, match="does not know the keyword 'retrys'; did you mean 'retries'"):
        Work([]).job(one, retrys=3)
    with pytest.raises(PlanError, match="does not know the keyword 'cpu'; did you mean 'cpus'"):
        Work([], cpu=3)


def test_an_unknown_keyword_of_map_is_refused_by_name():
    with pytest.raises(PlanError, match="colour"):
        job_stream.map(one, [1], colour="red")


@pytest.mark.parametrize("name", ["job", "frameEnd"])
@pytest.mark.parametrize("keyword", ["store", "emit"])
def test_only_a_stage_with_a_store_takes_store_and_emit(name, keyword):
    refuse = decorator(name)
    with pytest.raises(PlanError, match=keyword):
        refuse(FITTING[name], **{keyword: list})


@every_handler
@pytest.mark.parametrize("keywords", [{"useMultiprocessing": False}, {"timeout": 1}, {"store": list}], ids=str)
def test_what_runs_on_the_primary_takes_no_keyword_of_a_stage(name, keywords):
    refuse = decorator(name)
    with pytest.raises(PlanError, match=next(iter(keywords))):
        refuse(FITTING[name], **keywords)


@pytest.mark.parametrize("name", [*STAGES, "Work"])
@pytest.mark.parametrize(
    "keywords",
    [
        {"onError": "ignore"},
        {"retries": -1},
        {"retries": "often"},
        {"retries": 1.5},
        {"timeout": 0},
        {"timeout": -1},
        {"timeout": "soon"},
    ],
    ids=str,
)
def test_a_bad_value_of_a_keyword_is_refused_by_name(name, keywords):
    keyword = next(iter(keywords))
    if name == "Work":
        with pytest.raises(PlanError, match=keyword):
            Work([], **keywords)
    else:
        refuse = decorator(name)
        with pytest.raises(PlanError, match=keyword):
            refuse(FITTING[name], **keywords)


@pytest.mark.parametrize("cpus", [0, -1, 1.5, "many"])
def test_a_bad_number_of_cpus_is_refused(cpus):
    with pytest.raises(PlanError, match="cpus"):
        Work([], cpus=cpus)


@pytest.mark.parametrize("name", ["reduce", "frame"])
@pytest.mark.parametrize("keyword", ["store", "emit"])
def test_a_store_or_emit_that_cannot_be_called_is_refused(name, keyword):
    with pytest.raises(PlanError, match=keyword):
        getattr(Work([]), name)(FITTING[name], **{keyword: 5})


def test_initial_work_that_cannot_be_iterated_is_refused():
    with pytest.raises(PlanError, match=r"initialWork|initial work|iterable"):
        Work(5)


@every_stage
def test_a_stage_in_threads_takes_no_timeout(name):
    refuse = decorator(name)
    with pytest.raises(PlanError, match="timeout"):
        refuse(FITTING[name], useMultiprocessing=False, timeout=1)


def test_the_end_of_a_frame_in_threads_takes_no_timeout():
    w = Work([])
    w.frame(two, useMultiprocessing=False)
    with pytest.raises(PlanError, match="timeout"):
        w.frameEnd(two, timeout=1)


def test_a_stage_of_a_work_in_threads_takes_no_timeout():
    w = Work([], useMultiprocessing=False)
    with pytest.raises(PlanError, match="timeout"):
        w.job(one, timeout=1)


def test_a_refused_function_is_not_part_of_the_stream():
    w = Work([1])
    with pytest.raises(PlanError):
        w.reduce(two)
    assert w.run() == [1]


# --- order -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("end", ["result", "finish"])
@pytest.mark.parametrize("name", ["job", "frame", "reduce", "result", "finish"])
def test_nothing_is_added_after_the_end_of_the_stream(end, name):
    w = Work([])
    decorator(end, w)(one)
    with pytest.raises(PlanError, match=rf"^After Work\.{end} is used"):
        getattr(w, name)(FITTING[name])


@pytest.mark.parametrize("end", ["result", "finish"])
def test_no_frame_ends_after_the_end_of_the_stream(end):
    w = Work([])
    decorator(end, w)(one)
    with pytest.raises(PlanError):
        w.frameEnd(two)


def test_a_frame_end_without_a_frame_is_refused_at_once():
    with pytest.raises(PlanError, match="two"):
        Work([]).frameEnd(two)


def test_a_frame_has_one_end():
    w = Work([])
    w.frame(two)
    w.frameEnd(two)
    with pytest.raises(PlanError):
        w.frameEnd(two)


def test_as_many_frames_end_as_began():
    w = Work([])
    w.frame(two)
    w.frame(two)
    w.frameEnd(two)
    w.frameEnd(two)
    with pytest.raises(PlanError):
        w.frameEnd(two)


def test_a_frame_without_its_end_is_refused_when_the_stream_runs():
    w = Work([1])
    w.frame(two)
    w.job(one)
    with pytest.raises(PlanError, match="two"):
        w.run()


def test_a_frame_around_a_closed_one_must_end_too():
    w = Work([1])
    w.frame(two)
    w.frame(two)
    w.frameEnd(two)
    with pytest.raises(PlanError):
        w.run()


def test_a_frame_without_its_end_is_refused_at_the_end_of_the_block():
    with pytest.raises(PlanError, match="two"):  # noqa: SIM117
        with Work([1]) as w:
            w.frame(two)


def record_and_run_a_result_inside_a_frame():
    w = Work([1])
    w.frame(two)
    w.result(one)
    w.run()


def test_the_stream_does_not_end_inside_a_frame():
    with pytest.raises(PlanError):
        record_and_run_a_result_inside_a_frame()


def test_a_mistake_in_the_block_is_raised_from_the_block(tally):
    with pytest.raises(PlanError, match="no_argument"):  # noqa: PT012, SIM117
        with Work([1]) as w:
            w.job(tally.note)
            w.job(no_argument)
    assert tally.lines() == []
