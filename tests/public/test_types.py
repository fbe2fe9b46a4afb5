"""What type checkers make of a user's script: decorators give functions back as they are, and mistakes are found.

The scripts are in ``typed/``. A line of them that is wrong says in a comment what is expected of each checker.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

import pytest

import job_stream
from job_stream import Work, keywords

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
SCRIPTS = ("right", "wrong")
TIMEOUT_S = 300
EXPECTED = re.compile(r"# expected: ([\w-]+), (\w+)$")

run_once = pytest.mark.xdist_group("type checkers")  # one worker asks each checker about both scripts

Found = dict[str, dict[int, set[str]]]
"""The codes of what a checker says, by script and line."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package as it is installed, with job_stream.baked in it; checkers don't run what finds it."""
    folder = tmp_path_factory.mktemp("typed")
    package = folder / "site" / "job_stream"
    package.mkdir(parents=True)
    for entry in (*Path(job_stream.__file__).parent.iterdir(), REPOSITORY / "baked"):
        (package / entry.name).symlink_to(entry)
    for script in SCRIPTS:
        (folder / f"{script}.py").write_text((HERE / "typed" / f"{script}.py").read_text())
    (folder / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict", "extraPaths": ["site"]}')
    return folder


@pytest.fixture(scope="module")
def said_by_mypy(folder: Path) -> Found:
    options = ["--strict", "--follow-imports=silent", "--no-error-summary", "--hide-error-context", "--no-pretty"]
    said = output_of(["mypy", *options, "--python-executable", sys.executable], folder)
    return sorted_out(re.findall(r"^(\w+)\.py:(\d+): error: .*\[([\w-]+)\]$", said, re.MULTILINE), said)


@pytest.fixture(scope="module")
def said_by_pyright(folder: Path) -> Found:
    said = output_of(["basedpyright", "--outputjson", "--level", "error", "--pythonpath", sys.executable], folder)
    problems = json.loads(said)["generalDiagnostics"]
    rows = [(Path(each["file"]).stem, each["range"]["start"]["line"] + 1, each["rule"]) for each in problems]
    return sorted_out(rows, said)


def output_of(command: list[str], folder: Path) -> str:
    program = Path(sys.executable).with_name(command[0])
    done = subprocess.run(
        [program, *command[1:], *(f"{script}.py" for script in SCRIPTS)],
        cwd=folder, env={**os.environ, "MYPYPATH": "site"}, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"  # something was found, and nothing else is wrong
    return done.stdout


def sorted_out(rows: list[tuple[str, str, str]], said: str) -> Found:
    found: Found = {script: defaultdict(set) for script in SCRIPTS}
    for script, line, code in rows:
        found[script][int(line)].add(code)
    assert any(found.values()), said
    return found


def expected(checker: int) -> dict[int, str]:
    lines = enumerate((HERE / "typed" / "wrong.py").read_text().splitlines(), 1)
    return {number: match[checker] for number, line in lines if (match := EXPECTED.search(line))}


def check_mistakes(found: dict[int, set[str]], checker: int) -> None:
    wanted = expected(checker)
    assert found.keys() == wanted.keys()
    assert {line: code for line, code in wanted.items() if code not in found[line]} == {}


@run_once
def test_mypy_has_nothing_to_say_about_a_right_script(said_by_mypy: Found) -> None:
    assert not said_by_mypy["right"]


@run_once
def test_pyright_has_nothing_to_say_about_a_right_script(said_by_pyright: Found) -> None:
    assert not said_by_pyright["right"]


@run_once
def test_mypy_finds_each_mistake_of_a_wrong_script(said_by_mypy: Found) -> None:
    check_mistakes(said_by_mypy["wrong"], 1)


@run_once
def test_pyright_finds_each_mistake_of_a_wrong_script(said_by_pyright: Found) -> None:
    check_mistakes(said_by_pyright["wrong"], 2)


def test_the_keywords_for_type_checkers_are_those_of_work() -> None:
    parameters = inspect.signature(Work).parameters.keys() - {"initialWork"}
    assert keywords.WorkKeywords.__optional_keys__ == parameters


def test_the_keywords_for_type_checkers_are_those_of_the_decorators() -> None:
    from job_stream.stream.recorder import KEYWORDS

    assert keywords.FrameKeywords.__optional_keys__ | keywords.JobKeywords.__optional_keys__ == set(KEYWORDS)


def test_the_values_of_on_error_for_type_checkers_are_those_that_work_takes() -> None:
    for value in get_args(keywords.OnError):
        Work(onError=value)
