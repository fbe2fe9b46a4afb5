"""Files of others beside a checkpoint: they are told, and left alone; what a run leaves under names of its own goes."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from checkpoint_scripts import Saved
from checkpoint_support import RUN, STAGES, calls_of, dies_before, dies_within, header, killed_at, state
from support import wait_until

import job_stream
from job_stream.checkpoints.disk import Disk
from job_stream.checkpoints.file import CheckpointError, CheckpointFile
from job_stream.checkpoints.journal import CallJournal
from job_stream.checkpoints.trust import Secret

MINE = b"my measurements\n" * 100
EARLIER_NAMES = ["run.probe", "run.new", "run.previous.new", f"run.{'a' * 32}.new", f"run.{'a' * 32}.old", "run.x.new"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Callable[[str], Saved]]:
    with ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


def names(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


def plant_file(path: Path) -> None:
    path.write_bytes(MINE)


def plant_fifo(path: Path) -> None:
    os.mkfifo(path)


def plant_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)  # the name of a socket may not be long
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def plant_dangling_link(path: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def plant_link(path: Path) -> None:
    target = path.with_name("target of the link")
    target.write_bytes(MINE)
    path.symlink_to(target)


KINDS = [plant_file, plant_fifo, plant_socket, plant_dangling_link, plant_link]


def look(folder: Path) -> dict[str, object]:
    """What is in a folder: kinds, modes, targets of links, content, and which file it is."""
    found: dict[str, object] = {}
    for entry in folder.iterdir():
        status = entry.lstat()
        content = entry.read_bytes() if stat.S_ISREG(status.st_mode) else entry.is_symlink() and entry.readlink()
        found[entry.name] = status.st_ino, status.st_mode, content
    return found


# --- names of ours ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("name", EARLIER_NAMES)
def test_what_looks_like_a_name_of_ours_is_left_alone(path: Path, name: str, plant: Callable[[Path], None]) -> None:
    plant(path.with_name(name))
    before = look(path.parent)
    file = CheckpointFile(path)
    assert file.check() is None
    for seed in (1, 2, 3):
        file.write(header(), state(100, seed))
    file.finish(header())
    after = look(path.parent)
    assert after.pop("run.done")
    assert after == before


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("plant", KINDS)
def test_a_name_of_this_very_run_that_somebody_has_taken_is_told(
    path: Path, plant: Callable[[Path], None], kind: str
) -> None:
    file = CheckpointFile(path)
    file.write(header(), state(100, 1))
    plant(path.with_name(f"run.{RUN}.{kind}"))
    before = look(path.parent)
    with pytest.raises(FileExistsError) as caught:
        file.write(header(), state(100, 2))
    assert f"run.{RUN}.{kind}" in str(caught.value)
    assert look(path.parent) == before


@pytest.mark.parametrize("happen", [dies_before, dies_within])
def test_a_run_that_died_at_any_moment_leaves_nothing_that_the_next_one_does_not_remove(
    path: Path, happen: Callable[..., object]
) -> None:
    def begin() -> None:
        file = CheckpointFile(path)
        file.check()
        file.write(header(), state(100, 1))
        file.write(header(), state(100, 2))

    left = 0
    for number in range(1, calls_of(begin) + 1):
        for name in names(path.parent):
            path.with_name(name).unlink()
        killed_at(number, happen, begin)
        left += bool(names(path.parent) - {"run", "run.previous"})
        CheckpointFile(path).write(header(run_id="f" * 32), state(100, 3))
        assert names(path.parent) <= {"run", "run.previous"}
    assert left > 5


LEFT = {"nothing": b"", "a part": b"\x8eJS", "zeros": bytes(5000), "no beginning": bytes(512) + MINE}


@pytest.mark.parametrize("kind", ["new", "old"])
@pytest.mark.parametrize("left", LEFT)
def test_what_a_power_failure_left_of_a_checkpoint_is_in_nobodys_way(path: Path, left: str, kind: str) -> None:
    for run in (RUN, "f" * 32):
        path.with_name(f"run.{run}.{kind}").write_bytes(LEFT[left])
    file = CheckpointFile(path)
    for seed in (1, 2):
        file.write(header(), state(100, seed))
    assert names(path.parent) == {"run", "run.previous"}


# --- names that stay --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("name", ["run", "run.previous", "run.done"])
def test_something_else_in_the_place_of_a_checkpoint_is_refused_and_left_alone(
    path: Path, name: str, plant: Callable[[Path], None]
) -> None:
    plant(path.with_name(name))
    before = look(path.parent)
    file = CheckpointFile(path)
    with pytest.raises(CheckpointError, match=str(path.with_name(name))):
        file.check() or file.read(STAGES)
    assert look(path.parent) == before


@pytest.mark.parametrize("plant", KINDS)
def test_something_else_in_the_place_of_a_journal_is_refused_and_left_alone(
    path: Path, plant: Callable[[Path], None]
) -> None:
    plant(path)
    before = look(path.parent)
    with pytest.raises(CheckpointError, match=str(path)):
        CallJournal.create(path, RUN)
    assert look(path.parent) == before


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("name", ["run", "run.previous", "run.done"])
def test_what_took_the_place_of_a_checkpoint_during_the_run_is_told_and_left_alone(
    path: Path, name: str, plant: Callable[[Path], None]
) -> None:
    file = CheckpointFile(path)
    for seed in (1, 2):
        file.write(header(), state(100, seed))
    path.with_name(name).unlink(missing_ok=True)
    plant(path.with_name(name))
    before = look(path.parent)
    with pytest.raises(FileExistsError, match=str(path.with_name(name))):
        file.finish(header()) if name == "run.done" else file.write(header(), state(100, 3))
    assert look(path.parent) == before


def test_the_end_of_a_run_removes_no_files_of_others(path: Path) -> None:
    file = CheckpointFile(path)
    for name in (path, file.previous_path, file.journal_path):
        Path(name).write_bytes(MINE)
    file.finish(header())
    assert {name: path.with_name(name).read_bytes() for name in names(path.parent) - {"run.done"}} == {
        "run": MINE,
        "run.previous": MINE,
        "run.journal": MINE,
    }


class Unreadable(Disk):
    """FILE.done cannot be looked into."""

    def open(self, path: str, flags: int) -> int:
        if path.endswith(".done"):
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return super().open(path, flags)


def test_the_end_of_a_run_replaces_nothing_that_cannot_be_read(path: Path) -> None:
    file = CheckpointFile(path, Unreadable())
    file.write(header(), state(100, 1))
    path.with_name("run.done").write_bytes(MINE)
    before = look(path.parent)
    with pytest.raises(OSError, match=r"run\.done"):
        file.finish(header())
    assert look(path.parent) == before


def test_a_checkpoint_before_that_cannot_be_read_is_refused(path: Path) -> None:
    class Broken(Disk):
        def pread(self, fd: int, size: int, offset: int) -> bytes:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    path.with_name("run.previous").write_bytes(MINE)
    with pytest.raises(CheckpointError, match=r"run\.previous is in the way: Input/output error; give another"):
        CheckpointFile(path, Broken()).check()


def test_a_run_goes_on_while_something_is_in_the_way_and_saves_afterwards(saved: Callable[[str], Saved]) -> None:
    script = saved(
        """
        w = Work(range(40), cpus=1, checkpointFile=state, checkpointInterval=0.05)
        @w.job
        def work(x):
            if x == 30 and not went_on:
                while not state.exists():
                    time.sleep(0.01)
                os.rename(state, here / "aside")
                state.write_text("mine")
                Gate(here / "planted").open()
                Gate(here / "told").wait()
                os.rename(here / "aside", state)
            hold(x == 35)
            return x
        print(sorted(w.run()))
        """
    )
    started = script.start()
    script.gate("planted").wait()
    wait_until(lambda: "is in the way" in started.err.read_text(), "the writing of a checkpoint to fail")
    assert script.state.read_text() == "mine"
    script.gate("told").open()
    script.gate("held").wait()
    wait_until(lambda: script.state.read_bytes()[1:3] == b"JS", "the next checkpoint")
    started.kill()
    script.go_on()
    assert script.run().out == f"{list(range(40))}\n"


# --- whom FILE.done is believed ---------------------------------------------------------------------------------------


def refuses_to_end(path: Path, *words: str) -> None:
    """A run neither begins nor passes for one that has ended."""
    before = look(path.parent)
    with pytest.raises(CheckpointError, match=r"is not to be trusted.*Remove it to run") as caught:
        CheckpointFile(path).check()
    assert all(word in str(caught.value) for word in (f"{path}.done", *words)), caught.value
    assert look(path.parent) == before


def use_key(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    key = folder.with_name(f"{folder.name}.key")
    key.touch(mode=0o600)
    key.write_bytes(content)
    monkeypatch.setenv("JOBS_CHECKPOINT_KEY", str(key))


def test_a_done_file_that_others_can_write_is_not_believed(path: Path) -> None:
    CheckpointFile(path).finish(header())
    os.chmod(f"{path}.done", 0o622)
    refuses_to_end(path, "can be written by others")


def test_a_done_file_of_another_user_is_not_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CheckpointFile(path).finish(header())
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    refuses_to_end(path, f"belongs to user {me}")


def test_a_done_file_that_was_changed_is_not_believed(path: Path) -> None:
    CheckpointFile(path).finish(header())
    data = bytearray(Path(f"{path}.done").read_bytes())
    data[30] ^= 1
    Path(f"{path}.done").write_bytes(data)
    refuses_to_end(path, "damaged")


def test_with_a_key_only_a_done_file_with_that_key_is_believed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    CheckpointFile(path).finish(header())
    use_key(path.parent, monkeypatch, b"secret")
    refuses_to_end(path, "without a key")
    os.unlink(f"{path}.done")
    CheckpointFile(path).finish(header())
    assert "nothing to do" in str(CheckpointFile(path).check())
    use_key(path.parent, monkeypatch, b"another")
    refuses_to_end(path, "another key")


def test_a_script_does_not_end_with_0_for_a_link_that_somebody_has_planted(saved: Callable[[str], Saved]) -> None:
    script = saved("w = Work(range(3), **keywords)\nw.job(abs)\nprint(w.run())")
    script.done.symlink_to("/nowhere")
    ended = script.run()
    assert (ended.code, ended.out) == (1, "")
    assert f"CheckpointError: {script.done} would say that this run has ended" in ended.err
    script.done.unlink()
    assert script.run().code == 0


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o610, 0o601])
def test_a_key_file_that_is_not_the_users_alone_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    use_key(path.parent, monkeypatch, b"secret")
    os.chmod(os.environ["JOBS_CHECKPOINT_KEY"], mode)
    with pytest.raises(CheckpointError, match=f"no secret, since others can read it .mode {mode:o}.: chmod go= it"):
        Secret()
    os.chmod(os.environ["JOBS_CHECKPOINT_KEY"], 0o400)
    assert Secret().is_set


@pytest.mark.parametrize("plant", KINDS[1:])
def test_a_key_file_that_is_none_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch, plant: Callable[[Path], None]
) -> None:
    plant(path)
    monkeypatch.setenv("JOBS_CHECKPOINT_KEY", str(path))
    with pytest.raises(CheckpointError, match=str(path)):
        Secret()


@pytest.mark.parametrize("plant", KINDS)
@pytest.mark.parametrize("name", ["run", "run.done"])
def test_what_is_no_checkpoint_tells_nothing(path: Path, name: str, plant: Callable[[Path], None]) -> None:
    plant(path.with_name(name))
    with pytest.raises(CheckpointError, match=str(path.with_name(name))):
        job_stream.checkpointInfo(path)
