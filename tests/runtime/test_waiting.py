"""What wakes the engine thread, and how often it looks for other ranks."""

import math
import os
import select
import threading

import pytest
from support import DEADLINE_S

from job_stream.runtime import sleeping
from job_stream.runtime.prefetch import LazyPrefetcher
from job_stream.runtime.sleeping import CALM_S, LONGEST_MS, PollPolicy, Wake

NO_SOURCE = LazyPrefetcher(lambda: pytest.fail("nobody has asked for items"))


def test_a_signal_that_interrupts_a_call_may_wake_too(monkeypatch):
    wake = Wake()
    write, depth = os.write, []

    def interrupted(fd, data):
        if fd == wake.fd:
            depth.append(fd)
            if len(depth) == 1:
                wake.set()  # as a signal handler does, wherever it comes
        return write(fd, data)

    monkeypatch.setattr(os, "write", interrupted)
    thread = threading.Thread(target=wake.set, daemon=True)
    thread.start()
    thread.join(DEADLINE_S / 10)
    assert not thread.is_alive()
    assert os.eventfd_read(wake.fd) == 2
    wake.close()
    wake.set()  # nobody is woken any more, and nothing fails


@pytest.mark.parametrize("system", ["linux", "darwin"])
def test_who_has_been_woken_very_often_is_woken_once(monkeypatch, system):
    monkeypatch.setattr(sleeping.sys, "platform", system)
    wake = Wake()
    for _ in range(10_000):  # more than a pipe holds
        wake.set()
    wake.wait(None)
    while select.select([wake.fd], [], [], 0)[0]:
        wake.clear()
    wake.set()
    wake.wait(None)
    wake.close()


@pytest.mark.parametrize("due", [math.inf, 1e15])
def test_what_is_due_in_a_very_long_time_is_no_trouble(due):
    wake = Wake()
    wake.set()
    wake.wait(due)
    assert PollPolicy(None, [], lambda: due, NO_SOURCE, None).ms() == LONGEST_MS
    wake.close()


# --- looking for other ranks ------------------------------------------------------------------------------------------


class Clock:
    """Time that passes only when somebody sleeps."""

    def __init__(self):
        self.now = 100.0
        self.naps = 0

    def nap(self, seconds):
        self.naps += 1
        self.now += seconds

    def wait(self, ms):
        """What ``poll`` does when nothing happens: it sleeps whole milliseconds."""
        self.now += math.ceil(ms) / 1000


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sleeping, "monotonic", lambda: clock.now)
    monkeypatch.setattr(sleeping, "sleep", clock.nap)
    return clock


class Neighbours:
    def __init__(self, heard, busy, calm):
        self.last_heard = heard
        self.busy = busy
        self.calm = calm

    def is_busy(self):
        return self.busy

    def is_calm(self):
        return self.calm

    def awaits(self):
        return False


def policy_with(neighbours, due=None):
    return PollPolicy(None, [], lambda: due, NO_SOURCE, neighbours)


def patience_of(clock, busy, calm, due=None):
    return policy_with(Neighbours(clock.now, busy, calm), due)


def test_a_rank_with_plenty_to_do_looks_once_in_a_while_whatever_wakes_it(clock):
    poll_policy = patience_of(clock, busy=True, calm=True)
    assert poll_policy.is_look_due()
    clock.now += CALM_S / 2
    assert not poll_policy.is_look_due()
    clock.now += CALM_S
    assert poll_policy.is_look_due()


def test_a_rank_with_plenty_to_do_sleeps_until_it_is_time_to_look(clock):
    poll_policy = patience_of(clock, busy=True, calm=True)
    for _ in range(20):
        assert poll_policy.is_look_due()
        before = clock.now
        clock.wait(poll_policy.ms())
        assert before + CALM_S <= clock.now < before + CALM_S + 2e-3
    assert not clock.naps


def test_a_rank_that_runs_out_of_work_looks_at_once(clock):
    neighbours = Neighbours(clock.now, busy=True, calm=True)
    poll_policy = policy_with(neighbours)
    assert poll_policy.is_look_due()
    neighbours.calm = False
    assert poll_policy.is_look_due()


def test_a_rank_without_work_stays_awake_for_a_moment_after_news(clock):
    poll_policy = patience_of(clock, busy=False, calm=False)
    assert poll_policy.ms() == 0
    assert clock.naps == 1
    clock.now += 1.0
    assert poll_policy.ms() > 0


def test_a_rank_at_work_leaves_the_processor_to_its_lanes(clock):
    poll_policy = patience_of(clock, busy=True, calm=False)
    assert poll_policy.ms() > 0
    assert poll_policy.is_look_due()
    assert not clock.naps


@pytest.mark.parametrize("calm", [True, False])
def test_what_is_due_earlier_is_not_slept_over(clock, calm):
    poll_policy = patience_of(clock, busy=True, calm=calm, due=clock.now + 0.5e-3)
    poll_policy.is_look_due()
    assert poll_policy.ms() == pytest.approx(0.5)
