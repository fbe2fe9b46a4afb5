"""What is promised about the tests themselves: they may be started from anywhere, and see what is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from support import DEADLINE_S, REPOSITORY

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
IN_THE_BACKGROUND = '"$@" & wait $!'


def pytest_said(folder: Path, *words: object, shell: str = 'exec "$@"', **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-c", shell, "bash", *PYTEST, f"--basetemp={folder / 'base'}", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, **variables},
        timeout=DEADLINE_S,
    )
    return done.stdout + done.stderr


def test_tests_of_ctrl_c_pass_that_a_shell_starts_in_the_background_without_a_home(tmp_path: Path) -> None:
    ctrl_c = "tests/invoke/test_invoke.py::test_ctrl_c_ends_a_program"
    said = pytest_said(tmp_path, ctrl_c, shell=IN_THE_BACKGROUND, HOME="/nonexistent")
    assert "1 passed" in said, said


def test_every_worker_of_the_tests_sees_what_a_test_leaves_behind(tmp_path: Path) -> None:
    path = tmp_path / "test_that_leaves.py"
    path.write_text(
        textwrap.dedent("""
            import conftest
            import subprocess

            conftest.PROMPT_S = 0.1  # it stays, however long one waits

            def test_leaves_an_orphan():
                subprocess.run(["sh", "-c", "sleep 600 >&- 2>&- &"], check=True)
        """)
    )
    both = ("--dist=each", "--tx=2*popen")
    ours = ("-p", "conftest", "-c", REPOSITORY / "pyproject.toml", f"--rootdir={tmp_path}")
    said = pytest_said(tmp_path, *both, *ours, path, PYTHONPATH=str(REPOSITORY / "tests"))
    assert "2 passed, 2 errors" in said, said
    assert said.count("processes left behind: [\"") >= 2, said


def test_tests_of_one_group_are_run_by_one_worker(tmp_path: Path) -> None:
    path, notes = tmp_path / "test_of_a_group.py", tmp_path / "notes"
    path.write_text(
        textwrap.dedent(f"""
            import os
            import pytest

            @pytest.mark.xdist_group("a group")
            @pytest.mark.parametrize("number", range(8))
            def test_notes_its_worker(number):
                with open({str(notes)!r}, "a") as file:
                    file.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")
        """)
    )
    said = pytest_said(tmp_path, "-n2", "-c", REPOSITORY / "pyproject.toml", f"--rootdir={tmp_path}", path)
    assert "8 passed" in said, said
    assert len(set(notes.read_text().splitlines())) == 1, "this pytest and this pytest-xdist do not fit each other"
