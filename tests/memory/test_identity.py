"""Classes and functions that are made in functions stay what they are on their way to workers and back."""

import abc
import collections
import dataclasses
import enum
import os
import threading
import typing
from pathlib import Path

import pytest
from checkpoint_scripts import Saved
from mpi_support import find_mpirun, mpirun

import job_stream
from job_stream import Multiple, Work
from job_stream.errors import PayloadError
from job_stream.memory.kin import Kin
from job_stream.memory.payload import by_value, pack, unpack

WAYS = [{}, {"useMultiprocessing": False}, {"seed": 1}]


def exec_class():
    space = {}
    exec("class executed:\n    pass", space)
    return space["executed"]


def classes():
    """Classes without a name that pickle would find, and how to make something of each."""

    class Plain:
        pass

    class Slotted:
        __slots__ = ("x",)

    class Color(enum.Enum):
        RED = 1

    class Bits(enum.Flag):
        ONE = 1

    @dataclasses.dataclass(frozen=True)
    class Point:
        x: int = 1

    class Pair(typing.NamedTuple):
        a: int = 1

    class Abstract(abc.ABC):  # noqa: B024
        pass

    class Holder:
        lock = threading.Lock()

    class Sub(Plain):
        pass

    executed, dynamic = exec_class(), type("Dynamic", (), {})
    Tuple = collections.namedtuple("Tuple", "a", defaults=(1,))
    return [
        (Plain, Plain),
        (Slotted, Slotted),
        (Color, lambda: Color.RED),
        (Bits, lambda: Bits.ONE),
        (Point, Point),
        (Pair, Pair),
        (Abstract, Abstract),
        (Holder, Holder),
        (Sub, Sub),
        (Tuple, Tuple),
        (executed, executed),
        (dynamic, dynamic),
    ]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_is_made_of_a_local_class_comes_back_as_that(way):
    pairs = classes()
    found = job_stream.map(lambda number: pairs[number][1](), range(len(pairs)), **way)
    assert [type(value) is kind for value, (kind, _) in zip(found, pairs, strict=True)] == [True] * len(pairs)


def test_members_of_a_local_enum_stay_the_ones_they_are():
    class Color(enum.Enum):
        RED = 1

    assert job_stream.map(lambda _: Color.RED, [0])[0] is Color.RED
    assert job_stream.map(lambda color: color is Color.RED, iter([Color.RED])) == [True]
    assert {Color.RED: "red"}[job_stream.map(lambda _: Color.RED, [0])[0]] == "red"


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_classes_come_back_as_the_ones_they_are(way):
    kinds = [kind for kind, _ in classes()]
    found = job_stream.map(lambda number: kinds[number], range(len(kinds)), **way)
    assert all(a is b for a, b in zip(found, kinds, strict=True))


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_items_of_a_local_class_reach_workers_as_that(way):
    pairs = classes()
    kinds = [kind for kind, _ in pairs]
    numbered = ((number, make()) for number, (_, make) in enumerate(pairs))
    assert all(job_stream.map(lambda item: type(item[1]) is kinds[item[0]], numbered, **way))


def double(number):
    return 2 * number


def test_functions_come_back_as_the_ones_they_are():
    def local(number):
        return number + 1

    nameless, table = (lambda number: number), {"double": double}
    functions = [local, nameless, table["double"], len]
    found = job_stream.map(lambda number: functions[number], range(4))
    assert all(a is b for a, b in zip(found, functions, strict=True))
    assert job_stream.map(lambda function: function is nameless, iter([nameless])) == [True]
    assert job_stream.map(lambda function: function, [local, nameless]) == [local, nameless]


def test_a_local_class_stays_what_it_is_in_stores_and_frames():
    class Count:
        def __init__(self):
            self.total = 0

    w = Work(range(100), cpus=2)

    @w.frame(store=Count, emit=lambda store: store)
    def loop(store, first):
        if not store.total:
            return Multiple([first + 1] * 3)

    @w.frameEnd
    def take(store, item):
        store.total += item

    @w.reduce(store=Count)
    def add(store, works, others):
        assert all(type(work) is Count for work in (*works, *others))
        store.total += sum(work.total for work in (*works, *others))

    (found,) = w.run()
    assert (type(found), found.total) == (Count, 3 * 5050)


def test_a_class_that_a_worker_makes_is_one_class_for_all_that_it_sends():
    def make(_):
        class Made:
            pass

        return Multiple([Made(), Made()])

    w = Work([1])
    w.job(make)
    first, second = w.run()
    assert type(first) is type(second)


def test_a_class_that_the_source_makes_comes_back_as_that():
    made = []

    def source():
        class Made:
            pass

        made.append(Made)
        yield Made()

    assert [type(value) for value in job_stream.map(lambda value: value, source())] == made


def test_classes_of_the_same_name_are_told_apart():
    def made(number):
        class Made:
            value = number

        return Made

    kinds = [made(number) for number in range(10)]
    found = job_stream.map(lambda number: kinds[number](), range(10), cpus=2)
    assert all(type(value) is kind for value, kind in zip(found, kinds, strict=True))


def test_a_class_that_cannot_be_hashed_nor_compared_is_no_trouble():
    class Unequal(type):
        def __eq__(cls, other):
            raise TypeError("not to be compared")

        __hash__ = None

    class Odd(metaclass=Unequal):
        pass

    class Point:
        pass

    assert type(job_stream.map(lambda _: Point() if Odd else None, [1])[0]) is Point


def test_a_class_is_let_go_of_when_the_run_is_over():
    kin = Kin()

    class Local:
        pass

    family = kin.begin([], False, by_value)
    assert kin.reference(Local) is not None
    kin.end(family)
    assert kin.reference(Local) is None


def test_a_skipped_item_of_a_local_class_is_of_that_class():
    class Point:
        pass

    w = Work(iter([Point()]), onError="skip")
    w.job(lambda point: 1 // 0)
    w.run()
    assert type(w.failures[0].item) is Point


def test_streams_that_run_at_the_same_time_know_each_others_classes(gate):
    """The second one has a class that the workers of the first one cannot have."""

    class Early:
        pass

    found = []

    def inner(value):
        class Late:
            pass

        found.extend(job_stream.map(lambda _: (Early(), Late()), [1]))
        return [type(each) for each in found[-1]] == [Early, Late]

    w = Work(iter([Early()]))
    w.job(lambda early: early if type(early) is Early else None)
    seen = []
    w.result(lambda early: seen.append((type(early) is Early, inner(early))))
    w.run()
    assert seen == [(True, True)]


# --- who is no fork -----------------------------------------------------------------------------------------------
def run_in_another(pid_file, parts, twin):
    """What another process, forked from this one before there was any run, makes of packed values."""
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return pid_file.read_text()
    text = "nothing"
    try:
        value = unpack(parts)
        text = f"{type(value).__name__} {type(value) is twin}"
    except PayloadError as error:
        text = str(error)
    finally:
        pid_file.write_text(text)
        os._exit(0)


def packed_by_a_run(value, travels, monkeypatch):
    """Parts of a value as a run packs it that this process knows nothing of."""
    from job_stream.memory import byvalue

    kin = Kin()
    kin.begin([], travels, by_value)
    monkeypatch.setattr(byvalue, "kin", kin)
    return pack(value).frames


def test_who_is_no_fork_gets_a_class_by_value(tmp_path, monkeypatch):
    class Local:
        pass

    parts = packed_by_a_run(Local(), True, monkeypatch)
    assert run_in_another(tmp_path / "found", parts, Local).startswith("Local")


def test_a_class_that_cannot_travel_is_named_where_it_arrives(tmp_path, monkeypatch):
    class Local:
        lock = threading.Lock()

    parts = packed_by_a_run(Local(), True, monkeypatch)
    found = run_in_another(tmp_path / "found", parts, Local)
    assert "test_a_class_that_cannot_travel_is_named_where_it_arrives.<locals>.Local" in found
    assert "cannot be pickled: define it at the top of a module" in found


LOCAL = """
import dataclasses, enum, sys, time
from job_stream import Work, getRank

def main():
    class Color(enum.Enum):
        RED = 1

    @dataclasses.dataclass
    class Point:
        x: int

    class Slotted:
        __slots__ = ("x",)

    class Sub(Slotted):
        pass

    class Own(Exception):
        def __init__(self, name, *, number):
            super().__init__(f"{name} {number}")
            self.number = number

    def local(x):
        return x

    mine = dict(Color=Color, Point=Point, Slotted=Slotted, Sub=Sub, local=local)
"""

ON_RANKS = """
    with Work((mine[name] for _ in range(40) for name in mine), **KEYWORDS) as w:
        @w.job
        def make(kind):
            time.sleep(0.005)
            assert any(kind is known for known in mine.values()), kind
            return getRank(), [Color.RED, Point(1), Slotted(), Sub(), local]

        @w.finish
        def compare(results):
            kinds = [[type(value) for value in values[:-1]] for _, values in results]
            print(len({rank for rank, _ in results}), all(kind == [Color, Point, Slotted, Sub] for kind in kinds),
                  all(values[0] is Color.RED and values[-1] is local for _, values in results))

    def fails(rank):
        w = Work(range(1000))
        @w.job
        def work(x):
            time.sleep(0.001)
            if getRank() == rank:
                raise Own("a", number=rank)
        try:
            w.run()
        except Own as error:
            print("caught", error, error.number, type(error) is Own)

    for rank in range(SIZE):
        fails(rank)

main()
"""


@pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")
@pytest.mark.parametrize("keywords", [{}, {"seed": 1}], ids=str)
def test_other_ranks_take_their_own_class_for_one_of_the_same_name_and_contents(tmp_path: Path, keywords) -> None:
    path = tmp_path / "script.py"
    path.write_text((LOCAL + ON_RANKS).replace("SIZE", "2").replace("KEYWORDS", repr(keywords)))
    ended = mpirun(path, 2, env={"JOBS_CPUS": "1"})
    assert ended.code == 0, ended.err
    expected = ["2 True True"] + [f"caught a {rank} {rank} True" for rank in range(2) for _ in range(2)]
    assert sorted(ended.out.splitlines()) == sorted(expected), ended.err


RESUMED = """
    w = Work((Point(x) for x in range(200)), cpus=1, **keywords)

    @w.job
    def make(point):
        assert type(point) is Point, type(point)
        hold(point.x == 100)
        return point

    @w.reduce(store=list, emit=lambda store: store)
    def add(store, works, others):
        gather(store, works, others)

    (points,) = w.run()
    print(sorted(point.x for point in points) == list(range(200)), all(type(point) is Point for point in points))

main()
"""


def test_a_run_that_goes_on_from_a_checkpoint_has_classes_of_its_own(tmp_path: Path) -> None:
    script = Saved(tmp_path, LOCAL + RESUMED)
    script.killed()
    ended = script.run()
    assert (ended.code, ended.out) == (0, "True True\n"), ended.err
    assert "going on from" in ended.err
