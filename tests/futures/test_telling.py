"""``progress=``: how far the calls of an executor are."""

from __future__ import annotations

import os
import threading

import pytest
from support import DEADLINE_S, wait_until

from job_stream.errors import PlanError
from job_stream.futures import Executor
from job_stream.futures.telling import CallProgress, _Log, tells

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_a_function_is_told_when_something_has_changed_and_once_at_the_end(gate):
    told = []
    with Executor(2, progress=told.append) as executor:
        first = [executor.submit(abs, number) for number in range(10)]
        assert [call.result() for call in first] == list(range(10))
        waiting = executor.submit(gate.wait)
        wait_until(lambda: any((p.items, p.total) == (10, 11) for p in told), "being told of ten calls")
        seen = len(told)
        gate.open()
        waiting.result()
    assert [p.finished for p in told] == [False] * (len(told) - 1) + [True]
    assert (told[-1].items, told[-1].total, told[-1].lanes) == (11, 11, 2)
    assert len(told) <= seen + 2
    assert [p.items for p in told] == sorted(p.items for p in told)


def test_cancelled_calls_are_not_among_them(gate):
    told = []
    executor = Executor(1, progress=told.append)
    calls = [executor.submit(gate.wait) for _ in range(20)]
    executor.shutdown(wait=False, cancel_futures=True)
    gate.open()
    executor.shutdown()
    made = sum(not call.cancelled() for call in calls)
    assert (told[-1].items, told[-1].total) == (made, made)


def test_a_function_that_fails_is_told_nothing_any_more(capfd):
    told = []

    def fail(progress):
        told.append(progress)
        raise KeyError("its own")

    with Executor(1, progress=fail) as executor:
        executor.submit(abs, 1).result()
        wait_until(lambda: told, "being told")
        executor.submit(abs, 1).result()
    assert len(told) == 1
    assert capfd.readouterr().err.count("what progress= calls has failed, and is not called any more: KeyError") == 1


def test_it_may_end_the_executor():
    ended = threading.Event()

    def end(progress):
        executor.shutdown()
        if progress.finished:
            ended.set()

    executor = Executor(1, progress=end)
    executor.submit(abs, 1).result()
    assert ended.wait(DEADLINE_S)


def test_in_a_call_nothing_is_told():
    with Executor(1) as executor:
        def nested():
            told = []
            with Executor(1, progress=told.append) as inner:
                inner.submit(abs, 1)
            return told

        assert executor.submit(nested).result() == []


def test_standard_error_has_a_line_at_the_end(capfd):
    with Executor(1, progress=True) as executor:
        executor.submit(abs, 1).result()
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("job_stream: 1 of 1 calls, ")
    assert "took 0:00:" in last


def test_lines_come_less_and_less_often(capfd):
    log = _Log()
    told = []
    for elapsed in range(1, 1301):
        log(CallProgress(1, 2, elapsed, 1 / elapsed, 1, False))
        told += [elapsed] * capfd.readouterr().err.count("left")
    assert told == [5, 10, 20, 40, 80, 160, 320, 620, 920, 1220]


def test_a_bar_is_no_longer_than_the_terminal(capfd, monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((20, 24)))
    bar = tells("bar")()
    bar(CallProgress(10, 20, 1.0, 10.0, 2, False))
    bar(CallProgress(20, 20, 2.0, 10.0, 2, True))
    assert capfd.readouterr().err == "\r\033[Kjob_stream: 10 of 2\r\033[Kjob_stream: 20 of 2\n"


@pytest.mark.parametrize("wrong", ["fancy", 3, ()])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(PlanError, match="progress must be None, True, False, 'bar', 'log' or a function"):
        Executor(progress=wrong)
