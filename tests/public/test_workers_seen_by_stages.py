"""What a stage knows of the worker it runs in: its number, its end, and how long it may take."""

from __future__ import annotations

import os
import threading

import pytest
from support import die, wait_until

import job_stream
from job_stream import Work, alive, common, getWorker

# --- the number -------------------------------------------------------------------------------------------------------


def test_the_script_has_no_number():
    assert getWorker() == 0


@pytest.mark.parametrize("processes", [True, False])
def test_each_worker_has_a_number(gate, tally, processes):
    with Work([1, 2, 3], cpus=3, useMultiprocessing=processes) as w:

        @w.job(alone=True)
        def number(x):
            tally.note(getWorker())
            wait_until(lambda: len(tally) == 3, "all three workers")
            return getWorker()

        @w.finish
        def finish(found):
            assert sorted(found) == [1, 2, 3]


def test_a_worker_that_takes_the_place_of_a_dead_one_has_another_number(tally):
    w = Work([1], cpus=1)

    @w.job
    def number(x):
        tally.note(getWorker())
        if len(tally) == 1:
            die()
        return getWorker()

    assert w.run() == [int(tally.lines()[1])]
    assert len(set(tally.lines())) == 2


def test_a_stream_in_a_job_runs_in_the_worker_of_the_job():
    def inner(x):
        w = Work([1])
        w.job(lambda y: getWorker())
        return w.run() == [getWorker()]

    assert job_stream.map(inner, [1, 2]) == [True, True]


# --- the end ----------------------------------------------------------------------------------------------------------


class Opens(common.Job):
    tally = None

    def postSetup(self):
        self.tally.note("opened", os.getpid())

    def handleWork(self, x):
        self.emit(x)

    def postRun(self):
        self.tally.note("closed", os.getpid(), threading.current_thread() is threading.main_thread())


@pytest.mark.parametrize("processes", [True, False])
def test_what_an_instance_has_opened_it_can_close_when_its_worker_ends(tally, processes):
    kind = type("Stage", (Opens,), {"tally": tally, "USE_MULTIPROCESSING": processes})
    for runs in (1, 2):
        w = Work(range(50), cpus=2)
        w.job(kind)
        assert sorted(w.run()) == list(range(50))
        opened = sorted(line.split()[1] for line in tally.lines() if line.startswith("opened"))
        closed = sorted(line.split()[1] for line in tally.lines() if line.startswith("closed"))
        assert opened == closed
        assert len(closed) >= runs
        assert (str(os.getpid()) in closed) == (not processes)
        assert all(line.endswith("True") for line in tally.lines() if line.startswith("closed"))


def test_an_instance_of_a_stream_in_a_job_is_closed_when_that_is_over(tally):
    kind = type("Stage", (Opens,), {"tally": tally})

    def inner(x):
        w = Work([x])
        w.job(kind)
        w.run()
        return tally.lines()[-1].startswith("closed")

    assert job_stream.map(inner, [1]) == [True]


@pytest.mark.parametrize("processes", [True, False])
def test_an_error_at_the_end_of_an_instance_is_told_and_loses_nothing(capfd, processes):
    class Fails(common.Job):
        USE_MULTIPROCESSING = processes

        def handleWork(self, x):
            self.emit(x)

        def postRun(self):
            raise OSError("the file cannot be closed")

    w = Work(range(5))
    w.job(Fails)
    assert sorted(w.run()) == list(range(5))
    assert "OSError: the file cannot be closed" in capfd.readouterr().err


def test_a_class_that_does_not_say_how_it_ends_ends_as_ever():
    class Plain(common.Job):
        def handleWork(self, x):
            self.emit(x)

    w = Work([1])
    w.job(Plain)
    assert w.run() == [1]


# --- the time ---------------------------------------------------------------------------------------------------------


def test_a_call_that_says_it_is_alive_may_take_longer_than_its_time(tally):
    w = Work([1], timeout=1.5, onError="skip")

    @w.job
    def long(x):
        for _ in range(15):
            alive()
            threading.Event().wait(0.2)
        return x

    assert w.run() == [1]


def test_a_call_that_no_longer_says_so_runs_out_of_time(tally):
    w = Work([1], timeout=1, onError="skip")

    @w.job
    def stuck(x):
        alive()
        tally.note("begun")
        threading.Event().wait()

    assert w.run() == []
    assert "timed out" in w.failures[0].reason
    assert len(tally) == 1


def test_without_a_limit_and_in_the_script_it_does_nothing():
    alive()
    assert job_stream.map(lambda x: alive(), [1]) == [None]
