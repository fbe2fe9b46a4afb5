"""Mistakes in a configuration: each is refused before anything runs, and said to be where it is."""

import re

import pytest
from common_support import Double, Rounds, Same, Sort, Sum, results_of

from job_stream import common
from job_stream.errors import PlanError


def refusal(config, **keywords):
    with pytest.raises(PlanError) as caught:
        results_of(config, [1], **keywords)
    return str(caught.value)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ([Double], "the outermost module: it must be a mapping with jobs, not list"),
        ({}, "the outermost module: it has no jobs"),
        ({"reducer": Sum}, "the outermost module: it has no jobs"),
        ({"jobs": []}, "the outermost module: its jobs are empty"),
        ({"jobs": "Double"}, "jobs must be a list or a mapping, not str: 'Double'"),
        ({"jobs": [{"jobs": 5}]}, "module 'module': jobs must be a list or a mapping, not int: 5"),
        ({"jobs": [Double], "reducr": Sum}, "knows no key 'reducr'.*did you mean 'reducer'"),
        ({"jobs": [Double], "to": "output"}, "the outermost module: a module knows no key 'to'"),
        ({"jobs": [Same], "reducer": Sum, "frame": Rounds}, "it has a reducer and a frame"),
        ({"jobs": {5: Double}}, "the name of a job must be text, not 5"),
        ({"jobs": {"output": Double}}, "a job cannot be named 'output'"),
        ({"jobs": [{"typ": Double}]}, "job 'job': it has neither type.* nor jobs.*did you mean 'type'"),
        ({"jobs": {"a": {"type": None}}}, "job 'a': it has no type"),
        ({"jobs": [Same], "reducer": {"typ": Sum}}, "'reducer': it has no type.*did you mean 'type'"),
    ],
)
def test_the_shape_of_a_module_is_checked(config, said):
    assert re.search(said, refusal(config))


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"jobs": {"a": 5}}, "job 'a': type must be a class or the name of one, not 5"),
        ({"jobs": [Sum]}, "job 'Sum': a job is a class derived from common.Job, and Sum is a reducer"),
        ({"jobs": [dict]}, "job 'dict': a job is a class derived from common.Job, and dict is none"),
        ({"jobs": [Same], "reducer": Rounds}, "'reducer': a reducer is a class.* and Rounds is a frame"),
        ({"jobs": [Same], "frame": Double}, "'frame': a frame is a class.* and Double is a job"),
        ({"jobs": ["Doubel"]}, "job 'Doubel': the script has no class 'Doubel'; did you mean 'Double'"),
        ({"jobs": ["Qqq"]}, "the script has no class 'Qqq'; a class of a module is named module.Class"),
        ({"jobs": ["common_support.Doubel"]}, "'common_support' has no class 'Doubel'; did you mean 'Double'"),
        ({"jobs": ["no_such.Double"]}, "module 'no_such' of 'no_such.Double' cannot be imported: No module named"),
        ({"jobs": ["os.path.no.Double"]}, "module 'os.path.no' of"),
    ],
)
def test_a_class_must_be_there_and_of_the_right_kind(config, said):
    assert re.search(said, refusal(config))


def test_what_goes_wrong_inside_a_module_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_jobs.py").write_text("import no_such_module_at_all\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_module_at_all"):
        common.run({"jobs": ["broken_jobs.Job"]})


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ({"first": {"type": Same, "to": "secnd"}, "second": Same}, "'first': to names 'secnd'.*mean 'second'"),
        ({"a": {"type": Sort, "to": {"even": "b"}}}, "job 'a': to names 'b', but its module has 'a', 'output'"),
        ({"a": {"type": Same, "to": 5}}, "job 'a': to must be the name of a job, or a mapping.*, not int: 5"),
        ({"a": {"type": Same, "to": []}}, "job 'a': to must be the name of a job, or a mapping.*, not list"),
        ({"a": {"type": Same, "to": {}}}, "job 'a': to must be the name of a job, or a mapping.*, not dict"),
        ({"a": {"type": Same, "to": {True: "output"}}}, "job 'a': a target in to must be text, not True"),
        ({"a": {"type": Same, "to": {"": "output"}}}, "job 'a': a target in to must be text, not ''"),
        ({"a": {"type": Same, "to": {"x": ["output"]}}}, "job 'a': to must name a job, not "),
        ({"a": {"jobs": [Same], "to": {"x": "output"}}}, "module 'a': to must be one name"),
        ({"a": {"jobs": [Same], "to": "b"}, "b": {"jobs": [], "reducer": {"type": Sum, "to": "a"}, "to": "a"}},
         "module 'b': it says to, and so does its reducer"),
        ([{"type": Same, "to": "Double"}, Same, Double], "job 'Same': it stands in a list"),
    ],
)  # fmt: skip
def test_work_can_only_go_where_something_is(jobs, said):
    assert re.search(said, refusal({"jobs": jobs}))


def test_the_last_of_a_list_may_say_that_it_leads_out():
    assert results_of({"jobs": [Same, {"type": Double, "to": "output"}]}, [1]) == [2]


def test_the_outermost_reducer_can_only_lead_out():
    config = {"jobs": {"a": Same}, "reducer": {"type": Sum, "to": "a"}}
    assert "the outermost module: to can only be output here, not 'a'" in refusal(config)
    assert results_of({**config, "reducer": {"type": Sum, "to": "output"}}, [1]) == [1]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"jobs": {"a": Same, "b": Same}, "input": "c"}, "input names 'c', but there is 'a', 'b'"),
        ({"jobs": {"a": Same}, "input": ["a"]}, r"input names \['a'\], but there is 'a'"),
        ({"jobs": [Same], "input": "Same"}, "input cannot be chosen, as jobs is a list"),
        ({"jobs": {"a": Same, "b": Same}}, "job 'b': no work can ever reach it"),
        ({"jobs": {"a": Same, "m": {"jobs": [Same]}}}, "job 'm.Same': no work can ever reach it"),
    ],
)
def test_every_job_must_be_reached_from_the_input(config, said):
    assert re.search(said, refusal(config))


def test_a_cycle_needs_a_way_out():
    jobs = {"in": {"type": Same, "to": "a"}, "a": {"type": Same, "to": "m"}, "m": {"jobs": [Same], "to": "a"}}
    assert "a cycle without end: 'a' -> 'm.Same' -> 'a'" in refusal({"jobs": jobs})
    assert "'a' -> 'a'" in refusal({"jobs": {"a": {"type": Same, "to": "a"}}, "reducer": Sum})


def test_an_unknown_keyword_is_refused():
    assert "does not know the keyword 'checkpointfile'; did you mean 'checkpointFile'?" in refusal(
        {"jobs": [Same]}, checkpointfile="x"
    )


def test_what_handles_results_must_be_a_function():
    with pytest.raises(PlanError, match="takes a function, not int"):
        common.run({"jobs": [Same]}, handleResult=5)


def test_equal_classes_of_a_list_are_told_apart_by_number():
    class MayFail(common.Job):
        def handleWork(self, work):
            if self.config.get("fails"):
                raise ValueError("as it is told")
            self.emit(work)

    with pytest.raises(ValueError, match="as it is told") as caught:
        results_of({"jobs": [MayFail, {"type": MayFail, "fails": True}]}, [1])
    assert caught.value.__cause__.stage == "MayFail 2"
