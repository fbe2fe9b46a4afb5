"""Faults: processes that die, stop or hang, and items that kill. No result is lost or repeated."""

import ctypes
import faulthandler
import os
import signal
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    FrameModel,
    JobModel,
    Once,
    ReduceModel,
    SlowModel,
    die,
    gather,
    is_alive,
    is_stopped,
    record,
    reduce_to_sum,
    serially,
    wait_until,
    whole_text,
)

import job_stream
from job_stream import Multiple, Object, Work
from job_stream.errors import LaneDied, StageError
from job_stream.workers import nursery


def crash():
    faulthandler.disable()
    ctypes.string_at(0)


DEATHS = {"SIGKILL": die, "SIGSEGV": crash, "exit code 0": lambda: os._exit(0)}
every_death = pytest.mark.parametrize("death", DEATHS)


class Wrong(Exception):
    pass


# --- a process dies -----------------------------------------------------------------------------------------------
@every_death
@pytest.mark.parametrize("item", [0, 150, 299])
def test_the_work_of_a_process_that_died_is_done_again(death, item, once):
    w = Work(range(300), cpus=2)

    @w.job
    def die_once(work):
        if work == item and once():
            DEATHS[death]()
        return work

    assert sorted(w.run()) == list(range(300))
    assert once.happened()


def test_several_processes_may_die_one_after_the_other(once):
    w = Work(range(500), cpus=2)

    @w.job
    def die_sometimes(work):
        if work % 60 == 30 and once(work):
            die()
        return Multiple([work, -work])

    assert sorted(w.run()) == sorted([*range(500), *range(0, -500, -1)])
    assert sum(once.happened(work) for work in range(500)) == 8


def test_all_processes_may_die_at_once(once, tally):
    w = Work(range(100), cpus=3)

    @w.job
    def die_together(work):
        if work < 3 and once(work):
            tally.note(work)
            wait_until(lambda: len(tally) >= 2, "another to come")
            die()
        return work

    assert sorted(w.run()) == list(range(100))


def test_the_only_process_may_die(once):
    w = Work(range(100), cpus=1)

    @w.job
    def die_once(work):
        if work == 50 and once():
            die()
        return work

    assert sorted(w.run()) == list(range(100))


def test_a_process_that_dies_idle_is_no_loss(gate):
    """One process does the only item, and kills the other that has nothing to do; then there is work for both."""
    w = Work(["wait", "quick"], cpus=2)

    @w.job
    def first(work):
        if work == "wait":
            gate.wait()
            return Multiple(range(100))
        return os.getpid()

    w.job(lambda work: work)

    @w.result
    def kill_idle(result):
        results.append(result)
        if not gate.is_open:
            os.kill(result, signal.SIGKILL)
            wait_until(lambda: not is_alive(result), "the process to die")
            gate.open()

    results = []
    w.run()
    assert sorted(results[1:]) == list(range(100))


def test_a_process_that_dies_is_replaced(once, tally):
    w = Work(range(40), cpus=1)

    @w.job
    def die_once(work):
        if work == 20 and once():
            tally.note(os.getpid())
            die()
        return os.getpid()

    assert set(w.run()) - set(tally.numbers())


class DiesWhenPickled:
    """An output whose process dies after the work is done and before it can be handed over."""

    def __init__(self, folder, value):
        self.folder, self.value = folder, value

    def __reduce__(self):
        if Once(self.folder)(self.value):
            die()
        return int, (self.value,)


def test_a_process_that_dies_after_its_work_and_before_handing_it_over(tmp_path, once):
    w = Work(range(100), cpus=2)
    w.job(lambda work: DiesWhenPickled(tmp_path, work) if work in (0, 50, 99) else work)
    w.job(lambda work: work)
    w.reduce(gather, store=list, emit=Multiple)
    w.job(lambda work: DiesWhenPickled(tmp_path, work.value if isinstance(work, DiesWhenPickled) else work))
    assert sorted(w.run()) == list(range(100))
    assert once.happened(50)


@pytest.mark.parametrize("where", ["store", "frame", "frame again", "job", "frameEnd", "emit"])
@pytest.mark.parametrize("slow_s", [0, 0.003])
def test_a_process_may_die_anywhere_in_a_frame(where, slow_s, once):
    w = Work([3, 20, 40], cpus=2)

    def at(place):
        if place == where and once():
            die()

    def emit(store):
        at("emit")
        return store.first, store.rounds, store.total

    @w.frame(store=lambda: at("store") or Object(rounds=0, total=0), emit=emit)
    def loop(store, first):
        at("frame")
        store.first = first
        store.rounds += 1
        if store.rounds == 2:
            at("frame again")
        if store.rounds <= 2:
            return Multiple(range(first))

    @w.job
    def inside(number):
        time.sleep(slow_s)
        if number == 19:
            at("job")
        return number

    @w.frameEnd
    def add(store, number):
        if number == 19:
            at("frameEnd")
        store.total += number

    assert sorted(w.run()) == [(n, 3, n * (n - 1)) for n in (3, 20, 40)]
    assert once.happened()


@pytest.mark.parametrize("where", ["store", "works", "others", "emit", "recurred"])
@pytest.mark.parametrize("slow_s", [0, 0.003])
def test_a_process_may_die_anywhere_in_a_reduction(where, slow_s, once):
    w = Work(range(100), cpus=2)

    def at(place):
        if place == where and once():
            die()

    @w.job
    def inside(number):
        time.sleep(slow_s)
        return number

    @w.reduce(store=lambda: at("store") or [], emit=lambda store: at("emit") or sorted(store))
    def fold(store, works, others):
        if others:
            at("others")
        if 50 in works:
            at("works")
        if 1050 in works:
            at("recurred")
        gather(store, works, others)
        return Multiple(work + 1000 for work in works if work < 100)

    assert w.run() == [[*range(100), *range(1000, 1100)]]
    assert once.happened() or where == "others"


def test_the_keeper_of_the_stores_may_die_more_than_once_in_a_wide_frame(once):
    w = Work([150], cpus=2)

    @w.frame(store=lambda: Object(came=None), emit=lambda store: sorted(store.came))
    def loop(store, first):
        if store.came is None:
            store.came = []
            return Multiple(range(first))

    @w.job
    def slow(number):
        time.sleep(0.002)
        return number

    @w.frameEnd
    def keep(store, number):
        if number in (40, 90, 140) and once(number):
            die()
        store.came.append(number)

    assert w.run() == [list(range(150))]
    assert all(map(once.happened, (40, 90, 140)))


def test_a_process_may_die_in_a_reduction_inside_a_frame(once):
    w = Work([30, 60], cpus=2)

    @w.frame(store=lambda: Object(came=[]), emit=lambda store: store.came)
    def loop(store, first):
        if len(store.came) < 2:
            return Multiple(range(first))

    @w.job
    def slow(number):
        time.sleep(0.002)
        return number

    @w.reduce(store=lambda: Object(total=0), emit=lambda store: store.total)
    def fold(store, works, others):
        if 25 in works and once("fold"):
            die()
        store.total += sum(works) + sum(other.total for other in others)

    @w.frameEnd
    def keep(store, total):
        if once("end"):
            die()
        store.came.append(total)

    assert sorted(w.run()) == [[435, 435], [1770, 1770]]
    assert once.happened("fold")
    assert once.happened("end")


def test_a_process_may_die_in_a_multiple(once):
    w = Work([200, 300], cpus=2)

    @w.job
    def spread(work):
        def elements():
            for number in range(work):
                if number == 150 and once(work):
                    die()
                yield number

        return Multiple(elements())

    w.job(lambda number: number + 1)
    assert sorted(w.run()) == sorted([*range(1, 201), *range(1, 301)])


def test_results_delivered_before_a_death_are_not_delivered_again(once):
    results = []
    w = Work(range(400), cpus=2)

    @w.job
    def die_late(work):
        if work == 390 and once():
            die()
        return work

    w.result(results.append)
    w.run()
    assert sorted(results) == list(range(400))


@pytest.mark.parametrize("seed", [None, 1])
@pytest.mark.parametrize("make", [range, lambda count: list(range(count)), lambda count: iter(range(count))],
                         ids=["range", "list", "iterator"])  # fmt: skip
def test_a_process_may_die_in_map_with_many_items_in_hand(once, make, seed):
    def die_once(work):
        if work == 2777 and once():
            die()
        return work * 2

    assert job_stream.map(die_once, make(3000), cpus=2, seed=seed) == list(range(0, 6000, 2))


def test_a_process_may_die_with_large_items_in_hand(once):
    w = Work([bytes([i]) * 300_000 for i in range(20)], cpus=2)

    @w.job
    def die_once(work):
        if work[0] == 10 and once():
            die()
        return work + work

    assert sorted(w.run()) == [bytes([i]) * 600_000 for i in range(20)]


class DeadlyModel(NamedTuple):
    """A stage that lets everything through, and kills the process of some items when they come for the first time."""

    values: frozenset

    def outputs(self, item):
        return [item]

    def record(self, w):
        @w.job
        def deadly(item):
            if item[0] in self.values and Once(Path(os.environ["DEATHS"]))(f"{id(self)}-{item[0]}"):
                die()
            return item


STAGES = st.one_of(
    st.builds(JobModel, drop=st.sampled_from([0, 3]), fan=st.integers(1, 2), salt=st.integers(0, 96)),
    st.builds(ReduceModel, salt=st.integers(0, 96)),
    st.builds(SlowModel, every=st.integers(2, 4)),
    st.builds(DeadlyModel, values=st.integers(2, 9).map(lambda step: frozenset(range(0, 97, step)))),
)
FRAMES = st.builds(
    FrameModel,
    rounds=st.integers(1, 2),
    width=st.integers(1, 3),
    salt=st.integers(0, 96),
    stages=st.lists(STAGES, max_size=3).map(tuple),
)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    st.lists(STAGES | FRAMES, max_size=3),
    st.lists(st.tuples(st.integers(0, 96), st.just(1)), max_size=40),
    st.sampled_from([None, 1]),
)
def test_any_stream_with_deaths_gives_what_it_gives_serially(tmp_path_factory, plan, source, seed):
    w = Work(source, cpus=2, seed=seed)
    record(w, plan)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEATHS", str(tmp_path_factory.mktemp("deaths")))
        assert sorted(w.run()) == sorted(serially(plan, source))


# --- an item that kills -------------------------------------------------------------------------------------------
@every_death
def test_an_item_that_always_kills_its_process_ends_the_run(death):
    w = Work([1, 2, 3], cpus=2)

    @w.job
    def deadly(work):
        if work == 2:
            DEATHS[death]()
        return work

    with pytest.raises(LaneDied, match=death) as raised:
        w.run()
    assert (raised.value.stage, raised.value.item) == ("deadly", "2")
    assert "While processing work with target: deadly" in str(raised.value)


@pytest.mark.parametrize("poison", [{0}, {20}, {39}, {0, 39}, {19, 20}, {5, 30}], ids=str)
@pytest.mark.parametrize("cpus", [1, 2])
def test_items_that_kill_are_skipped_and_all_others_arrive_once(poison, cpus):
    w = Work(range(40), cpus=cpus, onError="skip")

    @w.job
    def deadly(work):
        if work in poison:
            die()
        return work

    assert sorted(w.run()) == sorted(set(range(40)) - poison)
    assert sorted(failure.item for failure in w.failures) == sorted(poison)
    assert {failure.stage for failure in w.failures} == {"deadly"}
    assert all("SIGKILL" in failure.reason for failure in w.failures)


def test_an_item_that_kills_is_tried_three_times(tally):
    w = Work([0], cpus=1, onError="skip")

    @w.job
    def deadly(work):
        tally.note("tried")
        die()

    assert w.run() == []
    assert w.failures[0].attempts == len(tally) == 3


def test_an_item_that_kills_among_many_is_the_only_one_to_fail():
    w = Work(range(2000), cpus=2, onError="skip")

    @w.job
    def deadly(work):
        if work == 1234:
            os._exit(0)
        return work

    assert sorted(w.run()) == [work for work in range(2000) if work != 1234]
    assert [failure.item for failure in w.failures] == [1234]


def test_an_item_that_kills_at_a_later_stage_is_named_with_that_stage():
    w = Work(range(30), cpus=2, onError="skip")
    w.job(lambda work: work + 100)

    @w.job
    def deadly(work):
        if work == 117:
            die()
        return work

    assert sorted(w.run()) == [work for work in range(100, 130) if work != 117]
    assert [failure.stage for failure in w.failures] == ["deadly"]
    assert w.failures[0].item in (17, 117)


class AlwaysDiesWhenPickled:
    def __reduce__(self):
        die()


def test_an_output_that_always_kills_the_process_that_hands_it_over_ends_the_run():
    w = Work([1, 2, 3], cpus=2)

    @w.job
    def deadly(work):
        return AlwaysDiesWhenPickled() if work == 2 else work

    with pytest.raises(LaneDied, match="SIGKILL"):
        w.run()


def test_an_output_that_always_kills_the_process_that_hands_it_over_is_skipped():
    w = Work(range(30), cpus=2, onError="skip")

    @w.job
    def deadly(work):
        return AlwaysDiesWhenPickled() if work == 20 else work

    assert sorted(w.run()) == [work for work in range(30) if work != 20]
    assert [failure.item for failure in w.failures] == [20]


@pytest.mark.parametrize("part", ["store", "emit"])
def test_a_reduction_that_always_kills_its_process_ends_the_run(part):
    w = Work(range(30), cpus=2)
    parts = {part: lambda *_: die()}
    w.reduce(gather, **{"store": list, **parts})
    with pytest.raises(LaneDied, match="SIGKILL"):
        w.run()


def test_a_store_that_always_kills_the_process_that_hands_it_over_ends_the_run():
    w = Work(range(30), cpus=2)
    w.reduce(lambda store, works, others: store.append(AlwaysDiesWhenPickled()), store=list)
    with pytest.raises(LaneDied, match="SIGKILL"):
        w.run()


@pytest.mark.parametrize("part", ["store", "emit", "frame", "frameEnd"])
def test_a_frame_that_always_kills_its_process_ends_the_run(part):
    def at(place):
        if place == part:
            die()

    w = Work([1], cpus=2)

    @w.frame(store=lambda: at("store") or Object(begun=False), emit=lambda store: at("emit"))
    def loop(store, first):
        at("frame")
        if not store.begun:
            store.begun = True
            return first

    @w.frameEnd
    def end(store, item):
        at("frameEnd")

    with pytest.raises(LaneDied, match="SIGKILL"):
        w.run()


@pytest.mark.parametrize("elements", [list, iter], ids=["list", "generator"])
def test_a_process_may_die_in_a_frame_that_has_recurred_a_long_multiple(elements, once):
    w = Work([0], cpus=2)

    @w.frame(store=lambda: Object(found=[], begun=False), emit=lambda store: sorted(store.found))
    def many(store, first):
        if not store.begun:
            store.begun = True
            return Multiple(elements(range(300)))

    @w.job
    def deadly(work):
        if work == 5 and once():
            die()
        return work

    @w.frameEnd
    def keep(store, work):
        store.found.append(work)

    w.job(lambda found: found)
    assert w.run() == [list(range(300))]


def test_an_item_that_kills_in_a_frame_does_not_take_other_frames_along():
    w = Work(range(10), cpus=2, onError="skip")

    @w.frame(store=lambda: Object(came=None), emit=lambda store: store.came)
    def loop(store, first):
        if store.came is None:
            store.came = first
            return first

    @w.job
    def deadly(work):
        if work == 6:
            die()
        return work

    w.frameEnd(lambda store, item: None)
    assert sorted(set(range(10)) - set(w.run())) in ([], [6])
    assert [failure.item for failure in w.failures] == [6]


def test_what_an_item_that_kills_gave_before_does_not_count():
    w = Work(range(10), cpus=2, onError="skip")

    @w.job
    def deadly(work):
        def elements():
            yield work
            if work == 5:
                die()

        return Multiple(elements())

    assert sorted(w.run()) == [work for work in range(10) if work != 5]
    assert [failure.item for failure in w.failures] == [5]


def test_skipped_deaths_do_not_disturb_a_reduction():
    w = Work(range(100), cpus=2, onError="skip")

    @w.job
    def deadly(work):
        if work in (10, 60):
            die()
        return work

    reduce_to_sum(w)
    assert w.run() == [sum(range(100)) - 70]


POISON_SCRIPT = """
    import os, signal, sys
    from job_stream import Work
    from job_stream.errors import JobStreamError

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    class Poison:
        def __reduce__(self):
            return die, ()

    made_by, onError = sys.argv[1:]
    if made_by == 'source':
        w = Work(iter([1, 2, Poison(), 3, 4]), cpus=2, onError=onError)
    else:
        w = Work([1, 2, 0, 3, 4], cpus=2, onError=onError)

        @w.job
        def make(work):
            return work or Poison()

        if made_by == 'job before a reduce':
            @w.reduce(store=list, emit=lambda store: sorted(x for x in store if type(x) is int))
            def fold(store, works, others):
                store.extend(works)
                for other in others:
                    store.extend(other)

    @w.job
    def take(work):
        return work if type(work) in (int, list) else None

    try:
        print('results', sorted(w.run(), key=str))
    except JobStreamError as error:
        print('raised', type(error).__name__)
    print('failures', len(w.failures), [failure.stage for failure in w.failures])
"""


@pytest.mark.parametrize("onError", ["raise", "skip"])
def test_an_item_of_the_source_that_kills_when_it_is_unpickled(start, onError):
    ended = start(POISON_SCRIPT, "source", onError).ended()
    assert ended.code == 0, ended.err
    if onError == "raise":
        assert "raised LaneDied" in ended.out
    else:
        assert "results [1, 2, 3, 4]" in ended.out
        assert "failures 1" in ended.out


@pytest.mark.parametrize("onError", ["raise", "skip"])
def test_an_output_that_kills_when_it_is_unpickled_does_not_kill_the_script(start, onError):
    ended = start(POISON_SCRIPT, "job before a reduce", onError).ended()
    assert ended.code == 0, ended.err
    assert "raised" in ended.out or (onError == "skip" and "results [[1, 2, 3, 4]]" in ended.out)


# --- a process stops ----------------------------------------------------------------------------------------------
def stopped(tally):
    """The process that has noted itself, as soon as it has stopped."""
    return wait_until(lambda: next(filter(is_stopped, tally.numbers()), None), "a process to stop")


@pytest.mark.parametrize("ending", [signal.SIGCONT, signal.SIGKILL])
def test_others_do_the_work_of_a_process_that_has_stopped(once, tally, ending):
    results = []
    w = Work(range(200), cpus=2)

    @w.job
    def stop_once(work):
        if work == 0 and once():
            tally.note(os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
        return work

    @w.result
    def end_it_at_last(result):
        results.append(result)
        if len(results) == 150:
            os.kill(stopped(tally), ending)

    w.run()
    assert sorted(results) == list(range(200))
    assert once.happened()


def test_a_run_that_fails_ends_a_process_that_has_stopped(tally):
    w = Work(range(50), cpus=2)

    @w.job
    def stop_or_fail(work):
        if work == 0:
            tally.note(os.getpid())
            os.kill(os.getpid(), signal.SIGSTOP)
        stopped(tally)
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert not is_alive(tally.numbers()[0])


# --- slow items and handlers --------------------------------------------------------------------------------------
def test_a_long_first_item_holds_up_no_other(gate):
    results = []
    w = Work(range(1000), cpus=2)

    @w.job
    def long_first(work):
        if work == 0:
            gate.wait()
        return work

    @w.result
    def count(result):
        results.append(result)
        if len(results) == 999:
            gate.open()

    w.run()
    assert results[-1] == 0
    assert sorted(results) == list(range(1000))


@pytest.mark.parametrize("item", [250, 500])
def test_a_long_item_holds_up_few_others(item, gate):
    results = []
    w = Work(range(1000), cpus=2)

    @w.job
    def long_once(work):
        if work == item:
            gate.wait()
        return work

    @w.result
    def count(result):
        results.append(result)
        if len(results) == 600:
            gate.open()

    w.run()
    assert sorted(results) == list(range(1000))


def test_two_long_items_side_by_side_are_done_at_the_same_time(tally):
    w = Work(range(400), cpus=2)

    @w.job
    def meet(work):
        if work in (100, 300):
            tally.note(work)
            wait_until(lambda: len(tally) == 2, "the other long item")
        return work

    assert sorted(w.run()) == list(range(400))


def test_a_slow_handler_does_not_stall_the_jobs(tally):
    results = []
    w = Work(range(100), cpus=2)

    @w.job
    def note(work):
        tally.note(work)
        return work

    @w.result
    def slow(result):
        if not results:
            wait_until(lambda: len(tally) == 100, "all jobs")
        results.append(result)

    w.run()
    assert sorted(results) == list(range(100))


@pytest.mark.parametrize("count", [1, 100])
def test_a_handler_that_raises_ends_the_run(count):
    results = []
    w = Work(range(100_000), cpus=2)
    w.job(lambda work: work)

    @w.result
    def handle(result):
        results.append(result)
        if len(results) == count:
            raise Wrong("handled")

    with pytest.raises(Wrong, match="handled") as raised:
        w.run()
    assert len(results) == count
    assert isinstance(raised.value.__cause__, StageError)
    assert "handle" in whole_text(raised.value)


def test_an_error_ends_a_run_whose_other_process_is_busy_for_long(gate, tally):
    w = Work([0, 1], cpus=2)

    @w.job
    def hang_or_fail(work):
        if work == 0:
            tally.note(os.getpid())
            gate.wait()
        wait_until(tally.lines, "the other to hang")
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert not gate.is_open
    assert not is_alive(tally.numbers()[0])


def test_an_error_ends_a_run_whose_source_waits(gate, tally):
    def source():
        yield 1
        tally.note("waiting")
        gate.wait()

    w = Work(source(), cpus=2)

    @w.job
    def fail(work):
        wait_until(tally.lines, "the source to wait")
        raise Wrong

    @w.init
    def first():
        return 0

    try:
        with pytest.raises(Wrong):
            w.run()
        assert not gate.is_open
    finally:
        gate.open()


def test_a_handler_that_raises_ends_a_run_whose_source_waits(gate, tally):
    def source():
        yield 1
        tally.note("waiting")
        gate.wait()

    w = Work(source(), cpus=2)
    w.init(lambda: 0)

    @w.result
    def fail(result):
        wait_until(tally.lines, "the source to wait")
        raise Wrong

    try:
        with pytest.raises(Wrong):
            w.run()
        assert not gate.is_open
    finally:
        gate.open()


def test_an_error_ends_a_run_whose_other_process_ignores_signals(tally):
    w = Work([0, 1], cpus=2)

    @w.job
    def ignore_or_fail(work):
        if work == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            tally.note(os.getpid())
            while True:
                signal.pause()
        wait_until(tally.lines, "the other")
        raise Wrong

    with pytest.raises(Wrong):
        w.run()
    assert not is_alive(tally.numbers()[0])


def test_a_run_ends_though_a_job_has_started_a_thread(monkeypatch):
    """A thread that a job left behind is the job's own; its process waits for it, but not for ever."""
    monkeypatch.setattr(nursery, "LEAVE_S", 0.1)
    w = Work(range(4), cpus=2)

    @w.job
    def leave_a_thread(work):
        threading.Thread(target=time.sleep, args=(3600,)).start()
        return work

    assert sorted(w.run()) == list(range(4))


def test_a_generator_that_raises_after_a_death_is_an_error_of_its_stage(once):
    w = Work([1])

    @w.job
    def die_once_then_raise(work):
        if once():
            die()
        return Multiple(1 // (2 - number) for number in range(work, 5))

    with pytest.raises(ZeroDivisionError) as raised:
        w.run()
    assert raised.value.__cause__.stage == "die_once_then_raise"
