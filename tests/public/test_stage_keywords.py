"""Keywords that say where a stage runs, how its items are lent, and what their workers' deaths may cost."""

from __future__ import annotations

import os
import signal

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun
from support import DEADLINE_S, die

from job_stream import Work
from job_stream.errors import LaneDied, PlanError

needs_ranks = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

# --- where ------------------------------------------------------------------------------------------------------------

PRIMARY = """
    import os, sys, time
    from job_stream import Multiple, Work, getRank

    threads = sys.argv[1] == "threads"
    script, state = os.getpid(), []

    def spread(x):
        time.sleep(0.002)
        return x

    with Work(range(200), useMultiprocessing=not threads or None) as w:
        w.job(spread, useMultiprocessing=True)

        @w.frame(where="primary", useMultiprocessing=not threads)
        def head(store, x):
            state.append(x)
            store.seen = getattr(store, "seen", set()) | {(getRank(), os.getpid() == script)}
            if not hasattr(store, "sum"):
                store.sum = 0
                return Multiple([x, 1])

        @w.job(useMultiprocessing=True)
        def body(x):
            time.sleep(0.002)
            return x, getRank()

        @w.job(where="primary")
        def back(pair):
            return (*pair, getRank())

        @w.frameEnd
        def end(store, triple):
            number, rank, primary = triple
            store.sum += number
            store.seen.add((getRank(), os.getpid() == script))
            store.ranks = getattr(store, "ranks", set()) | {rank}
            store.backs = getattr(store, "backs", set()) | {primary}

        @w.finish
        def finish(stores):
            seen = set().union(*(store.seen for store in stores))
            print("frames", sorted(seen), "jobs", sorted(set().union(*(store.backs for store in stores))))
            print("spread", len(set().union(*(store.ranks for store in stores))) > 1)
            print("sum", sum(store.sum for store in stores), "state", len(state))
"""


@needs_ranks
@pytest.mark.parametrize(("how", "own", "state"), [("threads", True, 400), ("processes", False, 0)])
def test_a_stage_of_the_primary_runs_nowhere_else(script, how, own, state):
    ended = mpirun(script(PRIMARY), 3, how, ulfm=True)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [
        f"frames [(0, {own})] jobs [0]", "spread True", f"sum {sum(range(200)) + 200} state {state}",
    ]  # fmt: skip


def test_a_stage_of_the_primary_inside_a_frame_of_all_ranks_is_refused():
    w = Work([1])
    w.frame(lambda store, x: None)
    with pytest.raises(PlanError, match="job 'where' is to stay on the primary, but frame '<lambda>' around"):

        @w.job(where="primary")
        def where(x):
            return x


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"where": 0}, "where must be the name of a host as hosts.. has it, 'primary', None, or a function of the"),
        ({"where": ""}, "not ''"),
        ({"cores": 0}, "cores must be a whole number from 1 on, or a function of the item that gives one, not 0"),
        ({"cores": True}, "whole number from 1 on, .* not True"),
        ({"cores": "2"}, "whole number from 1 on, .* not '2'"),
        ({"deaths": 0}, "deaths must be a whole number above 0, not 0"),
        ({"deaths": True}, "deaths must be a whole number above 0, not True"),
    ],
)
def test_a_keyword_without_sense_is_refused(keywords, words):
    with pytest.raises(PlanError, match=words):
        Work([1]).job(**keywords)(abs)


@pytest.mark.parametrize("keyword", ["alone", "where"])
def test_a_reduce_takes_no_keyword_about_lending(keyword):
    with pytest.raises(PlanError, match="only job and frame take alone= and where="):
        Work([1]).reduce(**{keyword: "primary"})(lambda store, works, others: None)


@pytest.mark.parametrize("role", ["reduce", "frame"])
def test_only_a_job_takes_cores(role):
    with pytest.raises(PlanError, match="only job takes cores="):
        getattr(Work([1]), role)(cores=2)(lambda store, works, others=None: None)


def test_a_frame_runs_on_no_certain_host():
    with pytest.raises(PlanError, match="where must be 'primary' or None, not 'north'"):
        Work([1]).frame(where="north")(lambda store, first: None)


def test_functions_of_the_script_take_no_deaths():
    with pytest.raises(PlanError, match="runs in the script's own process, whose end is the run's"):
        Work([1]).result(deaths=1)(print)


# --- alone ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("initial", [[0, 1, 2], "an iterator"], ids=["list", "iterator"])
@pytest.mark.parametrize("processes", [True, False])
def test_the_end_of_an_item_that_is_lent_alone_is_told_while_the_next_one_runs(gate, initial, processes):
    seen = []
    items = iter([0, 1, 2]) if initial == "an iterator" else initial
    with Work(items, cpus=1, useMultiprocessing=processes) as w:

        @w.job(alone=True)
        def wait(x):
            if x:
                gate.wait()
            return x

        @w.result
        def result(x):
            seen.append(x)
            gate.open()

    assert sorted(seen) == [0, 1, 2]


# --- deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("deaths", "calls"), [(1, 1), (2, 2), (None, 3)])
def test_an_item_that_ends_its_worker_is_tried_as_often_as_its_stage_says(tally, deaths, calls):
    w = Work([7], onError="skip")

    @w.job(alone=True, deaths=deaths)
    def deadly(x):
        tally.note(x)
        die()

    assert w.run() == []
    assert (len(tally), w.failures[0].attempts) == (calls, calls)
    assert "SIGKILL" in w.failures[0].reason


def test_deaths_of_a_work_hold_for_all_its_stages(tally):
    w = Work(range(20), deaths=1)

    @w.job(alone=True)
    def deadly(x):
        if x == 11:
            tally.note(x)
            os.kill(os.getpid(), signal.SIGKILL)
            signal.sigtimedwait([], DEADLINE_S)
        return x

    with pytest.raises(LaneDied, match="Item: 11"):
        w.run()
    assert len(tally) == 1


# --- what the environment says ----------------------------------------------------------------------------------------


def test_a_work_without_checkpoints_takes_none_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("JOBS_CHECKPOINT", str(tmp_path / "checkpoint"))
    for _ in range(2):
        w = Work([1, 2], checkpointFile=False)
        w.job(lambda x: x)
        assert sorted(w.run()) == [1, 2]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [True, 3, ["file"]])
def test_a_checkpoint_file_that_is_no_path_is_refused(path):
    with pytest.raises(PlanError, match="checkpointFile must be a path, None or False"):
        Work([1], checkpointFile=path)


@pytest.mark.parametrize(("keywords", "shown"), [({}, True), ({"stats": False}, False)])
def test_a_work_can_be_told_to_say_nothing_about_itself(monkeypatch, capfd, keywords, shown):
    monkeypatch.setenv("JOBS_STATS", "1")
    w = Work([1], **keywords)
    w.job(lambda x: x)
    w.run()
    assert ("user time" in capfd.readouterr().err) == shown
