"""What runs of a job in YAML, what is left of it, and what the command says and ends with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pipeline_support import JOB, letters, module

from job_stream.baked.pipeline import Pipeline
from job_stream.errors import GraphError

LIMIT_S = 240


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAN", str(tmp_path / "ran.log"))
    letters()
    return tmp_path


def ran():
    """The modules that have run since the last call."""
    path = Path("ran.log")
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def run(**keywords):
    return Pipeline("job.yaml").run(["start.txt"], **{"id": "me", **keywords})


def files():
    root = Path("storage/me")
    return sorted(str(path.relative_to(root)) for name in ("public", "temp") for path in (root / name).rglob("*"))


def command(*words):
    line = [sys.executable, "-m", "job_stream", "pipeline", *words]
    return subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S, check=False)


def test_a_run_makes_public_artifacts_and_removes_temporary_ones():
    result = run()
    assert result.made == ["one/a", "two/b"]
    assert result.public["b.txt"].read_text() == "sab"
    assert files() == ["public/b.txt"]
    assert os.readlink("storage/me/input/start.txt") == os.path.abspath("start.txt")
    log = Path("storage/me/logs/two.b.1.log").read_text().splitlines()
    assert log[0].startswith("$ ")
    assert sorted(log[1:3]) == ["said", "whispered"]
    assert log[3].startswith("exit code 0, ")


def test_nothing_runs_twice():
    run()
    ran()
    assert run().kept == ["one/a", "two/b"]
    assert ran() == []


def test_temporary_artifacts_stay_where_that_is_asked_for():
    assert run(keepTemp=True).temp["a.txt"].read_text() == "sa"


@pytest.mark.parametrize(("path", "add", "expected"), [
    ("start.txt", "x", ["a", "b"]),
    ("modules/b/main.py", "\n#", ["a", "b"]),
    ("modules/b/manifest.yaml", "author: me\n", []),
    ("modules/b/manifest.yaml", "env: {X: 1}\n", ["a", "b"]),
    ("job.yaml", "# comment\n", []),
])  # fmt: skip
def test_what_has_entries_run_again(path, add, expected):
    run()
    ran()
    with open(path, "a") as file:
        file.write(add)
    run()
    assert ran() == expected


def test_another_name_of_a_step_runs_nothing():
    run()
    ran()
    Path("job.yaml").write_text(JOB.replace("name: two", "name: second"))
    run()
    assert ran() == []


def test_outputs_that_come_out_the_same_stop_the_wave():
    module("a", program="import sys; open(sys.argv[4], 'w').write('same')")
    run()
    ran()
    Path("start.txt").write_text("other")
    assert run().made == ["one/a"]


def test_a_failure_tells_all_and_the_same_call_goes_on():
    module("b", program="print('so far'); raise SystemExit(3)")
    with pytest.raises(GraphError) as caught:
        run()
    text = str(caught.value)
    for part in ("two/b (module b) failed: exit code 3", "command: ", "main.py --input", "so far", "two.b.1.log"):
        assert part in text
    assert files() == ["temp/a.txt"]
    module("b")
    ran()
    assert run().made == ["two/b"]
    assert ran() == ["b"]


def test_an_output_that_leads_out_counts_as_not_made():
    Path("secret").write_text("x")
    module("b", program=f"import os, sys; os.symlink({os.path.abspath('secret')!r}, sys.argv[4])")
    with pytest.raises(GraphError, match=r"is a link that leads out of"):
        run()
    assert Path("secret").read_text() == "x"


def test_an_empty_output_is_a_failure_unless_it_is_allowed():
    module("b", program="import sys; open(sys.argv[4], 'w')")
    with pytest.raises(GraphError, match=r"b.txt is empty"):
        run()
    Path("job.yaml").write_text(JOB.replace("public: true", "public: true, emptyOk: true"))
    assert run().public["b.txt"].read_text() == ""


@pytest.mark.parametrize(
    "name", ["a b", "'q'", '"', "$(touch hacked)", "x; touch hacked", "ümläut", "-rf", "{path}", "%s"]
)
def test_hostile_names_are_names(name):
    within = json.dumps(f"d/{name}", ensure_ascii=False)
    Path("job.yaml").write_text(JOB.replace("a.txt", json.dumps(name, ensure_ascii=False)).replace("b.txt", within))
    os.rename("start.txt", name)
    Pipeline("job.yaml").run([name], id="me")
    assert files() == ["public/d", f"public/d/{name}"]
    assert not list(Path().rglob("hacked"))


def test_parameters():
    module("b", program="import sys; open(sys.argv[4], 'w').write(repr(sys.argv[5:]))")
    given = "      - module: b\n        parameters: {v: 1.10, on: true, off: false, none: null, many: [x, 'y z']}\n"
    Path("job.yaml").write_text(JOB.replace("      - module: b\n", given))
    assert run().public["b.txt"].read_text() == repr(["--v", "1.10", "--on", "--many", "x", "--many", "y z"])


def test_progress_tells_of_steps_and_entries():
    told = []

    def progress(update):
        told.append((update.current_step, update.total_steps, update.entry, update.state))

    run(progress=progress)
    assert told == [(1, 2, None, "running"), (1, 2, "one/a", "running"), (1, 2, "one/a", "made"),
                    (2, 2, None, "running"), (2, 2, "two/b", "running"), (2, 2, "two/b", "made")]  # fmt: skip
    told.clear()
    run(progress=progress)
    assert [each[2:] for each in told] == [(None, "running"), ("one/a", "kept"), (None, "running"), ("two/b", "kept")]


def test_a_plan_and_a_check_write_nothing():
    made = Pipeline("job.yaml")
    made.check()
    assert made.plan(["start.txt"]).ids("make") == ["one/a", "two/b"]
    assert not Path("storage").exists()


# --- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_public_artifacts():
    ended = command("job.yaml", "start.txt", "--id", "me")
    assert (ended.returncode, ended.stdout) == (0, "storage/me/public/b.txt\n"), ended.stderr
    assert "[one/a] whispered\n" in ended.stderr
    assert "said" not in ended.stderr
    ended = command("job.yaml", "--input", "input=start.txt", "--id", "me", "--json", "-q")
    assert json.loads(ended.stdout)["kept"] == ["one/a", "two/b"]
    assert ended.stderr == ""


def test_exit_codes():
    assert command("job.yaml", "--check").returncode == 0
    assert command("job.yaml", "start.txt", "--plan").returncode == 3
    ended = command("job.yaml")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert not Path("storage").exists()
    module("b", program="raise SystemExit(3)")
    ended = command("job.yaml", "start.txt")
    assert (ended.returncode, ended.stdout) == (1, "")


def test_modules_are_listed():
    ended = command("modules")
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "a  input: text -> output: text  The module a.")
