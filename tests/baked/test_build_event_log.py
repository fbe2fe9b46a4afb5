"""The log of a build: nothing that was written is lost, whatever is killed or damaged, and who is in doubt is named."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
from support import DEADLINE_S

from job_stream.baked.build import event_log, folder_lock
from job_stream.baked.build.event_log import Event, EventLog
from job_stream.baked.build.folder_lock import FolderLock
from job_stream.errors import BuildError

TEXT = "ä \ud800 \n"
EVENTS = [Event("run", None, {"host": "a"}), *(Event("done", f"out/{i}", {"n": i, "text": TEXT}) for i in range(9))]


def opened(path: Path) -> tuple[EventLog, list[str]]:
    words: list[str] = []
    return EventLog(str(path), words.append), words


def written(path: Path, events: list[Event]) -> bytes:
    log, _ = opened(path)
    for event in events:
        log.append(event)
    log.close()
    return path.read_bytes()


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    written(tmp_path / "log", EVENTS)
    log, words = opened(tmp_path / "log")
    assert log.events == EVENTS
    log.append(Event("failed", "out/0", "ValueError"))
    log.close()
    again, more = opened(tmp_path / "log")
    assert again.events == [*EVENTS, Event("failed", "out/0", "ValueError")]
    assert words + more == []
    again.close()


def test_after_a_kill_at_any_byte_all_whole_lines_are_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    text = written(path, EVENTS)
    ends = [i + 1 for i, byte in enumerate(text) if byte == ord("\n")]
    for length in range(len(text)):
        path.write_bytes(text[:length])
        log, words = opened(path)
        whole = max(sum(end <= length for end in ends) - 1, 0)
        assert log.events == EVENTS[:whole]
        assert words == []
        log.append(EVENTS[0])
        log.close()
        again, words = opened(path)
        assert (again.events, words) == ([*EVENTS[:whole], EVENTS[0]], [])
        again.close()


@pytest.mark.parametrize("seed", range(20))
def test_damage_is_noticed_and_whose_it_was_is_told_or_all_is_in_doubt(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    text = written(tmp_path / "log", EVENTS)
    for number in range(100):
        damaged = bytearray(text)
        for _ in range(chance.choice([1, 1, 2, 5])):
            place = chance.randrange(len(damaged))
            kind = chance.choice(["change", "change", "remove", "insert"])
            if kind == "change":
                damaged[place] = chance.randrange(256)
            elif kind == "remove":
                del damaged[place]
            else:
                damaged.insert(place, chance.randrange(256))
        path = tmp_path / f"{number}"
        path.write_bytes(damaged)
        try:
            log, words = opened(path)
        except BuildError:
            continue  # nothing of it can be read
        log.close()
        sound = [entry for entry in log.events if entry.kind != "damaged"]
        assert all(entry in EVENTS for entry in sound)
        lost = [event for event in EVENTS if event not in sound]
        doubts = [entry.subject for entry in log.events if entry.kind == "damaged"]
        torn = EVENTS[len(EVENTS) - 1 :] if not damaged.endswith(b"\n") else []
        for event in lost:
            assert event.subject in doubts or None in doubts or event in torn
        assert bool(words) == bool(doubts)


def test_a_damaged_line_is_said_once(tmp_path: Path) -> None:
    text = written(tmp_path / "log", EVENTS)
    (tmp_path / "log").write_bytes(text.replace(b'"n":3', b'"n":4').replace(b'"n":5', b'"n":6'))
    log, words = opened(tmp_path / "log")
    assert [entry for entry in log.events if entry.kind == "damaged"] == [
        Event("damaged", "out/3"), Event("damaged", "out/5"),
    ]  # fmt: skip
    assert len(words) == 1
    assert "2 lines (6, 8) cannot be read, so the jobs in question run again" in words[0]
    log.close()


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(event_log._line(Event("history", None, 2)))
    with pytest.raises(BuildError, match=r"newer version of job_stream \(format 2; this one writes 1\): use"):
        opened(tmp_path / "log")


@pytest.mark.parametrize("kind", ["text", "folder", "fifo"])
def test_what_is_no_history_is_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "log"
    if kind == "text":
        path.write_text("a,b\n1,2\n")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(BuildError, match=r"another folder|cannot be used"):
        opened(path)
    assert kind != "text" or path.read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize(
    "body", ['["done",["a",1]', '["done"]', '["done","a","b","c"]', '["done",1,2]', '["",' + "[" * 100_000]
)
def test_sound_lines_that_are_no_events_are_refused(tmp_path: Path, body: str) -> None:
    (tmp_path / "log").write_text(f"{body} {crc32(body.encode()):08x}\n")
    with pytest.raises(BuildError, match="is no history of a build"):
        opened(tmp_path / "log")


def test_an_interrupt_leaves_no_half_of_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path / "log")
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        write(fd, data[:5])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            log.append(EVENTS[0])
    log.append(EVENTS[1])
    log.close()
    again, words = opened(tmp_path / "log")
    assert (again.events, words) == ([EVENTS[1]], [])
    again.close()


def test_a_history_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "log", EVENTS)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(BuildError, match="belongs to another user"):
        opened(tmp_path / "log")


def test_a_full_disk_loses_nothing_that_was_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(tmp_path / "log")
    log.append(EVENTS[0])
    write = os.write

    def some(fd: int, data: bytes) -> int:
        if fd != log._fd:
            return write(fd, data)
        if len(data) <= 5:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data[:5])

    with monkeypatch.context() as full:
        full.setattr(os, "write", some)
        with pytest.raises(BuildError, match=r"the disk is full\): no job is begun any more; all that is recorded"):
            log.append(Event("done", "x" * 7))
    with pytest.raises(BuildError, match="nothing more is recorded"):
        log.append(EVENTS[1])
    log.close()
    again, words = opened(tmp_path / "log")
    assert (again.events, words) == ([EVENTS[0]], [])
    again.close()


def test_what_is_outdated_goes_once_it_is_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MANY_LINES", 10)
    path = tmp_path / "log"
    log, _ = opened(path)
    for event in EVENTS:
        log.append(event)
    log.tidy(lambda: EVENTS[:1])
    assert len(path.read_bytes().splitlines()) == 11
    log.append(EVENTS[0])
    log.tidy(lambda: EVENTS[:6])
    assert len(path.read_bytes().splitlines()) == 12
    log.tidy(lambda: EVENTS[:2])
    log.append(EVENTS[2])
    log.close()
    again, words = opened(path)
    assert (again.events, words) == (EVENTS[:3], [])
    assert os.listdir(tmp_path) == ["log"]
    again.close()


def test_what_a_build_left_that_was_killed_while_it_tidied_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "MANY_LINES", 1)
    (tmp_path / "log.new").write_text("half of a li")
    log, _ = opened(tmp_path / "log")
    for event in EVENTS:
        log.append(event)
    log.tidy(lambda: EVENTS[:1])
    log.close()
    again, words = opened(tmp_path / "log")
    assert (again.events, words) == (EVENTS[:1], [])
    assert os.listdir(tmp_path) == ["log"]
    again.close()


def test_where_no_new_file_can_be_written_the_old_one_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MANY_LINES", 1)
    log, _ = opened(tmp_path / "log")
    for event in EVENTS:
        log.append(event)

    def full(fd: int, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(event_log, "_write_all", full)
        with pytest.raises(BuildError, match="the disk is full"):
            log.tidy(lambda: EVENTS[:1])
    assert os.listdir(tmp_path) == ["log"]
    log.append(EVENTS[0])
    log.close()
    again, _ = opened(tmp_path / "log")
    assert again.events == [*EVENTS, EVENTS[0]]
    again.close()


# one build at a time ----------------------------------------------------------------------------------------------


def test_a_lock_is_held_once_and_names_its_holder(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = FolderLock(path)
    words = rf"another build is under way in {tmp_path}: process {os.getpid()} on .*, since 20"
    with pytest.raises(BuildError, match=words):
        FolderLock(path)
    lock.release()
    lock.release()
    FolderLock(path).release()


def test_a_lock_is_free_once_its_process_is_dead(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    source = f"""
import signal
from job_stream.baked.build.folder_lock import FolderLock
FolderLock({path!r})
print("held", flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == b"held\n"
            with pytest.raises(BuildError, match=f"process {other.pid} on"):
                FolderLock(path)
        finally:
            other.kill()
    FolderLock(path).release()


def test_a_fork_neither_holds_nor_frees_a_lock(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = FolderLock(path)
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(BuildError, match="another build"):
        FolderLock(path)
    lock.release()


def test_who_is_refused_takes_no_lock_away(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    lock = FolderLock(path)
    with pytest.raises(BuildError, match="another build"):
        FolderLock(path)
    source = f"from job_stream.baked.build.folder_lock import FolderLock\nFolderLock({path!r})"
    other = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, timeout=DEADLINE_S)
    assert f"process {os.getpid()} on" in other.stderr
    lock.release()


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def lockf(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)


@pytest.mark.usefixtures("without_locks")
def test_where_there_are_no_locks_a_lease_stands_for_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "lock")
    lock = FolderLock(path)
    monkeypatch.setattr(folder_lock, "_mine", {})  # as in another process
    with pytest.raises(BuildError, match="another build is under way"):
        FolderLock(path)
    lock.release()
    other = FolderLock(path)
    monkeypatch.setattr(folder_lock, "_mine", {})
    os.utime(f"{path}.lease", (0, 0))  # nobody touches it any more
    FolderLock(path).release()
    other.release()
    assert os.listdir(tmp_path) == ["lock"]


@pytest.mark.usefixtures("without_locks")
def test_of_two_that_find_an_old_lease_one_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "lock")
    lease = Path(f"{path}.lease")
    lease.touch()
    os.utime(lease, (0, 0))
    rename = os.rename

    def late(source: str, target: str) -> None:
        lease.unlink()  # somebody else was faster
        lease.touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", late)
    with pytest.raises(BuildError, match="another build is under way"):
        FolderLock(path)
    assert sorted(os.listdir(tmp_path)) == ["lock", "lock.lease"]


def test_a_damaged_lock_file_says_nothing_wrong(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FolderLock(str(path))
    path.write_text(json.dumps([1]))
    with pytest.raises(BuildError, match=r"process \? on an unknown host, since \?"):
        FolderLock(str(path))
    lock.release()
