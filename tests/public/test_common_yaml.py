"""Configurations in YAML files: what may stand there, and how mistakes are said."""

import math
import re
import textwrap

import pytest
from common_support import results_of

from job_stream import common
from job_stream.errors import PlanError
from job_stream.stream.configuration.yamlfile import read_yaml


class Own(common.Job):
    """A class of the module that calls."""

    def handleWork(self, work):
        self.emit(work + 100)


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "stream.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return write


def test_a_file_names_classes_of_modules_and_of_the_script(write):
    path = write("""
        jobs:
          - type: common_support.Add
            amount: 1
          - common_support.Double
          - type: Own
        reducer: common_support.Sum
    """)
    common.work, results = [1, 2], []
    common.run(path, handleResult=results.append)
    common.run(str(path), handleResult=results.append)
    assert results == [210, 210]


def test_targets_modules_and_cycles_stand_in_a_file(write):
    path = write("""
        input: down
        jobs:
          down:
            type: common_support.CountDown
            to: {again: down, done: sums}
          sums:
            jobs: [common_support.UpTo]
            reducer:
              type: common_support.SortedSum
              to: {even: output, odd: more}
          more: {type: common_support.Add, amount: 1000}
    """)
    assert results_of(path, [(4, 0), (2, 0)]) == [6, 1001]


def test_a_script_runs_its_own_classes_from_a_file(start, write):
    write("jobs: [Shout, {type: Repeat, times: 2}]")
    script = start("""
        from job_stream import common

        class Shout(common.Job):
            def handleWork(self, work):
                self.emit(work.upper())

        class Repeat(common.Job):
            def handleWork(self, work):
                self.emit(work * self.config["times"])

        common.work.append("hey")
        common.run("stream.yaml")
    """)
    ended = script.ended()
    assert (ended.code, ended.out) == (0, "'HEYHEY'\n"), ended.err


# --- what stands in a file --------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5), ("-5", -5), ("010", 10), ("0o17", 15), ("0x1F", 31), ("1e3", 1000.0), ("1.5e-3", 0.0015), (".5", 0.5),
        ("-.inf", -math.inf), ("true", True), ("False", False), ("null", None), ("~", None), ("", None),
        ("no", "no"), ("on", "on"), ("12:30", "12:30"), ("2024-01-01", "2024-01-01"), ("1_000", "1_000"), ("'5'", "5"),
        ("1.2.3", "1.2.3"), ("+", "+"), ("e3", "e3"), ("-x", "-x"), ("[1, b]", [1, "b"]), ("=", "="),
    ],
)  # fmt: skip
def test_numbers_stay_numbers_and_text_stays_text(write, text, value):
    found = read_yaml(write(f"key: {text}\n"))["key"]
    assert found == value
    assert type(found) is type(value)


def test_parts_may_be_used_twice(write):
    found = read_yaml(write("""
        one: &part {a: 1, b: 2}
        two: {<<: *part, b: 3}
        three: *part
    """))  # fmt: skip
    assert found == {"one": {"a": 1, "b": 2}, "two": {"a": 1, "b": 3}, "three": {"a": 1, "b": 2}}


def test_a_stage_gets_plain_mappings_and_lists(write, tmp_path):
    path = write("""
        jobs:
          - type: common_support.Tag
            tag: {list: [1, {deep: yes}]}
    """)
    ((found, _),) = results_of(path, [0])
    assert found == {"list": [1, {"deep": "yes"}]}
    assert type(found) is type(found["list"][1]) is dict


# --- mistakes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("jobs:\n  - [1\nreducer: 5\n", "stream.yaml, line 3: while parsing a flow sequence, expected ',' or ']'"),
        ("jobs:\n\t- Own\n", "stream.yaml, line 2: .*character '\\\\t' that cannot start any token"),
        ("jobs: [Own]\n\njobs: [Own]\n", "stream.yaml, line 3: the key 'jobs' stands in line 1, too"),
        ("jobs:\n  a: {type: Own,\n      type: Own}\n", "stream.yaml, line 3: the key 'type' stands in line 2, too"),
        ("1: a\n01: b\n", "stream.yaml, line 2: the key '01' stands in line 1, too"),
        ("jobs: [Own]\nx: !!python/object/apply:os.getpid []\n", "stream.yaml, line 2: could not determine a constr"),
        ("x: &a [*a]\n", "stream.yaml, line 1: found unconstructable recursive node"),
        ("x: &a {y: *a}\n", "stream.yaml, line 1: found unconstructable recursive node"),
        ("a: 1\n---\nb: 2\n", "stream.yaml, line 2: expected a single document in the stream"),
        ("a: \x00", "stream.yaml: unacceptable character"),
        ("", "stream.yaml: it must hold a mapping, .*; it holds nothing"),
        ("- Own", "stream.yaml: it must hold a mapping, .*; it holds a list"),
    ],
)
def test_what_is_no_proper_file_is_refused_with_its_line(write, text, said):
    with pytest.raises(PlanError) as caught:
        read_yaml(write(text))
    assert re.search(said, str(caught.value))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# none\nreducer: Own\n", r"the outermost module \(.*stream.yaml, line 2\): it has no jobs"),
        ("jobs:\n  a:\n    type: Onw\n", r"job 'a' \(.*stream.yaml, line 3\): the script has no class 'Onw'; .*'Own'"),
        ("jobs: [Own]\nreducer:\n  type: Own\n", r"'reducer' \(.*stream.yaml, line 3\): a reducer is a class derived"),
        ("jobs: [Own]\nreducer: Own\n", r"'reducer' \(.*stream.yaml, line 2\): a reducer is a class derived"),
        ("jobs:\n  - Own\n  - Onw\n", r"job 'Onw' \(.*stream.yaml, line 3\): the script has no class 'Onw'; .*'Own'"),
        ("jobs:\n  a: Own\n  b: Onw\n", r"job 'b' \(.*stream.yaml, line 3\): the script has no class 'Onw'"),
        ("jobs: &all\n  - Own\n  -\n", r"job 'job' \(.*stream.yaml, line 3\): it has no type, .* use$"),
        ("jobs:\n  a: {type: Own, to: b}\n", r"job 'a' \(.*stream.yaml, line 2\): to names 'b'"),
        ("jobs:\n  - jobs: [Own]\n    inptu: x\n", r"module 'module' \(.*, line 2\): .*no key 'inptu'.*'input'"),
        ("jobs:\n  yes: Own\n  5: Own\n", r"the name of a job must be text, not 5"),
    ],
)
def test_a_mistake_in_a_module_is_said_with_its_line(write, text, said):
    with pytest.raises(PlanError) as caught:
        common.run(write(text))
    assert re.search(said, str(caught.value))


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.yaml"):
        common.run(tmp_path / "missing.yaml")
