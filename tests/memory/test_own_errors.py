"""The user's own exceptions arrive as what they were: their class, message, attributes, and what they came of."""

import dataclasses
import pickle
import sys
import threading

import pytest

import job_stream
from job_stream import Work
from job_stream.errors import JobStreamError, StageError
from job_stream.memory.exceptions import pack_error, unpack_error

WAYS = [{}, {"useMultiprocessing": False}]


class Several(Exception):
    def __init__(self, name, number):
        super().__init__(f"{name}: {number}")
        self.name, self.number = name, number


class Named(Exception):
    def __init__(self, *, reason):
        super().__init__(reason)
        self.reason = reason


class Decorated(Exception):
    """One whose text would grow each time it is made from its text."""

    def __init__(self, text):
        super().__init__(f"<{text}>")


class Locked(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
        self.text = text


class LockedSeveral(Exception):
    def __init__(self, text, lock):
        super().__init__(text, lock)
        self.lock = lock


class Slotted(Exception):
    __slots__ = ("code",)

    def __init__(self, *, code):
        super().__init__()
        self.code = code


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class Shows(Exception):
    def __init__(self, code):
        self.code = code

    def __str__(self):
        return f"code {self.code}"


class NoText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Missing(FileNotFoundError):
    def __init__(self, path):
        super().__init__(2, "not there", path)


class Undecodable(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 0, 1, "odd")


class Base(BaseException):
    def __init__(self, name, number):
        super().__init__(name)


class Recursive(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.me = self


class RefusesToBeRead:
    def __reduce__(self):
        return int, ("no number",)


class HoldsWhatCannotBeRead(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.odd = RefusesToBeRead()


MAKERS = [
    lambda: Several("a", 1),
    lambda: Named(reason="because"),
    lambda: Decorated("text"),
    lambda: Locked("text"),
    lambda: Slotted(code=3),
    lambda: Frozen(3),
    lambda: Shows(3),
    lambda: Missing("/no/file"),
    lambda: Undecodable(b"\xff"),
    lambda: Base("a", 1),
    lambda: Recursive("text"),
    lambda: HoldsWhatCannotBeRead("text"),
    lambda: Several(("a" * 1_000_000), 2),
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize("number", range(len(MAKERS)))
def test_an_exception_arrives_as_one_of_its_own_class_with_its_message(number, way):
    made = MAKERS[number]()

    def fail(_):
        raise MAKERS[number]()

    with pytest.raises(type(made)) as raised:
        job_stream.map(fail, [1], **way)
    assert type(raised.value) is type(made)
    assert str(raised.value) == str(made)
    assert isinstance(raised.value.__cause__, StageError)
    assert "raise MAKERS[number]()" in raised.value.__cause__.traceback


def raised_by(make, **keywords):
    """What comes of an exception that a job raises."""

    def fail(_):
        raise make()

    try:
        job_stream.map(fail, [1], **keywords)
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


def test_attributes_arrive_as_they_were():
    assert raised_by(lambda: Several("a", 1)).number == 1
    assert raised_by(lambda: Named(reason=[1])).reason == [1]
    assert raised_by(lambda: Slotted(code=3)).code == 3
    assert raised_by(lambda: Frozen(3)) == Frozen(3)
    missing = raised_by(lambda: Missing("/no/file"))
    assert (missing.errno, missing.filename, missing.args) == (2, "/no/file", (2, "not there"))
    assert raised_by(lambda: Undecodable(b"\xff")).object == b"\xff"
    assert raised_by(lambda: ImportError("no", name="module", path="here")).name == "module"
    assert raised_by(lambda: StopIteration(3)).value == 3


def test_an_attribute_that_cannot_travel_is_a_text_and_the_others_are_what_they_were():
    def make():
        error = OSError(5, "text")
        error.held, error.kept = threading.Lock(), {"a": 1}
        return error

    found = raised_by(make)
    assert (found.errno, found.kept) == (5, {"a": 1})
    assert "lock" in found.held


def test_a_constructor_may_make_anew_what_cannot_travel():
    found = raised_by(lambda: Locked("text"))
    with found.lock:
        assert found.text == "text"


def test_an_argument_that_cannot_travel_is_a_text():
    found = raised_by(lambda: LockedSeveral("text", threading.Lock()))
    assert type(found) is LockedSeveral
    assert found.args[0] == "text"
    assert "lock" in found.args[1]


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_an_exception_of_a_local_class_is_caught_by_that_class(way):
    class Local(Exception):
        def __init__(self, name, *, number):
            super().__init__(name)
            self.number = number

    found = raised_by(lambda: Local("a", number=1), **way)
    assert (type(found), found.number) == (Local, 1)


def test_an_exception_of_a_class_that_the_job_makes_arrives():
    def fail(_):
        class Made(ValueError):
            def __init__(self, name, *, number):
                super().__init__(name)

        raise Made("a", number=1)

    with pytest.raises(ValueError, match=r"^a$") as raised:
        job_stream.map(fail, [1])
    assert type(raised.value).__name__ == "Made"


def test_an_exception_without_a_text_arrives():
    found = raised_by(NoText)
    assert type(found) is NoText
    assert "<its text raised RuntimeError>" in found.__cause__.traceback


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_an_exception_came_of_arrives_behind_its_story(way):
    def fail(_):
        try:
            raise Several("first", 1)
        except Several as error:
            raise Named(reason="second") from error

    with pytest.raises(Named) as raised:
        job_stream.map(fail, [1], **way)
    story = raised.value.__cause__
    assert (type(story), type(story.__cause__), str(story.__cause__)) == (StageError, Several, "first: 1")


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_what_was_handled_when_an_exception_was_raised_arrives_too(way):
    def fail(_):
        try:
            raise Several("first", 1)
        except Several:
            raise Named(reason="second")  # noqa: B904

    with pytest.raises(Named) as raised:
        job_stream.map(fail, [1], **way)
    assert type(raised.value.__context__) is Several
    assert type(raised.value.__cause__.__context__) is Several


def test_the_cause_of_an_exception_in_the_scripts_own_process_is_kept():
    def source():
        yield 1
        raise Named(reason="second") from Several("first", 1)

    with pytest.raises(Named) as raised:
        job_stream.map(lambda x: x, source())
    assert type(raised.value.__cause__) is StageError
    assert type(raised.value.__cause__.__cause__) is Several


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no notes")
def test_notes_arrive():
    def make():
        error = Named(reason="text")
        error.add_note("and more")
        return error

    found = raised_by(make)
    assert found.__notes__ == ["and more"]
    assert "and more" in found.__cause__.traceback


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_a_group_arrives_with_its_members(way):
    def make():
        inner = ExceptionGroup("inner", [Named(reason="b"), Locked("c")])  # noqa: F821
        return ExceptionGroup("outer", [Several("a", 1), inner])  # noqa: F821

    found = raised_by(make, **way)
    assert str(found) == "outer (2 sub-exceptions)"
    assert [type(error) for error in found.exceptions[1].exceptions] == [Named, Locked]
    assert found.exceptions[0].number == 1
    assert "Several: a: 1" in found.__cause__.traceback
    assert "Locked: c" in found.__cause__.traceback


@pytest.mark.skipif(sys.version_info < (3, 11), reason="there are no groups")
def test_a_group_of_very_many_arrives():
    found = raised_by(lambda: ExceptionGroup("many", [Several("a", i) for i in range(20_000)]))  # noqa: F821
    assert len(found.exceptions) == 20_000
    assert str(found.exceptions[-1]).endswith("a: 19999")


def test_a_chain_without_end_is_one():
    def make():
        first, second = Several("first", 1), Several("second", 2)
        first.__context__, second.__context__ = second, first
        return first

    found = raised_by(make)
    assert str(found) == "first: 1"


def test_an_exception_that_holds_itself_in_a_list_arrives():
    def make():
        error = Named(reason="text")
        error.parts = [error, Several("a", 1)]
        return error

    found = raised_by(make)
    assert found.parts[0] == "test_own_errors.Named: text"
    assert found.parts[1].number == 1


class Refuses(Exception):
    def __reduce__(self):
        raise TypeError("this error stays here")


def test_an_exception_that_does_not_want_to_travel_is_told_by_a_stage_error():
    found = raised_by(lambda: Refuses("kept"))
    assert type(found) is StageError
    assert "Refuses: kept" in found.traceback


def test_a_class_that_cannot_travel_is_told_by_a_stage_error():
    def fail(_):
        class Made(Exception):
            lock = threading.Lock()

        raise Made("kept")

    with pytest.raises(StageError, match="Made: kept"):
        job_stream.map(fail, [1])


class Exits(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()
        if text == "exit":
            raise SystemExit(7)


def test_a_constructor_that_would_end_the_script_does_not():
    error = Exits("stay")
    error.args = ("exit",)
    assert str(unpack_error(pack_error(error))) == "exit"


def test_constructors_are_not_called_where_nothing_was_left_behind():
    calls = []

    class Counted(Exception):
        def __init__(self, text):
            super().__init__(text)
            calls.append(text)

    job_stream.map(lambda x: x, [1])
    found = raised_by(lambda: Counted("a"))
    assert (type(found), calls) == (Counted, [])


def test_what_a_retry_raises_is_what_arrives():
    w = Work([1], retries=1)

    @w.job
    def fail(_):
        raise Several("a", 1)

    with pytest.raises(Several, match="a: 1"):
        w.run()


def test_job_streams_own_errors_travel_in_both_ways():
    error = JobStreamError("a")
    assert str(pickle.loads(pickle.dumps(error))) == str(unpack_error(pack_error(error))) == "a"
    told = StageError("stage", "item", "trace", 1, "host", 2)
    assert str(unpack_error(pack_error(told))) == str(told)


def test_an_exception_that_cannot_be_changed_arrives_from_a_run_with_a_checkpoint(tmp_path):
    def fail(_):
        raise Frozen(3)

    with pytest.raises(Frozen) as raised:
        job_stream.map(fail, [1], checkpointFile=tmp_path / "checkpoint")
    assert raised.value == Frozen(3)
