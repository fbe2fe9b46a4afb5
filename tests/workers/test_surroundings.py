"""What holds in the script's thread holds in user code, wherever that runs."""

import contextlib
import contextvars
import decimal
import sqlite3

import numpy
import pytest
from support import Library, gather, whole_text

import job_stream
from job_stream import Object, Work

sklearn = Library("sklearn")

variable = contextvars.ContextVar("variable", default="unset")


# --- settings -----------------------------------------------------------------------------------------------------
def thirds():
    """How many characters a third has."""
    return len(str(decimal.Decimal(1) / 3))


def what_is_divided_by_zero():
    try:
        return float(numpy.float64(1) / numpy.float64(0))
    except RuntimeWarning:
        return "warned"
    except FloatingPointError:
        return "raised"


@contextlib.contextmanager
def variable_set():
    token = variable.set("set")
    yield
    variable.reset(token)


SETTINGS = {
    "decimal": (lambda: decimal.localcontext(decimal.Context(prec=50)), thirds, 52),
    "numpy": (lambda: numpy.errstate(all="raise"), what_is_divided_by_zero, "raised"),
    "variable": (variable_set, variable.get, "set"),
    "sklearn": (
        lambda: sklearn.config_context(assume_finite=True),
        lambda: sklearn.get_config()["assume_finite"],
        True,
    ),
}


def of_jobs(look, processes):
    return job_stream.map(lambda item: look(), [1, 2], cpus=2, useMultiprocessing=processes)


def of_a_reduction(look, processes):
    w = Work(range(2), cpus=2, useMultiprocessing=processes)
    w.job(lambda item: look())
    w.reduce(gather, store=list, emit=lambda store: [*store, look()])
    return w.run()[0]


def of_a_frame(look, processes):
    w = Work([1], cpus=2, useMultiprocessing=processes)
    w.frame(lambda store, first: None if store.seen else look(), store=lambda: Object(seen=[]), emit=lambda s: s.seen)
    w.frameEnd(lambda store, item: store.seen.extend([item, look()]))
    return w.run()[0]


def of_a_generator(look, processes):
    return job_stream.map(lambda item: item, (look() for _ in range(2)), cpus=1, useMultiprocessing=processes)


def of_an_init(look, processes):
    w = Work([], cpus=1, useMultiprocessing=processes)
    w.init(lambda: job_stream.Multiple(look() for _ in range(2)))
    return w.run()


EACH_SETTING = [pytest.param(name, marks=pytest.mark.libraries if name == "sklearn" else ()) for name in SETTINGS]


@pytest.mark.parametrize("where", [of_jobs, of_a_reduction, of_a_frame, of_a_generator, of_an_init])
@pytest.mark.parametrize("processes", [True, False])
@pytest.mark.parametrize("setting", EACH_SETTING)
def test_what_the_script_has_set_holds_in_user_code(setting, where, processes):
    within, look, expected = SETTINGS[setting]
    assert look() != expected
    with within():
        seen = where(look, processes)
    assert seen
    assert set(seen) == {expected}


def test_what_init_has_set_holds_in_jobs_and_in_the_source():
    def sets():
        variable.set("by init")

    def run():
        w = Work((variable.get() for _ in range(1)), useMultiprocessing=False)
        w.init(sets)
        w.job(lambda seen: (seen, variable.get()))
        return w.run()

    assert contextvars.copy_context().run(run) == [("by init", "by init")]


def test_what_a_job_in_a_thread_sets_holds_for_nobody_else():
    def sets(number):
        decimal.getcontext().prec = 5
        variable.set("by job")

    before = decimal.getcontext().prec
    job_stream.map(sets, range(4), cpus=2, useMultiprocessing=False)
    assert (decimal.getcontext().prec, variable.get()) == (before, "unset")


# --- objects that one thread may use ------------------------------------------------------------------------------
@pytest.fixture
def numbers():
    """A database of 1,000 numbers, connected to by this thread."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table numbers(value)")
        connection.executemany("insert into numbers values(?)", [(number,) for number in range(1000)])
        yield connection


@pytest.mark.parametrize("processes", [True, False])
def test_the_rows_of_a_cursor_are_initial_work(numbers, processes):
    rows = numbers.execute("select value from numbers")
    doubled = job_stream.map(lambda row: 2 * row[0], rows, cpus=2, useMultiprocessing=processes)
    assert doubled == list(range(0, 2000, 2))


def test_the_rows_of_a_cursor_are_pulled_between_results(numbers):
    results = []
    w = Work(numbers.execute("select value from numbers"), cpus=2)
    w.init(lambda: job_stream.Multiple((number,) for number in range(-10, 0)))
    w.job(lambda row: row[0])
    w.result(results.append)
    w.run()
    assert sorted(results) == list(range(-10, 1000))


def test_a_cursor_without_rows_is_no_work(numbers):
    assert job_stream.map(abs, numbers.execute("select value from numbers where value < 0")) == []


def test_the_error_of_a_cursor_is_that_of_the_initial_work(numbers):
    numbers.create_function("fail", 1, lambda value: 1 // (500 - value))
    with pytest.raises(sqlite3.OperationalError) as raised:
        job_stream.map(str, numbers.execute("select fail(value) from numbers"))
    assert raised.value.__cause__.stage == "initial work"


def generator_of_rows(connection):
    return job_stream.map(lambda row: row[0], (row for row in connection.execute("select value from numbers")))


def jobs_in_threads(connection):
    query = "select value from numbers where value = ?"
    found = job_stream.map(lambda n: connection.execute(query, [n]).fetchone(), range(3), useMultiprocessing=False)
    return [value for (value,) in found]


@pytest.mark.parametrize("use", [generator_of_rows, jobs_in_threads])
def test_an_object_of_another_thread_is_an_error_that_tells_the_way_out(numbers, use):
    with pytest.raises(sqlite3.ProgrammingError) as raised:
        use(numbers)
    assert "check_same_thread=False" in whole_text(raised.value)


@pytest.mark.parametrize("use", [generator_of_rows, jobs_in_threads])
def test_the_way_out_for_an_object_of_another_thread(use, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "numbers", check_same_thread=False)) as connection:
        connection.execute("create table numbers(value)")
        connection.executemany("insert into numbers values(?)", [(0,), (1,), (2,)])
        assert use(connection) == [0, 1, 2]
