"""Streams that a configuration describes: which way work goes, and what a stage knows."""

import os
import time

import pytest
from common_support import (
    Add,
    CountDown,
    Double,
    Halves,
    OtherRounds,
    Process,
    Rounds,
    Same,
    Sort,
    SortedSum,
    Sum,
    Tag,
    UpTo,
    results_of,
)

from job_stream import Args, Multiple, common, rng
from job_stream.errors import PlanError, StageError


# --- the way of work --------------------------------------------------------------------------------------------------
def test_in_a_list_work_goes_to_the_next_job():
    assert results_of({"jobs": [{"type": Double}, {"type": Add, "amount": 1}]}, range(3)) == [1, 3, 5]


def test_a_class_alone_stands_for_a_job_without_configuration():
    assert results_of({"jobs": [Double, Double]}, [1]) == [4]


def test_named_jobs_say_where_their_work_goes():
    config = {
        "jobs": {"last": {"type": Double, "to": "output"}, "first": {"type": Add, "amount": 1, "to": "last"}},
        "input": "first",
    }
    assert results_of(config, [1]) == [4]


def test_without_input_the_first_name_is_the_input_and_without_to_work_leaves():
    assert results_of({"jobs": {"only": {"type": Double}}}, [1]) == [2]
    assert results_of({"jobs": {"a": {"type": Double, "to": "b"}, "b": Double}}, [1]) == [4]


def test_work_goes_to_the_target_that_it_is_emitted_to():
    config = {
        "jobs": {
            "sort": {"type": Sort, "to": {"even": "e", "odd": "o"}},
            "e": {"type": Tag, "tag": "even"},
            "o": {"type": Tag, "tag": "odd"},
        }
    }
    assert results_of(config, range(4)) == [("even", 0), ("even", 2), ("odd", 1), ("odd", 3)]


def test_several_targets_may_lead_to_the_same_place():
    config = {"jobs": {"sort": {"type": Sort, "to": {"even": "output", "odd": "output"}}}}
    assert results_of(config, range(4)) == [0, 1, 2, 3]


def test_a_job_may_send_work_back_to_itself():
    config = {"jobs": {"down": {"type": CountDown, "to": {"again": "down", "done": "output"}}}}
    assert results_of(config, [(n, 0) for n in range(5)]) == [0, 1, 2, 3, 4]


def test_a_cycle_may_go_through_several_jobs():
    config = {
        "jobs": {
            "pass": {"type": Same, "to": "down"},
            "down": {"type": CountDown, "to": {"again": "pass", "done": "output"}},
        }
    }
    assert results_of(config, [(100, 0)]) == [100]


def test_one_job_may_emit_many_to_each_of_its_targets():
    class Fan(common.Job):
        def handleWork(self, work):
            self.emit(Multiple(range(work)), "a")
            self.emit(Multiple(iter(range(work))), "b")
            self.emit(None, "a")
            self.emit(work, "b")

    config = {
        "jobs": {"fan": {"type": Fan, "to": {"a": "A", "b": "output"}}, "A": {"type": Add, "amount": 1000}},
        "reducer": Sum,
    }
    total = sum(range(300))
    assert results_of(config, [300]) == [2 * total + 300 * 1000 + 300]


def test_what_goes_to_a_target_is_shared_among_the_workers(tally):
    class Fan(common.Job):
        def handleWork(self, work):
            for number in range(work):
                self.emit(number, "work")

    class Meet(common.Job):
        """Takes its time until two workers have come here."""

        def handleWork(self, work):
            tally.note(os.getpid())
            if len(set(tally.numbers())) < 2:
                time.sleep(0.02)

    config = {"jobs": {"fan": {"type": Fan, "to": {"work": "meet", "none": "output"}}, "meet": Meet}}
    results_of(config, [200])
    assert len(set(tally.numbers())) == 2


# --- modules ----------------------------------------------------------------------------------------------------------
def test_a_module_without_reducer_and_frame_is_only_a_way_to_write_it():
    inner = {"jobs": {"b": {"type": Add, "amount": 1, "to": "output"}, "a": {"type": Double, "to": "b"}}, "input": "a"}
    config = {"jobs": {"in": {**inner, "to": "after"}, "after": {"type": Tag, "tag": "after"}}}
    assert results_of(config, [1]) == [("after", 3)]


def test_modules_stand_in_lists_too():
    assert results_of({"jobs": [Double, {"jobs": [Double, {"jobs": [Double]}]}, Double]}, [1]) == [16]


def test_a_module_may_send_its_work_into_itself_again():
    down = {"type": CountDown, "to": {"again": "step", "done": "output"}}
    config = {"jobs": {"loop": {"jobs": {"down": down, "step": {"type": Same, "to": "down"}}, "to": "output"}}}
    assert results_of(config, [(3, 0)]) == [3]


def test_the_outermost_reducer_gathers_the_whole_input():
    assert results_of({"jobs": [Double], "reducer": Sum}, range(10)) == [90]


def test_a_reducer_needs_no_jobs_and_emits_even_when_nothing_comes():
    assert results_of({"jobs": [], "reducer": {"type": Sum}}, range(10)) == [45]
    assert results_of({"jobs": [], "reducer": Sum}, []) == [0]


def test_a_module_with_a_reducer_reduces_for_each_item_that_enters():
    config = {"jobs": [{"jobs": [UpTo, Double], "reducer": Sum}]}
    assert results_of(config, [0, 2, 4]) == [0, 2, 12]


def test_what_a_reducer_emits_goes_on():
    config = {"jobs": [{"jobs": [UpTo], "reducer": Sum}, Double], "reducer": Sum}
    assert results_of(config, [2, 4]) == [14]


def test_reductions_nest():
    config = {"jobs": [{"jobs": [UpTo, {"jobs": [UpTo], "reducer": Sum}], "reducer": Sum}]}
    assert results_of(config, [4, 0]) == [0, 0 + 0 + 1 + 3]


@pytest.mark.parametrize("place", ["module", "reducer"])
def test_a_reducer_may_emit_to_targets(place):
    to = {"even": "e", "odd": "output"}
    module = {"jobs": [UpTo], "reducer": {"type": SortedSum}}
    (module if place == "module" else module["reducer"])["to"] = to
    config = {"jobs": {"sum": module, "e": {"type": Add, "amount": 1000}}}
    assert results_of(config, [2, 4, 5]) == [1, 1006, 1010]


def test_a_reducer_recurs_to_the_input_or_to_a_job():
    config = {"jobs": {"in": {"type": Same, "to": "output"}, "odd": {"type": Add, "amount": -1}}, "reducer": Halves}
    assert results_of(config, [7]) == [7 + 2 + 1]
    assert results_of({"jobs": [{**config, "jobs": {**config["jobs"]}}]}, [7, 4]) == [7, 10]


def test_a_frame_is_a_loop_over_its_jobs():
    assert results_of({"jobs": [Double], "frame": Rounds}, [1, 3]) == [[0], [0, 2, 4]]


def test_frames_stand_in_modules_and_hold_modules():
    inner = {"jobs": [Double, {"jobs": [UpTo], "reducer": Sum}], "frame": {"type": Rounds}}
    assert results_of({"jobs": [Double, inner]}, [1]) == [[0, 1]]


def test_a_frame_recurs_to_a_job():
    jobs = {"first": {"type": Tag, "tag": "first"}, "later": {"type": Tag, "tag": "later"}}
    came = [("first", 0), ("later", 1), ("later", 2)]
    assert results_of({"jobs": jobs, "frame": OtherRounds}, [3]) == [came]
    assert results_of({"jobs": [{"jobs": jobs, "frame": OtherRounds}]}, [3]) == [came]


def test_a_frame_that_recurs_nothing_is_done_at_once():
    class Empty(Rounds):
        def handleFirst(self, store, work):
            store.came, store.left = ["nothing"], 0
            self.recur(Multiple([]))
            self.recur(Multiple(iter([None])))

    assert results_of({"jobs": [Same], "frame": Empty}, [3]) == [["nothing"]]


# --- what a stage knows -----------------------------------------------------------------------------------------------
def test_one_class_in_two_jobs_has_two_instances():
    assert results_of({"jobs": [{"type": Add, "amount": 1}, {"type": Add, "amount": 10}]}, [0]) == [11]


def test_a_stage_finds_its_own_part_of_the_configuration():
    class Tell(common.Job):
        def handleWork(self, work):
            assert self.config["type"] is Tell
            self.emit({key: value for key, value in self.config.items() if key != "type"})

    config = {"to": "output", "number": 1.5, "text": "1.5", "list": [1, {"a": None}]}
    assert results_of({"jobs": {"tell": {"type": Tell, **config}}}, [0]) == [config]


@pytest.mark.parametrize("processes", [True, False])
def test_what_an_instance_changes_in_its_configuration_stays_there(processes):
    class Use(common.Job):
        def handleWork(self, work):
            self.config["list"].append(work)
            self.emit(work)

    shared = ["untouched"]
    config = {"jobs": [{"type": Use, "list": shared}, {"type": Use, "list": shared}]}
    results_of(config, range(5), useMultiprocessing=processes)
    assert shared == ["untouched"]


def test_each_instance_is_set_up_once_before_any_work(tally):
    class Prepared(common.Job):
        def postSetup(self):
            tally.note(self.config["name"], os.getpid())
            self.ready = True

        def handleWork(self, work):
            assert self.ready
            self.emit(work)

    config = {"jobs": [{"type": Prepared, "name": "a"}, {"type": Prepared, "name": "b"}]}
    assert results_of(config, range(200)) == list(range(200))
    noted = [line.split() for line in tally.lines()]
    assert len(noted) == len({tuple(line) for line in noted})
    assert {name for name, _ in noted} == {"a", "b"}
    assert str(os.getpid()) not in {pid for _, pid in noted}


def test_the_reducer_and_the_frame_have_a_configuration_too():
    class Scaled(Sum):
        def handleDone(self, store):
            self.emit(store.total * self.config["scale"])

    class Limited(Rounds):
        def handleFirst(self, store, work):
            super().handleFirst(store, self.config["rounds"])

    frame = {"jobs": [Same], "frame": {"type": Limited, "rounds": 2}}
    assert results_of({"jobs": [Same], "reducer": {"type": Scaled, "scale": 10}}, [1, 2]) == [30]
    assert results_of({"jobs": [frame]}, [9]) == [[0, 1]]


def test_a_class_may_ask_for_threads():
    class Here(Process):
        USE_MULTIPROCESSING = False

    class HereToo(Sum):
        USE_MULTIPROCESSING = False

        def handleDone(self, store):
            self.emit(os.getpid())

    assert results_of({"jobs": [Here]}, [1]) == [os.getpid()]
    assert results_of({"jobs": [{"jobs": [Process], "reducer": HereToo}]}, [1]) == [os.getpid()]
    assert results_of({"jobs": [Process]}, [1]) != [os.getpid()]


def test_args_are_spread_as_in_other_streams():
    class Power(common.Job):
        def handleWork(self, base, exponent=2):
            self.emit(base**exponent)

    class Pair(common.Job):
        def handleWork(self, work):
            self.emit(Args(work, exponent=3))

    assert results_of({"jobs": [Power]}, [Args(2, 5), Args(3), 4]) == [9, 16, 32]
    assert results_of({"jobs": [Pair, {"jobs": [Power], "reducer": Sum}]}, [2]) == [8]


# --- running ----------------------------------------------------------------------------------------------------------
def test_results_are_printed_when_nobody_handles_them(capsys):
    common.work = ["a", Args(1, b=2)]
    common.run({"jobs": [Whole]})
    assert sorted(capsys.readouterr().out.splitlines()) == ["'a'", "Args(1, b=2)"]


class Whole(common.Job):
    def handleWork(self, *work, **named):
        self.emit(Args(*work, **named) if named else work[0])


def test_work_may_be_appended_or_assigned():
    results = []
    common.work = []
    common.work.append(1)
    common.run({"jobs": [Double]}, handleResult=results.append)
    common.work = iter([2])
    common.run({"jobs": [Double]}, handleResult=results.append)
    assert results == [2, 4]


def test_run_takes_the_keywords_of_work(capfd):
    class Refuse(common.Job):
        def handleWork(self, work):
            self.emit(100)
            if work == 1:
                raise ValueError("one")
            self.emit(work)

    assert results_of({"jobs": [Refuse]}, [0, 1, 2], onError="skip") == [0, 2, 100, 100]
    assert "1 item was skipped; the first: stage 'Refuse', item 1" in capfd.readouterr().err


def test_what_a_failed_try_emitted_does_not_go_on(once):
    class Second(common.Job):
        def handleWork(self, work):
            self.emit(work)
            if once(work):
                raise ValueError

    assert results_of({"jobs": [Second]}, [0, 1], retries=1) == [0, 1]


def test_a_seed_gives_the_same_numbers_whichever_way_work_goes():
    class Draw(common.Job):
        def handleWork(self, work):
            self.emit((work, int(rng().integers(1000))), "odd" if work % 2 else "even")

    config = {"jobs": {"draw": {"type": Draw, "to": {"even": "output", "odd": "o"}}, "o": Same}}
    first = results_of(config, range(20), seed=1, cpus=1)
    assert first == results_of(config, range(20), seed=1)
    assert first != results_of(config, range(20), seed=2)


# --- errors while it runs ---------------------------------------------------------------------------------------------
def test_an_error_names_the_stage_by_its_place_in_the_configuration():
    class Fail(common.Job):
        def handleWork(self, work):
            raise ValueError("no")

    config = {"jobs": {"outer": {"jobs": {"inner": Fail}, "reducer": Sum}}}
    with pytest.raises(ValueError, match="no") as caught:
        results_of(config, [1])
    assert isinstance(caught.value.__cause__, StageError)
    assert caught.value.__cause__.stage == "outer.inner"


@pytest.mark.parametrize(
    ("to", "target", "said"),
    [
        ({"even": "output", "odd": "output"}, None, "must name its target.*'even', 'odd'"),
        ({"even": "output", "odd": "output"}, "evn", "no target 'evn', but 'even', 'odd'; did you mean 'even'"),
        ("output", "even", "cannot name a target.*'even'"),
    ],
)
def test_a_target_must_be_one_that_the_configuration_names(to, target, said):
    class Emit(common.Job):
        def handleWork(self, work):
            self.emit(work, target)

    with pytest.raises(PlanError, match=f"emit in stage 'a'.*{said}"):
        results_of({"jobs": {"a": {"type": Emit, "to": to}}}, [1])


def test_the_only_target_need_not_be_named():
    class Both(common.Job):
        def handleWork(self, work):
            self.emit(work)
            self.emit(work, "on")

    assert results_of({"jobs": {"a": {"type": Both, "to": {"on": "output"}}}}, [1]) == [1, 1]


def test_work_is_recurred_to_jobs_of_the_module_only():
    class Astray(Sum):
        def handleAdd(self, store, work):
            self.recur(work, "secnd")

    config = {"jobs": {"first": Same, "second": Same}, "reducer": Astray}
    with pytest.raises(PlanError, match=r"recur in stage 'reducer' has no target 'secnd'.*did you mean 'second'"):
        results_of(config, [1])


def test_an_output_that_cannot_be_pickled_names_the_stages_it_may_be_of():
    class Lock(common.Job):
        def handleWork(self, work):
            import threading

            self.emit(threading.Lock(), "odd")

    class There(Same):
        USE_MULTIPROCESSING = False

    config = {
        "jobs": {
            "lock": {"type": Lock, "to": {"even": "other", "odd": "there"}},
            "other": {"type": Same, "to": "there"},
            "there": There,
        }
    }
    with pytest.raises(Exception, match="pickle") as caught:
        results_of(config, [1])
    assert caught.value.__cause__.stage in ("other or lock", "lock or other")
