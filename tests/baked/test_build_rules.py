"""When a job of a build runs, and why: each rule by a test of its name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from build_support import quiet
from support import Script, wait_until

from job_stream.baked.build import Fingerprint, build
from job_stream.errors import BuildError, CycleError, GraphError, JobContractError, JobDied, JobTimeout

pytestmark = pytest.mark.usefixtures("folder")


def note(name):
    """One more line in a file that tells how often a function ran."""
    with open("ran.log", "a") as file:
        file.write(f"{name}\n")


def ran():
    """What has run since the last call."""
    path = Path("ran.log")
    names = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def chain(text="a", *, upper=lambda text: text.upper(), **keywords):
    """source -> first -> second."""
    b = quiet(**keywords)

    @b.file("first", needs={"source": "source"}, params={"text": text})
    def first(path, source, text):
        note("first")
        path.write_text(source.read_text() + text)

    @b.file("second", needs={"first": first})
    def second(path, first):
        note("second")
        path.write_text(first.read_text().upper())

    return b


@pytest.fixture
def source(folder):
    Path("source").write_text("s")


def test_never_made(source):
    report = chain().run()
    assert report.made == ["first", "second"]
    assert report.reasons == {"first": ["never made"], "second": ["never made"]}
    assert Path("second").read_text() == "SA"


def test_nothing_runs_twice(source):
    chain().run()
    ran()
    report = chain().run()
    assert (report.made, report.kept, ran()) == ([], ["first", "second"], [])


def test_missing(source):
    chain().run()
    os.unlink("second")
    assert chain().run().reasons == {"second": ["missing: second"]}


def test_empty(source):
    chain().run()
    Path("first").write_text("")
    assert chain().run().reasons == {"first": ["empty: first"]}


def test_params_changed(source):
    chain("a").run()
    report = chain("b").run()
    assert report.reasons == {"first": ["params changed: text 'a' -> 'b'"], "second": ["changed: first"]}


def test_changed_need(source):
    chain().run()
    Path("source").write_text("t")
    assert chain().run().reasons["first"] == ["changed: source"]


def test_a_touched_source_changes_nothing(source):
    chain().run()
    os.utime("source", (1, 1))
    assert chain().run().made == []


def one(function, **keywords):
    b = quiet()
    b.file("out", function, **keywords)
    return b


def test_code_changed():
    one(lambda path: path.write_text("1")).run()
    assert one(lambda path: path.write_text("2")).run().reasons == {"out": ["code changed"]}


def test_code_that_is_not_watched_is_noticed_when_it_is_watched_again():
    one(lambda path: path.write_text("1")).run()
    assert one(lambda path: path.write_text("2"), codeChanges=False).run().made == []
    assert one(lambda path: path.write_text("2")).run().reasons == {"out": ["code changed"]}


def test_new_need_and_need_gone():
    for name in "abc":
        Path(name).write_text(name)

    def write(path):
        path.write_text("x")

    one(write, needs=["a"]).run()
    assert one(write, needs=["a", "b"]).run().reasons == {"out": ["new need: b"]}
    assert one(write, needs=["b"]).run().reasons == {"out": ["need gone: a"]}


def test_a_renamed_need_is_no_change():
    Path("a").write_text("same")

    def write(path):
        path.write_text("x")

    one(write, needs=["a"]).run()
    os.rename("a", "b")
    assert one(write, needs=["b"]).run().made == []
    assert one(write, needs=["b"]).run().made == []


def test_output_keys_changed():
    def declared(paths):
        b = quiet()

        @b.files(paths)
        def many(paths):
            for path in paths.values() if isinstance(paths, dict) else paths:
                path.write_text(path.name)

        return b

    declared(["a", "b"]).run()
    assert declared(["b", "a"]).run().made == ["b"] or declared(["a", "b", "c"]).run().reasons == {
        "a": ["missing: c", "output keys changed"]
    }


def test_asked_for(source):
    chain().run()
    assert chain().run(again="first").reasons == {"first": ["asked for"]}
    assert set(chain().run(again="*").reasons) == {"first", "second"}
    b = chain()
    b.invalidate("second")
    assert b.run().reasons == {"second": ["asked for"]}


def test_early_cut_off(source):
    def declared(text):
        b = quiet()

        @b.file("first", params={"text": text})
        def first(path, text):
            path.write_text(text.strip())

        b.file("second", lambda path, first: path.write_text(first.read_text()), needs={"first": first})
        return b

    declared("a").run()
    plan = declared("a ").plan()
    assert [(entry.id, entry.verb) for entry in plan.entries] == [("first", "make"), ("second", "maybe")]
    assert declared("a ").run().made == ["first"]


def test_an_output_changed_by_somebody_else(source, capfd):
    chain().run()
    Path("first").write_text("other")
    report = chain(quiet=False).run()
    assert report.reasons == {"second": ["changed: first"]}
    assert Path("second").read_text() == "OTHER"
    assert "first was changed by somebody else" in capfd.readouterr().err
    assert chain(quiet=False).run().made == []
    assert "somebody else" not in capfd.readouterr().err


def test_old_outputs_are_removed_before_a_job_runs():
    def append(path):
        with open(path, "a") as file:
            file.write("x")

    one(append).run()
    one(append).run(again="out")
    assert Path("out").read_text() == "x"


def test_atomic(folder):
    def write(path):
        assert path.suffix == ".csv"
        assert path.name != "out.csv"
        path.write_text("x")

    b = quiet()
    b.file("out.csv", write, atomic=True)
    b.run()
    assert [path.name for path in folder.iterdir() if path.name != ".build"] == ["out.csv"]


def test_with_atomic_there_is_a_whole_file_at_any_time(folder):
    def write(path, text):
        Path("seen").write_text(Path("out.csv").read_text() if Path("out.csv").exists() else "none")
        with path.open("a") as file:
            file.write(text)
        if text == "bad":
            raise ValueError

    def made(text, **keywords):
        b = quiet(undeclared="off")
        b.file("out.csv", write, params={"text": text}, atomic=True, **keywords)
        b.run(raiseErrors=False)
        return Path("seen").read_text(), Path("out.csv").read_text(), b["out.csv"].state

    assert made("one") == ("none", "one", "made")
    assert made("two") == ("one", "two", "made")
    assert made("bad", keepBroken=True) == ("two", "two", "failed")
    Path(".out.part.csv").write_text("of a run that was killed")
    assert made("three") == ("two", "three", "made")
    names = sorted(path.name for path in folder.iterdir())
    assert names == [".build", "out.csv", "out.csv.broken", "seen"]


def test_what_a_job_made_that_died_with_its_worker_is_removed(folder):
    def die(path):
        path.write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)

    b = quiet(isolate=False)
    b.file("a", die)
    b.file("b", die, keepBroken=True)
    assert sorted(b.run(raiseErrors=False).failed) == ["a", "b"]
    assert sorted(path.name for path in folder.iterdir()) == [".build", "b.broken"]


def test_a_folder_where_a_file_was_is_no_output_and_left_alone():
    b = one(lambda path: path.write_text("x"))
    b.file("user", lambda path, out: path.write_text(out.read_text()), needs={"out": "out"})
    b.run()
    Path("out").unlink()
    Path("out").mkdir()
    Path("out/precious").write_text("mine")
    report = b.run(raiseErrors=False)
    assert (report.failed, report.blocked, report.reasons) == (["out"], ["user"], {"out": ["missing: out"]})
    assert "is to make a file where a folder is: rename or remove" in str(b["out"].exception)
    assert Path("out/precious").read_text() == "mine"


def test_a_contract_is_broken():
    for function in (lambda path: None, lambda path: path.write_text("")):
        with pytest.raises(GraphError, match="out") as caught:
            one(function).run()
        assert isinstance(caught.value.failures["out"], JobContractError)
    assert one(lambda path: path.write_text(""), emptyOk=True).run().made == ["out"]


def test_failure(source):
    def declared(fails):
        b = quiet()

        @b.file("bad", params={"fails": fails})
        def bad(path, fails):
            path.write_text("x")
            if fails:
                raise KeyError("reason")

        b.file("after", lambda path: path.write_text("x"), needs=bad)
        b.file("other", lambda path: path.write_text("x"))
        return b

    declared(False).run()
    with pytest.raises(GraphError, match=r"bad.*params changed.*KeyError: 'reason'.*test_build_rules") as caught:
        declared(True).run()
    assert isinstance(caught.value.failures["bad"], KeyError)
    b = declared(True)
    report = b.run(raiseErrors=False)
    assert (report.failed, report.blocked, report.kept) == (["bad"], ["after"], ["other"])
    assert report.reasons["bad"] == ["never made"]
    assert not Path("bad").exists()
    assert Path("after").exists()
    assert "KeyError" in str(b["bad"].exception.__cause__)


def test_keep_broken():
    def fail(path):
        path.write_text("half")
        raise ValueError

    one(fail, keepBroken=True).run(raiseErrors=False)
    assert Path("out.broken").read_text() == "half"


def test_keep_going_false():
    b = quiet(keepGoing=False, cores=1)

    @b.file("bad", priority=1)
    def bad(path):
        raise ValueError

    for n in range(20):
        b.file(f"other{n}", lambda path: path.write_text("x"))
    report = b.run(raiseErrors=False)
    assert report.failed == ["bad"]
    assert report.stopped


def temporary(text="t", user="u"):
    b = quiet()

    @b.temp("temp", params={"text": text})
    def temp(path, text):
        note("temp")
        path.write_text(text.strip())

    for name in ("one", "two"):

        @b.file(name, needs={"temp": temp}, params={"user": user})
        def use(path, temp, user):
            note(path.name)
            path.write_text(temp.read_text() + user)

    return b


def test_a_temp_file_is_removed_after_use():
    assert temporary().run().made == ["temp", "one", "two"]
    assert not Path("temp").exists()
    assert temporary().run().made == []


def test_a_temp_file_is_made_for_a_user_that_runs():
    temporary().run()
    os.unlink("one")
    report = temporary().run()
    assert report.reasons == {"temp": ["needed by one"], "one": ["missing: one"]}
    assert not Path("temp").exists()


def test_a_temp_file_is_made_to_learn_whether_it_comes_out_different():
    temporary("t").run()
    assert temporary("t ").run().made == ["temp"]
    assert temporary("s").run().made == ["temp", "one", "two"]


def test_a_temp_file_stays_if_a_user_failed():
    def declared(fails):
        b = quiet()
        temp = b.temp("temp", lambda path: path.write_text("x"))

        @b.file("user", needs=temp, params={"fails": fails})
        def user(path, fails):
            path.write_text("x")
            if fails:
                raise ValueError

        return b

    declared(True).run(raiseErrors=False)
    assert Path("temp").exists()
    assert declared(False).run().made == ["user"]
    assert not Path("temp").exists()


def test_a_temp_file_with_changing_content_does_not_make_users_take_turns():
    def declared():
        b = quiet()
        temp = b.temp("temp", lambda path: path.write_text(str(time.time_ns())))
        for name in ("one", "two"):
            b.file(name, lambda path, temp: path.write_text("x"), needs={"temp": temp})
        return b

    declared().run()
    os.unlink("one")
    assert declared().run().made == ["temp", "one"]
    assert declared().run().made == []


def test_a_temp_file_that_lies_around_is_removed():
    temporary().run()
    Path("temp").write_text("left")
    assert temporary().plan().ids("remove") == ["temp"]
    temporary().run()
    assert not Path("temp").exists()


def test_a_temp_file_with_one_that_lasts():
    def declared():
        b = quiet()

        @b.temp("temp", keep="log.txt")
        def temp(path, log):
            path.write_text("t")
            log.write_text("l")

        b.file("user", lambda path, temp: path.write_text(temp["temp"].read_text()), needs={"temp": temp})
        return b

    declared().run()
    assert (Path("temp").exists(), Path("log.txt").read_text(), Path("user").read_text()) == (False, "l", "t")
    assert declared().run().made == []
    os.unlink("user")
    assert declared().run().made == ["temp", "user"]


def loading(value=1, fails=False):
    b = quiet()

    @b.load("value", params={"value": value, "fails": fails})
    def load(value, fails):
        note("load")
        if fails:
            raise ValueError("no value")
        return value

    b.file("user", lambda path, value: path.write_text(str(value)), needs={"value": load})
    return b


def test_loads_run_only_for_a_job_that_runs():
    assert loading().run().made == ["value", "user"]
    assert ran() == ["load"]
    report = loading().run()
    assert (report.made, report.kept, ran()) == ([], ["value", "user"], [])
    assert loading(2).run().reasons["user"] == ["changed: value"]
    assert Path("user").read_text() == "2"


def test_a_load_that_raises_has_failed_itself():
    report = loading(fails=True).run(raiseErrors=False)
    assert (report.failed, report.blocked) == (["value"], ["user"])


def test_a_chain_of_loads_runs_all_or_none():
    b = quiet()
    first = b.load("first", lambda: note("first") or 1)
    second = b.load("second", lambda first: note("second") or first + 1, needs={"first": first})
    b.load("unused", lambda first: note("unused"), needs={"first": first})
    b.file("out", lambda path, value: path.write_text(str(value)), needs={"value": second})
    b.run()
    assert (Path("out").read_text(), ran()) == ("2", ["first", "second"])


def test_a_value_that_says_its_own_fingerprint():
    def declared(value, text):
        b = quiet()
        load = b.load("value", lambda value, text: Fingerprint(value, text), params={"value": value, "text": text})
        b.file("out", lambda path, value: path.write_text(str(value)), needs={"value": load})
        return b

    declared(1, "a").run()
    assert declared(1, "a").run().made == []
    assert Path("out").read_text() == "1"
    assert declared(2, "a").run().made == ["value"]  # to learn what it says
    assert declared(2, "a").run().made == []
    assert declared(3, "b").run().reasons["out"] == ["changed: value"]
    assert Path("out").read_text() == "3"
    assert declared(3, "b").run().made == []


class Holder:
    pass


HOLDER = Holder()


def test_an_attribute_is_there_for_who_needs_it_and_gone_after():
    b = quiet(cores=1, isolate=False)
    attribute = b.attribute("attribute", HOLDER, "value", lambda: 5)
    b.file("with", lambda path: path.write_text(str(HOLDER.value)), needs=attribute, priority=1)
    b.file("without", lambda path: path.write_text(str(hasattr(HOLDER, "value"))))
    b.run()
    assert (Path("with").read_text(), Path("without").read_text()) == ("5", "False")


class Slotted:
    __slots__ = ("value",)
    shared = "of the class"


def test_what_an_attribute_was_before_it_is_again():
    plain, slotted = SimpleNamespace(value="before"), Slotted()
    slotted.value = "before"

    def told(path):
        path.write_text(f"{plain.value} {slotted.value} {Slotted.shared}")

    b = quiet(cores=1, isolate=False)
    needs = [
        b.attribute("plain", plain, "value", lambda: "given"),
        b.attribute("slotted", slotted, "value", lambda: "given"),
        b.attribute("shared", Slotted, "shared", lambda: "given"),
    ]
    b.file("with", told, needs=needs, priority=1)
    b.file("without", told)
    b.run()
    assert Path("with").read_text() == "given given given"
    assert Path("without").read_text() == "before before of the class"


def generating(names=("a", "b"), text="x"):
    b = quiet(quiet=False)

    @b.generate("generator")
    def generate(b):
        for name in names:
            b.file(name, lambda path, text: path.write_text(text), params={"text": text})

    return b


def test_generated_jobs():
    assert generating().run().made == ["generator", "a", "b"]
    assert Path("a").read_text() == "x"
    assert generating().run().made == ["generator"]
    assert generating(text="y").run().made == ["generator", "a", "b"]
    assert generating(("a", "c"), text="y").run().made == ["generator", "c"]


def test_a_generator_may_not_give_needs_to_what_was_there_before():
    b = quiet()
    old = b.file("old", lambda path: path.write_text("x"))

    @b.generate("generator")
    def generate(b):
        old.dependsOn(b.file("new", lambda path: path.write_text("x")))

    report = b.run(raiseErrors=False)
    assert report.failed == ["generator"]
    assert isinstance(generate.exception, JobContractError)
    assert "new" not in b.jobs
    assert Path("old").exists()


def test_inject():
    def declared(text):
        b = quiet(quiet=False)

        @b.inject("inject")
        def inject(b):
            return [b.file("part", lambda path, text: path.write_text(text), params={"text": text})]

        b.file("whole", lambda path: path.write_text(Path("part").read_text()), needs=inject)
        return b

    assert declared("x").run().made == ["inject", "whole", "part"]
    assert Path("whole").read_text() == "x"
    assert declared("y").run().reasons["whole"] == ["changed: part"]


def test_inject_in_vain():
    b = quiet()

    @b.inject("inject")
    def inject(b):
        b.file("part", lambda path: path.write_text("x"))

    b.file("whole", lambda path: path.write_text("x"), needs=inject)
    report = b.run(raiseErrors=False)
    assert (report.failed, report.blocked) == (["inject"], ["whole"])
    assert "part" in str(inject.exception)


def test_generators_nest():
    b = quiet()

    @b.generate("outer")
    def outer(b):
        first = b.file("first", lambda path: path.write_text("1"))

        @b.generate("inner", needs=first)
        def inner(b):
            b.file("second", lambda path, first: path.write_text(first.read_text() + "2"), needs={"first": first})

    assert b.run().made == ["outer", "first", "inner", "second"]
    assert Path("second").read_text() == "12"


def test_declaring_in_a_job():
    b = quiet()

    @b.file("out")
    def out(path):
        b.file("more", lambda path: None)

    b.run(raiseErrors=False)
    assert isinstance(out.exception, BuildError)


def test_a_source_that_changes_while_a_job_reads_it(source, capfd):
    b = quiet(quiet=False)

    @b.file("out", needs=["source"])
    def out(path):
        Path("source").write_text("changed")
        path.write_text("x")

    b.run()
    assert "source changed while out" in capfd.readouterr().err
    assert one(out.function, needs=["source"]).run().reasons == {"out": ["changed: source"]}


def test_a_missing_source():
    Path("sourse").write_text("x")
    with pytest.raises(BuildError, match=r"'source' does not exist.*'out'.*'sourse'"):
        one(lambda path: None, needs=["source"]).run()


def test_retries():
    def flaky(path):
        note("flaky")
        if len(Path("ran.log").read_text().split()) < 3:
            raise ValueError
        path.write_text("x")

    assert one(flaky, retries=1).run(raiseErrors=False).failed == ["out"]
    ran()
    assert one(flaky, retries=2).run().made == ["out"]
    assert len(ran()) == 3


def test_timeout():
    b = one(lambda path: time.sleep(1000), timeout=0.2)
    b.run(raiseErrors=False)
    assert isinstance(b["out"].exception, JobTimeout)


@pytest.mark.parametrize(
    ("end", "code", "signal"),
    [(lambda: os._exit(5), 5, None), (lambda: exit(5), 5, None), (lambda: os.kill(os.getpid(), 9), None, "SIGKILL")],
)
@pytest.mark.parametrize("isolate", [True, False])
def test_a_job_that_dies(end, code, signal, isolate):
    b = quiet(isolate=isolate)
    b.file("out", lambda path: end())
    b.file("other", lambda path: path.write_text("x"))
    b.run(raiseErrors=False)
    error = b["out"].exception
    assert isinstance(error, JobDied)
    assert (error.exitCode, error.signal) == (code, signal)
    assert b["other"].state == "made"


def test_a_circle():
    b = quiet()
    for name, need in ("ab", "bc", "ca"):
        b.file(name, lambda path: None, needs=[need])
    with pytest.raises(CycleError, match="'a' -> 'b' -> 'c' -> 'a'"):
        b.run()


def test_a_circle_that_one_call_closes():
    b = quiet()
    first = b.file("first", lambda path: None)
    second = b.file("second", lambda path: None, needs=first)
    with pytest.raises(CycleError, match="'first' -> 'second' -> 'first'"):
        first.dependsOn(second)


def test_only():
    b = quiet()
    first = b.file("first", lambda path: path.write_text("x"))
    b.file("second", lambda path: path.write_text("x"), needs=first)
    b.file("third", lambda path: path.write_text("x"))
    assert b.run(only="second").made == ["first", "second"]


def test_prune():
    b = quiet()
    first = b.file("first", lambda path: path.write_text("x"))
    b.file("second", lambda path: path.write_text("x"), needs=first)
    b.file("third", lambda path: path.write_text("x"))
    first.prune()
    report = b.run()
    assert (report.made, report.pruned) == (["third"], ["first", "second"])
    first.unprune()
    assert b.run().made == ["first", "second"]


def test_finish_runs_after_everything_in_each_run():
    def declared():
        b = quiet()
        b.file("out", lambda path: path.write_text("x"))
        b.finish(lambda: note(f"finish{Path('out').exists()}"))
        return b

    declared().run()
    declared().run()
    assert ran() == ["finishTrue", "finishTrue"]


def test_finish_declares_nothing():
    b = quiet()
    b.finish(lambda: b.file("late", lambda path: path.write_text("x")))
    with pytest.raises(GraphError, match="job 'late' is declared while the build runs"):
        b.run()
    b.file("late", lambda path: path.write_text("x"))


def test_what_watches_nothing_and_is_there_is_kept():
    Path("out").write_text("mine")
    assert one(lambda path: path.write_text("x"), codeChanges=False).run().made == []
    assert Path("out").read_text() == "mine"


def test_what_watches_nothing_is_made_again_if_nobody_has_seen_its_end(tmp_path):
    (tmp_path / "script.py").write_text(HALF)
    killed = Script(tmp_path / "script.py", ())
    wait_until((tmp_path / "half").exists, "half of the file")
    killed.kill()
    (tmp_path / "go").touch()
    other = quiet()
    other.file("other", lambda path: path.write_text("x"))
    other.run()
    assert Script(tmp_path / "script.py", ()).ended().code == 0
    assert (tmp_path / "half").read_text() == "whole"
    assert "made 0, kept 1" in Script(tmp_path / "script.py", ()).ended().err


def test_what_watches_nothing_can_be_invalidated():
    one(lambda path: path.write_text("x"), codeChanges=False).run()
    one(lambda path: path.write_text("x"), codeChanges=False).invalidate("out")
    assert one(lambda path: path.write_text("x"), codeChanges=False).run().made == ["out"]


HALF = """
import time
from pathlib import Path
from job_stream.baked.build import build

with build() as b:
    @b.file("half", codeChanges=False)
    def half(path):
        path.write_text("half")
        while not Path("go").exists():
            time.sleep(0.01)
        path.write_text("whole")
"""


def test_an_existing_file_without_record_is_made_again():
    Path("out").write_text("mine")
    assert one(lambda path: path.write_text("x")).run().reasons == {"out": ["never made"]}


def test_accept():
    Path("out").write_text("mine")
    b = one(lambda path: path.write_text("x"))
    b.accept("out")
    assert b.run().made == []
    assert Path("out").read_text() == "mine"


def test_accept_with_temporary_files_that_are_gone():
    def jobs(text="x"):
        b = quiet()
        temp = b.temp("temp", lambda path, text: path.write_text(text), params={"text": text})
        b.file("out", lambda path, temp: path.write_text(temp.read_text()), needs={"temp": temp})
        return b

    Path("out").write_text("mine")
    b = jobs()
    b.accept(["temp", "out"])
    assert (b.run().made, jobs().run().made, Path("out").read_text()) == ([], [], "mine")
    assert jobs().run(again="out").made == ["temp", "out"]
    assert jobs().run().made == []
    jobs("y").accept(["temp"])
    assert (jobs("y").run().made, Path("out").read_text()) == ([], "x")
    assert jobs("z").run().made == ["temp", "out"]


def test_output_of_jobs():
    def talk(path):
        print("to out")
        os.system("echo to err >&2")
        raise ValueError

    b = one(talk)
    b.run(raiseErrors=False)
    assert (b["out"].stdout, b["out"].stderr) == ("to out\n", "to err\n")
    assert Path(".build/logs/out.out").read_text() == "to out\n"
    assert Path(".build/logs/out.err").read_text() == "to err\n"


def peeking(**keywords):
    b = quiet(cores=1, quiet=False, **keywords)
    b.file("first", lambda path: path.write_text("x"), priority=1)

    @b.file("second")
    def second(path):
        path.write_text(Path("first").read_text())

    return b


@pytest.mark.parametrize("isolate", [True, False])
def test_a_job_reads_what_another_makes_without_needing_it(capfd, isolate):
    text = "second reads first, which first makes, without needing it"
    assert peeking(isolate=isolate).run().made == ["first", "second"]
    assert text in capfd.readouterr().err
    peeking(isolate=isolate, undeclared="off").run(again="*")
    assert text not in capfd.readouterr().err
    b = peeking(isolate=isolate, undeclared="error")
    assert b.run(again="*", raiseErrors=False).failed == ["second"]
    assert text in str(b["second"].exception)
    b = peeking(isolate=isolate, undeclared="error")
    b["second"].dependsOn(b.file("between", lambda path: path.write_text("x"), needs="first"))
    assert b.run().failed == []


def test_a_job_writes_what_another_makes(capfd):
    b = quiet(cores=1, quiet=False)
    b.file("first", lambda path: path.write_text("x"), priority=1)
    b.file("second", lambda path: [path.write_text("x"), Path("first").write_text("x")])
    b.run()
    assert "second writes first, which first makes" in capfd.readouterr().err


def test_without_isolation_folder_and_environment_are_put_back():
    def disturb(path):
        os.environ["DISTURBED"] = "1"
        os.chdir("/")
        path.write_text("x")

    b = quiet(cores=1, isolate=False)
    first = b.file("first", disturb)
    b.file("second", lambda path: path.write_text(f"{os.environ.get('DISTURBED')} {os.getcwd()}"), needs=first)
    b.run()
    assert Path("second").read_text() == f"None {os.getcwd()}"


def test_a_job_has_a_process_of_its_own():
    b = quiet(cores=1)
    for name in ("first", "second"):
        b.file(name, lambda path: path.write_text(f"{os.getpid()} {os.getppid()}"))
    b.run()
    (first, above), (second, again) = (Path(name).read_text().split() for name in ("first", "second"))
    assert first != second
    assert above == again
    assert b["first"].pid == int(first)


def test_several_files_are_needed_one_by_one():
    def declared(text):
        b = quiet()

        @b.files({"one": "1", "two": "2"}, params={"text": text})
        def both(paths, text):
            paths["one"].write_text("same")
            paths["two"].write_text(text)

        b.file("of_one", lambda path, one: path.write_text(one.read_text()), needs={"one": both["one"]})
        b.file("of_two", lambda path, two: path.write_text(two.read_text()), needs={"two": "2"})
        b.file("of_both", lambda path, both: path.write_text(str(sorted(both))), needs={"both": both})
        return b

    declared("a").run()
    assert declared("b").run().made == ["1", "of_two", "of_both"]
    assert Path("of_both").read_text() == "['one', 'two']"


def test_limits_and_cores_hold(folder):
    def enter(path):
        note(f"{path.name}+")
        time.sleep(0.02)
        note(f"{path.name}-")
        path.write_text("x")

    b = quiet(limits={"db": 1}, cores=2)
    for n in range(3):
        b.file(f"limited{n}", enter, limits={"db": 1})
    for n in range(2):
        b.file(f"all{n}", enter, cores="all")
    b.run()
    inside = set()
    for event in Path("ran.log").read_text().split():
        name, is_in = event[:-1], event[-1] == "+"
        (inside.add if is_in else inside.remove)(name)
        assert sum(name.startswith("limited") for name in inside) <= 1
        assert not any(name.startswith("all") for name in inside) or len(inside) == 1


def test_a_build_inside_a_job():
    b = quiet()

    @b.file("out")
    def out(path):
        inner = build("inner/.build", quiet=True)
        inner.file("part", lambda path: path.write_text("x"))
        inner.run()
        path.write_text(Path("inner/part").read_text())

    b.run()
    assert Path("out").read_text() == "x"


def test_generated_functions_that_cannot_travel_are_named():
    import threading

    b = quiet()
    lock = threading.Lock()

    @b.generate("generator", needs=b.file("first", lambda path: path.write_text("x")))
    def generator(b):
        b.file("out", lambda path: path.write_text(str(lock)))

    report = b.run(raiseErrors=False)
    assert report.failed == ["out"]
    assert "'lock'" in str(b["out"].exception)


def test_a_quiet_build_says_nothing_but_failures(capfd, source):
    chain().run()
    Path("first").write_text("other")
    chain().run()
    assert capfd.readouterr() == ("", "")
    one(lambda path: None).run(raiseErrors=False)
    captured = capfd.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert "out failed: JobContractError" in captured.err


def test_what_cannot_be_watched_is_said_once(capfd):
    import logging

    log = logging.getLogger("build")

    def declared():
        b = quiet(quiet=False)
        b.file("out", lambda path: [log.info("x"), path.write_text("x")])
        return b

    declared().run()
    assert "not watched: log (" in capfd.readouterr().err
    declared().run(again="out")
    assert "not watched" not in capfd.readouterr().err


def test_one_build_may_run_several_times():
    b = quiet()
    fails = [True]

    @b.inject("inject")
    def inject(b):
        return b.file("part", lambda path: path.write_text("x"))

    @b.file("whole", needs=inject)
    def whole(path):
        if fails[0]:
            raise ValueError
        path.write_text("x")

    b.finish(lambda: note("finish"))
    assert b.run(raiseErrors=False).failed == ["whole"]
    fails[0] = False
    b.file("more", lambda path: path.write_text("x"))
    report = b.run()
    finishing = {job.id for job in b.jobs.values() if job.kind == "finish"}
    assert (set(report.made) - finishing, report.kept) == ({"inject", "whole", "more"}, ["part"])
    assert whole.exception is None
    assert ran() == ["finish"]
    fails[0] = True
    report = b.run(again="whole", raiseErrors=False)
    assert not [job_id for job_id in report.made if b[job_id].kind == "finish"]
