"""Work in a worker can be divided: nobody waits for a neighbour, nor does what is done.

In each test one value, or one for each worker, waits in user code until all the others are done. It would wait in vain
if one of them were held up by it: in its batch, its parcel, its frame, or on its way to the script.
"""

from __future__ import annotations

import mmap
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from checkpoint_scripts import Saved, right, saved_again
from mpi_support import find_mpirun, mpirun
from support import DEADLINE_S, Gate, Once, Script, Tally, die, reduce_to_sum, wait_until

import job_stream
from job_stream import Args, Multiple, Object, Work, rng

COUNT = 3000
PLACES = [0, 1, 700, COUNT - 1]
KINDS = pytest.mark.parametrize("processes", [True, False], ids=["processes", "threads"])


class Marks:
    """What has been done, in memory that this process and all it forks share."""

    def __init__(self, count: int) -> None:
        self._memory = mmap.mmap(-1, count)
        self._count = count

    def set(self, number: int) -> None:
        self._memory[number] = 1

    @property
    def missing(self) -> int:
        return self._memory[:].count(0) - (len(self._memory) - self._count)

    def wait_for_others(self) -> None:
        """All but one."""
        wait_until(lambda: self.missing <= 1, "all the others")


def waiting_at(marks: Marks, *waiting: int) -> Callable[[int], int]:
    """A job; some numbers wait for all others."""

    def job(number: int) -> int:
        if number in waiting:
            marks.wait_for_others()
        marks.set(number)
        return number

    return job


@KINDS
@pytest.mark.parametrize("place", PLACES)
def test_one_item_may_wait_for_all_others(processes: bool, place: int) -> None:
    w = Work(range(COUNT), cpus=2, useMultiprocessing=processes)
    w.job(waiting_at(Marks(COUNT), place))
    assert sorted(w.run()) == list(range(COUNT))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("source", [range, lambda count: iter(range(count)), lambda count: list(range(count))])
def test_one_item_of_a_map_may_wait_for_all_others(place: int, source: Callable[[int], Any]) -> None:
    assert job_stream.map(waiting_at(Marks(COUNT), place), source(COUNT), cpus=2) == list(range(COUNT))


@KINDS
@pytest.mark.parametrize("place", PLACES)
def test_one_item_may_wait_in_the_second_stage(processes: bool, place: int) -> None:
    w = Work(range(COUNT), cpus=2, useMultiprocessing=processes)
    w.job(lambda number: (number, str(number)) if number % 2 else Multiple([(number, str(number)), None]))
    waiting = waiting_at(Marks(COUNT), place)
    w.job(lambda pair: waiting(pair[0]))
    assert sorted(w.run()) == list(range(COUNT))


@KINDS
@pytest.mark.parametrize("place", [0, 31, 63])
def test_one_item_that_a_function_may_change_may_wait_where_many_come_of_one(processes: bool, place: int) -> None:
    waiting = waiting_at(Marks(64), place)
    w = Work([0], cpus=2, useMultiprocessing=processes)
    w.job(lambda _: Multiple([{"number": number} for number in range(64)]))

    @w.job
    def take(work: dict[str, int]) -> int:
        return waiting(work.pop("number"))

    assert sorted(w.run()) == list(range(64))


@KINDS
def test_jobs_that_give_nothing_or_much_lose_and_double_nothing(processes: bool) -> None:
    """What is done is told from what is under way, though the outputs do not say how many values they came from."""
    marks = Marks(COUNT)
    waiting = waiting_at(marks, 1234)
    w = Work(range(COUNT), cpus=2, useMultiprocessing=processes)

    @w.job
    def some(number: int) -> Any:
        waiting(number)
        return [None, number, Multiple([number, number]), Multiple([])][number % 4]

    expected = Counter({number: number % 4 for number in range(COUNT) if number % 4 in (1, 2)})
    assert Counter(w.run()) == expected


@pytest.mark.parametrize("arrangement", ["begin", "end", "spread", "chance", "bursts"])
@pytest.mark.parametrize("lanes", [2, 4])
def test_so_many_long_items_as_workers_are_under_way_at_once_wherever_they_are(arrangement: str, lanes: int) -> None:
    chance = random.Random(lanes)
    waiting = {
        "begin": list(range(lanes)),
        "end": list(range(COUNT - lanes, COUNT)),
        "spread": list(range(0, COUNT, COUNT // lanes))[:lanes],
        "chance": chance.sample(range(COUNT), lanes),
        "bursts": [*range(500, 500 + lanes // 2), *range(2000, 2000 + lanes - lanes // 2)],
    }[arrangement]
    begun = Marks(lanes)

    def job(number: int) -> int:
        if number in waiting:
            begun.set(waiting.index(number))
            wait_until(lambda: not begun.missing, "all long items to be under way")
        return number

    w = Work(range(COUNT), cpus=lanes)
    w.job(job)
    assert sorted(w.run()) == list(range(COUNT))


# frames and Multiples -------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("place", [0, 150, 299])
def test_one_child_of_a_frame_may_wait_for_all_others(processes: bool, place: int) -> None:
    waiting = waiting_at(Marks(300), place)
    w = Work([5], cpus=2, useMultiprocessing=processes)

    @w.frame(store=lambda: Object(total=0, rounds=0), emit=lambda store: (store.total, store.rounds))
    def children(store: Object, first: int) -> Any:
        store.rounds += 1
        if store.rounds == 1:
            return Multiple(range(300))

    w.job(waiting)
    w.job(lambda number: number + 1)

    @w.frameEnd
    def add(store: Object, number: int) -> None:
        store.total += number

    w.job(lambda end: end)
    assert w.run() == [(sum(range(1, 301)), 2)]


@pytest.mark.parametrize("place", [0, 25, 49])
def test_one_child_of_an_inner_frame_may_wait_for_all_others(place: int) -> None:
    waiting = waiting_at(Marks(50), place)
    w = Work([0], cpus=2)

    @w.frame(store=lambda: Object(found=[], done=False), emit=lambda store: sorted(store.found))
    def outer(store: Object, first: int) -> Any:
        if not store.done:
            store.done = True
            return Multiple(range(5))

    @w.frame(store=lambda: Object(found=[], done=False), emit=lambda store: store.found)
    def inner(store: Object, first: int) -> Any:
        if not store.done:
            store.done = True
            return Multiple(range(10 * first, 10 * first + 10))

    w.job(waiting)

    @w.frameEnd
    def of_inner(store: Object, number: int) -> None:
        store.found.append(number)

    @w.frameEnd
    def of_outer(store: Object, numbers: list[int]) -> None:
        store.found += numbers

    w.job(lambda found: found)
    assert w.run() == [list(range(50))]


@pytest.mark.parametrize("place", [0, 150, 299])
def test_one_child_may_wait_in_a_frame_that_ends_in_a_reduction(place: int) -> None:
    waiting = waiting_at(Marks(300), place)
    w = Work([5], cpus=2)

    @w.frame(store=lambda: Object(total=0, done=False), emit=lambda store: store.total)
    def children(store: Object, first: int) -> Any:
        if not store.done:
            store.done = True
            return Multiple(range(300))

    w.job(waiting)
    reduce_to_sum(w)

    @w.frameEnd
    def end(store: Object, total: int) -> None:
        store.total += total

    w.job(lambda total: total)
    assert w.run() == [sum(range(300))]


@KINDS
@pytest.mark.parametrize("place", [0, 150, 299])
def test_one_element_of_a_multiple_may_wait_for_all_others(processes: bool, place: int) -> None:
    w = Work([0], cpus=2, useMultiprocessing=processes)
    w.job(lambda number: Multiple(list(range(300))))
    w.job(waiting_at(Marks(300), place))
    assert sorted(w.run()) == list(range(300))


def test_an_item_in_front_of_a_reduction_may_wait_for_all_others() -> None:
    w = Work(range(COUNT), cpus=2)
    w.job(waiting_at(Marks(COUNT), 700))
    reduce_to_sum(w)
    assert w.run() == [sum(range(COUNT))]


def test_while_a_frame_is_begun_its_neighbours_go_on() -> None:
    waiting = waiting_at(Marks(COUNT), 1234)
    w = Work(range(COUNT), cpus=2)

    @w.frame(store=lambda: Object(first=None), emit=lambda store: store.first)
    def begin(store: Object, first: int) -> Any:
        if store.first is None:
            store.first = waiting(first)
            return first

    @w.frameEnd
    def end(store: Object, number: int) -> None:
        pass

    w.job(lambda first: first)
    assert sorted(w.run()) == list(range(COUNT))


@pytest.mark.parametrize("where", ["store", "emit", "after", "reduce"])
def test_whatever_waits_around_a_frame_nothing_is_lost(where: str, tmp_path: Path) -> None:
    """There are places where all that is under way of a unit does not show on the stack."""
    marks, once = Marks(COUNT), Once(tmp_path)

    def wait(here: str, done: int) -> None:
        """Waits in the midst of the work, until all frames have been begun but so many."""
        if here == where and marks.missing < COUNT - 500 and once():
            wait_until(lambda: marks.missing <= done, "all other frames")

    def store() -> Object:
        wait("store", 1)
        return Object(found=[])

    def emit(store: Object) -> list[int]:
        wait("emit", 0)
        return store.found

    w = Work(range(COUNT), cpus=2)

    @w.frame(store=store, emit=emit)
    def begin(store: Object, first: int) -> Any:
        marks.set(first)
        if not store.found:
            store.found.append(first)
            return first

    @w.frameEnd
    def end(store: Object, number: int) -> None:
        pass

    @w.job
    def after(found: list[int]) -> int:
        wait("after", 0)
        return found.pop()

    @w.reduce(store=lambda: Object(found=[]), emit=lambda store: sorted(store.found))
    def keep(store: Object, works: list[int], others: list[Object]) -> None:
        wait("reduce", 0)
        store.found += works
        for other in others:
            store.found += other.found

    assert w.run() == [list(range(COUNT))]


# what is done ---------------------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_result_is_delivered_while_its_neighbour_runs(processes: bool, lanes: int, tmp_path: Path) -> None:
    gate, seen = Gate(tmp_path / "all others are here"), []
    last = COUNT - 1

    def job(number: int) -> int:
        if number == last:
            gate.wait()
        return number

    w = Work(range(COUNT), cpus=lanes, useMultiprocessing=processes)
    w.job(job)

    @w.result
    def show(number: int) -> None:
        seen.append(number)
        if len(seen) == last:
            gate.open()

    w.run()
    assert sorted(seen) == list(range(COUNT))


@KINDS
def test_a_function_of_c_is_divided_like_any_other(processes: bool) -> None:
    """How far a batch has come is seen by the line that it is at, where there is no frame of the function."""
    (far, near), nothing = os.pipe(), os.open(os.devnull, os.O_RDONLY)
    seen: list[bytes] = []
    items = [Args(nothing, 1)] * COUNT
    items[1234] = Args(far, 1)
    w = Work(items, cpus=1, useMultiprocessing=processes)
    w.job(os.read)

    @w.result
    def show(result: bytes) -> None:
        seen.append(result)
        if len(seen) == 1234:
            os.write(near, b"!")

    w.run()
    assert sorted(seen) == [b""] * (COUNT - 1) + [b"!"]
    for file in (far, near, nothing):
        os.close(file)


def test_a_stream_within_a_job_is_one_value_of_the_stream_around_it() -> None:
    waiting = waiting_at(Marks(COUNT), 700)

    def job(number: int) -> Any:
        if number != 700:
            return waiting(number)
        inner = Work(range(696, 701))
        inner.job(lambda each: waiting(each) if each == 700 else None)
        return Multiple(inner.run())

    w = Work(range(COUNT), cpus=2)
    w.job(job)
    assert sorted(w.run()) == list(range(COUNT))


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_frame_that_has_ended_is_delivered_while_the_next_one_runs(lanes: int, tmp_path: Path) -> None:
    gate, seen = Gate(tmp_path / "all others are here"), []
    last = 1000 - 1
    w = Work(range(1000), cpus=lanes)

    @w.frame(store=lambda: Object(changed=[]), emit=lambda store: store.changed[0])
    def begin(store: Object, first: int) -> Any:
        if not store.changed:
            store.changed.append(first)
            return Multiple([[first], [first]])

    @w.job
    def child(numbers: list[int]) -> None:
        if numbers.pop() == last:
            gate.wait()

    @w.frameEnd
    def end(store: Object, nothing: None) -> None:
        pass

    @w.result
    def show(number: int) -> None:
        seen.append(number)
        if len(seen) == last:
            gate.open()

    w.run()
    assert sorted(seen) == list(range(1000))


def test_what_was_repaid_before_its_neighbour_died_is_not_done_again(tmp_path: Path) -> None:
    calls, once = Tally(tmp_path / "calls"), Once(tmp_path)
    count, deadly = 400, 333
    marks = Marks(count)
    gate = Gate(tmp_path / "all others are here")
    seen: list[int] = []

    def job(number: int) -> int:
        calls.note(number)
        if number == deadly and once():
            gate.wait()
            die()
        marks.set(number)
        return number

    w = Work(range(count), cpus=2)
    w.job(job)

    @w.result
    def show(number: int) -> None:
        seen.append(number)
        if len(seen) == count - 1:
            gate.open()

    w.run()
    assert sorted(seen) == list(range(count))
    assert Counter(calls.numbers()) == Counter([*range(count), deadly])


def test_a_child_of_a_frame_that_has_left_its_worker_is_lent_again_when_that_dies(tmp_path: Path) -> None:
    once, marks = Once(tmp_path), Marks(300)
    w = Work([5], cpus=2)

    @w.frame(store=lambda: Object(found=[], done=False), emit=lambda store: sorted(store.found))
    def children(store: Object, first: int) -> Any:
        if not store.done:
            store.done = True
            return Multiple(range(300))

    @w.job
    def child(number: int) -> int:
        if number == 123 and once():
            marks.wait_for_others()
            die()
        marks.set(number)
        return number

    @w.frameEnd
    def end(store: Object, number: int) -> None:
        store.found.append(number)

    w.job(lambda found: found)
    assert w.run() == [list(range(300))]


def test_a_checkpoint_knows_what_is_done_beside_an_item_that_goes_on(tmp_path: Path) -> None:
    text = """
        w = Work(range(400), cpus=1, **keywords)
        @w.job
        def job(x):
            note("calls", x)
            hold(x == 333)
            return x
        seen = []
        @w.result
        def show(x):
            seen.append(x)
            if len(seen) == 333:
                Gate(here / "seen").open()
        w.run()
        print(len(seen) in (67, 400))
        """
    with Saved(tmp_path, text) as script:
        started = script.start()
        script.gate("seen").wait()
        saved_again(script.state)
        started.kill()
        script.go_on()
        right(script.run(), True)
        assert Counter(script.notes("calls")) == Counter(map(str, [*range(400), 333]))


# policies and keys ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1])
def test_an_item_that_waited_and_fails_is_tried_again_or_skipped(retries: int, tmp_path: Path) -> None:
    marks, once = Marks(COUNT), Once(tmp_path)
    w = Work(range(COUNT), cpus=2)

    @w.job(onError="skip", retries=retries)
    def job(number: int) -> int:
        if number == 700 and once():
            marks.wait_for_others()
            raise ValueError("once")
        marks.set(number)
        return number

    found = sorted(w.run())
    assert found == [number for number in range(COUNT) if retries or number != 700]
    assert [failure.item for failure in w.failures] == ([] if retries else [700])
    assert all("ValueError: once" in failure.reason for failure in w.failures)


@pytest.mark.parametrize("is_map", [True, False])
def test_keys_and_numbers_drawn_are_the_same_however_a_batch_is_divided(is_map: bool) -> None:
    def draw(number: int) -> tuple[int, float]:
        return number, float(rng().random())

    def draws(cpus: int, function: Callable[[int], Any]) -> list[Any]:
        if is_map:
            return job_stream.map(function, range(COUNT), cpus=cpus, seed=3)
        w = Work(range(COUNT), cpus=cpus, seed=3)
        w.job(function)
        w.job(lambda pair: (*pair, float(rng().random())))
        return sorted(w.run())

    waiting = waiting_at(Marks(COUNT), 700)
    assert draws(2, lambda number: draw(waiting(number))) == draws(1, draw)


def test_a_time_limit_ends_an_item_whose_neighbours_go_on() -> None:
    w = Work(range(40), cpus=2)

    @w.job(timeout=1.0, onError="skip")
    def job(number: int) -> int:
        if number == 5:
            wait_until(lambda: False, "the time limit")
        return number

    assert sorted(w.run()) == [number for number in range(40) if number != 5]
    assert [failure.item for failure in w.failures] == [5]


def test_values_with_arguments_are_divided(tmp_path: Path) -> None:
    waiting = waiting_at(Marks(COUNT), 700)
    w = Work([Args(number, scale=2) for number in range(COUNT)], cpus=2)
    w.job(lambda number, scale: scale * waiting(number))
    assert sorted(w.run()) == [2 * number for number in range(COUNT)]


def test_a_value_that_its_function_may_have_changed_is_never_lent_again_as_it_is(tmp_path: Path) -> None:
    """What comes of a stage before is with the worker alone; who takes over from a dead one must find it unchanged."""
    once, marks = Once(tmp_path), Marks(200)
    w = Work(range(200), cpus=2)
    w.job(lambda number: [number])

    @w.job
    def take(numbers: list[int]) -> int:
        number = numbers.pop()
        if number == 150 and once():
            wait_until(lambda: marks.missing <= 1 or once.happened("told"), "others")
            die()
        marks.set(number)
        if marks.missing <= 60:
            once("told")
        return number

    assert sorted(w.run()) == list(range(200))


# forks ----------------------------------------------------------------------------------------------------------------


FORKING = """
import os, threading
threads = []
os.register_at_fork(before=lambda: threads.append(threading.active_count()))  # the first to register is called last

import sys
sys.path[:0] = TESTS
from test_division import COUNT, Marks, waiting_at
from job_stream import Work

waiting = waiting_at(Marks(COUNT), 700)
w = Work(range(COUNT), cpus=2)

@w.job
def job(number):
    if number != 700:
        return waiting(number)
    before = threading.active_count()
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    waiting(number)
    return -before, threads[-1]

print([result for result in w.run() if type(result) is tuple])
"""


def test_a_job_that_forks_is_a_process_with_one_thread_then_and_is_divided_later(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text(FORKING.replace("TESTS", repr([str(folder) for folder in Path(__file__).parents[:2]])))
    ended = Script(path, []).ended()
    assert (ended.code, ended.out) == (0, "[(-2, 1)]\n"), ended.err


# ranks ----------------------------------------------------------------------------------------------------------------
ON_RANKS = """
import sys
from pathlib import Path
sys.path[:0] = TESTS
import job_stream
from job_stream import Multiple, Object, Work, getRank
from support import Tally, wait_until

COUNT = 2000
kind, place = sys.argv[1], int(sys.argv[2])
done = Tally(Path("done"))

def work(number):
    if number == place:
        wait_until(lambda: done.path.exists() and done.path.read_bytes().count(b"\\n") >= COUNT - 1, "all the others")
    done.note(number)
    return number

def of_jobs():
    w = Work(range(COUNT))
    w.job(work)
    return w.run()

def of_children():
    w = Work([0])
    @w.frame(store=lambda: Object(found=[], done=False), emit=lambda store: Multiple(store.found))
    def children(store, first):
        if not store.done:
            store.done = True
            return Multiple(range(COUNT))
    w.job(work)
    @w.frameEnd
    def end(store, number):
        store.found.append(number)
    return w.run()

found = {"jobs": of_jobs, "map": lambda: job_stream.map(work, range(COUNT)), "children": of_children}[kind]()
if getRank() == 0:
    print(sorted(found) == list(range(COUNT)))
"""


@pytest.mark.skipif(find_mpirun() is None, reason="there is no mpirun")
@pytest.mark.parametrize("place", [700, 1999])
@pytest.mark.parametrize("kind", ["jobs", "map", "children"])
def test_on_two_ranks_one_item_may_wait_for_all_others(tmp_path: Path, kind: str, place: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(ON_RANKS.replace("TESTS", repr([str(folder) for folder in Path(__file__).parents[:2]])))
    ended = mpirun(script, 2, kind, place, env={"JOBS_CPUS": "1"}, deadline_s=2 * DEADLINE_S)
    assert (ended.code, ended.out) == (0, "True\n"), ended.err
