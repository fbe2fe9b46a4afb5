"""The journal beside a checkpoint: no result is lost, and none is handled twice but for the one under way."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
from collections import Counter

import pytest
from checkpoint_support import (
    RUN,
    bare,
    calls_of,
    dies_before,
    dies_within,
    in_child,
    in_memory_file,
    inline,
    killed_at,  # fmt: skip
    noise,
)
from simulated_disk import FOLDER, SimulatedDisk
from support import die

from job_stream.checkpoints.journal import CallJournal, ResultJournal, digest_of
from job_stream.checkpoints.log import HEAD_BYTES
from job_stream.checkpoints.trust import CheckpointError
from job_stream.memory.payload import Parts

BOTH = [ResultJournal, CallJournal]
SIMULATED = f"{FOLDER}/journal"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.checkpoint.journal"


@pytest.fixture
def opened():
    """Keeps journals to close them at the end."""
    journals = []

    def keep(journal):
        journals.append(journal)
        return journal

    yield keep
    for journal in journals:
        journal.close()


def kept(journal):
    return [(bare(entry.payload), entry.count, entry.base) for entry in journal.kept()]


def refused(kind, path, mark, *words, run=RUN):
    with pytest.raises(CheckpointError) as caught:
        kind.open(path, run, mark).close()
    for word in (str(path), *words):
        assert word in str(caught.value)


def handle(journal, values, calls=None):
    """What a run does with a delivery: the values that the function was called with."""
    fresh = journal.begin(values)
    for value in fresh:
        if calls is not None:
            calls.append(value)
        journal.handled()
    return fresh


# --- results that are kept --------------------------------------------------------------------------------------------


def test_results_up_to_the_mark_come_back_in_order(path, opened):
    journal = opened(ResultJournal.create(path, RUN))
    payloads = [inline(b"one"), Parts([b"two", noise(50_000)]), in_memory_file(100, noise(2 << 20), b"3"), inline(b"")]
    for number, payload in enumerate(payloads):
        journal.add(payload, number + 1, None if number == 2 else 10 * number)
    mark = journal.mark()
    journal.add(inline(b"after"), 9, 9)
    journal.sync()
    journal.sync()
    journal.close()
    again = opened(ResultJournal.open(path, RUN, mark))
    assert kept(again) == [(bare(payloads[0]), 1, 0), (bare(payloads[1]), 2, 10), (bare(payloads[2]), 3, None),
                           (bare(payloads[3]), 4, 30)]  # fmt: skip


def test_what_came_after_the_mark_makes_room_for_what_comes_now(path, opened):
    journal = opened(ResultJournal.create(path, RUN))
    journal.add(inline(b"one"), 1, 0)
    mark = journal.mark()
    journal.add(inline(noise(10_000)), 1, 1)
    journal.sync()
    journal.close()
    again = opened(ResultJournal.open(path, RUN, mark))
    again.add(inline(b"two"), 1, 1)
    end = again.mark()
    again.sync()
    again.close()
    assert [entry[0] for entry in kept(opened(ResultJournal.open(path, RUN, end)))] == [
        bare(inline(b"one")), bare(inline(b"two")),
    ]  # fmt: skip
    assert path.stat().st_size == end


def test_a_journal_can_be_used_at_once(path, opened):
    mark = opened(ResultJournal.create(path, RUN)).mark()
    assert kept(opened(ResultJournal.open(path, RUN, mark))) == []


def test_a_new_run_overwrites_the_journal_of_one_that_left_no_checkpoint(path, opened):
    journal = opened(ResultJournal.create(path, RUN))
    journal.add(inline(b"old"), 1, 0)
    journal.sync()
    journal.close()
    mark = opened(CallJournal.create(path, "f" * 32)).mark()
    refused(ResultJournal, path, mark, "of another run")


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_at_any_moment_leaves_what_is_before_the_mark(path, opened, happen):
    def work():
        journal = ResultJournal.open(path, RUN, mark)
        for number in range(5):
            journal.add(inline(noise(100)), 1, number)
            journal.sync()

    journal = opened(ResultJournal.create(path, RUN))
    journal.add(inline(b"one"), 1, 0)
    mark = journal.mark()
    journal.sync()
    journal.close()
    for number in range(1, calls_of(work) + 1):
        killed_at(number, happen, work)
        again = ResultJournal.open(path, RUN, mark)
        assert kept(again) == [(bare(inline(b"one")), 1, 0)]
        again.close()


def test_results_are_not_written_before_they_are_wanted(path, opened):
    journal = opened(ResultJournal.create(path, RUN))
    empty = path.stat().st_size
    journal.add(inline(b"one"), 1, 0)
    mark = journal.mark()
    assert path.stat().st_size == empty
    journal.sync()
    assert path.stat().st_size == mark


def test_results_do_not_pile_up_in_memory(path, opened):
    journal = opened(ResultJournal.create(path, RUN))
    for number in range(20):
        journal.add(inline(bytes(1 << 20)), 1, number)
    assert path.stat().st_size > 16 << 20


# --- calls of a function ----------------------------------------------------------------------------------------------


def test_what_was_handled_after_the_mark_is_passed_over_once_each(path, opened):
    journal = opened(CallJournal.create(path, RUN))
    handle(journal, ["before"])
    mark = journal.mark()
    handle(journal, ["a", "b", "a"])
    journal.begin(["c"])  # and the process dies
    journal.close()
    again = opened(CallJournal.open(path, RUN, mark))
    assert again.owed == Counter([digest_of("a"), digest_of("a"), digest_of("b")])
    assert again.begin(["b", "a", "c"]) == ["c"]
    again.handled()
    assert handle(again, ["a", "a", "before"]) == ["a", "before"]
    assert not again.owed


@pytest.mark.parametrize("when", ["before the call", "in the call", "after it was counted"])
def test_a_death_between_calls_shows_how_far_they_came(path, opened, tally, when):
    values = [{"value": number, "text": "x" * number} for number in range(8)]

    def work(last):
        journal = CallJournal.open(path, RUN, mark)
        for number, value in enumerate(journal.begin(values)):
            if number == last and when == "before the call":
                die()
            tally.note(value["value"])
            if number == last and when == "in the call":
                die()
            journal.handled()
            if number == last:
                die()

    journal = opened(CallJournal.create(path, RUN))
    handle(journal, [1, 2, 3])
    mark = journal.mark()
    journal.close()
    before = path.read_bytes()
    for last in range(len(values)):
        path.write_bytes(before)
        tally.path.unlink(missing_ok=True)
        assert in_child(lambda last=last: work(last)) == -9
        again = CallJournal.open(path, RUN, mark)
        done = again.owed
        again.close()
        called = len(tally) - (when == "in the call")
        assert called == last + (when == "after it was counted")
        assert done == Counter(digest_of(value) for value in values[:called])


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_death_at_any_moment_of_a_resume_changes_nothing(path, opened, tally, happen):
    def work():
        journal = CallJournal.open(path, RUN, mark)
        handle(journal, ["b", "c", "d"])
        journal.sync()

    journal = opened(CallJournal.create(path, RUN))
    mark = journal.mark()
    handle(journal, ["a", "b"])
    journal.close()
    before = path.read_bytes()
    for number in range(1, calls_of(work) + 1):
        path.write_bytes(before)
        killed_at(number, happen, work)
        again = CallJournal.open(path, RUN, mark)
        assert again.owed in (Counter(map(digest_of, "ab")), Counter(map(digest_of, "abcd")))
        again.close()


class Run:
    """A run in miniature: results are delivered, handled, and delivered again after a death, with the real journal."""

    def __init__(self, path, chance):
        self.path = path
        self.chance = chance
        self.pending = list(range(20)) * 2  # each result twice: equal results are no mistake
        self.calls = []
        self.journal = CallJournal.create(path, RUN)
        self.marks = [(self.journal.mark(), list(self.pending))]

    def step(self):
        self.chance.shuffle(self.pending)
        count = self.chance.randint(1, 4)
        fresh = self.journal.begin(self.pending[:count])
        alive = len(fresh) if self.chance.random() < 0.7 else self.chance.randint(0, len(fresh))
        for value in fresh[:alive]:
            self.calls.append(value)
            self.journal.handled()
        if alive < len(fresh):
            self.resume()
        else:
            del self.pending[:count]

    def save(self):
        self.journal.sync()
        self.marks.append((self.journal.mark(), list(self.pending)))

    def resume(self):
        """Everything dies, and goes on from the newest checkpoint or from the one before."""
        self.journal.close()
        self.marks = self.marks[: len(self.marks) - self.chance.randint(0, min(1, len(self.marks) - 1))]
        mark, self.pending = self.marks[-1][0], list(self.marks[-1][1])
        self.journal = CallJournal.open(self.path, RUN, mark)


@pytest.mark.parametrize("seed", range(60))
def test_over_any_checkpoints_and_deaths_each_result_is_handled_exactly_once(path, seed):
    chance = random.Random(seed)
    run = Run(path, chance)
    for _ in range(10_000):
        if not run.pending:
            break
        chance.choices([run.step, run.save, run.resume], [6, 2, 1])[0]()
    run.journal.close()
    assert Counter(run.calls) == Counter(list(range(20)) * 2)


def test_equal_results_have_equal_digests():
    assert digest_of({"a": [1, noise(100_000)]}) == digest_of({"a": [1, noise(100_000)]})
    assert digest_of(1) != digest_of(2)
    assert digest_of(noise(100_000)) != digest_of(noise(100_001))


# --- damage -----------------------------------------------------------------------------------------------------------


def filled(kind, path):
    """A journal with something before and after its mark; gives the mark."""
    journal = kind.create(path, RUN)
    for number in range(6):
        if number == 3:
            mark = journal.mark()
        if kind is ResultJournal:
            journal.add(inline(noise(50)), 1, number)
        else:
            handle(journal, [number, -number])
    journal.sync()
    journal.close()
    return mark


def flip(path, place, bit):
    data = bytearray(path.read_bytes())
    data[place] ^= bit
    path.write_bytes(data)


@pytest.mark.parametrize("kind", BOTH)
def test_a_flip_of_any_byte_before_the_mark_is_noticed(path, kind):
    mark = filled(kind, path)
    before = path.read_bytes()
    counter = range(48, 56)
    for place in range(mark):
        if place not in counter:
            flip(path, place, 1 << place % 8)
            refused(kind, path, mark)
            path.write_bytes(before)


def test_entries_that_changed_places_are_noticed(path):
    journal = ResultJournal.create(path, RUN)
    marks = [journal.mark()]
    for number in range(2):
        journal.add(inline(noise(50, number)), 1, number)
        marks.append(journal.mark())
    journal.sync()
    journal.close()
    data = path.read_bytes()
    path.write_bytes(data[: marks[0]] + data[marks[1] :] + data[marks[0] : marks[1]])
    refused(ResultJournal, path, marks[2], "damaged")


@pytest.mark.parametrize("kind", BOTH)
def test_a_journal_that_is_cut_before_the_mark_is_refused(path, kind):
    mark = filled(kind, path)
    before = path.read_bytes()
    for size in range(mark):
        path.write_bytes(before[:size])
        refused(kind, path, mark)


def test_a_counter_that_is_behind_the_mark_is_noticed(path):
    mark = filled(CallJournal, path)
    flip(path, 48, 12)  # there were 12 calls
    refused(CallJournal, path, mark, "counter has been changed")


def test_an_end_that_is_cut_anywhere_counts_as_never_written(path):
    mark = filled(CallJournal, path)
    before = path.read_bytes()
    counts = set()
    for size in range(mark, len(before) + 1):
        path.write_bytes(before[:size])
        journal = CallJournal.open(path, RUN, mark)
        counts.add(journal.owed.total())
        assert bool(journal.warning) == (size < len(before)), "calls that are not on record are told"
        journal.close()
    assert counts == {0, 2, 4, 6}


def test_an_end_that_is_damaged_is_told_and_cut_off(path):
    mark = filled(CallJournal, path)
    size = path.stat().st_size
    flip(path, size - 1, 1)
    journal = CallJournal.open(path, RUN, mark)
    assert journal.owed.total() == 4
    assert "may come again" in journal.warning
    handle(journal, ["new"])
    journal.close()
    again = CallJournal.open(path, RUN, mark)
    assert again.owed.total() == 5
    again.close()


@pytest.mark.parametrize("kind", BOTH)
def test_a_mark_that_is_none_is_refused(path, kind):
    mark = filled(kind, path)
    refused(kind, path, mark - 1, "damaged")
    refused(kind, path, path.stat().st_size + 1, "damaged")


@pytest.mark.parametrize("kind", BOTH)
def test_the_journal_of_another_run_is_refused(path, kind):
    mark = filled(kind, path)
    refused(kind, path, mark, "of another run", "bring back", run="f" * 32)


@pytest.mark.parametrize(("kind", "other"), [BOTH, BOTH[::-1]])
def test_the_journal_of_a_stream_that_ends_otherwise_is_refused(path, kind, other):
    refused(other, path, filled(kind, path), "ends otherwise")


@pytest.mark.parametrize("kind", BOTH)
def test_a_missing_journal_is_refused(path, kind):
    refused(kind, path, HEAD_BYTES, "is missing", "remove the checkpoint to begin anew")


@pytest.mark.parametrize("kind", BOTH)
def test_a_file_of_somebody_else_is_refused_and_left_alone(path, kind):
    path.write_bytes(b"important letters")
    path.chmod(0o600)
    refused(kind, path, HEAD_BYTES, "is not a journal of job_stream")
    with pytest.raises(CheckpointError, match="is not a journal of job_stream"):
        kind.create(path, RUN)
    assert path.read_bytes() == b"important letters"


@pytest.mark.parametrize("kind", BOTH)
def test_a_journal_that_others_can_write_is_refused(path, kind):
    mark = filled(kind, path)
    path.chmod(0o606)
    refused(kind, path, mark, "can be written by others")


@pytest.mark.parametrize("kind", BOTH)
def test_a_journal_without_the_key_of_the_run_is_refused(path, kind, tmp_path, monkeypatch):
    mark = filled(kind, path)
    key = tmp_path / "key"
    key.write_bytes(b"secret")
    key.chmod(0o600)
    monkeypatch.setenv("JOBS_CHECKPOINT_KEY", str(key))
    refused(kind, path, mark, "another key")


@pytest.mark.parametrize("kind", BOTH)
def test_a_journal_belongs_to_one_process_at_a_time(path, kind, opened):
    def work():
        refused(kind, path, HEAD_BYTES, "in use by another process")
        with pytest.raises(CheckpointError, match="in use by another process"):
            kind.create(path, RUN)

    journal = opened(kind.create(path, RUN))
    assert in_child(work) == 0
    journal.close()
    assert in_child(lambda: kind.open(path, RUN, HEAD_BYTES).close()) == 0


# --- a full disk ------------------------------------------------------------------------------------------------------


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_what_a_full_disk_does_not_take_is_written_later(path, opened, monkeypatch):
    journal = opened(ResultJournal.create(path, RUN))
    journal.add(inline(b"one"), 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full_disk)
        journal.add(in_memory_file(0, b"two"), 1, 1)
        mark = journal.mark()
        with pytest.raises(OSError, match="No space left") as caught:
            journal.sync()
        assert caught.value.filename == str(path)
    journal.add(inline(b"three"), 1, 2)
    journal.sync()
    journal.close()
    assert [base for _, _, base in kept(opened(ResultJournal.open(path, RUN, mark)))] == [0, 1]


def test_calls_go_on_while_the_disk_is_full(path, opened, monkeypatch):
    journal = opened(CallJournal.create(path, RUN))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full_disk)
        assert handle(journal, [1, 2]) == [1, 2]
    journal.close()
    again = opened(CallJournal.open(path, RUN, HEAD_BYTES))
    assert "no record of 2 results" in again.warning


# --- a disk that fails to sync, and the power that fails --------------------------------------------------------------


@pytest.fixture
def disk():
    return SimulatedDisk(random.Random(1))


class Always(random.Random):
    """Draws the same every time."""

    def __init__(self, drawn):
        super().__init__(1)
        self.random = lambda: drawn


@contextlib.contextmanager
def failing_to_sync(disk, evicted=False):
    """Within, syncs fail; where memory is short, what they were to write is gone at once."""
    disk.chance, disk.fate = Always(0.0 if evicted else 1.0), lambda call: errno.EIO if call == "fsync" else None
    yield
    disk.chance, disk.fate = random.Random(1), lambda call: None


def filled_on(disk, kind):
    """A journal with something in it that is not durable."""
    journal = kind.create(SIMULATED, RUN, disk)
    for number in range(5):
        if kind is ResultJournal:
            journal.add(inline(noise(500, number)), 1, number)
        else:
            handle(journal, [number, -number])
    return journal


def content_of(kind, disk, mark):
    """What a process finds there after a power failure."""
    journal = kind.open(SIMULATED, RUN, mark, disk.worst())
    return kept(journal) if kind is ResultJournal else journal.owed.total()


def is_whole(kind, disk, mark):
    found = content_of(kind, disk, mark if kind is ResultJournal else HEAD_BYTES)
    assert (len(found) if kind is ResultJournal else found) == (5 if kind is ResultJournal else 10)


@pytest.mark.parametrize("kind", BOTH)
def test_what_a_failed_sync_was_to_write_is_written_by_the_next_one(kind, disk):
    journal = filled_on(disk, kind)
    mark = journal.mark()
    with failing_to_sync(disk), pytest.raises(OSError, match="Input/output error"):
        journal.sync()
    with pytest.raises(CheckpointError, match="damaged"):
        kind.open(SIMULATED, RUN, mark, disk.worst())
    journal.sync()
    is_whole(kind, disk, mark)


@pytest.mark.parametrize("kind", BOTH)
def test_what_a_failed_sync_has_lost_is_never_taken_for_durable(kind, disk):
    journal = filled_on(disk, kind)
    with failing_to_sync(disk, evicted=True), pytest.raises(OSError, match="Input/output error"):
        journal.sync()
    for _ in range(3):
        with pytest.raises(OSError, match="the disk has lost what it had taken before"):
            journal.sync()


def test_what_the_sync_of_an_earlier_process_failed_to_write_is_written(disk):
    journal = filled_on(disk, CallJournal)
    with failing_to_sync(disk), pytest.raises(OSError, match="Input/output error"):
        journal.sync()
    disk.restart(power_fails=False)
    again = CallJournal.open(SIMULATED, RUN, HEAD_BYTES, disk)
    assert again.owed.total() == 10
    again.sync()
    is_whole(CallJournal, disk, HEAD_BYTES)


@pytest.mark.parametrize("size", [0, 1, 72])
def test_what_a_power_failure_left_of_a_new_journal_is_no_obstacle(path, opened, size):
    path.write_bytes(bytes(size))
    path.chmod(0o600)
    mark = opened(CallJournal.create(path, RUN)).mark()
    assert mark == HEAD_BYTES


def test_zeros_of_somebody_else_are_left_alone(path):
    path.write_bytes(bytes(1000))
    path.chmod(0o600)
    with pytest.raises(CheckpointError, match="is not a journal of job_stream"):
        CallJournal.create(path, RUN)
    assert path.read_bytes() == bytes(1000)


def test_a_result_that_was_not_handled_is_not_taken_for_one_after_a_power_failure(disk):
    journal = CallJournal.create(SIMULATED, RUN, disk)
    mark = journal.mark()
    handle(journal, ["a"])
    journal.begin(["b"])  # and the process dies
    journal.sync()
    disk.restart(power_fails=False)
    again = CallJournal.open(SIMULATED, RUN, mark, disk)
    handle(again, ["c", "d"])
    disk.chance = Always(0.0)  # the counter reaches the disk
    for file in disk.names.values():
        file.look()
        file.dirty &= {0}  # and what has been appended does not
    disk.restart(power_fails=True)
    last = CallJournal.open(SIMULATED, RUN, mark, disk)
    assert digest_of("b") not in last.owed


def test_half_an_entry_on_a_full_disk_does_no_harm(path):
    def work():
        journal = ResultJournal.create(path, RUN)
        journal.add(inline(noise(30_000)), 1, 0)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, resource.RLIM_INFINITY))
        journal.add(inline(noise(50_000, 2)), 1, 1)
        mark = journal.mark()
        with pytest.raises(OSError, match="journal"):
            journal.sync()
        assert os.stat(path).st_size < 64 << 10
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        journal.sync()
        journal.close()
        again = ResultJournal.open(path, RUN, mark)
        assert [entry.payload.bytes() for entry in again.kept()] == [noise(30_000), noise(50_000, 2)]

    assert in_child(work) == 0
