"""What is shown of values and exceptions of the user is never long, whatever they are, and never fails."""

import sys
import threading
import traceback

import pytest

import job_stream
from job_stream import Work
from job_stream.errors import PayloadError
from job_stream.ground.texts import cut, said, shorten, story, told
from job_stream.memory import byvalue
from job_stream.memory.payload import pack
from job_stream.runtime.reports import summary
from job_stream.values import Failure

HUGE = 20_000_000
LONG = 40_000


class BadRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


class HugeRepr:
    def __repr__(self):
        return "x" * HUGE


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Wrong(Exception):
    pass


# --- values -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "value",
    [
        1,
        "text",
        b"bytes",
        [],
        [1, "a", None],
        (1,),
        (1, 2),
        {1},
        set(),
        frozenset({1}),
        {"a": [1, {2: 3}]},
        {},
        1.5,
        Wrong("a", [1]),
        Wrong("a"),
        Wrong(),
    ],
    ids=repr,
)
def test_a_short_value_is_shown_as_its_repr(value):
    assert shorten(value) == repr(value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: "x" * HUGE,
        lambda: b"x" * HUGE,
        lambda: bytearray(HUGE),
        lambda: "\0" * HUGE,
        lambda: list(range(1_000_000)),
        lambda: tuple(range(1_000_000)),
        lambda: set(range(1_000_000)),
        lambda: dict.fromkeys(range(100000), "x" * 100),
        lambda: [["x" * 10_000] * 1000] * 1000,
        lambda: {"x" * HUGE: 1},
        HugeRepr,
        lambda: [HugeRepr()],
    ],
)
@pytest.mark.parametrize("most", [80, 300])
def test_a_long_value_is_shown_in_part_and_tells_its_length(make, most):
    text = shorten(make(), most)
    assert len(text) < 2 * most + 50
    assert text.endswith((" characters)", " elements)"))


def test_what_has_no_repr_is_shown_by_its_class():
    assert shorten(BadRepr()) == shorten([1, BadRepr()]).replace("list", "BadRepr")
    assert "BadRepr whose repr raised RuntimeError" in shorten(BadRepr())


def test_what_holds_itself_is_shown_in_part():
    value = []
    value.append(value)
    assert "..." in shorten(value)


def test_a_text_is_cut_in_the_middle():
    text = cut("a" * 500 + "b" * 500, 100)
    assert (text[:3], text[-19:]) == ("aaa", "b (1000 characters)")
    assert len(text) < 120
    assert cut("short", 100) == "short"


# --- exceptions ---------------------------------------------------------------------------------------------------
def raised_by(function):
    try:
        function()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def chained():
    try:
        try:
            raise KeyError("first")
        except KeyError as error:
            raise Wrong("second") from error
    except Wrong:
        raise ValueError("third\nof two lines")  # noqa: B904


def test_an_ordinary_exception_is_shown_as_by_python():
    error = raised_by(chained)
    assert story(error, error.__traceback__) == "".join(traceback.format_exception(error))


def recursion():
    def one(n):
        return two(n)

    def two(n):
        return one(n + 1)

    one(0)


def deep_chain():
    error = None
    for number in range(20_000):
        error, before = Wrong(number), error
        error.__context__ = before
    raise error


def loop():
    first, second = Wrong(1), Wrong(2)
    first.__context__, second.__cause__ = second, first
    raise first


def long_message():
    raise Wrong("x" * HUGE, list(range(1000)))


def long_notes():
    error = Wrong("text")
    error.__notes__ = ["x" * HUGE] * 1000
    raise error


def odd_notes():
    error = Wrong("text")
    error.__notes__ = BadRepr()
    raise error


def long_line():
    exec(compile("raise Wrong('a')" + " " * 10 + "#" + "x" * HUGE, "<made>", "exec"))


def syntax():
    compile("x" * HUGE + " 1", "<made>", "exec")


def group():
    group = getattr(__builtins__, "ExceptionGroup", None) or vars(sys.modules["builtins"])["ExceptionGroup"]
    inner = group("inner", [Wrong("x" * 100_000) for _ in range(100)])
    for _ in range(50):
        inner = group("outer", [inner, inner])
    raise inner


def without_text():
    raise NoText


RAISING = [recursion, deep_chain, loop, long_message, long_notes, odd_notes, long_line, syntax, without_text]
if sys.version_info >= (3, 11):
    RAISING.append(group)


@pytest.mark.parametrize("function", RAISING)
def test_any_exception_is_told_in_bounded_length(function):
    error = raised_by(function)
    text = story(error, error.__traceback__)
    assert len(text) < LONG
    assert type(error).__name__ in text
    assert len(told(error)) < LONG
    assert len(said(error, 100)) < 200


@pytest.mark.parametrize("function", RAISING)
def test_a_job_that_raises_it_ends_the_run_with_a_story_of_bounded_length(function):
    w = Work([list(range(100_000))])

    @w.job
    def fail(item):
        function()

    error = raised_by(w.run)
    assert len(str(error.__cause__)) < LONG + 1000


def test_a_skipped_item_is_told_in_one_short_line(capfd):
    w = Work([list(range(100_000))], onError="skip")
    w.job(lambda item: long_message())
    w.run()
    assert len(w.failures[0].reason) < LONG
    line = capfd.readouterr().err
    assert len(line) < 2000
    assert line.count("\n") == 1


def test_the_line_about_skipped_items_is_short_whatever_the_reason():
    assert len(summary([Failure("x" * HUGE, "stage", 1, "y" * HUGE)])) < 2000
    assert summary([Failure(1, "stage", 1, "")]).endswith("item 1: ")


# --- what cannot travel -------------------------------------------------------------------------------------------
class Item:
    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize("make", [int, str, Item, lambda i: {"a": i}, lambda i: (i, [i])])
@pytest.mark.parametrize("place", [0, 299_999])
def test_one_of_very_many_that_cannot_travel_is_found_without_trying_each_in_the_slow_way(make, place, monkeypatch):
    values = [make(i) for i in range(300_000)]
    values[place] = Item(threading.Lock())
    tried, dumps = [], byvalue.dumps
    monkeypatch.setattr(byvalue, "dumps", lambda *arguments: tried.append(1) or dumps(*arguments))
    with pytest.raises(PayloadError, match=rf"^list\[{place}\]\.value \(lock\) cannot be pickled"):
        pack(values)
    assert len(tried) < 200


def test_one_of_many_outputs_that_cannot_travel_is_skipped_and_all_others_arrive():
    found = job_stream.map(lambda i: threading.Lock() if i in (7, 2500) else i, range(3000), cpus=1, onError="skip")
    assert found == [None if i in (7, 2500) else i for i in range(3000)]


def test_the_message_about_what_cannot_travel_is_short():
    class Odd:
        def __reduce__(self):
            raise ValueError("x" * HUGE)

    with pytest.raises(PayloadError) as raised:
        pack({"y" * HUGE: Odd()})
    assert len(str(raised.value)) < 3000
