"""What is refused, at the call that made the mistake; and what plans, JOBS_BUILD and why() say."""

from __future__ import annotations

import os
from datetime import date, timedelta
from enum import Enum
from functools import partial
from pathlib import Path

import numpy
import pytest
from support import Script

from job_stream.baked.build import JobList, build
from job_stream.errors import BuildError, GraphError

pytestmark = pytest.mark.usefixtures("folder")


def write(path):
    path.write_text("x")


BAD = {
    "is no function": lambda b: b.file("a", 5),
    "5 is no path": lambda b: b.file(5, write),
    "a path is empty": lambda b: b.file("", write),
    "takes a text as id": lambda b: b.load(5, lambda: 1),
    "given no paths": lambda b: b.files([], write),
    "the path 'a' twice": lambda b: b.files(["a", "./a"], write),
    "did you mean 'cores'": lambda b: b.file("a", write, core=2),
    "cores=0": lambda b: b.file("a", write, cores=0),
    "cores=-2": lambda b: b.file("a", write, cores=-2),
    "cores=True": lambda b: b.file("a", write, cores=True),
    "cores='some'": lambda b: b.file("a", write, cores="some"),
    "memory='much'": lambda b: b.file("a", write, memory="much"),
    "memory=0": lambda b: b.file("a", write, memory=0),
    "cannot be needed": lambda b: b.file("a", write, needs=[5]),
    "of another build": lambda b: b.file("a", write, needs=build("other").file("b", write)),
    "is an invariant": lambda b: b.FileInvariant("s").dependsOn("t"),
    "which runs after everything": lambda b: b.file("a", write, needs=b.finish(lambda: 1)),
    "so it takes no needs": lambda b: b.finish(lambda: 1, needs=["a"]),
    "is declared twice": lambda b: [b.ParameterInvariant("p", value) for value in (1, 2)],
    "function f": lambda b: [b.FunctionInvariant("f", function) for function in (lambda: 1, lambda: 2)],
    "keep the same file": lambda b: b.temp("a", lambda path, keep: 1, keep="./a"),
    "both needs= and params=": lambda b: b.file("a", lambda path, n: 1, needs={"n": "s"}, params={"n": 1}),
    "has no parameter 'm': did you mean 'mm'": lambda b: b.file("a", lambda path, mm: 1, params={"m": 1}),
    "nobody fills the parameter 'n'": lambda b: b.file("a", lambda path, n: 1),
    "two jobs make 'b'": lambda b: [b.files(["a", "b"], write), b.file("b", write)],
    "is a folder": lambda b: [os.mkdir("dir"), b.file("dir", write)],
    "takes a list or a mapping": lambda b: b.files("a", write),
    "holds|Fingerprint": lambda b: b.file("a", lambda path, n: 1, params={"n": object()}),
    "is declared twice, and not the same": lambda b: [b.file("a", write, params={}), b.file("a", lambda path: 2)],
    "retries=-1": lambda b: b.file("a", write, retries=-1),
    "timeout=0": lambda b: b.file("a", write, timeout=0),
    "has been cancelled": lambda b: [b.cancel(), b.file("a", write)],
    "makes no file 'c'": lambda b: b.files({"k": "a"}, write)["c"],
    "no job 'aa': did you mean 'a'": lambda b: [b.file("a", write), b["aa"]],
}


@pytest.mark.parametrize("text", BAD)
def test_bad_input(text):
    with pytest.raises(BuildError, match=text):
        BAD[text](build())


BAD_RUNS = {
    "has more than": lambda b: b.file("a", write, cores=10_000),
    "bytes of memory, and no host": lambda b: b.file("a", write, memory="9000T"),
    "does not name": lambda b: b.file("a", write, limits={"db": 1}),
    "of which there are 2": lambda b: b.file("a", write, limits={"net": 3}),
    "'s' does not exist": lambda b: b.file("a", write, needs="s"),
    "for the host 'nowhere'": lambda b: b.file("a", write, host="nowhere"),
}


@pytest.mark.parametrize("text", BAD_RUNS)
def test_what_is_refused_before_anything_runs(text):
    b = build(quiet=True, limits={"net": 2})
    b.file("other", write)
    BAD_RUNS[text](b)
    with pytest.raises(BuildError, match=text):
        b.run()
    assert not Path("other").exists()


@pytest.mark.parametrize(
    "keywords", [{"cores": 0}, {"memory": "x"}, {"limits": {"a": 0}}, {"logs": "some"}, {"undeclared": 1}, {"core": 1}]
)
def test_bad_keywords_of_a_build(keywords):
    with pytest.raises(BuildError):
        build(**keywords)


def test_the_folder_is_a_file():
    Path("file").touch()
    with pytest.raises(BuildError, match="which is a file"):
        build("file")


def test_the_variable_of_a_loop():
    b = build(quiet=True)
    for i in range(3):
        b.file(f"out/{i}", lambda path: path.write_text(str(i)))  # noqa: B023 - that is the mistake
    with pytest.raises(BuildError, match=r"job 'out/0' uses `i`, which was 0 .* and is 2 now: pass it by params="):
        b.run()


@pytest.mark.parametrize(
    "values",
    [
        (Path("a"), Path("b")),
        (date(2020, 1, 1), date(2020, 1, 2)),
        (timedelta(1), timedelta(2)),
        tuple(Enum("Colour", "RED GREEN")),
        numpy.arange(2),
    ],
    ids=["path", "date", "timedelta", "enum", "numpy"],
)
def test_the_variable_of_a_loop_over_anything_that_stays_as_it_is(values):
    b = build(quiet=True)
    for value in values:
        b.file(f"out/{value}", lambda path: path.write_text(str(value)))  # noqa: B023 - that is the mistake
    with pytest.raises(BuildError, match=r"uses `value`, which was .* when it was declared"):
        b.run()


def test_a_path_through_a_link_is_that_of_the_same_file(folder, monkeypatch):
    (folder / "real" / "project" / "deep").mkdir(parents=True)
    os.symlink("real", folder / "link")
    linked, real = folder / "link" / "project", folder / "real" / "project"
    for root, other in ((real, linked), (linked, real)):
        b = build(root / ".build", quiet=True)
        by_link = b.file(other / "deep" / "a", write)
        assert by_link.id == "deep/a"
        user = b.file("b", write, needs=[other / "deep" / "a", other / "deep" / ".." / "c"])
        made = b.file(root / "c", write)
        assert list(user.needs) == [by_link, made]
        assert b.file(folder / "outside", write).id == str(folder / "outside")
        assert b[other / "c"] is made


def test_what_is_the_builds_own_is_made_by_no_job():
    b = build(quiet=True)
    for path in (".build/history.jsonl", ".build/lock", Path(".build/logs/a"), os.path.abspath(".build/lock.lease")):
        with pytest.raises(BuildError, match="is the build's own, so no job can make it"):
            b.file(path, write)
    b.file(".build/cache/lock", write)
    b.file("lock", write)
    b.file("logs/a", write)
    b.file(".build/locked", write)
    assert len(b.run().made) == 4


def test_a_parameter_that_is_filled_by_position_only():
    def named(path, need, /):
        path.write_text(need.read_text())

    def greedy(path, need, /, **others):
        path.write_text(need.read_text())

    def placed(path, /, need):
        path.write_text(need.read_text())

    b = build(quiet=True)
    source = b.file("source", write)
    with pytest.raises(BuildError, match="takes 'need' by position only"):
        b.file("named", named, needs={"need": source})
    with pytest.raises(BuildError, match="takes 'need' by position only"):
        b.file("partial", partial(named), needs={"need": source})
    with pytest.raises(BuildError, match="nobody fills the parameter 'need'"):
        b.file("greedy", greedy, needs={"need": source})
    b.file("placed", placed, needs={"need": source})
    assert b.run().made == ["source", "placed"]


def test_a_function_of_which_a_call_runs_nothing():
    async def waiting(path):
        path.write_text("x")

    def yielding(path):
        yield path.write_text("x")

    async def value():
        return 1

    b = build(quiet=True)
    for declare in (
        lambda: b.file("a", waiting),
        lambda: b.file("a", partial(waiting)),
        lambda: b.load("value", value),
        lambda: b.cached("a", value),
        lambda: b.file("a", yielding),
        lambda: b.generate("more", yielding),
    ):
        with pytest.raises(BuildError, match=r"is (async|a generator .*), so a call would not run it"):
            declare()

    @b.inject("injected")
    def injected(b):
        yield b.file("first", write)

    b.file("second", write, needs=[injected])
    assert sorted(b.run().made) == ["first", "injected", "second"]


def test_declared_again_it_is_the_same_job():
    b = build(quiet=True)
    jobs = [b.file("a", write, needs=[need]) for need in ("s", "t")]
    assert jobs[0] is jobs[1]
    assert [need.id for need in jobs[0].needs] == ["s", "t"]


def test_redefine():
    b = build(quiet=True, redefine=True)
    b.file("a", write)
    b.file("a", lambda path: path.write_text("y"))
    b.run()
    assert Path("a").read_text() == "y"


def test_jobs_are_callable_and_make_lists():
    b = build(quiet=True)

    @b.file("a")
    def a(path):
        return 5

    c = b.file("c", write)
    assert a(None) == a.function(None) == 5
    assert (a + c, [a] + c, len(a + [c])) == (JobList([a, c]), JobList([a, c]), 2)  # noqa: RUF005
    last = b.file("last", write)
    assert last.dependsOn(a + c, None, [["s"]]) is last
    assert [need.id for need in last.depends_on().needs] == ["a", "c", "s"]
    assert list(a.usedBy) == [last]


def test_a_build_of_another_folder_and_long_names():
    with build(Path("sub/.build"), quiet=True) as b:
        b.MultiFileGeneratingJob(["x", "y"], lambda paths: [write(path) for path in paths]).ignoreCodeChanges()
        b.FileGeneratingJob("z", write).dependsOnParams(5)
    assert sorted(path.name for path in Path("sub").iterdir()) == [".build", "x", "y", "z"]


def test_a_failed_block_does_not_run():
    def fail():
        with build(quiet=True) as b:
            b.file("a", write)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not Path("a").exists()


def test_a_plan_leaves_a_history_as_it_is_that_somebody_may_be_writing(folder):
    b = build(quiet=True)
    b.file("x", lambda path: path.write_text("x"))
    b.run()
    history = Path(".build/history.jsonl")
    for text in (history.read_bytes() + b'["begin","x",nu', b""):
        history.write_bytes(text)
        b.plan()
        b.orphans()
        assert history.read_bytes() == text


def test_a_plan_makes_nothing(folder):
    b = build(quiet=True)
    b.file("a", write)
    plan = b.plan()
    assert (bool(plan), plan.entries) == (True, [("a", "make", ["never made"])])
    assert str(plan) == "build: 1 to make, 0 up to date\n  make   a  never made"
    assert list(folder.iterdir()) == []
    b.run()
    assert not b.plan()


SCRIPT = """
import sys
from job_stream.baked.build import build
text = sys.argv[1]
with build() as b:
    for name in ("a", "b"):
        @b.file(name, params={"text": text})
        def out(path, text):
            path.write_text(text)
"""


def test_jobs_build_in_the_environment(folder, monkeypatch):
    path = folder / "script.py"
    path.write_text(SCRIPT)

    def run(variable):
        monkeypatch.setenv("JOBS_BUILD", variable)
        return Script(path, ["x"]).ended()

    planned = run("plan")
    assert (planned.code, planned.out) == (3, "")
    assert "make   a  never made" in planned.err
    assert not Path("a").exists()
    assert "made 1, kept 0" in run("only:a").err
    assert run("").code == 0
    assert run("plan").code == 0
    assert "made 1, kept 0" in run("only:a;again:a").err
    assert "made 2, kept 0" in run("again:*").err
    assert "none of 'plan', 'again:PATTERN', 'only:PATTERN'" in run("plann").err


def test_why():
    def declared(function, n):
        b = build(quiet=True)
        b.file("out", function, needs=["source"], params={"n": n})
        return b

    Path("source").write_text("a")
    declared(lambda path, n: path.write_text("x"), 1).run()
    Path("source").write_text("b")
    told = declared(lambda path, n: path.write_text("y"), 2).why("out")
    assert "never made" in told
    assert "now: make: code changed; params changed: n 1 -> 2; changed: source" in told
    assert "param n: 1 -> 2" in told
    assert '-    declared(lambda path, n: path.write_text("x"), 1).run()' in told or "+" in told
    assert "need source: " in told


def test_orphans_and_clean():
    def declared(*names):
        b = build(quiet=True)
        for name in names:
            b.file(name, write)
        return b

    declared("a", "b").run()
    b = declared("a")
    assert b.orphans() == ["b"]
    assert b.clean(dryRun=True) == ["b"]
    assert Path("b").exists()
    assert b.clean() == ["b"]
    assert not Path("b").exists()
    assert b.clean(outputs=True) == ["a"]
    assert b.run().made == ["a"]


def test_what_generators_are_yet_to_declare_is_no_orphan():
    def declared(has_generator=True):
        b = build(quiet=True)
        if has_generator:
            b.generate("some", lambda b: b.file("generated", write))
        return b

    b = declared()
    b.run()
    assert b.orphans() == []
    plan = b.plan()
    assert (plan.ids("run"), bool(plan)) == (["some"], True)
    assert "1 to run, 0 up to date" in str(plan)
    assert b.orphans() == []
    b = declared()
    assert b.orphans() == []
    assert b.clean() == []
    assert b.clean(outputs=True) == ["generated"]
    b = declared()
    b.run()
    b = declared(has_generator=False)
    assert b.clean() == ["generated"]


def test_who_only_looks_leaves_the_history_as_it_is():
    b = build(quiet=True)
    b.file("a", write)
    b.run()
    history = Path(".build/history.jsonl")
    torn = history.read_bytes() + b'["done",["a'
    history.write_bytes(torn)  # another build is at writing this line
    b.plan()
    b.why("a")
    b.orphans()
    assert history.read_bytes() == torn


def test_two_builds_in_one_folder_at_a_time():
    b = build(quiet=True)
    b.generate("generator", lambda inner: build(quiet=True).run())
    with pytest.raises(GraphError, match="another build is under way"):
        b.run()


def test_versions_and_functions_are_watched():
    b = build(quiet=True)
    job = b.file("a", write, needs=[b.versions("pytest"), b.FunctionInvariant("f", test_why)])
    assert b.run().made == ["a"]
    assert [need.id for need in job.needs] == ["versions pytest", "function f"]
    b.file("c", write, needs=b.versions("no-such-package"))
    with pytest.raises(BuildError, match="is not installed"):
        b.run()


def test_a_parameter_whose_change_does_not_matter():
    def declared(value):
        b = build(quiet=True)
        watched = b.ParameterInvariant("p", value, unchanged=lambda old, new: abs(old - new) < 1)
        b.file("out", write, needs=watched)
        return b

    declared(1.0).run()
    assert declared(1.5).run().made == []
    assert declared(2.5).run().made == ["out"]


def test_a_set_of_sources():
    def run():
        b = build(quiet=True)
        b.file("out", write, needs=b.sources("data/*.csv"))
        return b.run().made

    os.mkdir("data")
    Path("data/a.csv").write_text("a")
    assert run() == ["out"]
    os.rename("data/a.csv", "data/b.csv")
    assert run() == []
    Path("data/c.csv").write_text("c")
    assert run() == ["out"]


def built(capfd, *names):
    """What is made, and what is said, in a build of some jobs."""
    b = build()
    for name in names:
        b.file(name, write)
    made = b.run().made
    return made, capfd.readouterr().err


def test_a_history_that_was_damaged(capfd):
    built(capfd, "a", "b")
    path = Path(".build/history.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    number = next(n for n, line in enumerate(lines) if b'"done",["a"' in line)
    lines[number] = lines[number].replace(b"never made", b"never mode")
    path.write_bytes(b"".join(lines))
    made, said = built(capfd, "a", "b")
    assert made == ["a"]
    assert "cannot be read, so the jobs in question run again" in said
    path.write_bytes(path.read_bytes()[:-5])  # torn, as by a crash of the machine
    assert set(built(capfd, "a", "b")[0]) <= {"a", "b"}
    assert built(capfd, "a", "b")[0] == []


def test_a_history_that_was_lost(capfd):
    built(capfd, "a", "b")
    os.unlink(".build/history.jsonl")
    assert built(capfd, "a", "b")[0] == ["a", "b"]


def test_the_history_does_not_grow_without_bound():
    b = build(quiet=True, isolate=False)
    for n in range(120):
        b.file(f"out/{n}", write)
    for _ in range(6):
        b.run(again="*")
    assert len(Path(".build/history.jsonl").read_bytes().splitlines()) < 1000
    assert b.run().made == []


def test_cancel():
    b = build(quiet=True, cores=1)

    @b.generate("generator")
    def generator(b):
        b.cancel()

    b.file("after", write, needs=generator)
    assert b.run().stopped == ["after"]
    with pytest.raises(BuildError, match="has been cancelled"):
        b.run()


def test_files_of_a_project_that_was_moved_are_up_to_date(folder, monkeypatch):
    def run():
        b = build(quiet=True)
        b.file("out/a", lambda path, source: path.write_text(source.read_text()), needs={"source": "source"})
        return b.run().made

    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    Path("source").write_text("x")
    assert run() == ["out/a"]
    os.rename(folder / "here", folder / "there")
    monkeypatch.chdir(folder / "there")
    assert run() == []
