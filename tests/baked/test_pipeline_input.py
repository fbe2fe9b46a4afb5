"""Everything that can be wrong with a job, a module or an input is told before anything runs, with file and line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pipeline_support import JOB, letters, module

from job_stream.baked.pipeline import Pipeline
from job_stream.errors import PipelineError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    letters()
    return tmp_path


def problems(text=None, **keywords):
    """The lines that a job is refused with."""
    if text is not None:
        Path("job.yaml").write_text(text)
    with pytest.raises(PipelineError) as caught:
        Pipeline("job.yaml", **keywords)
    assert not Path("storage").exists()
    return str(caught.value).splitlines()


def the_problem(text=None, **keywords):
    found = problems(text, **keywords)
    assert len(found) == 1, found
    return found[0]


def changed(old, new):
    assert JOB.count(old) == 1
    return JOB.replace(old, new)


def manifest(name, old, new):
    path = Path("modules", name, "manifest.yaml")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_job_that_is_fine():
    assert Pipeline("job.yaml").warnings == []


def test_all_problems_at_once_in_the_order_of_lines():
    text = changed("name: letters\n", "").replace("module: b", "module: bb").replace("order", "x") + "oder: data\n"
    found = problems(text)
    assert [line.split(":")[1] for line in found] == ["1", "12", "15"]
    assert "the job has no 'name'" in found[0]


# --- files ------------------------------------------------------------------------------------------------------------


def test_no_file():
    os.unlink("job.yaml")
    assert the_problem().startswith("job.yaml: the file cannot be read (No such file or directory)")


def test_not_utf8():
    Path("job.yaml").write_bytes(b"name: x\nversion: \xff\n")
    assert the_problem() == "job.yaml:2: line 2 is not UTF-8; save the file as UTF-8"


def test_not_yaml():
    assert the_problem("name: x\nsteps: [\nversion: }\n").startswith("job.yaml:3: this is not YAML: ")


@pytest.mark.parametrize("text", ["- a\n", "", "word\n"])
def test_not_a_mapping(text):
    assert the_problem(text) == "job.yaml:1: the file is no mapping of keys to values; write it as 'key: value' lines"


def test_a_key_twice():
    assert "job.yaml:3: the key 'version' in column 1 is there already, in line 2" in the_problem(
        changed("version: 1.0\n", "version: 1.0\nversion: 2.0\n")
    )


def test_a_tag():
    found = problems(changed("version: 1.0", "version: !!python/object/apply:os.system ['touch hacked']"))
    assert found[0].startswith("job.yaml:2: the tag 'tag:yaml.org,2002:python/object/apply:os.system' in column 10")
    assert not Path("hacked").exists()


def test_an_alias_within_itself():
    assert "an alias stands within what it is an alias of" in "".join(problems("name: &a [*a]\n"))


@pytest.mark.parametrize("depth", [100, 500, 5000])
def test_values_that_are_nested_too_deeply(depth):
    found = problems(f"name: {'[' * depth}{']' * depth}\n")
    assert found[0].startswith("job.yaml:1: ")
    assert "nest" in found[0]


# --- keys -------------------------------------------------------------------------------------------------------------


def test_an_unknown_key():
    assert the_problem(
        changed("    entries:\n      - module: b", "    entries:\n      - modul: b\n        module: b")
    ) == (
        "job.yaml:13: an entry has no key 'modul'; did you mean 'module'? the keys are 'module', 'name', "
        "'input_artifacts', "
        "'output_artifacts', 'inputs', 'outputs', 'parameters'"
    )


def test_a_key_that_is_missing():
    assert the_problem(changed("version: 1.0\n", "")).startswith(
        "job.yaml:1: the job has no 'version'; add 'version: ...'"
    )


@pytest.mark.parametrize(("old", "new", "line", "says"), [
    ("version: 1.0", "version: [1]", 2, "'version' of the job is a list; it is to be a plain value"),
    ("steps:\n", "steps: x\nx-y:\n", 5, "'steps' of the job is 'x'; it is to be a list"),
    ("public: true", "public: maybe", 15, "is 'maybe'; it is to be true or false"),
    ("version: 1.0", "version: 1\norder: up", 3, "'order' of the job is 'up'; it is to be 'steps' or 'data'"),
])  # fmt: skip
def test_a_wrong_kind_of_value(old, new, line, says):
    assert any(found.startswith(f"job.yaml:{line}:") and says in found for found in problems(changed(old, new)))


def test_an_alias_and_the_long_form():
    text = changed(
        "        input_artifacts: [{name: a.txt", "        inputs: []\n        input_artifacts: [{name: a.txt"
    )
    assert "job.yaml:14: an entry has both 'inputs' and 'input_artifacts'" in the_problem(text)


def test_short_forms_mean_the_same():
    text = JOB.replace("        input_artifacts:", "        inputs:").replace(
        "        output_artifacts:", "        outputs:"
    )
    text = text.replace("input_artifacts:\n  - {", "input_artifact: {")
    Path("job.yaml").write_text(text)
    assert [entry.inputs[0].name for step in Pipeline("job.yaml").steps for entry in step.entries] == [
        "start.txt",
        "a.txt",
    ]


def test_no_and_times_are_texts():
    Path("job.yaml").write_text(changed("version: 1.0", "version: 1.10").replace("name: one", "name: no"))
    made = Pipeline("job.yaml")
    assert (made.version, made.steps[0].name) == ("1.10", "no")


# --- modules ----------------------------------------------------------------------------------------------------------


def test_an_unknown_module():
    assert the_problem(changed("module: b", "module: bb")) == (
        "job.yaml:13: there is no module 'bb' in 'modules'; did you mean 'b'? the modules are 'a', 'b'"
    )


def test_a_broken_manifest_of_a_module_that_is_used():
    manifest("b", "description: The module b.\n", "")
    assert the_problem().startswith("modules/b/manifest.yaml:1: the manifest has no 'description'")


def test_a_broken_manifest_of_another_module_is_a_warning():
    Path("modules/c").mkdir()
    Path("modules/c/manifest.yaml").write_text("name: c\n")
    [warning] = Pipeline("job.yaml").warnings
    assert warning.startswith("modules/c/manifest.yaml:1: the manifest has no")


def test_two_modules_of_one_name():
    module("c")
    manifest("c", "name: c", "name: b")
    assert the_problem().startswith(
        "job.yaml:13: several modules are called 'b': modules/b/manifest.yaml:1 and modules/c/"
    )


def test_folders_without_a_manifest_are_passed_over():
    Path("modules/notes").mkdir()
    assert Pipeline("job.yaml").warnings == []


def test_no_folder_of_modules():
    assert the_problem(modulesDir="nowhere").startswith("job.yaml:1: there is no folder of modules 'nowhere'")


@pytest.mark.parametrize(("old", "new", "line", "says"), [
    ("entrypoint: main.py", "entrypoint: gone.py", 3, "'entrypoint' is to be 'modules/b/gone.py', and there is no"),
    ("entrypoint: main.py", "entrypoint: ../a/main.py", 3, "lies outside of the module's folder"),
    ("entrypoint: main.py", "", 1, "the manifest has no 'entrypoint'"),
    ("entrypoint: main.py", "entrypoint: main.py\npython: nopython", 4, "there is no interpreter 'nopython'"),
    ("entrypoint: main.py", "command: [noprogram, x]", 3, "there is no program 'noprogram'"),
    ("entrypoint: main.py", "entrypoint: main.py\nvenv: .venv", 4, "make it with --make-venvs"),
    ("entrypoint: main.py", "entrypoint: main.py\ntimeout: 0", 4, "it is to be a number of seconds above 0"),
    ("entrypoint: main.py", "entrypoint: main.py\ntimeout: -1", 4, "it is to be a number of seconds above 0"),
    ("entrypoint: main.py", "entrypoint: main.py\ncores: 0", 4, "it is to be a number from 1 on"),
    ("entrypoint: main.py", "entrypoint: main.py\ncores: 100000", 4, "asks for cores: 100000, and no host has"),
    ("entrypoint: main.py", "entrypoint: main.py\nmemory: 9999T", 4, "asks for memory: 9999T, and no host has"),
    ("entrypoint: main.py", "entrypoint: main.py\nmemory: much", 4, "memory='much' is no number of bytes"),
    ("entrypoint: main.py", "entrypoint: main.py\nlimits: {x: 0}", 4, "a mapping of names to numbers from 1 on"),
    ("entrypoint: main.py", "entrypoint: main.py\ncwd: there", 4, "it is to be 'scratch', 'module' or 'caller'"),
    ("param_name: output", "param_name: input", 7, "the param 'input' is both an input and an output"),
    ("param_name: output", "param_name: 1x", 7, "'1x' cannot be a param"),
])  # fmt: skip
def test_what_is_wrong_with_a_manifest(old, new, line, says):
    manifest("b", old, new)
    assert any(found.startswith(f"modules/b/manifest.yaml:{line}:") and says in found for found in problems())


def test_a_link_that_leads_out_is_no_entrypoint():
    os.unlink("modules/b/main.py")
    os.symlink("../a/main.py", "modules/b/main.py")
    assert "lies outside of the module's folder" in the_problem()


# --- params and types -------------------------------------------------------------------------------------------------


def test_a_param_that_the_manifest_lacks():
    found = problems(
        changed("{name: a.txt, param_name: input, type: text}", "{name: a.txt, param_name: inputt, type: text}")
    )
    assert found[0].startswith("job.yaml:13: entry 'two/b' lacks the input 'input' of module 'b'")
    assert found[1].startswith("job.yaml:14: module 'b' has no input 'inputt'; did you mean 'input'?")


def test_a_param_twice():
    item = "{name: a.txt, param_name: input, type: text}"
    assert "job.yaml:14: the param 'input' is there twice in 'two/b'" in the_problem(changed(item, f"{item}, {item}"))


def test_types_that_differ_from_the_manifest_and_the_writer():
    found = problems(
        changed("{name: a.txt, param_name: input, type: text}", "{name: a.txt, param_name: input, type: json}")
    )
    assert found == [
        "job.yaml:14: the type is 'json' here and 'text' in the manifest of 'b', modules/b/manifest.yaml:5; make them "
        "the same, or one of them 'any'",
        "job.yaml:14: the type is 'json' here and 'text' in what makes it, job.yaml:10; make them the same, or "
        "one of them 'any'",
    ]


def test_a_type_that_differs_from_the_job_s_input():
    text = changed(
        "{name: start.txt, param_name: input, type: text}\nsteps",
        "{name: start.txt, param_name: input, type: video}\nsteps",
    )
    assert "job.yaml:9: the type is 'text' here and 'video' in the job's input, job.yaml:4" in the_problem(text)


def test_any_fits_all_types():
    Path("job.yaml").write_text(JOB.replace("type: text", "type: any"))
    Pipeline("job.yaml")


def test_public_of_an_input_has_to_agree():
    text = changed(
        "{name: a.txt, param_name: input, type: text}", "{name: a.txt, param_name: input, type: text, public: true}"
    )
    assert "job.yaml:14: 'public' of 'a.txt' is true here and false in job.yaml:10" in the_problem(text)


# --- wiring -----------------------------------------------------------------------------------------------------------


def test_an_artifact_that_nobody_makes():
    assert the_problem(changed("[{name: a.txt, param_name: input", "[{name: aa.txt, param_name: input")) == (
        "job.yaml:14: nobody makes 'aa.txt', which 'two/b' reads; did you mean 'a.txt' or 'b.txt'? the artifacts are "
        "'a.txt', 'b.txt', 'start.txt'"
    )


def test_an_artifact_made_in_a_later_step():
    text = changed("[{name: start.txt, param_name: input", "[{name: b.txt, param_name: input")
    assert the_problem(text) == (
        "job.yaml:9: 'b.txt' is made in a later step; step 'two' makes it: put this entry into a later step"
    )


def test_an_artifact_made_in_the_same_step():
    text = changed("  - name: two\n    entries:\n", "")
    assert "job.yaml:12: 'a.txt' is made in the same step; step 'one' makes it" in the_problem(text)


@pytest.mark.parametrize(("name", "says"), [
    ("a.txt", "'a.txt' is made twice: it is in job.yaml:10 already"),
    ("start.txt", "'start.txt' is made twice: it is in job.yaml:4 already"),
    ("A.TXT", "'A.TXT' and 'a.txt' in job.yaml:10 are equal but for case"),
    (".a.part.txt", "'.a.part.txt' is where 'a.txt' is written until it is whole"),
    ("a.txt/x", "'a.txt/x' lies in 'a.txt', which is a file"),
])  # fmt: skip
def test_names_that_meet(name, says):
    assert f"job.yaml:15: {says}" in the_problem(changed("{name: b.txt", f"{{name: {name}"))


@pytest.mark.parametrize(("name", "says"), [
    ("../x", "a part of it is '..'"), ("/etc/x", "it is an absolute path"), ("a//b", "a part of it is empty"),
    ("./a", "a part of it is '.'"), ("~/x", "begins with '~'"), ('"a\\\\b"', "it has a backslash"),
    ('"a\\nb"', "it has a control character"), ("n" * 256, "longer than 255 bytes"), ("x/", "a part of it is empty"),
    ('"a\\x85b"', "it has a control character"), ('"a\\u2028b"', "it has a control character"),
    ("a/../../b", "a part of it is '..'"),
])  # fmt: skip
def test_names_that_are_not_allowed(name, says):
    [found] = [line for line in problems(changed("{name: b.txt", f"{{name: {name}")) if "name of an artifact" in line]
    assert found.startswith("job.yaml:15:")
    assert says in found


def test_an_input_without_a_name_is_found_by_param_and_type():
    Path("job.yaml").write_text(
        changed("{name: start.txt, param_name: input, type: text}\nsteps", "{param_name: input, type: text}\nsteps")
    )
    assert [each.name for each in Pipeline("job.yaml").inputs] == ["start.txt"]


def test_an_input_without_a_name_is_found_where_it_is_the_only_one_of_its_type():
    Path("job.yaml").write_text(
        changed("{name: start.txt, param_name: input, type: text}\nsteps", "{param_name: other, type: text}\nsteps")
    )
    assert [each.name for each in Pipeline("job.yaml").inputs] == ["start.txt"]


# --- steps ------------------------------------------------------------------------------------------------------------


def test_no_steps():
    assert the_problem("name: x\nversion: 1\nsteps: []\n") == (
        "job.yaml:3: the job has no steps; add one, with a name and entries"
    )


def test_a_step_without_entries():
    assert "job.yaml:16: step 'three' has no entries" in the_problem(JOB + "  - {name: three, entries: []}\n")


def test_two_steps_of_one_name():
    assert "job.yaml:11: two steps are called 'one', the other one in line 6" in the_problem(
        changed("name: two", "name: one")
    )


@pytest.mark.parametrize("name", ["a/b", "'..'", '"a\\tb"'])
def test_names_of_steps(name):
    assert "job.yaml:11: the step" in the_problem(changed("name: two", f"name: {name}"))


def test_nested_parameters():
    text = changed("      - module: b\n", "      - module: b\n        parameters: {x: {y: 1}}\n")
    assert "job.yaml:14: the parameter 'x' is nested" in the_problem(text)


# --- inputs and storage -----------------------------------------------------------------------------------------------


def refused(inputs, **keywords):
    with pytest.raises(PipelineError) as caught:
        Pipeline("job.yaml", **{key: keywords.pop(key) for key in ("storageDir",) if key in keywords}).run(
            inputs, **keywords
        )
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(("inputs", "says"), [
    ([], "0 inputs are given, and the job takes 1; the inputs are start.txt (text)"),
    (["start.txt", "start.txt"], "2 inputs are given, and the job takes 1"),
    (["gone.txt"], "the input 'start.txt' is to be 'gone.txt' (No such file or directory)"),
    (["modules"], "the input 'start.txt' is to be 'modules', which is a folder"),
    (["/dev/null"], "the input 'start.txt' is to be '/dev/null', which is no file"),
])  # fmt: skip
def test_inputs(inputs, says):
    assert says in refused(inputs)
    assert not Path("storage").exists()


def test_inputs_by_name():
    with pytest.raises(PipelineError, match=r"the job has no input 'strat.txt'; did you mean 'start.txt'"):
        Pipeline("job.yaml").plan({"strat.txt": "start.txt"})
    with pytest.raises(PipelineError, match=r"the input 'start.txt' is given twice"):
        Pipeline("job.yaml").plan({"start.txt": "start.txt", "input": "start.txt"})


def test_two_inputs_of_one_name():
    more = "  - {param_name: a, type: x}\n  - {param_name: a, type: y}\n"
    assert the_problem(changed("steps:\n", f"{more}steps:\n")) == (
        "job.yaml:6: two inputs of the job are called 'a'; give this one a name: the other one is in line 5"
    )


def test_the_same_inputs_in_any_order_are_the_same_run():
    text = changed("steps:\n", "  - {name: other.txt, param_name: other, type: text}\nsteps:\n")
    Path("job.yaml").write_text(text.replace("name: letters", f"name: {'n' * 300}"))
    Path("other.txt").write_text("x")
    made = Pipeline("job.yaml")
    in_order = made.prepared(["start.txt", "other.txt"], None).folder
    assert made.prepared({"other": "other.txt", "input": "start.txt"}, None).folder == in_order
    assert made.prepared(["other.txt", "start.txt"], None).folder != in_order


def test_an_input_in_the_run_s_own_folder():
    Path("storage/me").mkdir(parents=True)
    Path("storage/me/x").write_text("x")
    assert "lies in this run's own folder" in refused(["storage/me/x"], id="me")


def test_a_storage_that_is_a_file():
    assert (
        refused(["start.txt"], storageDir="start.txt") == "start.txt: the storage is a file; give another --storage-dir"
    )


def test_a_storage_whose_parent_does_not_exist():
    assert "the storage does not exist" in refused(["start.txt"], storageDir="no/where")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "n" * 256])
def test_ids_that_are_not_allowed(name):
    assert "cannot be the id of a run" in refused(["start.txt"], id=name)


@pytest.mark.parametrize("link", ["storage/me", "storage/me/public", "storage/me/public/d", "storage/me/logs",
                                  "storage/me/input/in", "storage/me/.build"])  # fmt: skip
def test_folders_that_are_links_out(link):
    text = JOB.replace("name: b.txt", "name: d/e/b.txt").replace("name: start.txt", "name: in/start.txt")
    Path("job.yaml").write_text(text)
    Path(link).parent.mkdir(parents=True, exist_ok=True)
    Path("elsewhere").mkdir()
    os.symlink(os.path.abspath("elsewhere"), link)
    assert "is a link that leads out of the run's folder" in refused(["start.txt"], id="me")
    assert os.listdir("elsewhere") == []


def test_letters_that_no_file_can_have_are_no_name():
    job = {"name": "x", "version": 1, "steps": [{"name": "one", "entries": [
        {"module": "a", "outputs": [{"name": "\udc2e\udc2e", "param_name": "output", "type": "text"}]}]}]}  # fmt: skip
    with pytest.raises(PipelineError, match="half of a letter"):
        Pipeline(job)


def test_a_job_given_as_a_mapping():
    import yaml

    assert Pipeline(yaml.safe_load(JOB)).name == "letters"
    with pytest.raises(PipelineError, match="job: the job has no 'version'"):
        Pipeline({"name": "x", "steps": []})
