"""What would do nothing without a word is refused, or told: functions that yield or are async, used-up iterators, and
reduces that do not look at others."""

import asyncio
import functools
import gc
import pickle
import threading
import types
from multiprocessing import get_context

import pytest

import job_stream
from job_stream import Multiple, Work, common
from job_stream.errors import PayloadError, PlanError
from job_stream.evaluate.attention import _Watched


def yields(*_):
    yield 1


async def waits(*_):
    return 1


async def yields_async(*_):
    yield 1


@types.coroutine
def old_style(*_):
    yield


class Callable:
    def __call__(self, *_):
        yield 1


class AsyncCallable:
    async def __call__(self, *_):
        return 1


class Methods:
    def bound(self, *_):
        yield 1

    @staticmethod
    def static(*_):
        yield 1

    @classmethod
    def of_class(cls, *_):
        yield 1


FUNCTIONS = {
    "yields": yields,
    "async": waits,
    "async that yields": yields_async,
    "coroutine of a generator": old_style,
    "lambda": lambda *_: (yield),
    "partial": functools.partial(yields),
    "partial of a partial": functools.partial(functools.partial(waits)),
    "partial of a method": functools.partial(Methods().bound),
    "object": Callable(),
    "async object": AsyncCallable(),
    "partial of an object": functools.partial(Callable()),
    "method": Methods().bound,
    "static method": Methods.static,
    "class method": Methods.of_class,
    "method of an object": Callable().__call__,
    "cached": functools.lru_cache(yields),
    "cached method": functools.cache(Methods().bound),
}


ROLES = ["init", "job", "frame", "frameEnd", "reduce", "result", "finish"]


def record(w, role, function):
    if role == "frameEnd":
        w.frame(lambda store, first: None)
    getattr(w, role)(function)


def takes(count, kind):
    """A function of so many arguments that yields, or is async."""
    names = ", ".join("abc"[:count])
    space = {}
    begin, word = ("async ", "return") if kind == "async" else ("", "yield")
    exec(f"{begin}def made({names}):\n    {word} 1", space)
    return space["made"]


COUNTS = {"init": 0, "job": 1, "frame": 2, "frameEnd": 2, "reduce": 3, "result": 1, "finish": 1}


@pytest.mark.parametrize("kind", ["yields", "async"])
@pytest.mark.parametrize("role", ROLES)
def test_a_stage_function_that_yields_or_is_async_is_refused_by_name(role, kind):
    with pytest.raises(PlanError, match=rf"^{role} function 'made' (yields|is async), so a call of it does nothing: "):
        record(Work([1]), role, takes(COUNTS[role], kind))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_found_behind_partials_methods_objects_and_caches(name):
    with pytest.raises(PlanError, match="does nothing"):
        Work([1]).job(FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_map_refuses_a_function_that_yields_or_is_async(name):
    with pytest.raises(PlanError, match=r"^map function .* does nothing"):
        job_stream.map(FUNCTIONS[name], [1])


@pytest.mark.parametrize("part", ["store", "emit"])
@pytest.mark.parametrize("role", ["frame", "reduce"])
def test_a_store_or_emit_that_yields_is_refused(role, part):
    function = {"frame": lambda store, first: None, "reduce": lambda store, works, others: None}[role]
    with pytest.raises(PlanError, match=rf"{part} yields, so a call of it does nothing"):
        getattr(Work([1]), role)(function, **{part: yields})


def test_a_key_that_yields_is_refused():
    with pytest.raises(PlanError, match="key yields"):
        Work([1], seed=1).frame(lambda store, first: None, key=yields)


METHODS = [
    ("job", common.Job, "handleWork"),
    ("job", common.Job, "postSetup"),
    ("reduce", common.Reducer, "handleInit"),
    ("reduce", common.Reducer, "handleAdd"),
    ("reduce", common.Reducer, "handleJoin"),
    ("reduce", common.Reducer, "handleDone"),
    ("frame", common.Frame, "handleFirst"),
    ("frame", common.Frame, "handleNext"),
    ("frame", common.Frame, "handleDone"),
]


@pytest.mark.parametrize(("role", "base", "method"), METHODS)
@pytest.mark.parametrize("function", [yields, waits])
def test_a_method_of_a_class_that_yields_or_is_async_is_refused(role, base, method, function):
    kind = type("Stage", (base,), {method: function})
    with pytest.raises(PlanError, match=rf"'Stage': {method} (yields|is async)"):
        getattr(Work([1]), role)(kind)


def test_a_method_of_a_configured_class_that_yields_is_refused():
    kind = type("Stage", (common.Job,), {"handleWork": yields})
    with pytest.raises(PlanError, match="handleWork yields"):
        common.run({"jobs": [{"type": kind}]})


# --- what can only be seen when it is called ----------------------------------------------------------------------
def passing_on(function):
    @functools.wraps(function)
    def inner(*arguments):
        return function(*arguments)

    return inner


def collecting(function):
    @functools.wraps(function)
    def inner(*arguments):
        return Multiple(function(*arguments))

    return inner


def numbers(n):
    yield from range(n)


def test_a_decorator_that_makes_something_of_a_generator_is_no_mistake():
    w = Work([3])
    w.job(collecting(numbers))
    assert sorted(w.run()) == [0, 1, 2]
    w = Work([3])
    w.job(lambda n: Multiple(numbers(n)))
    assert sorted(w.run()) == [0, 1, 2]


WAYS = [{}, {"useMultiprocessing": False}, {"seed": 1}]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("items", [1, 3000])
def test_a_generator_that_nobody_takes_is_refused_when_it_comes(way, items):
    def run():
        with Work(range(items), **way) as w:
            w.job(passing_on(numbers))

    with pytest.raises(PlanError, match=r"stage 'numbers' gave a generator, which nobody takes"):
        run()


@pytest.mark.filterwarnings("ignore:coroutine")
def test_a_coroutine_that_nobody_takes_is_refused_when_it_comes():
    def run():
        with Work([1], useMultiprocessing=False) as w:
            w.job(passing_on(waits))

    with pytest.raises(PlanError, match=r"gave a coroutine, which nobody takes.*asyncio\.run"):
        run()
    gc.collect()  # Python warns of the coroutine here, and not in the next test


def test_a_generator_that_nobody_takes_in_a_nested_work_is_refused():
    def job(number):
        with Work([number]) as w:
            w.job(passing_on(numbers))

    with pytest.raises(PlanError, match="gave a generator, which nobody takes"):
        job_stream.map(job, [3])


def test_a_result_function_that_gives_a_generator_is_refused():
    w = Work([1])
    w.result(passing_on(numbers))
    with pytest.raises(PlanError, match=r"result function 'numbers' gave a generator"):
        w.run()


def test_a_generator_among_results_is_told_with_the_way_out():
    w = Work([1])
    w.job(passing_on(numbers))
    with pytest.raises(PayloadError, match=r"generator cannot be pickled.*return Multiple"):
        w.run()


def test_a_job_may_call_async_functions():
    assert job_stream.map(lambda x: asyncio.run(waits(x)), [1]) == [1]


# --- iterators ----------------------------------------------------------------------------------------------------
def lines(path):
    path.write_text("a\nb\n")
    return path.open()


ITERATORS = {
    "generator": lambda path: (i for i in range(3)),
    "zip": lambda path: zip([1], [2], strict=True),
    "map": lambda path: map(str, [1, 2]),
    "iter": lambda path: iter([1, 2]),
    "file": lines,
}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ITERATORS)
def test_a_second_run_of_a_used_up_iterator_is_refused(name, nested, tmp_path):
    def twice(_):
        items = ITERATORS[name](tmp_path / "file")
        w = Work(items)
        w.job(lambda item: 1)
        first = w.run()
        with pytest.raises(PlanError, match=r"the initial work is a .*: give each run a new one, or a list"):
            w.run()
        if name == "file":
            items.close()
        return len(first) > 0

    assert job_stream.map(twice, [0])[0] if nested else twice(0)


def test_an_iterator_of_which_a_failed_run_has_taken_some_is_refused():
    w = Work(i for i in range(1000))
    w.job(lambda item: 1 // item)
    with pytest.raises(ZeroDivisionError):
        w.run()
    with pytest.raises(PlanError, match="generator"):
        w.run()


def test_a_generator_that_has_ended_before_is_refused():
    source = iter_once()
    assert list(source) == [1]
    with pytest.raises(PlanError, match="has come to its end already"):
        Work(source).run()
    with pytest.raises(PlanError, match="has come to its end already"):
        job_stream.map(str, source)


def iter_once():
    yield 1


class Restarts:
    def __iter__(self):
        self.left = 3
        return self

    def __next__(self):
        self.left -= 1
        if self.left < 0:
            raise StopIteration
        return self.left


class RunsOut:
    left = 3

    def __iter__(self):
        return self

    __next__ = Restarts.__next__


def test_an_iterator_that_begins_anew_runs_again():
    w = Work(Restarts())
    assert [sorted(w.run()) for _ in range(3)] == [[0, 1, 2]] * 3


def test_an_iterator_of_the_user_that_does_not_begin_anew_is_refused():
    w = Work(RunsOut())
    assert sorted(w.run()) == [0, 1, 2]
    with pytest.raises(PlanError, match="RunsOut, of which a run before this one has left nothing"):
        w.run()


@pytest.mark.parametrize("items", [[1, 2], (1, 2), range(2), {1: 2}, {1}, "ab"], ids=repr)
def test_what_can_be_iterated_over_again_runs_again(items):
    w = Work(items)
    assert sorted(w.run()) == sorted(w.run()) == sorted(items)


# --- reduces ------------------------------------------------------------------------------------------------------
def ignores(store, works, others):
    store.extend(works)


def ignores_rest(store, *rest):
    store.extend(rest[0])


class IgnoringObject:
    def __call__(self, store, works, others):
        store.extend(works)


def merges(store, works, others):
    store.extend(works)
    for other in others:
        store.extend(other)


def only_asks(store, works, others):
    store.extend(works)
    if others:
        store.extend(item for number in range(len(others)) for item in others[number])


def unpacks(store, works, others):
    store += [*works, *(item for other in others for item in other)]


class MergingMethod:
    def merge(self, store, works, others):
        merges(store, works, others)


WARNING = "has not looked at them, so what they hold is lost: merge each of `others` into `store`"


def reduced(function, **way):
    """Runs a reduce whose work is certain to be folded by two workers."""
    w = Work(range(2), cpus=2, **way)
    barrier = threading.Barrier(2) if way.get("useMultiprocessing") is False else _meeting()

    @w.job
    def meet(item):
        barrier.wait(60)
        return item

    w.reduce(function, store=list, emit=len)
    return w.run()


def _meeting():
    return get_context("fork").Barrier(2)


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("function", [ignores, passing_on(ignores), IgnoringObject(), functools.partial(ignores)])
def test_a_reduce_that_does_not_look_at_others_is_told_once(function, way, capfd):
    reduced(function, **way)
    assert capfd.readouterr().err.count(WARNING) == 1


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "function", [merges, passing_on(merges), only_asks, unpacks, MergingMethod().merge, functools.partial(merges)]
)
def test_a_reduce_that_looks_at_others_is_not(function, way, capfd):
    assert reduced(function, **way) == [2]
    assert WARNING not in capfd.readouterr().err


def test_whoever_names_others_gets_a_plain_list():
    def fold(store, works, others):
        store.append(type(others))
        for other in others:
            store.extend(other)

    w = Work(range(2), cpus=2)
    barrier = _meeting()
    w.job(lambda item: (barrier.wait(60), item))
    w.reduce(fold, store=list)
    (kinds,) = w.run()
    assert set(kinds) == {list}


LOOKING = [
    list,
    len,
    bool,
    tuple,
    sum,
    sorted,
    lambda others: [*others],
    lambda others: [0] + others,  # noqa: RUF005
    lambda others: others + [0],  # noqa: RUF005
    lambda others: [].extend(others),
    lambda others: others[0],
    lambda others: others.pop(),
    lambda others: 3 in others,
    lambda others: others == [],
    lambda others: max(*others),
    lambda others: functools.reduce(int.__add__, others),
    lambda others: list(zip(others, others, strict=True)),
    repr,
]


@pytest.mark.parametrize("look", LOOKING)
def test_any_way_to_look_is_seen(look):
    others = _Watched([1, 2])
    look(others)
    assert others.seen


def test_a_list_that_notes_who_looks_travels_as_a_plain_one():
    assert type(pickle.loads(pickle.dumps(_Watched([1])))) is list
