"""What a run came to, judged by how its ranks ended, and when it is worth another try."""

from __future__ import annotations

import signal

import pytest

from job_stream.ground.environment import TIME_LIMIT
from job_stream.launcher.restarts import Limits, keep_running
from job_stream.launcher.signal_queue import SignalQueue
from job_stream.launcher.verdict import End, Outcome, judge

KILL, TERM, INT = -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT


def ends(*statuses, joined=True):
    return [End(rank, status, "host", 7, joined) for rank, status in statuses]


# --- what it came to ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("statuses", "launcher", "code", "is_crash"),
    [
        ([(0, 0), (1, 0)], 0, 0, False),
        ([(0, 0), (1, 0)], -11, 0, False),  # the launcher fell over its own feet, afterwards
        ([(1, 0), (0, 3)], 3, 3, False),
        ([(0, 75), (1, 75)], 75, 75, False),
        ([(0, 1), (1, TERM)], 1, 1, False),  # an exception at rank 0 took rank 1 down
        ([(1, 1), (0, TERM)], 137, 1, False),
        ([(1, KILL), (0, TERM)], 137, 137, True),  # a rank was killed, and took rank 0 down
        ([(1, KILL), (0, 75)], 137, 137, True),  # ... which had the time to save
        ([(0, KILL), (1, 1)], 0, 137, True),
        ([(0, None), (1, TERM)], 1, 137, True),  # its host is gone
        ([(0, 137), (1, TERM)], 137, 137, True),  # a shell that says that its program was killed
        ([(0, INT), (1, INT)], 130, 130, False),
        ([], 0, 0, False),
        ([], 255, 255, True),  # a host that cannot be reached
        ([], -9, 137, True),
    ],
)
def test_the_first_rank_that_fails_tells_what_happened(statuses, launcher, code, is_crash):
    outcome = judge(ends(*statuses), 0, launcher, recovers=False)
    assert (outcome.code, outcome.is_crash) == (code, is_crash)


@pytest.mark.parametrize(
    ("statuses", "code", "is_crash"),
    [
        ([(1, KILL), (0, 0)], 0, False),
        ([(1, None), (0, 75)], 75, False),
        ([(1, KILL), (2, KILL), (0, 1)], 1, False),
        ([(1, KILL), (0, KILL)], 137, True),
        ([(2, 1), (0, TERM)], 1, False),  # a death is survived, a mistake is not
        ([(2, None), (1, 1), (0, 1)], 137, True),  # mpirun went with the host, and MPI ended the others
        ([(2, None), (0, 120)], 137, True),  # ... whose output nobody took any more
        ([(2, None), (1, 14), (0, 120)], 137, True),  # ... which MPI ended with its unknown error
    ],
)
def test_deaths_that_mpi_survives_are_no_end(statuses, code, is_crash):
    outcome = judge(ends(*statuses), 0, 137, recovers=True)
    assert (outcome.code, outcome.is_crash) == (code, is_crash)


@pytest.mark.parametrize("status", [KILL, None])
def test_a_rank_for_which_the_others_still_wait_is_not_survived(status):
    assert judge(ends((1, status), (0, TERM), joined=False), 0, 137, recovers=True).is_crash


def test_a_launcher_that_ends_before_its_ranks_has_crashed():
    outcome = judge([], 1, -11, recovers=False)
    assert outcome == Outcome(139, True, "mpirun ended with 139 while 1 ranks were running")


def test_a_launcher_that_crashes_over_a_mistake_of_the_program_does_not_hide_it():
    assert judge(ends((1, 1)), 1, -11, recovers=False) == Outcome(1)


def test_a_host_that_was_lost_on_the_way_does_not_hide_that_all_is_done():
    assert judge(ends((0, 0)), 1, 0, recovers=True) == Outcome(0)


def test_a_crash_is_told_with_its_place():
    outcome = judge([End(3, KILL, "node7", 4711)], 0, 137, recovers=False)
    assert outcome.why == "rank 3 (process 4711 on node7) was killed by SIGKILL"


# --- another try --------------------------------------------------------------------------------------------------
class Told:
    """A run that comes to what the test says."""

    def __init__(self, outcome, came_up=True):
        self.outcome = outcome
        self.came_up = came_up

    def wait(self):
        return self.outcome


CRASH = Outcome(137, True, "rank 0 was killed")


@pytest.fixture
def tries(monkeypatch):
    """``tries(runs, limits)`` gives the exit status and what each start was given."""
    monkeypatch.setattr("job_stream.launcher.restarts.FIRST_PAUSE_S", 0.0)

    def go(runs, limits, signal_queue=None):
        given = []
        waiting = iter(runs)

        def start(additions):
            given.append(dict(additions))
            return next(waiting)

        with SignalQueue() as box:
            return keep_running(start, limits, signal_queue or box), given

    return go


def test_a_crash_is_tried_again_until_it_works(tries):
    code, given = tries([Told(CRASH), Told(CRASH), Told(Outcome(0))], Limits(5, None))
    assert (code, len(given)) == (0, 3)


def test_tries_come_to_an_end(tries):
    code, given = tries([Told(CRASH)] * 3, Limits(2, None))
    assert (code, len(given)) == (137, 3)


@pytest.mark.parametrize("code", [0, 1, 2, 3, 75, 130])
def test_a_program_that_ended_by_itself_is_not_tried_again(tries, code):
    assert tries([Told(Outcome(code))], Limits(5, None)) == (code, [{}])


def test_where_mpirun_itself_could_not_begin_there_is_one_more_try(tries):
    unlucky = Told(Outcome(213, True), came_up=False)
    assert tries([unlucky, Told(Outcome(0))], Limits(0, None)) == (0, [{}, {}])
    assert tries([unlucky, unlucky], Limits(5, None)) == (213, [{}, {}])


def test_what_never_came_up_is_not_tried_again(tries):
    assert tries([Told(CRASH, came_up=False)], Limits(5, None)) == (137, [{}])


def test_what_had_come_up_once_is_tried_again_while_it_cannot_be_reached(tries):
    code, given = tries([Told(CRASH), Told(CRASH, came_up=False), Told(Outcome(0))], Limits(5, None))
    assert (code, len(given)) == (0, 3)


def test_nothing_is_tried_again_when_the_end_was_asked_for(tries):
    with SignalQueue() as signal_queue:
        signal.raise_signal(signal.SIGTERM)
        assert tries([Told(CRASH)], Limits(5, None), signal_queue) == (137, [{}])


def test_ctrl_c_before_anything_has_come_up_is_the_exit_status(tries):
    with SignalQueue() as signal_queue:
        signal.raise_signal(signal.SIGINT)
        assert tries([Told(CRASH, came_up=False)], Limits(5, None), signal_queue) == (130, [{}])


def test_a_pause_ends_at_ctrl_c(monkeypatch):
    monkeypatch.setattr("job_stream.launcher.restarts.FIRST_PAUSE_S", 1e6)
    monkeypatch.setattr("job_stream.launcher.restarts.LONGEST_PAUSE_S", 1e6)
    told = []
    monkeypatch.setattr("job_stream.launcher.restarts.say", lambda text: told.append(text) or interrupt(text))

    def interrupt(text):
        if "starting again" in text:
            signal.raise_signal(signal.SIGINT)

    with SignalQueue() as signal_queue:
        assert keep_running(lambda additions: Told(CRASH), Limits(5, None), signal_queue) == 130
    assert told[-1].startswith("starting again in 1e+06 s")


def test_pauses_grow(tries, monkeypatch):
    pauses = []
    monkeypatch.setattr("job_stream.launcher.restarts._sleep", lambda pause_s, signal_queue: pauses.append(pause_s))
    monkeypatch.setattr("job_stream.launcher.restarts.FIRST_PAUSE_S", 1.0)
    with SignalQueue() as signal_queue:
        keep_running(lambda additions: Told(CRASH), Limits(8, None), signal_queue)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_the_time_limit_is_for_all_tries_together(tries):
    _, given = tries([Told(CRASH), Told(Outcome(0))], Limits(5, 1000.0))
    first, second = (float(additions[TIME_LIMIT.name]) for additions in given)
    assert 1000.0 >= first >= second > 0


def test_there_is_no_other_try_without_time_for_it(tries, capsys):
    code, given = tries([Told(CRASH)], Limits(5, 2.0))
    assert (code, len(given)) == (137, 1)
    assert "there is no time left to start again" in capsys.readouterr().err
