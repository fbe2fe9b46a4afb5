"""Checkpoint files: what is written comes back, what is damaged or not to be trusted is refused, nothing is lost."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import stat
import zlib

import pytest
from checkpoint_support import (
    RUN,
    STAGES,
    Trouble,
    bare,
    calls_of,
    dies_before,
    dies_within,
    header,
    in_child,
    in_memory_file,  # fmt: skip
    inline,
    killed_at,
    noise,
    state,
)

import job_stream
from job_stream.checkpoints.disk import Disk
from job_stream.checkpoints.encoding import dump, load
from job_stream.checkpoints.file import CheckpointError, CheckpointFile
from job_stream.checkpoints.format import MAGIC, RECORD_BYTES, Reading
from job_stream.checkpoints.trust import Secret
from job_stream.engine import messages as m
from job_stream.engine.backlog import Part
from job_stream.engine.rank import Rank
from job_stream.errors import EngineError
from job_stream.memory.payload import Live, Parts
from job_stream.stream.plan import Builder, Kind, Stage

FRONT = 16  # magic, format, flags, length of the header


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.checkpoint"


@pytest.fixture
def file(path):
    return CheckpointFile(path)


def written(file, size=2000, seed=1):
    file.write(header(delivered=seed), state(size, seed))
    return file


def seed_of(file):
    return file.read(STAGES).state["seed"]


def refused(file, *words):
    with pytest.raises(CheckpointError) as caught:
        file.read(STAGES)
    for word in words:
        assert word in str(caught.value)


def flip(path, place, bit=1):
    with open(path, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ bit]))


def header_bytes(path):
    """Where the records begin."""
    return FRONT + 4 + int.from_bytes(path.read_bytes()[12:16], "little") + 32


def names(path):
    return {entry.name for entry in path.parent.iterdir()}


# --- what is written comes back ---------------------------------------------------------------------------------------


def through_a_file(file, value):
    file.write(header(), value)
    return file.read(STAGES).state


@pytest.mark.parametrize(
    "value",
    [
        None,
        (),
        [],
        {},
        True,
        0,
        -(1 << 63),
        1 << 64,
        -(1 << 200),
        1.5,
        "text",
        b"bytes",
        {1: (2, [3]), "a": None, (4, "b"): {"c": (True, False)}},
        m.WorkBatch(1, 2, 3, m.SourceSlice(0, 5, 8), base=5),
        m.WorkBatch(1, 2, 3, m.RangeSlice(0, 1 << 70, 1 << 68)),
        (m.Open(-1, 0, 1, None, (1, 2)), m.Same(3), m.Deliver(None, 1, None)),
    ],
)
def test_plain_data_comes_back_as_it_was(file, value):
    assert bare(through_a_file(file, value)) == bare(value)


@pytest.mark.parametrize(
    "payload",
    [
        inline(b""),
        inline(b"one"),
        inline(b"one", b"", noise(50_000)),
        Parts([b"one", bytearray(noise(30_000)), memoryview(noise(3 << 20))]),
        in_memory_file(0, noise(100)),
        in_memory_file(4096, noise(5 << 20, 2), b"", noise(70_000, 3)),
    ],
    ids=["empty", "small", "parts", "own memory", "shared memory", "large, in shared memory"],
)
def test_payloads_come_back_wherever_they_lie(file, payload):
    assert bare(through_a_file(file, (payload, m.Fold(0, 1, payload)))) == bare((payload, m.Fold(0, 1, payload)))


def test_many_payloads_of_every_size_come_back(file):
    payloads = [inline(noise(size, size)) for size in range(0, 3000, 7)]
    payloads[::10] = [in_memory_file(size, noise(size, 5)) for size in range(len(payloads[::10]))]
    assert bare(through_a_file(file, payloads)) == bare(payloads)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_state_around_the_size_of_a_record_comes_back(file, extra):
    value = inline(noise(RECORD_BYTES))
    overhead = sum(map(len, dump(value))) - RECORD_BYTES
    value = inline(noise(RECORD_BYTES - overhead + extra))
    assert bare(through_a_file(file, value)) == bare(value)


def test_a_payload_in_several_places_is_written_once_and_stays_one(file, path):
    shared = inline(noise(100_000))
    first, second = through_a_file(file, [m.Same(1), shared, shared])[1:]
    assert first is second
    assert path.stat().st_size < 110_000


def test_the_state_of_a_rank_comes_back(file):
    def rank(captured=None):
        builder = Builder()
        builder.open_frame(Stage(Kind.FRAME, "frame", print))
        builder.add(Stage(Kind.JOB, "job", print))
        builder.add(Stage(Kind.FOLD, "fold", print))
        builder.close_frame(Stage(Kind.END, "end", print))
        return Rank(builder.plan(), (Part(None), Part(9)), 2, state=captured)

    before = rank()
    before.handle(m.Nothing())
    lends = before.handle(m.SourceGave(((1, inline(b"a")), (2, in_memory_file(0, noise(70_000)))), True))
    lend = next(action for action in lends if type(action) is m.Lend)
    closed = ((lend.loan, tuple(name for name, _ in lend.units)),)
    frame = m.Open(-1, 0, 0, inline(b"store"), ())
    before.handle(m.Repaid(lend.lane, lend.loan, closed, (frame, m.WorkBatch(-1, 2, 1, inline(b"b")))))
    captured = before.capture()
    assert captured.pieces
    assert len(captured.scopes) == 2
    restored = through_a_file(file, captured)
    assert type(restored) is type(captured)
    assert bare(restored) == bare(captured)
    assert rank(restored).handle(m.Nothing())


@pytest.mark.parametrize("stranger", [object(), {1, 2}, Live([1]), RUN.encode, m.WorkBatch(0, 0, 0, object())])
def test_what_cannot_be_in_a_file_is_our_mistake(file, path, stranger):
    with pytest.raises(EngineError, match="cannot be in a checkpoint"):
        file.write(header(), (1, stranger))
    assert names(path) == set()


def test_records_of_another_version_are_refused():
    data = b"".join(dump(m.Same(7))).replace(b"name", b"nome")
    parts = iter([data[:8], data[8:]])
    with pytest.raises(CheckpointError, match="kind Same are not those of this version"):
        load(lambda _: next(parts))


def test_the_header_comes_back_with_the_time(file, path):
    written(file, seed=5)
    loaded = file.read(STAGES)
    assert loaded.header._replace(written=0.0) == header(delivered=5)
    assert abs(loaded.header.written - path.stat().st_mtime) < 60
    assert loaded.changed == ()
    assert loaded.warning == ""


def test_without_a_file_there_is_nothing_to_go_on_from(file):
    assert file.read(STAGES) is None


def test_the_file_and_the_one_before_are_kept_and_nothing_else(file, path):
    for seed in (1, 2, 3):
        written(file, seed=seed)
    assert names(path) == {"run.checkpoint", "run.checkpoint.previous"}
    assert seed_of(file) == 3
    os.replace(file.previous_path, path)
    assert seed_of(file) == 2


def test_only_the_user_can_read_and_write_it(file, path):
    written(written(file))
    for name in (path, file.previous_path):
        assert stat.S_IMODE(os.stat(name).st_mode) == 0o600


# --- damage -----------------------------------------------------------------------------------------------------------


def test_a_flip_of_any_byte_of_the_header_is_noticed(file, path):
    written(file)
    for place in range(header_bytes(path)):
        flip(path, place, 1 << place % 8)
        refused(file, str(path))
        flip(path, place, 1 << place % 8)
    assert seed_of(file) == 1


def test_flips_behind_the_header_are_noticed(file, path):
    written(file, 100_000)
    size = path.stat().st_size
    begin = header_bytes(path)
    places = {*range(begin, begin + 40), *range(begin, size, 491), *range(size - 48, size)}
    for place in places:
        flip(path, place, 1 << place % 8)
        refused(file, "damaged", f"remove {path} to begin anew")
        flip(path, place, 1 << place % 8)
    assert seed_of(file) == 1


def test_a_file_cut_anywhere_is_noticed(file, path):
    whole = path.with_name("whole")
    written(file, 100_000)
    os.replace(path, whole)
    data = whole.read_bytes()
    for size in {*range(0, 600, 7), *range(0, len(data), 1024), *range(len(data) - 50, len(data))}:
        path.write_bytes(data[:size])
        path.chmod(0o600)
        refused(file, "damaged", "empty" if size == 0 else "its end is missing")


def test_something_behind_the_end_is_noticed(file, path):
    written(file)
    with open(path, "ab") as opened:
        opened.write(b"\0")
    refused(file, "something follows its end")


def test_records_that_changed_places_are_noticed(file, path):
    written(file, 3 << 20)
    data = bytearray(path.read_bytes())
    begin, length = header_bytes(path), RECORD_BYTES + 8
    first, second = slice(begin, begin + length), slice(begin + length, begin + 2 * length)
    data[first], data[second] = data[second], data[first]
    path.write_bytes(data)
    refused(file, "changed (digest)")


def test_the_body_of_another_checkpoint_is_noticed(file, path):
    written(file, seed=1)
    other = path.read_bytes()
    written(file, seed=2)
    begin = header_bytes(path)
    path.write_bytes(path.read_bytes()[:begin] + other[begin:])
    os.unlink(file.previous_path)
    refused(file, "changed (digest)")


def test_the_one_before_takes_the_place_of_a_damaged_one_and_stays(file, path):
    written(written(file, seed=1), seed=2)
    flip(path, path.stat().st_size - 500)
    loaded = file.read(STAGES)
    assert loaded.state["seed"] == 1
    assert "damaged" in loaded.warning
    assert file.previous_path in loaded.warning
    written(file, seed=3)
    assert seed_of(file) == 3
    os.replace(file.previous_path, path)
    assert seed_of(file) == 1


def test_the_one_before_does_not_take_the_place_of_one_that_was_removed(file, path):
    written(written(file, seed=1), seed=2)
    os.unlink(path)
    assert file.check() is None
    refused(file, "is missing", f"{file.previous_path} is there", "rename it", "remove it to begin anew")


def test_two_damaged_ones_are_refused(file, path):
    written(written(file))
    for name in (path, file.previous_path):
        flip(name, 100)
    refused(file, str(path), file.previous_path, "remove both")


def test_the_one_before_of_another_run_is_refused(file, path):
    file.write(header(run_id="f" * 32), state(100))
    written(file)
    flip(path, path.stat().st_size - 1)
    refused(file, "of another run", "remove both")


def test_newest_and_previous_that_changed_names_are_both_whole(file, path):
    written(written(file, seed=1), seed=2)
    os.rename(path, path.with_name("x"))
    os.rename(file.previous_path, path)
    os.rename(path.with_name("x"), file.previous_path)
    assert seed_of(file) == 1


@pytest.mark.parametrize("content", [b"important letters\n" * 100, b"x", b"\0" * 5000])
def test_a_file_of_somebody_else_is_refused_and_left_alone(file, path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    refused(file, "is not a checkpoint of job_stream", "give another name")
    assert path.read_bytes() == content


def test_a_newer_format_is_refused(file, path):
    written(file)
    assert path.read_bytes().startswith(MAGIC)
    with open(path, "r+b") as opened:
        opened.seek(len(MAGIC))
        opened.write((7).to_bytes(2, "little"))
    refused(file, "has format 7", "resume with the version that wrote it")


def test_nothing_is_unpickled(file, path, tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    trap = pickle.dumps(Trap())
    file.write(header(), [inline(trap)])
    assert file.read(STAGES).state[0].bytes() == trap
    assert not (tmp_path / "sprung").exists()


# --- another stream ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ((("job", "read", 11), *STAGES[1:]), ("number 1", "was job 'parse'", "is job 'read'")),
        ((STAGES[0], ("job", "merge", 12), STAGES[2]), ("number 2", "was fold 'merge'", "is job 'merge'")),
        (STAGES[:2], ("number 3", "was end 'the end of the stream'", "is missing")),
        ((*STAGES, ("job", "more", 1)), ("number 4", "was missing", "is job 'more'")),
    ],
)
def test_the_first_stage_that_differs_is_named(file, stages, words):
    written(file)
    with pytest.raises(CheckpointError) as caught:
        file.read(stages)
    assert all(word in str(caught.value) for word in (*words, "another stream"))


def test_stages_with_new_code_are_told(file):
    written(file)
    assert file.read((STAGES[0], ("fold", "merge", 99), STAGES[2])).changed == ("merge",)


# --- trust ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_is_refused(file, path, mode):
    written(file)
    path.chmod(mode)
    refused(file, "can be written by others", "chmod go-w")


def test_a_file_of_another_user_is_refused(file, monkeypatch):
    written(file)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    refused(file, f"belongs to user {me}")


def test_a_file_that_this_user_cannot_open_is_refused(tmp_path, file, path):
    def work():
        who = "belongs to user 0" if started_as_root else "chmod u\\+rw"
        for look in (lambda: file.read(STAGES), lambda: job_stream.checkpointInfo(path)):
            with pytest.raises(CheckpointError, match=f"run.checkpoint cannot be opened, since it .*{who}"):
                look()

    started_as_root = os.geteuid() == 0
    written(file)
    path.chmod(0)
    for folder in (tmp_path, *tmp_path.parents[:3]):  # with tests that run beside each other there is one more
        folder.chmod(folder.stat().st_mode | 0o055)
    without_rights(tmp_path, work)


def test_a_link_a_pipe_and_a_folder_are_refused(file, path):
    target = path.with_name("target")
    os.rename(written(file).path, target)
    path.symlink_to(target)
    refused(file, "symbolic link")
    path.unlink()
    os.mkfifo(path, 0o600)
    refused(file, "not a regular file")
    path.unlink()
    path.mkdir(mode=0o700)
    refused(file, "not a regular file")


@pytest.fixture
def key(tmp_path, monkeypatch):
    def use(content):
        name = tmp_path / "key"
        name.write_bytes(content)
        name.chmod(0o600)
        monkeypatch.setenv("JOBS_CHECKPOINT_KEY", str(name))
        return name

    return use


def test_with_the_key_it_was_written_with_it_is_read(path, key):
    key(b"secret" * 100)
    assert seed_of(written(CheckpointFile(path))) == 1
    assert seed_of(CheckpointFile(path)) == 1


def test_with_another_key_it_is_refused(path, key):
    key(b"secret")
    written(written(CheckpointFile(path)))
    key(b"Secret")
    refused(CheckpointFile(path), "another key")


def test_without_the_key_it_is_refused(path, key, monkeypatch):
    key(b"secret")
    written(CheckpointFile(path))
    monkeypatch.delenv("JOBS_CHECKPOINT_KEY")
    refused(CheckpointFile(path), "was written with a key", "JOBS_CHECKPOINT_KEY")


def test_one_without_a_key_is_refused_where_there_is_one(file, path, key):
    written(file)
    key(b"secret")
    refused(CheckpointFile(path), "was written without a key")


def test_what_is_used_of_a_checkpoint_is_what_was_verified(file, path, key):
    """Somebody who may write the file changes it right after it has been verified."""
    key(b"secret")
    file = CheckpointFile(path)
    file.write(header(), inline(b"an honest item"))
    content = path.read_bytes()
    with open(path, "rb", buffering=0) as opened:
        reading = Reading(str(path), opened, Secret())
        reading.header()
        reading.verify()
        begin = header_bytes(path)
        length = int.from_bytes(content[begin : begin + 4], "little")
        forged = content[begin + 8 : begin + 8 + length].replace(b"an honest item", b"a forged item!")
        record = length.to_bytes(4, "little") + zlib.crc32(forged).to_bytes(4, "little") + forged
        with open(path, "r+b") as other:
            other.write(content[:begin] + record)
        assert reading.state().bytes() == b"an honest item"
    refused(CheckpointFile(path), "damaged")


def test_a_checkpoint_is_read_once(path, monkeypatch):
    file = written(CheckpointFile(path), 3 << 20)
    counted = []

    def reader(disk, fd, reader=Disk.reader):
        counted.append(Counted(reader(disk, fd)))
        return counted[-1]

    monkeypatch.setattr(Disk, "reader", reader)
    assert seed_of(file) == 1
    (opened,) = counted
    assert opened.given == path.stat().st_size


class Counted:
    """A file that counts what it gives."""

    def __init__(self, file):
        self.file = file
        self.given = 0

    def read(self, size=-1):
        data = self.file.read(size)
        self.given += len(data)
        return data

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


def test_an_error_of_reading_names_the_file(file, path, monkeypatch):
    def fails(disk, fd):
        os.close(fd)
        raise OSError(errno.EIO, "Input/output error")

    written(file)
    monkeypatch.setattr(Disk, "reader", fails)
    refused(file, f"{path} cannot be read: Input/output error")
    with pytest.raises(CheckpointError, match=r"run\.checkpoint cannot be read"):
        job_stream.checkpointInfo(path)


def test_a_key_file_that_is_no_secret_is_refused(path, key):
    name = key(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        CheckpointFile(path)
    key(b"secret").chmod(0o666)
    with pytest.raises(CheckpointError, match="can be written by others"):
        CheckpointFile(path)
    name.unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        CheckpointFile(path)


# --- before and after a run -------------------------------------------------------------------------------------------


def test_a_place_for_a_checkpoint_is_found_good(file, path):
    assert file.check() is None
    assert names(path) == set()


def test_a_folder_that_does_not_exist_is_found_before_any_work(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere.*does not exist: create it"):
        CheckpointFile(tmp_path / "nowhere" / "run.checkpoint").check()


def test_a_folder_in_place_of_the_file_is_found_before_any_work(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        CheckpointFile(tmp_path).check()


def without_rights(folder, work):
    """Does something in a child that may not write in a folder, which is its working directory."""

    def child():
        os.chdir(folder)
        os.chmod(".", 0o555)
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        work()

    try:
        assert in_child(child) == 0
    finally:
        os.chmod(folder, 0o755)


def test_a_folder_that_cannot_be_written_is_found_before_any_work(tmp_path):
    def work():
        with pytest.raises(CheckpointError, match="no checkpoint can be written to"):
            CheckpointFile("run.checkpoint").check()

    without_rights(tmp_path, work)


def test_a_disk_without_room_is_found_before_any_work(file, path, monkeypatch):
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(CheckpointError, match="No space left on device; mend that, or give another checkpointFile"):
        file.check()
    assert names(path) == set()


def test_a_run_that_has_ended_is_done(file, path):
    written(written(file))
    open(file.journal_path, "wb").close()
    file.finish(header(delivered=9, open=0))
    assert names(path) == {"run.checkpoint.done"}
    assert f"{path}.done" in file.check()
    assert job_stream.checkpointInfo(path).delivered == 9


def test_a_run_that_ended_before_its_first_checkpoint_is_done(file, path):
    file.finish(header())
    assert names(path) == {"run.checkpoint.done"}


def test_a_full_disk_does_not_keep_a_run_from_being_done(file, path, monkeypatch):
    written(file)
    monkeypatch.setattr(os, "pwrite", full_disk)
    file.finish(header())
    assert names(path) == {"run.checkpoint.done"}


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# --- when writing goes wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_at_any_moment_leaves_a_whole_checkpoint(file, path, happen):
    def write():
        written(file, 1_500_000, seed=3)

    written(written(file, seed=1), seed=2)
    before = path.read_bytes()
    count = calls_of(write)
    assert count >= 10
    for number in range(1, count + 1):
        path.write_bytes(before)
        killed_at(number, happen, write)
        loaded = CheckpointFile(path).read(STAGES)
        assert loaded.state["seed"] in (2, 3)
        assert loaded.warning == ""
        assert job_stream.checkpointInfo(path).delivered == loaded.state["seed"]
        written(file, seed=4)
        assert names(path) == {"run.checkpoint", "run.checkpoint.previous"}
        assert seed_of(file) == 4


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_at_any_moment_where_there_are_no_hard_links_leaves_a_whole_checkpoint(file, path, happen, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def write():
        written(file, seed=3)

    monkeypatch.setattr(os, "link", no_links)
    written(written(file, seed=1), seed=2)
    missing = 0
    for number in range(1, calls_of(write) + 1):
        written(written(file, seed=1), seed=2)
        killed_at(number, happen, write)
        assert CheckpointFile(path).check() is None
        assert path.exists() == (CheckpointFile(path).read(STAGES).warning == "")
        assert seed_of(CheckpointFile(path)) in (2, 3)
        missing += not path.exists()
    assert missing > 0
    assert seed_of(written(file, seed=4)) == 4


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_during_the_first_checkpoint_leaves_none_or_a_whole_one(file, path, happen):
    def write():
        written(file)

    for number in range(1, calls_of(write) + 1):
        for name in names(path):
            path.with_name(name).unlink()
        killed_at(number, happen, write)
        loaded = CheckpointFile(path).read(STAGES)
        assert loaded is None or loaded.state["seed"] == 1
        assert CheckpointFile(path).check() is None


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_at_the_end_leaves_a_checkpoint_or_a_run_that_is_done(file, path, happen):
    def finish():
        file.finish(header())

    written(written(file, seed=1), seed=2)
    for number in range(1, calls_of(finish) + 1):
        for name in names(path):
            path.with_name(name).unlink()
        written(written(file, seed=1), seed=2)
        killed_at(number, happen, finish)
        assert file.check() is not None or seed_of(CheckpointFile(path)) == 2


def test_the_bytes_are_durable_before_the_name_and_the_name_in_the_end(file, monkeypatch):
    done = []

    def noted(name, call):
        def wrapper(*arguments, **keywords):
            is_folder = name == "fsync" and stat.S_ISDIR(os.fstat(arguments[0]).st_mode)
            done.append("fsync of the folder" if is_folder else name)
            return call(*arguments, **keywords)

        return wrapper

    written(file, seed=1)
    for name in ("pwrite", "fsync", "link", "replace"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    written(file, seed=2)
    assert [name for name in done if name != "pwrite"] == ["fsync", "link", "replace", "replace", "fsync of the folder"]
    assert done.index("fsync") > max(number for number, name in enumerate(done) if name == "pwrite")


def error_of(work):
    try:
        work()
    except OSError as error:
        return error
    return None


def test_an_error_of_any_system_call_leaves_what_was_there(file, path, monkeypatch):
    number, failed = 0, 0
    while failed == number:
        number += 1
        written(written(file, seed=1), seed=2)
        with monkeypatch.context() as patch:
            Trouble(number, full_disk).install(patch.setattr, ("open", "pwrite", "fsync", "link", "replace"))
            error = error_of(lambda: written(file, seed=3))
        if error is not None:
            failed += 1
            assert (error.errno, error.filename) == (errno.ENOSPC, str(path))
        assert seed_of(file) in (2, 3)
        assert names(path) == {"run.checkpoint", "run.checkpoint.previous"}
    assert number > 8


def test_a_disk_that_is_full_leaves_what_was_there(file, path):
    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(OSError, match=r"run\.checkpoint") as caught:
            written(file, 3 << 20, seed=2)
        assert caught.value.filename == str(path)
        written(file, 1000, seed=3)

    written(file, seed=1)
    assert in_child(work) == 0
    assert names(path) == {"run.checkpoint", "run.checkpoint.previous"}
    assert seed_of(file) == 3
    os.replace(file.previous_path, path)
    assert seed_of(file) == 1


def test_a_folder_that_has_become_read_only_leaves_what_was_there(tmp_path, file):
    def work():
        with pytest.raises(PermissionError, match=r"run\.checkpoint"):
            written(CheckpointFile("run.checkpoint"), seed=2)

    written(file, seed=1)
    without_rights(tmp_path, work)
    assert seed_of(file) == 1


# --- in brief ---------------------------------------------------------------------------------------------------------


def test_a_checkpoint_is_told_in_brief(file, path):
    written(file, seed=1234)
    info = job_stream.checkpointInfo(path)
    assert (info.path, info.runId, info.open, info.byStage) == (str(path), RUN, 3, {"parse": 2, "merge": 1})
    text = str(info)
    for words in (RUN, "format      2", "3 (1,000 bytes)", "2 at parse", "1,234 delivered", "job parse -> fold merge"):
        assert words in text
    assert "finished" not in text


def test_only_the_header_is_read_for_it(file, path):
    written(file)
    flip(path, header_bytes(path) + 100)
    assert job_stream.checkpointInfo(path).open == 3
    flip(path, FRONT + 10)
    with pytest.raises(CheckpointError, match="header has been changed"):
        job_stream.checkpointInfo(path)


def test_what_a_finished_run_has_left_is_told(file, path):
    file.finish(header(delivered=5))
    info = job_stream.checkpointInfo(path)
    assert info.finished
    assert f"run         {RUN}, finished" in str(info)


def test_where_there_is_none_that_is_said(path):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        job_stream.checkpointInfo(path)
