"""useMultiprocessing=False: everything in the script's own process, and values that need not travel."""

import os
import threading

import pytest
from support import DEADLINE_S, descendants, gather, reduce_to_sum, wait_until

import job_stream
from job_stream import Args, Multiple, Object, Work
from job_stream.errors import StageError


class Wrong(Exception):
    pass


def threads(source=(), **keywords):
    return Work(source, useMultiprocessing=False, **keywords)


def test_jobs_run_in_the_scripts_process():
    w = threads(range(50))
    w.job(lambda work: os.getpid())
    assert set(w.run()) == {os.getpid()}


def test_no_process_is_started_when_all_stages_run_in_threads():
    before = descendants()
    w = threads(range(10))
    w.job(lambda work: descendants() - before)
    assert w.run() == [set()] * 10


def test_every_kind_of_stage_runs_in_the_scripts_process():
    pids = set()

    def note():
        pids.add(os.getpid())

    w = threads([1])

    @w.frame(store=lambda: note() or Object(begun=False), emit=lambda store: note() or 1)
    def begin(store, first):
        note()
        if not store.begun:
            store.begun = True
            return first

    w.frameEnd(lambda store, item: note())

    @w.reduce(store=lambda: note() or Object(), emit=lambda store: note() or 1)
    def fold(store, works, others):
        note()

    w.run()
    assert pids == {os.getpid()}


def test_jobs_can_change_what_belongs_to_the_script():
    seen = []
    w = threads(range(20))
    w.job(seen.append)
    w.run()
    assert sorted(seen) == list(range(20))


def test_as_many_threads_as_asked_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=30)
    w = threads(range(3), cpus=3)
    w.job(lambda work: meeting.wait() >= 0)
    assert w.run() == [True] * 3


def test_items_need_not_travel():
    w = threads([threading.Lock() for _ in range(3)])

    @w.job
    def use(lock):
        with lock:
            return "used"

    assert w.run() == ["used"] * 3


def test_items_are_the_scripts_own_objects():
    lock = threading.Lock()
    w = threads([lock])
    w.job(lambda work: [work])
    assert w.run()[0][0] is lock


def test_results_need_not_travel():
    w = threads([1, 2])
    w.job(lambda work: (i for i in range(work)))
    assert sorted(list(found) for found in w.run()) == [[0], [0, 1]]


def test_values_between_stages_need_not_travel():
    w = threads([2])
    w.job(lambda work: Multiple([Args(threading.Lock(), count=i) for i in range(work)]))

    @w.job
    def use(lock, count):
        with lock:
            return count

    assert sorted(w.run()) == [0, 1]


def test_stores_need_not_travel():
    w = threads(range(20), cpus=2)

    @w.reduce(store=lambda: Object(lock=threading.Lock(), total=0), emit=lambda store: store.total)
    def fold(store, works, others):
        with store.lock:
            store.total += sum(works) + sum(other.total for other in others)

    assert w.run() == [190]


def test_the_store_of_a_frame_need_not_travel():
    w = threads([3, 4])

    @w.frame(store=lambda: Object(lock=threading.Lock(), total=None))
    def begin(store, first):
        if store.total is None:
            store.total = 0
            return Multiple(range(first))

    @w.frameEnd
    def add(store, number):
        with store.lock:
            store.total += number

    assert sorted(store.total for store in w.run()) == [3, 6]


def test_what_is_in_a_frame_is_not_copied():
    made = []
    w = threads([1])

    @w.frame(store=list)
    def begin(store, first):
        if not store:
            made.append(object())
            store.append(made[0])
            return made[0]

    @w.frameEnd
    def keep(store, item):
        store.append(item)

    assert all(element is made[0] for element in w.run()[0])


def test_a_map_in_threads():
    locks = [threading.Lock() for _ in range(5)]
    assert all(a is b for a, b in zip(job_stream.map(lambda x: x, locks, useMultiprocessing=False), locks, strict=True))


def test_one_job_in_threads_among_jobs_in_processes():
    w = Work(range(20), cpus=2)
    w.job(lambda work: (work, os.getpid()))
    w.job(lambda pair: (*pair, os.getpid()), useMultiprocessing=False)
    w.job(lambda triple: (*triple, os.getpid()))
    found = w.run()
    assert sorted(row[0] for row in found) == list(range(20))
    assert {row[2] for row in found} == {os.getpid()}
    assert os.getpid() not in {row[1] for row in found} | {row[3] for row in found}


def test_one_job_in_processes_among_jobs_in_threads():
    w = threads(range(20), cpus=2)
    w.job(lambda work: (work, os.getpid()))
    w.job(lambda pair: (*pair, os.getpid()), useMultiprocessing=True)
    w.job(lambda triple: (*triple, os.getpid()))
    found = w.run()
    assert sorted(row[0] for row in found) == list(range(20))
    assert {row[1] for row in found} == {row[3] for row in found} == {os.getpid()}
    assert os.getpid() not in {row[2] for row in found}


def test_a_reduce_in_threads_after_jobs_in_processes():
    pids = set()
    w = Work(range(100), cpus=2)
    w.job(lambda work: (work, os.getpid()))

    @w.reduce(store=list, useMultiprocessing=False)
    def fold(store, works, others):
        pids.add(os.getpid())
        gather(store, works, others)

    (store,) = w.run()
    assert sorted(number for number, _ in store) == list(range(100))
    assert os.getpid() not in {pid for _, pid in store}
    assert pids == {os.getpid()}


def test_a_reduce_in_processes_after_jobs_in_threads():
    w = Work(range(100), cpus=2)
    w.job(lambda work: work + 1, useMultiprocessing=False)
    reduce_to_sum(w)
    assert w.run() == [5050]


@pytest.mark.parametrize("asked", ["frame", "frameEnd", "both"])
def test_a_frame_and_its_end_run_in_threads_when_one_of_them_asks_for_it(asked):
    pids = set()
    w = Work([3, 4], cpus=2)
    frame = {"useMultiprocessing": False} if asked != "frameEnd" else {}
    end = {"useMultiprocessing": False} if asked != "frame" else {}

    @w.frame(store=lambda: Object(came=None), emit=lambda store: sorted(store.came), **frame)
    def begin(store, first):
        pids.add(os.getpid())
        if store.came is None:
            store.came = []
            return Multiple(range(first))

    w.job(lambda number: (number, os.getpid()))

    @w.frameEnd(**end)
    def keep(store, pair):
        pids.add(os.getpid())
        store.came.append(pair)

    found = sorted(w.run(), key=len)
    assert [[number for number, _ in came] for came in found] == [[0, 1, 2], [0, 1, 2, 3]]
    assert os.getpid() not in {pid for came in found for _, pid in came}
    assert pids == {os.getpid()}


def test_a_frame_in_processes_around_jobs_in_threads():
    w = Work([3, 4], cpus=2)

    @w.frame(store=lambda: Object(came=None), emit=lambda store: sorted(store.came))
    def begin(store, first):
        if store.came is None:
            store.came = []
            return Multiple(range(first))

    w.job(lambda number: (number, os.getpid()), useMultiprocessing=False)
    w.frameEnd(lambda store, pair: store.came.append(pair))
    found = sorted(w.run(), key=len)
    assert [[number for number, _ in came] for came in found] == [[0, 1, 2], [0, 1, 2, 3]]
    assert {pid for came in found for _, pid in came} == {os.getpid()}


def test_an_error_in_a_thread_is_the_users_own():
    w = threads(range(20))

    @w.job
    def fail(work):
        if work == 13:
            raise Wrong("thirteen")

    with pytest.raises(Wrong, match="thirteen") as raised:
        w.run()
    cause = raised.value.__cause__
    assert isinstance(cause, StageError)
    assert (cause.stage, cause.pid) == ("fail", os.getpid())


def test_an_error_ends_a_run_whose_other_thread_is_busy_for_long(gate, tally):
    w = threads([0, 1], cpus=2)

    @w.job
    def hang_or_fail(work):
        if work == 0:
            tally.note("hangs")
            gate.wait()
        else:
            wait_until(tally.lines, "the other to hang")
            raise Wrong

    try:
        with pytest.raises(Wrong):
            w.run()
        assert not gate.is_open
    finally:
        gate.open()


@pytest.mark.parametrize("part", ["source", "result", "frame", "reduce"])
def test_an_error_anywhere_else_in_threads_is_the_users_own(part):
    def fail(*_):
        raise Wrong(part)

    w = threads(fail() if part == "source" else i for i in range(3))
    if part == "frame":
        w.frame(lambda store, first: fail())
        w.frameEnd(lambda store, item: None)
    elif part == "reduce":
        w.reduce(lambda store, works, others: fail())
    elif part == "result":
        w.result(lambda result: fail())
    with pytest.raises(Wrong, match=part) as raised:
        w.run()
    assert isinstance(raised.value.__cause__, StageError)


def test_a_failed_call_in_a_thread_is_made_again(once):
    w = threads(range(10), retries=1)

    @w.job
    def fail_once(work):
        if work == 5 and once():
            raise Wrong
        return work

    assert sorted(w.run()) == list(range(10))


def test_failed_items_in_threads_are_skipped():
    w = threads(range(10), onError="skip")

    @w.job
    def fail(work):
        if work % 3 == 0:
            raise Wrong
        return work

    assert sorted(w.run()) == [1, 2, 4, 5, 7, 8]
    assert sorted(failure.item for failure in w.failures) == [0, 3, 6, 9]


def test_a_work_inside_a_job_in_threads():
    w = threads([2, 3], cpus=2)

    @w.job
    def outer(work):
        inner = Work(range(work))
        inner.job(lambda number: (number, os.getpid(), threading.get_ident()))
        return threading.get_ident(), inner.run()

    for thread, rows in w.run():
        assert {row[1:] for row in rows} == {(os.getpid(), thread)}


def test_no_thread_is_left_after_a_run():
    before = set(threading.enumerate())
    w = threads(range(50), cpus=3)
    reduce_to_sum(w)
    w.run()
    assert set(threading.enumerate()) == before


def test_results_of_jobs_in_threads_are_handled_in_the_main_thread():
    places = set()
    w = threads(range(20), cpus=2)
    w.job(lambda work: work)
    w.result(lambda result: places.add(threading.current_thread()))
    w.run()
    assert places == {threading.main_thread()}


def test_all_threads_together_have_one_time_to_end(monkeypatch):
    """One after the other, 40 that are busy would take 40 times as long."""
    release, together, waits = threading.Event(), threading.Barrier(40), []
    w = Work(range(40), useMultiprocessing=False, cpus=40)

    @w.job
    def fail_or_wait(number):
        together.wait(DEADLINE_S)
        if number == 0:
            raise Wrong
        release.wait(DEADLINE_S)

    def join(self, timeout=None, join=threading.Thread.join):
        if self.name.startswith("job_stream-lane"):
            waits.append(timeout)
        join(self, timeout)

    monkeypatch.setattr(threading.Thread, "join", join)
    with pytest.raises(Wrong):
        w.run()
    release.set()
    assert len(waits) == 40
    assert sorted(waits, reverse=True) == waits
    assert waits[-1] == 0
