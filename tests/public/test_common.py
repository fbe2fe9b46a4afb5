"""Stages as classes."""

import os
import threading

import pytest
from common_support import Sum
from support import DEADLINE_S

from job_stream import Multiple, Work, common
from job_stream.errors import PlanError


class Double(common.Job):
    def handleWork(self, work):
        self.emit(2 * work)


class SumTo(common.Frame):
    def handleFirst(self, store, work):
        store.total = 0
        for number in range(1, work + 1):
            self.recur(number)

    def handleNext(self, store, work):
        store.total += work

    def handleDone(self, store):
        self.emit(store.total)


def test_a_job_may_be_a_class():
    w = Work(range(5))
    assert w.job(Double) is Double
    assert sorted(w.run()) == [0, 2, 4, 6, 8]


def test_a_job_that_emits_twice_or_not_at_all():
    class Repeat(common.Job):
        def handleWork(self, work):
            for _ in range(work):
                self.emit(work)

    w = Work(range(4))
    w.job(Repeat)
    assert sorted(w.run()) == [1, 2, 2, 3, 3, 3]


def test_a_reduce_may_be_a_class():
    w = Work(range(100), cpus=2)
    w.reduce(Sum)
    assert w.run() == [4950]


def test_a_frame_may_be_a_class():
    w = Work([3, 4], cpus=2)
    w.frame(SumTo)
    w.job(Double)
    w.frameEnd(SumTo)
    assert sorted(w.run()) == [12, 20]


def test_a_frame_goes_on_while_its_end_recurs():
    class Thrice(common.Frame):
        def handleFirst(self, store, work):
            store.came = []
            self.recur(work)

        def handleNext(self, store, work):
            store.came.append(work)

        def handleDone(self, store):
            if len(store.came) < 3:
                self.recur(store.came[-1] + 1)
            else:
                self.emit(store.came)

    w = Work([1])
    w.frame(Thrice)
    w.frameEnd(Thrice)
    assert w.run() == [[1, 2, 3]]


def test_each_process_sets_one_instance_up_before_any_work():
    class Count(common.Job):
        def postSetup(self):
            self.setUp = getattr(self, "setUp", 0) + 1

        def handleWork(self, work):
            self.emit((os.getpid(), self.setUp))

    w = Work(range(50), cpus=2)
    w.job(Count)
    assert {times for _, times in w.run()} == {1}


def test_a_class_may_ask_for_threads():
    class Here(common.Job):
        USE_MULTIPROCESSING = False

        def handleWork(self, work):
            self.emit(os.getpid())

    w = Work([1])
    w.job(Here)
    assert w.run() == [os.getpid()]


@pytest.mark.parametrize("in_threads", [{"own": False}, {"useMultiprocessing": False}, {"stage": False}])
def test_all_threads_share_one_instance_of_a_class_and_do_not_mix_what_they_send(in_threads):
    met, made = threading.Barrier(2), []

    class Meeting(common.Job):
        USE_MULTIPROCESSING = in_threads.get("own", True)

        def postSetup(self):
            made.append(self)

        def handleWork(self, work):
            self.emit(work)
            met.wait(DEADLINE_S)  # both are in the midst of a call
            self.emit(-work)
            met.wait(DEADLINE_S)

    w = Work([1, 2, 3, 4], cpus=2, useMultiprocessing=in_threads.get("useMultiprocessing", True))
    w.job(Meeting, **({"useMultiprocessing": False} if "stage" in in_threads else {}))
    w.job(lambda x: (x, threading.get_ident()), useMultiprocessing=False)
    found = w.run()
    assert sorted(x for x, _ in found) == [-4, -3, -2, -1, 1, 2, 3, 4]
    assert len(made) == 1
    assert sorted(x for x, _ in w.run()) == [-4, -3, -2, -1, 1, 2, 3, 4]
    assert len(made) == 1


def test_the_instance_of_a_reducer_and_of_a_frame_is_shared_by_threads_too():
    made = []

    class Adding(Sum):
        USE_MULTIPROCESSING = False

        def postSetup(self):
            made.append("reducer")

    class Summing(SumTo):
        USE_MULTIPROCESSING = False

        def postSetup(self):
            made.append("frame")

    w = Work(range(100), cpus=4)
    w.frame(Summing)
    w.job(lambda x: x, useMultiprocessing=False)
    w.frameEnd(Summing)
    w.reduce(Adding)
    assert w.run() == [sum(n * (n + 1) // 2 for n in range(100))]
    assert sorted(made) == ["frame", "reducer"]


@pytest.mark.parametrize(("role", "kind"), [("job", Sum), ("reduce", Double), ("frame", Double)])
def test_a_class_of_another_kind_is_refused(role, kind):
    with pytest.raises(PlanError, match=kind.__name__):
        getattr(Work(), role)(kind)


def test_a_class_has_a_store_of_its_own():
    with pytest.raises(PlanError, match="store"):
        Work().reduce(Sum, store=list)


def test_a_frame_that_is_a_class_is_ended_by_that_class():
    w = Work()
    w.frame(SumTo)
    with pytest.raises(PlanError, match="SumTo"):
        w.frameEnd(lambda store, work: None)


def test_a_class_cannot_end_a_frame_of_a_function():
    w = Work()
    w.frame(lambda store, first: None)
    with pytest.raises(PlanError, match="SumTo"):
        w.frameEnd(SumTo)


class Early(Sum):
    def handleAdd(self, store, work):
        self.emit(work)


class Prepared(Sum):
    def handleInit(self, store):
        self.recur(1)


class Hasty(Double):
    def postSetup(self):
        self.emit(1)


class Lazily(common.Job):
    """Emits a Multiple that emits by itself when it is taken, which is after the call."""

    def handleWork(self, work):
        self.emit(Multiple(self.elements()))

    def elements(self):
        yield 1
        self.emit(2)
        yield 3


@pytest.mark.parametrize(
    ("role", "kind", "said"),
    [
        ("reduce", Early, "emit in stage 'Early' is possible only while handleDone runs"),
        ("reduce", Prepared, "recur in stage 'Prepared' is possible only while handleAdd, handleJoin or"),
        ("job", Hasty, "emit in stage 'Hasty' is possible only while handleWork runs"),
        ("job", Lazily, "emit in stage 'Lazily' is possible only while handleWork runs"),
    ],
)
def test_what_is_sent_while_nobody_would_pass_it_on_is_an_error(role, kind, said):
    w = Work([1])
    getattr(w, role)(kind)
    with pytest.raises(PlanError, match=said):
        w.run()


def test_what_a_frame_emitted_before_its_end_failed_goes_on_once(once):
    class Twice(common.Frame):
        def handleFirst(self, store, work):
            self.emit(work)

        def handleDone(self, store):
            if once():
                raise OSError("not yet")
            self.emit(0)

    w = Work([1], retries=1)
    w.frame(Twice)
    w.frameEnd(Twice)
    assert sorted(w.run()) == [0, 1]


def test_what_a_frame_emitted_goes_on_once_when_the_rest_of_it_fails(once):
    class Broken(common.Frame):
        def handleFirst(self, store, work):
            self.emit(work)
            self.emit(Multiple(self.elements()))

        def elements(self):
            yield 2
            if once():
                raise OSError("not yet")
            yield 3

        def handleDone(self, store):
            self.emit(0)

    w = Work([1], retries=1)
    w.frame(Broken)
    w.frameEnd(Broken)
    assert sorted(w.run()) == [0, 1, 2, 3]
