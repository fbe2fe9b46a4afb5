"""What runs of a job in YAML, what is left of it, and what the command says and ends with."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pipeline_support import JOB, letters, module, ran

from job_stream.baked.pipeline import Pipeline, PipelineUpdate
from job_stream.baked.pipeline.pipeline_command import main
from job_stream.baked.pipeline.pipeline_screen import PipelineScreen
from job_stream.errors import GraphError

LIMIT_S = 240


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAN", str(tmp_path / "RAN"))
    letters()
    return tmp_path


def run(**keywords):
    return Pipeline("job.yaml").run(["start.txt"], **{"id": "me", **keywords})


def files():
    root = Path("storage/me")
    return sorted(str(path.relative_to(root)) for name in ("public", "temp") for path in (root / name).rglob("*"))


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


def test_nothing_runs_again_for_the_same_interpreter_by_another_of_its_names(monkeypatch):
    run()
    ran()
    path = Path(sys.executable)
    others = [path.with_name(name) for name in ("python", "python3", "python{}.{}".format(*sys.version_info))]
    for other in [each for each in others if each.exists() and each.samefile(path)]:
        monkeypatch.setattr(sys, "executable", str(other))
        assert run().kept == ["one/a", "two/b"]
    assert ran() == []


def test_temporary_artifacts_stay_where_that_is_asked_for():
    assert run(keepTemp=True).temp["a.txt"].read_text() == "sa"


def test_temporary_artifacts_go_when_all_that_read_them_are_through_and_those_that_nobody_reads_too():
    text = JOB.replace(", public: true", "")
    second = text[text.index("  - name: two") :]
    third = second.replace("two", "three").replace("b.txt", "c.txt").replace("a.txt", "b.txt")
    Path("job.yaml").write_text(text + third)
    made = Pipeline("job.yaml")
    assert made.warnings == ["job.yaml:20: nobody reads 'c.txt', which is temporary, so it is removed"]
    there = {}

    def look(update):
        there[update.entry, update.state] = files()

    made.run(["start.txt"], id="me", progress=look)
    assert there["two/b", "made"] in (["temp/b.txt"], ["temp/a.txt", "temp/b.txt"])
    assert "temp/a.txt" not in there["three/b", "made"]
    assert files() == []


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


def test_another_order_of_entries_and_other_names_and_words_run_nothing():
    first, second = (f"      - {{module: a, outputs: [{{name: {name}, param_name: output, type: text}}]}}\n"
                     for name in ("1.txt", "2.txt"))  # fmt: skip
    module("a", inputs=())
    head = "name: x\nversion: 1\nsteps:\n  - name: one\n    entries:\n"
    Path("job.yaml").write_text(head + first + second)
    Pipeline("job.yaml").run(id="me")
    Path("job.yaml").write_text(head.replace("one", "first").replace("1", "2") + second + first)
    module("a", inputs=(), more="version: 2\n")
    manifest = Path("modules/a/manifest.yaml")
    manifest.write_text(manifest.read_text().replace("The module", "Module"))
    assert Pipeline("job.yaml").run(id="me").made == []


def test_environment_and_folder_of_a_program():
    program = "import os, sys\nopen(sys.argv[4], 'w').write(f\"{os.environ['X']} {os.getcwd()} {os.listdir()}\")"
    for cwd, expected in (("scratch", "storage/me/.build/scratch/two.b.1 []"), ("module", "modules/b ["),
                          ("caller", ". [")):  # fmt: skip
        module("b", program=program, more=f"env: {{X: '$HOME'}}\ncwd: {cwd}\n")
        text = run().public["b.txt"].read_text()
        assert text.startswith(f"$HOME {os.path.abspath(expected.partition(' ')[0])} {expected.partition(' ')[2]}")
        assert not Path("storage/me/.build/scratch").exists()


def test_virtual_environments_are_made_where_that_is_asked_for(command):
    module("b", program="import sys; open(sys.argv[4], 'w').write(sys.prefix)", more="venv: env\n")
    code, _, err = command("job.yaml", "start.txt", "--id", "me")
    assert (code, "make it with --make-venvs" in err) == (2, True)
    assert command("job.yaml", "start.txt", "--id", "me", "--make-venvs")[0] == 0
    assert Path("storage/me/public/b.txt").read_text() == os.path.abspath("modules/b/env")
    code, _, err = command("job.yaml", "start.txt", "--id", "me")
    assert (code, "kept 2" in err) == (0, True)
    with open("modules/b/manifest.yaml", "a") as file:
        file.write("requirements: main.py\n")
    code, _, err = command("job.yaml", "start.txt", "--id", "me", "--make-venvs")
    assert (code, "the virtual environment of module 'b' cannot be made" in err) == (2, True)


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


def test_a_program_that_cannot_be_started_has_a_log_too():
    tool = module("b", more="command: [./tool]\n") / "tool"
    tool.write_text("#!/no/such/program\n")
    tool.chmod(0o755)
    with pytest.raises(GraphError, match=r"two/b \(module b\) failed: .*tool cannot be run: No such file"):
        run()
    assert "tool cannot be run: No such file" in Path("storage/me/logs/two.b.1.log").read_text()


def test_an_output_that_is_a_folder_is_a_failure_and_in_nobody_s_way():
    module("b", program="import os, sys; os.makedirs(sys.argv[4] + '/x')")
    with pytest.raises(GraphError, match=r"b.txt is no file"):
        run()
    assert os.listdir("storage/me/public") == []
    module("b")
    assert run().public["b.txt"].read_text() == "sab"


def test_a_log_that_was_replaced_by_a_link_out_is_a_file_again():
    run()
    Path("secret").write_text("x")
    log = Path("storage/me/logs/two.b.1.log")
    log.unlink()
    log.symlink_to(os.path.abspath("secret"))
    run(again="two/*")
    assert Path("secret").read_text() == "x"
    assert not log.is_symlink()


def test_an_output_that_leads_out_counts_as_not_made():
    Path("secret").write_text("x")
    module("b", program=f"import os, sys; os.symlink({os.path.abspath('secret')!r}, sys.argv[4])")
    with pytest.raises(GraphError, match=r"a link that leads out of"):
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


def test_a_progress_function_that_raises_changes_nothing(capsys):
    assert run(progress=lambda update: 1 / 0).made == ["one/a", "two/b"]
    assert capsys.readouterr().err == (
        "pipeline: progress= raised ZeroDivisionError: division by zero, and goes on being called\n"
    )


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


# --- failures ---------------------------------------------------------------------------------------------------------

WIDE = """\
name: wide
version: 1
steps:
  - name: one
    entries:
      - {module: bad, outputs: [{name: bad.txt, param_name: output, type: text}]}
      - {module: good, outputs: [{name: good.txt, param_name: output, type: text}]}
  - name: two
    entries:
      - module: b
        name: after bad
        inputs: [{name: bad.txt, param_name: input, type: text}]
        outputs: [{name: 1.txt, param_name: output, type: text, public: true}]
      - module: b
        name: after good
        inputs: [{name: good.txt, param_name: input, type: text}]
        outputs: [{name: 2.txt, param_name: output, type: text, public: true}]
"""


def wide(tmp_path):
    """Two branches, of which one fails; that is mended by a file, so that no module changes."""
    program = "import os, sys\nif not os.path.exists('mended'): sys.exit(3)\nopen(sys.argv[2], 'w').write('m')"
    module("bad", inputs=(), program=program, more="cwd: caller\n")
    module("good", inputs=())
    Path("job.yaml").write_text(WIDE)


def test_a_failure_ends_the_job_at_the_step_and_keep_going_ends_only_what_depends_on_it(folder):
    wide(folder)
    told = []
    for keep_going, made in ((False, []), (True, ["2.txt"])):
        told.clear()
        with pytest.raises(GraphError) as caught:
            Pipeline("job.yaml").run(id="me", keepGoing=keep_going, cores=1, progress=told.append)
        assert list(caught.value.failures) == ["one/bad"]
        public = Path("storage/me/public")
        assert sorted(os.listdir(public) if public.exists() else []) == made
    assert {(each.entry, each.state) for each in told if each.state in ("failed", "blocked")} == {
        ("one/bad", "failed"), ("two/after bad", "blocked")}  # fmt: skip
    assert [each.step_name for each in told if each.entry is None] == ["one", "two"]
    assert files() == ["public/2.txt"], "good.txt has been read by all"
    Path("mended").touch()
    ran()
    result = Pipeline("job.yaml").run(id="me")
    assert result.made == ["one/bad", "two/after bad"]
    assert result.kept == ["one/good", "two/after good"]
    assert Pipeline("job.yaml").plan(id="me", again="two/b").ids("make") == ["one/bad", "one/good", *(
        f"two/after {which}" for which in ("bad", "good"))]  # fmt: skip
    assert files() == ["public/1.txt", "public/2.txt"]


def test_a_step_waits_for_the_whole_step_before_unless_order_is_data():
    waits = "while 'b' not in open(os.environ['RAN']).read().split(): time.sleep(0.01)"
    program = "import os, sys, time\n{}\nopen(sys.argv[2], 'w').write('s')"
    module("good", inputs=())
    text = WIDE.replace("module: bad", "module: slow")
    for order, what in (("steps", ""), ("data", waits)):
        module("slow", inputs=(), program=program.format(what))
        Path("job.yaml").write_text(f"order: {order}\n{text}")
        told = []
        Path("RAN").touch()
        Pipeline("job.yaml").run(id=order, cores=2, progress=told.append)
        seen = [(each.entry, each.state) for each in told]
        is_early = seen.index(("two/after good", "running")) < seen.index(("one/slow", "made"))
        assert is_early is (order == "data")
        ran()


# --- what lies in the folder --------------------------------------------------------------------------------------


def test_a_public_artifact_that_was_replaced_by_a_link_out_is_made_again():
    run()
    Path("secret").write_text("sab")
    Path("storage/me/public/b.txt").unlink()
    os.symlink(os.path.abspath("secret"), "storage/me/public/b.txt")
    assert Pipeline("job.yaml").plan(["start.txt"], id="me").ids("make") == ["one/a", "two/b"]
    assert run().made == ["one/a", "two/b"]
    assert not Path("storage/me/public/b.txt").is_symlink()
    assert Path("secret").read_text() == "sab"


def test_what_others_have_in_the_storage_is_left_alone():
    run(id="other", keepTemp=True)
    before = {path: path.lstat().st_mtime_ns for path in Path("storage/other").rglob("*")}
    run()
    run(again="*")
    assert {path: path.lstat().st_mtime_ns for path in Path("storage/other").rglob("*")} == before


def test_temporary_files_of_earlier_versions_of_the_job_go_too():
    run(keepTemp=True)
    Path("job.yaml").write_text(JOB.replace("a.txt", "c.txt"))
    run()
    assert files() == ["public/b.txt"]


def test_a_name_that_is_too_long_for_a_log_and_names_that_dots_make_the_same():
    long = "n" * 250
    text = JOB.replace("name: one", f"name: {long}")
    Path("job.yaml").write_text(text)
    run()
    text = WIDE.replace("module: bad", "module: b.b").replace("module: good", "module: b.b")
    Path("job.yaml").write_text(text.replace("name: two", "name: one.b"))
    module("b.b", inputs=())
    Pipeline("job.yaml").run(id="you")
    assert sorted(os.listdir("storage/you/logs")) == [f"one.b.b.{number}.log" for number in (1, 2, 3, 4)]


def test_an_entry_without_outputs_runs_once():
    module("b", outputs=())
    Path("job.yaml").write_text("".join(line for line in JOB.splitlines(True) if "b.txt" not in line))
    assert run().made == ["one/a", "two/b"]
    assert run().kept == ["one/a", "two/b"]
    Path("start.txt").write_text("t")
    assert run().made == ["one/a", "two/b"]


def test_what_is_ignored_in_a_module_is_no_code():
    module("b", more="ignore: ['*.md', notes/]\n")
    run()
    ran()
    for name in ("README.md", "notes/x.py", "__pycache__/x.pyc", ".git/HEAD", "env/pyvenv.cfg"):
        path = Path("modules/b", name)
        path.parent.mkdir(exist_ok=True)
        path.write_text("x")
    run()
    assert ran() == []
    Path("modules/b/data").mkdir()
    Path("modules/b/data/words.txt").write_text("x")
    run()
    assert ran() == ["a", "b"]


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def command(capfd):
    """The command in this process: its exit code, and what it writes."""

    def call(*words):
        code = main(words)
        out, err = capfd.readouterr()
        return code, out, err

    return call


def test_the_command_prints_public_artifacts_and_what_the_programs_say(command):
    code, out, err = command("job.yaml", "start.txt", "--id", "me")
    assert (code, out) == (0, "storage/me/public/b.txt\n")
    lines = err.splitlines()
    assert lines[:3] == ["pipeline: letters 1.0, 2 steps, 2 entries to run", "  [1/2 one] a  never made",
                         "  [2/2 two] b  never made"]  # fmt: skip
    assert "[one/a] whispered" in lines
    assert "said" not in err
    assert re.fullmatch(r"\[two/b\] \d+\.\d s", lines[-2])
    assert re.fullmatch(r"made 2, kept 0, failed 0 in \d+\.\d s", lines[-1])
    code, out, err = command("job.yaml", "start.txt", "--id", "me")
    assert (code, out) == (0, "storage/me/public/b.txt\n")
    assert err.splitlines()[-1].startswith("made 0, kept 2, failed 0")
    code, out, err = command("job.yaml", "--input", "input=start.txt", "--id", "me", "--json", "-q")
    told = json.loads(out)
    assert {name: told[name] for name in ("id", "public", "made", "kept", "failed")} == {
        "id": "me", "public": {"b.txt": "storage/me/public/b.txt"}, "made": [], "kept": ["one/a", "two/b"], "failed": []
    }  # fmt: skip
    assert err == ""
    assert "[one/a] said\n" in command("job.yaml", "start.txt", "--id", "me", "-v", "--again", "one/*")[2]


def test_check_plan_and_graph_write_nothing_else(command):
    assert command("job.yaml", "--check") == (0, "", "")
    code, out, err = command("job.yaml", "start.txt", "--id", "me", "--plan")
    assert (code, err) == (3, "")
    assert out.splitlines() == ["pipeline: 2 to make, 0 up to date", "  make   one/a  never made",
                                "  make   two/b  never made"]  # fmt: skip
    assert command("job.yaml", "--graph", "job.svg") == (0, "", "")
    drawn = Path("job.svg").read_text()
    for name in ("one/a", "two/b", "start.txt", "a.txt", "b.txt"):
        assert f">{name}</text>" in drawn
    assert sorted(os.listdir()) == ["job.svg", "job.yaml", "modules", "start.txt"]
    command("job.yaml", "start.txt", "--id", "me", "--keep-temp", "-q")
    code, out, _ = command("job.yaml", "start.txt", "--id", "me", "--plan", "--keep-temp")
    assert (code, out.splitlines()[0]) == (0, "pipeline: 0 to make, 2 up to date")
    code, out, _ = command("job.yaml", "start.txt", "--id", "me", "--plan")
    assert (code, out.splitlines()[1]) == (3, "  remove one/a  nobody needs it any more")
    assert command("job.yaml", "start.txt", "--id", "me", "--graph", "job.dot")[0] == 0
    assert "module a, made" in Path("job.dot").read_text()
    assert command("job.yaml", "--graph", "job.png")[0] == 2


def test_exit_codes(command):
    code, out, err = command("job.yaml")
    assert (code, out) == (2, "")
    assert err == "job.yaml: 0 inputs are given, and the job takes 1; the inputs are start.txt (text)\n"
    assert command("job.yaml", "start.txt", "--nonsense")[0] == 2
    assert command("job.yaml", "start.txt", "--input", "x=y")[0] == 2
    assert command("job.yaml", "start.txt", "--again", "no/thing")[0] == 2
    assert not list(Path().glob("storage/*/public"))
    module("b", program="raise SystemExit(3)")
    code, out, err = command("job.yaml", "start.txt", "--json", "-q")
    assert code == 1
    assert json.loads(out)["failed"] == ["two/b"]
    assert json.loads(out)["public"] == {}
    assert "two/b (module b) failed: exit code 3 after" in err
    assert command("job.yaml", "start.txt")[:2] == (1, "")


def test_modules_are_listed(command):
    code, out, _ = command("modules")
    assert (code, out.splitlines()[0]) == (0, "a  input: text -> output: text  The module a.")
    Path("modules/c").mkdir()
    Path("modules/c/manifest.yaml").write_text("name: b\ndescription: x\ncommand: ['true']\ninputs:\n")
    code, out, _ = command("modules")
    assert code == 2
    assert out.splitlines()[2:] == [
        "b  nothing -> nothing  x",
        "   ! modules/c/manifest.yaml:1: the manifest has no 'outputs'; add 'outputs: ...', a list, or empty",
        "   ! modules/c/manifest.yaml:1: several modules are called 'b': modules/b/manifest.yaml:1 and "
        "modules/c/manifest.yaml:1; give each another name",
    ]
    assert command("modules", "nowhere")[0] == 2


def test_the_line_at_a_terminal_tells_step_entries_and_time_left(monkeypatch):
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    screen = PipelineScreen([None] * 3, "job 1", True)
    screen._before = {"one/a": 5.0, "two/b": 60.0, "two/c": 20.0}
    for entry, state in ((None, "running"), ("one/a", "made"), ("two/b", "running")):
        screen.take(PipelineUpdate("me", 2, 3, "two", entry, state, 0.0))
    assert screen.line(112.0) == "step 2 of 3: two/b 12 s, about 68 s left"


def test_the_job_stream_command_runs_a_job():
    line = [sys.executable, "-m", "job_stream", "pipeline", "job.yaml", "start.txt", "--id", "me"]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (ended.returncode, ended.stdout) == (0, "storage/me/public/b.txt\n"), ended.stderr
