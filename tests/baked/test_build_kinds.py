"""Jobs of builds that are more than a function that makes files: cached values, programs, plots, notebooks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from job_stream.baked.build import build
from job_stream.errors import BuildError, ProgramError

pytestmark = pytest.mark.usefixtures("folder")


def caching(value=1, user="u", **keywords):
    b = build(quiet=True)

    @b.cached("value.cache", params={"value": value}, **keywords)
    def value_of(value):
        with open("ran.log", "a") as file:
            file.write("calc ")
        return {"value": abs(value)}

    b.file("out", lambda path, value, user: path.write_text(f"{value['value']}{user}"), needs={"value": value_of},
           params={"user": user})  # fmt: skip
    return b


def test_a_cached_value_is_computed_once(folder):
    assert caching().run().made == ["value.cache", "load value.cache", "out"]
    assert Path("out").read_text() == "1u"
    assert caching(user="v").run().made == ["load value.cache", "out"]
    assert Path("out").read_text() == "1v"
    assert caching(user="v").run().made == []
    assert Path("ran.log").read_text() == "calc "


def test_a_cached_value_is_computed_only_for_a_user_that_runs(folder):
    caching().run()
    os.unlink("value.cache")
    assert caching().run().made == []
    assert caching(always=True).run().made == ["value.cache"]
    os.unlink("value.cache")
    assert caching(user="v").run().made == ["value.cache", "load value.cache", "out"]


def test_a_cached_value_that_comes_out_the_same_makes_nothing_run(folder):
    caching(1).run()
    assert caching(-1).run().made == ["value.cache"]
    assert caching(2).run().reasons["out"] == ["changed: load value.cache"]


def test_a_memory_mapped_array(folder):
    numpy = pytest.importorskip("numpy")
    b = build(quiet=True)
    array = b.cached("array.npy", lambda: numpy.arange(5), memmap=True)
    b.file("out", lambda path, array: path.write_text(f"{type(array).__name__} {array.sum()}"), needs={"array": array})
    b.run()
    assert Path("out").read_text() == "memmap 10"


class Holder:
    pass


HOLDER = Holder()


def test_cached_values_by_their_long_names(folder):
    b = build(quiet=True)
    stored = b.CachedDataLoadingJob("one", lambda: 1, lambda value: setattr(HOLDER, "stored", value))
    attribute = b.CachedAttributeLoadingJob("two", HOLDER, "attribute", lambda: 2)
    b.FileGeneratingJob("out", lambda path: path.write_text(f"{HOLDER.stored} {HOLDER.attribute}")).dependsOn(
        stored, attribute
    )
    b.run()
    assert Path("out").read_text() == "1 2"


def running(*argv, **keywords):
    b = build(quiet=True)
    b.program("out.txt", list(argv), **keywords)
    return b


def test_a_program(folder):
    Path("in.txt").write_text("some text")
    assert running("cp", "{source}", "{path}", needs={"source": "in.txt"}).run().made == ["out.txt"]
    assert Path("out.txt").read_text() == "some text"
    assert running("cp", "{source}", "{path}", needs={"source": "in.txt"}).run().made == []
    report = running("cp", "-f", "{source}", "{path}", needs={"source": "in.txt"}).run()
    assert report.reasons["out.txt"] == ["changed: params of program out.txt"]


def test_what_a_program_writes(folder):
    running("echo", "{n}", params={"n": 5}, stdout="out.txt").run()
    assert Path("out.txt").read_text() == "5\n"


def test_a_program_that_fails(folder):
    b = running("sh", "-c", "echo trouble >&2; exit 3")
    b.run(raiseErrors=False)
    assert isinstance(b["out.txt"].exception, ProgramError)
    assert "exit code 3" in str(b["out.txt"].exception)
    assert b["out.txt"].stderr == "trouble\n"
    assert running("sh", "-c", "echo x > {path}; exit 3", codes=(0, 3)).run().made == ["out.txt"]


def test_a_program_may_write_beside_its_target_and_leave_files_empty(folder):
    running("sh", "-c", "echo whole > {path}", atomic=True).run()
    b = running("sh", "-c", "echo half > {path}; exit 3", atomic=True)
    b.run(raiseErrors=False)
    assert b["out.txt"].state == "failed"
    assert [path.name for path in Path().glob("*")] == [".build"], [*Path().glob("*")]
    running("sh", "-c", "cat out.txt 2>&1 || true", atomic=True, stdout="out.txt").run()
    assert "No such file" in Path("out.txt").read_text()
    assert running("true", emptyOk=True, stdout="out.txt").run().made == ["out.txt"]


def test_a_program_is_no_rank(folder, monkeypatch):
    monkeypatch.setenv("PMIX_VERSION", "1")
    running("sh", "-c", "env | grep -c PMIX > {path} || true").run()
    assert Path("out.txt").read_text() == "0\n"


def test_a_program_whose_arguments_a_function_gives(folder):
    b = build(quiet=True)

    @b.program("out.txt", params={"n": 3})
    def argv(path, n):
        return ["sh", "-c", f"echo {n} > {path}"]

    b.run()
    assert Path("out.txt").read_text() == "3\n"


def test_a_program_is_no_command_line(folder):
    with pytest.raises(BuildError, match="list of the program and its arguments"):
        build().program("out.txt", "cp a b")


@pytest.mark.libraries
def test_a_plot(folder):
    pandas = pytest.importorskip("pandas")

    class Drawing:
        def __init__(self, data):
            self.data = data

        def savefig(self, path, dpi=1):
            Path(path).write_text(f"{self.data['x'].sum()} {dpi}")

    b = build(quiet=True)
    plot = b.plot("plot.txt", lambda: pandas.DataFrame({"x": [1, 2]}), Drawing, render={"dpi": 2})
    plot.addPlot("other.txt", Drawing)
    assert set(b.run().made) == {"plot.txt", "plot.txt.data", "load plot.txt.data", "plot.txt.tsv", "other.txt"}
    assert (Path("plot.txt").read_text(), Path("other.txt").read_text()) == ("3 2", "3 1")
    assert Path("plot.txt.tsv").read_text().split() == ["x", "0", "1", "1", "2"]
