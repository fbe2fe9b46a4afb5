"""Values whose attributes are something else than their names say, or that answer to any name, pass like all others."""

import functools
from unittest.mock import MagicMock

import pytest

import job_stream
from job_stream import Multiple, Work
from job_stream.errors import PlanError
from job_stream.stream.fingerprint import fingerprint
from job_stream.values import Args, Sent, bytes_of


class TextSize:
    nbytes = "12 kB"


class MethodSize:
    def nbytes(self):
        return 1


class NegativeSize:
    nbytes = -1


class HugeSize:
    nbytes = 10**30


class FailingSize:
    @property
    def nbytes(self):
        raise OSError("the file is closed")


class AnswersAnything:
    def __getattr__(self, name):
        if name.startswith("__") and name not in ("__name__", "__code__", "__wrapped__", "__len__", "__iter__"):
            raise AttributeError(name)
        return lambda *arguments: AnswersAnything()


class FailsToAnswer:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConnectionError("not connected")


class Lies:
    """About what it is."""

    @property
    def __class__(self):
        return Multiple

    def __reduce__(self):
        return Lies, (), vars(self)


class LiesAboutArgs:
    @property
    def __class__(self):
        return Args

    def __reduce__(self):
        return LiesAboutArgs, (), vars(self)


class NeitherTrueNorFalse:
    def __bool__(self):
        raise ValueError("ambiguous")


class NoLength:
    def __len__(self):
        raise TypeError("unsized")


class Incomparable:
    def __eq__(self, other):
        raise TypeError("not to be compared")

    __hash__ = None


class NoRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


class FalseAlways:
    def __bool__(self):
        return False


KINDS = [
    TextSize, MethodSize, NegativeSize, HugeSize, FailingSize, AnswersAnything, FailsToAnswer, Lies, LiesAboutArgs,
    NeitherTrueNorFalse, NoLength, Incomparable, NoRepr, FalseAlways,
]  # fmt: skip
WAYS = [{}, {"useMultiprocessing": False}, {"seed": 1}]
SOURCES = {"list": list, "generator": lambda items: (item for item in items), "map": lambda items: map(same, items)}


def same(item):
    return item


def names(values):
    return [type(value).__name__ for value in values]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("source", SOURCES)
def test_they_pass_a_map(source, way):
    items = SOURCES[source]([kind() for kind in KINDS])
    assert names(job_stream.map(lambda item: item, items, **way)) == [kind.__name__ for kind in KINDS]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_they_pass_all_stages(kind, way):
    w = Work((kind() for _ in range(3)), **way)
    w.init(lambda: kind())
    w.job(lambda item: Multiple(item if i % 2 else kind() for i in range(100)))

    @w.frame(store=kind, emit=lambda store: store)
    def loop(store, first):
        if "seen" not in vars(store):
            vars(store)["seen"] = True
            return Multiple([first, kind()])

    w.frameEnd(lambda store, item: None)

    @w.reduce(store=lambda: [0], emit=lambda store: Multiple([store[0], kind()]))
    def count(store, works, others):
        store[0] += len(works) + sum(other[0] for other in others)

    results = []
    w.result(lambda item: results.append(item if type(item) is int else type(item)))
    w.run()
    assert sorted(map(str, results)) == sorted(map(str, [400, kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_they_may_fail_and_be_skipped(kind):
    w = Work([kind()], onError="skip")
    w.job(lambda item: 1 // 0)
    w.run()
    assert names([failure.item for failure in w.failures]) == [kind.__name__]


@pytest.mark.parametrize("kind", KINDS)
def test_they_may_be_stores(kind):
    w = Work([1])
    w.reduce(lambda store, works, others: None, store=kind)
    assert names(w.run()) == [kind.__name__]


class FalseFunction:
    """A function that counts as false, as an empty list that can be called would."""

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __len__(self):
        return 0


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_functions_that_are_false_are_used_all_the_same(way):
    w = Work([1, 2], **way)

    @w.frame(store=FalseFunction(lambda: [0]), emit=FalseFunction(lambda store: store[0]), key=FalseFunction(int))
    def loop(store, first):
        if not store[0]:
            return first

    @w.frameEnd
    def end(store, item):
        store[0] += item

    @w.reduce(store=FalseFunction(lambda: [0]), emit=FalseFunction(lambda store: store[0]))
    def add(store, works, others):
        store[0] += sum(works) + sum(other[0] for other in others)

    found = []
    w.result(FalseFunction(found.append))
    w.run()
    assert found == [3]


class Client(AnswersAnything):
    """Can be called, and has any attribute."""

    def __call__(self, item):
        return item


def test_a_function_that_has_any_attribute_is_a_job():
    w = Work([1])
    w.job(Client())
    assert w.run() == [1]
    assert job_stream.map(Client(), [1]) == [1]
    assert job_stream.map(functools.partial(Client()), [1]) == [1]
    (place, *_) = fingerprint(w._recording.plan())
    assert place[1] == "Client"


def test_a_mock_is_a_job():
    mock = MagicMock(return_value=7)
    assert job_stream.map(mock, [1], useMultiprocessing=False) == [7]


@pytest.mark.parametrize("make", [AnswersAnything, FailsToAnswer, Lies, NoRepr, int, lambda: None])
def test_what_only_answers_as_if_it_were_iterable_is_refused(make):
    with pytest.raises(TypeError, match="Multiple takes an iterable"):
        Multiple(make())
    with pytest.raises(PlanError, match="initialWork must be iterable"):
        Work(make())


@pytest.mark.parametrize("kind", [*KINDS, int, str, list])
def test_only_what_is_a_size_counts_as_one(kind):
    expected = 10**30 if kind is HugeSize else 0
    assert bytes_of(kind()) == Sent("", kind()).nbytes == expected


def test_the_size_of_an_array_is_known():
    numpy = pytest.importorskip("numpy")
    assert bytes_of(numpy.zeros(10)) == 80


@pytest.mark.parametrize("kind", [AnswersAnything, Lies])
def test_what_is_given_in_place_of_a_multiple_after_a_failure_is_one_value(kind, once):
    def late():
        yield from range(100)
        raise OSError

    w = Work([1], retries=1)
    w.job(lambda item: Multiple(late()) if once() else kind())
    assert all(type(result) in (int, kind) for result in w.run())
