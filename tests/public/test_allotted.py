"""Jobs whose items need a certain host, or several cores of one."""

from __future__ import annotations

import os
import signal
import time
from itertools import chain

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import die

import job_stream
from job_stream import Multiple, Work, hosts
from job_stream.errors import LaneDied, PlanError, StageTimeout
from job_stream.values import Failure

needs_ranks = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)


def most_at_once(spans: list[tuple[int, float, float]]) -> int:
    """How many cores were needed at the same time by items with (cores, begin, end)."""
    events = sorted([(begin, cores) for cores, begin, _ in spans] + [(end, -cores) for cores, _, end in spans])
    now = most = 0
    for _, change in events:
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("processes", [True, False])
@pytest.mark.parametrize("seed", [None, 1])
def test_no_more_cores_are_needed_at_once_than_there_are(processes, seed):
    w = Work([1, 2, 3, 4, 1, 1, 4, 2] * 4, cpus=4, useMultiprocessing=processes, seed=seed)

    @w.job(cores=lambda cores: cores)
    def run(cores):
        begin = time.monotonic()
        time.sleep(0.005)
        return cores, begin, time.monotonic()

    spans = w.run()
    assert sorted(cores for cores, *_ in spans) == sorted([1, 2, 3, 4, 1, 1, 4, 2] * 4)
    assert most_at_once(spans) <= 4


def test_items_of_many_frames_share_the_cores():
    w = Work([0] * 50, cpus=4)

    @w.frame(store=list, emit=lambda seen: seen, where="primary")
    def both(seen, first):
        if not seen:
            seen.append(first)
            return Multiple(["large", *range(8)])

    @w.job(cores=lambda x: 4 if x == "large" else 1)
    def run(x):
        begin = time.monotonic()
        time.sleep(0.002)
        return (4 if x == "large" else 1), begin, time.monotonic()

    @w.frameEnd
    def end(seen, span):
        seen.append(span)

    spans = [span for seen in w.run() for span in seen[1:]]
    assert len(spans) == 50 * 9
    assert most_at_once(spans) <= 4


def test_an_item_runs_on_the_host_that_it_names():
    (host,) = hosts()
    for where in (host.name, "primary", lambda x: host.name, lambda x: None):
        w = Work([1, 2, 3])
        w.job(where=where)(lambda x: x)
        assert sorted(w.run()) == [1, 2, 3]


@pytest.mark.parametrize("seed", [None, 1])
def test_an_item_for_which_there_is_no_host_fails_as_its_stage_says(seed):
    def stream(**keywords):
        w = Work([1, 2], cpus=2, seed=seed)
        w.job(where=lambda x: "nowhere" if x == 1 else None, **keywords)(lambda x: x)
        w.job(lambda x: x)
        return w

    with pytest.raises(PlanError, match="cannot be called with 1: it is for the host 'nowhere'"):
        stream().run()
    w = stream(onError="skip")
    assert w.run() == [2]
    assert [failure.item for failure in w.failures] == [1]
    (failure,) = (result for result in stream(onError="pass").run() if type(result) is Failure)
    assert (failure.item, type(failure.exception)) == (1, PlanError)


def test_an_item_that_needs_too_many_cores_is_refused():
    w = Work([1], cpus=2)
    w.job(cores=3)(lambda x: x)
    with pytest.raises(PlanError, match="it needs 3 cores, and no host has more than 2"):
        w.run()


def test_a_function_that_says_what_is_needed_fails_as_its_stage_says():
    def stream(**keywords):
        w = Work([0, 2], cpus=2)
        w.job(cores=lambda x: 2 // x, **keywords)(lambda x: x)
        w.job(lambda x: x)
        return w

    with pytest.raises(ZeroDivisionError):
        stream().run()
    assert stream(onError="skip").run() == [2]
    (failure,) = (result for result in stream(onError="pass").run() if type(result) is Failure)
    assert (failure.item, type(failure.exception)) == (0, ZeroDivisionError)


def test_a_function_that_says_what_is_needed_may_end_its_worker():
    w = Work([1, 2], cpus=2)
    w.job(cores=lambda x: os.kill(os.getpid(), signal.SIGKILL) if x == 1 else 1, deaths=1, onError="pass")(lambda x: x)
    w.job(lambda x: x)
    (failure,) = (result for result in w.run() if type(result) is Failure)
    assert (failure.item, type(failure.exception)) == (1, LaneDied)


def test_the_cores_of_an_item_that_ended_its_worker_are_free(once):
    w = Work([1, 2, 3], cpus=2)

    @w.job(cores=2)
    def run(x):
        if x == 2 and once():
            die()
        return x

    assert sorted(w.run()) == [1, 2, 3]


def test_the_cores_of_an_item_that_ran_out_of_time_are_free():
    w = Work([1, 2, 3], cpus=2, timeout=0.2, onError="pass")
    w.job(cores=2)(lambda x: time.sleep(1000) if x == 2 else x)
    results = w.run()
    assert [type(result.exception) for result in results if type(result) is Failure] == [StageTimeout]
    assert sorted(result for result in results if type(result) is not Failure) == [1, 3]


def test_what_comes_of_allotted_items_goes_on():
    w = Work([3, 1], cpus=2)
    w.job(cores=2)(lambda x: Multiple(x * 1000 + i for i in range(3 * x)))
    w.reduce(store=list, emit=sorted)(lambda found, works, others: found.extend(chain(works, *others)))
    assert w.run() == [sorted([3000 + i for i in range(9)] + [1000 + i for i in range(3)])]


def test_allotted_jobs_may_follow_each_other():
    w = Work(range(20), cpus=2)
    for cores in (1, 2, 1):
        w.job(cores=cores)(lambda x: x + 1)
    assert sorted(w.run()) == list(range(3, 23))


def test_inside_a_worker_nothing_is_allotted():
    def inner(x):
        w = Work([x])
        w.job(cores=1000)(lambda x: x + 1)
        return w.run()[0]

    assert sorted(job_stream.map(inner, [1, 2])) == [2, 3]


def test_random_numbers_do_not_depend_on_who_is_given_an_item():
    def draws(**keywords):
        w = Work(range(5), seed=7, cpus=2)
        w.job(cores=lambda x: 1 + x % 2)(lambda x: (x, job_stream.rng().random()))
        return sorted(w.run())

    assert draws() == draws()


# --- ranks ------------------------------------------------------------------------------------------------------------

NAMED = """
    import os, time
    from job_stream import Work, getRank
    from job_stream.runtime import runtime

    names = ("north", "south", "north", "east")
    runtime.names_of_hosts = lambda: names
    rank = getRank()
    name = names[rank]
"""


@needs_ranks
@pytest.mark.parametrize("ulfm", [True, False], ids=["survivable", "not survivable"])
def test_items_go_to_their_hosts(script, ulfm):
    ended = mpirun(script(NAMED + """
    def stream():
        with Work(range(60)) as w:
            w.job(lambda x: x)

            @w.job(where=lambda x: ("north", "south", "east", "primary", None)[x % 5])
            def where(x):
                time.sleep(0.001)
                return x % 5, name, getRank()

            @w.finish
            def finish(found):
                ways = {way: {(name, rank if way == 3 else 0) for at, name, rank in found if at == way}
                        for way in range(5)}
                print(len(found), [sorted(ways[way]) for way in range(4)], len(ways[4]) > 0)

    stream()
    stream()
    """), 4, ulfm=ulfm, env={"JOBS_CPUS": "2"})  # fmt: skip
    assert ended.code == 0, ended.err
    wanted = "60 [[('north', 0)], [('south', 0)], [('east', 0)], [('north', 0)]] True"
    assert ended.out.splitlines() == [wanted, wanted]


@needs_ranks
def test_no_more_cores_of_a_host_are_needed_than_it_has(script):
    ended = mpirun(script(NAMED + """
    with Work([1, 2, 3, 4] * 12) as w:

        @w.job(cores=lambda cores: cores)
        def run(cores):
            begin = time.monotonic()
            time.sleep(0.005)
            return cores, begin, time.monotonic(), name

        @w.finish
        def finish(found):
            for host, has in (("north", 4), ("south", 2), ("east", 2)):
                spans = [span for span in found if span[3] == host]
                events = sorted([(begin, cores) for cores, begin, *_ in spans] + [(end, -n) for n, _, end, _ in spans])
                now = most = 0
                for _, change in events:
                    now += change
                    most = max(most, now)
                print(host, bool(spans), most <= has)
            print(len(found))
    """), 4, ulfm=True, env={"JOBS_CPUS": "2"})  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["north True True", "south True True", "east True True", "48"]


@needs_ranks
def test_what_a_dead_host_was_to_do_fails_and_all_else_is_done(script):
    ended = mpirun(script(NAMED + """
    import signal

    SCRIPT = os.getpid()

    with Work(range(40)) as w:

        @w.job(where=lambda x: ("north", "south", "east", None)[x % 4], onError="pass")
        def run(x):
            if x == 9:  # for south
                os.kill(SCRIPT, signal.SIGKILL)
                time.sleep(1000)
            return x

        @w.finish
        def finish(found):
            lost = [one for one in found if type(one).__name__ == "Failure"]
            done = sorted(one for one in found if one not in lost and one % 4 != 1)
            print(done == [x for x in range(40) if x % 4 != 1])
            print(9 in [one.item for one in lost], all(one.item % 4 == 1 for one in lost), len(found))
            print({str(one.exception).partition(": ")[2] for one in lost})
    """), 4, ulfm=True, env={"JOBS_CPUS": "2"})  # fmt: skip
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["True", "True True 40", "{\"it is for the host 'south', which is lost\"}"]
