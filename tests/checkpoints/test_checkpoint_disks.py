"""Checkpoints where the disk takes nothing for a while: the run goes on, and saves as soon as it can."""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from checkpoint_scripts import Saved, right, saved_again
from support import Script, wait_until

Make = Callable[[str], Saved]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, where the checkpoint will be."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def saved(tmp_path: Path) -> Iterator[Make]:
    """``saved(text)`` makes a script with a checkpoint."""
    with contextlib.ExitStack() as stack:
        yield lambda text: stack.enter_context(Saved(tmp_path, text))


DISK = """
(here / "disk").mkdir(exist_ok=True)
def source():
    for x in range(300):
        if x == 100 and not went_on:
            Gate(here / "ready").open()
            Gate(here / "failed").wait()
        hold(x == 200 and sys.argv[1] == "kill")
        yield x
w = Work(source(), cpus=2, checkpointFile=here / "disk" / "state", checkpointInterval=0.05)
@w.init
def large():
    return bytes(50_000)  # is in each checkpoint
@w.job
def work(x):
    return x if type(x) is bytes else bytes(1000) + bytes([x % 100])
print(sum(len(result) for result in w.run()))
"""
FREE_BYTES = 20_000
COULD_NOT = "the checkpoint could not be written: "


@contextlib.contextmanager
def full(script: Saved, pid: int) -> Iterator[None]:
    """No file of a process can grow beyond some size."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE, (FREE_BYTES, resource.RLIM_INFINITY))
    yield
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


@contextlib.contextmanager
def gone(script: Saved, pid: int) -> Iterator[None]:
    """The folder of the checkpoint is not there."""
    disk = script.folder / "disk"
    disk.rename(script.folder / "elsewhere")
    yield
    if disk.exists():
        shutil.rmtree(disk)
    (script.folder / "elsewhere").rename(disk)


def begun(script: Saved, *arguments: object) -> Script:
    script.state = script.folder / "disk" / "state"
    started = script.start(*arguments)
    script.gate("ready").wait()
    saved_again(script.state, 1)
    return started


def fails(started: Script, script: Saved) -> None:
    wait_until(lambda: COULD_NOT in started.err.read_text(), "the writing of a checkpoint to fail")
    script.gate("failed").open()


@pytest.mark.parametrize("trouble", [full, gone])
def test_a_run_that_cannot_write_checkpoints_any_more_goes_on_to_its_end(saved: Make, trouble: Callable) -> None:
    script = saved(DISK)
    started = begun(script, "end")
    with trouble(script, started.pid):
        fails(started, script)
        ended = started.ended()
    right(ended, 50_000 + 300 * 1001)
    assert "going on, and trying again in 0.05 s" in ended.err


def is_saved_again_and_goes_on(started: Script, script: Saved) -> None:
    """There is a newer checkpoint, from which a run goes on after a kill."""
    saved_again(script.state, 2)
    delivered = script.info().delivered
    started.kill()
    script.go_on()
    ended = script.run("end")
    right(ended, 50_000 + 300 * 1001)
    assert f"{delivered:,} results delivered" in ended.err


@pytest.mark.parametrize("trouble", [full, gone])
def test_checkpoints_are_written_again_as_soon_as_the_disk_takes_them(saved: Make, trouble: Callable) -> None:
    script = saved(DISK)
    started = begun(script, "kill")
    with trouble(script, started.pid):
        fails(started, script)
        script.gate("held").wait()
    is_saved_again_and_goes_on(started, script)


# --- a file system without room ---------------------------------------------------------------------------------------
def fill(folder: Path) -> Path:
    """Leaves no room there; gives the file to be removed so that there is some again."""
    filling = folder / "filling"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    return filling


def test_a_run_goes_on_while_there_is_no_room_and_saves_when_there_is_some(small_disk: Path, saved: Make) -> None:
    script = saved(DISK)
    started = begun(script, "kill")
    filling = fill(small_disk)
    fails(started, script)
    script.gate("held").wait()
    assert "No space left on device" in started.err.read_text()
    filling.unlink()
    is_saved_again_and_goes_on(started, script)


def test_a_run_without_room_for_its_end_ends_and_gives_its_results(small_disk: Path, saved: Make) -> None:
    script = saved(DISK)
    started = begun(script, "end")
    fill(small_disk)
    fails(started, script)
    right(started.ended(), 50_000 + 300 * 1001)
    assert "nothing to do" in script.run("end").err


def test_a_run_for_which_there_is_no_room_does_not_begin(small_disk: Path, saved: Make) -> None:
    script = saved(DISK.replace("return bytes(50_000)", 'note("inits")'))
    filling = fill(small_disk)
    ended = script.run("end")
    assert (ended.code, script.notes("inits")) == (1, [])
    assert f"CheckpointError: no checkpoint can be written to {small_disk}: No space left on device" in ended.err
    assert [path.name for path in small_disk.iterdir()] == [filling.name]


# --- the first checkpoint ---------------------------------------------------------------------------------------------
FIRST = """
import errno
from job_stream.checkpoints.file import CheckpointFile

write = CheckpointFile.write
def fails(self, header, whole):
    Gate(here / "tried").wait()
    raise OSError(errno.EDQUOT, "Disk quota exceeded", self.path)
if not went_on:
    CheckpointFile.write = fails

w = Work(range(100), cpus=2, checkpointFile=state, checkpointInterval=600)
@w.init
def begin():
    note("inits")
@w.job
def work(x):
    if x == 50:
        Gate(here / "tried").open()  # some results are waiting to be handed out
    return x if sys.argv[1] != "none" else None
"""
LAST = {
    "result": "w.result(lambda x: note('results', x))\nw.run()",
    "finish": "w.finish(lambda results: note('results', *results))\nw.run()",
    "kept": "note('results', *w.run())",
    "none": "w.finish(lambda results: note('results', *results))\nw.run()",
}


@pytest.mark.parametrize("last", LAST)
def test_no_result_is_handed_out_before_there_is_a_checkpoint(saved: Make, last: str) -> None:
    script = saved(FIRST + LAST[last])
    ended = script.run(last)
    assert (ended.code, script.notes("results")) == (1, [])
    assert "CheckpointError: the first checkpoint could not be written: " in ended.err
    assert f"Disk quota exceeded: '{script.state}'; mend that, or give another checkpointFile" in ended.err
    assert not script.done.exists()
    script.go_on()
    ended = script.run(last)
    assert ended.code == 0, ended.err
    found = sorted(int(word) for line in script.notes("results") for word in line.split())
    assert found == ([] if last == "none" else list(range(100)))


def test_a_run_that_goes_on_hands_results_out_although_it_cannot_save(saved: Make) -> None:
    script = saved(
        """
        from job_stream.checkpoints.file import CheckpointFile
        def fails(self, header, whole):
            raise OSError("no")
        if went_on:
            CheckpointFile.write = fails
        w = Work(range(60), cpus=1, **keywords)
        w.job(abs)
        @w.result
        def handle(x):
            note("results", x)
            hold(len(Tally(here / "results").lines()) == 30)
        w.run()
        """
    )
    script.killed()
    ended = script.run()
    assert ended.code == 0, ended.err
    assert "the checkpoint could not be written: no; going on, and trying again" in ended.err
    assert sorted(map(int, set(script.notes("results")))) == list(range(60))
    assert len(script.notes("results")) <= 61, "the call that was under way may be repeated"


def test_a_run_that_cannot_even_try_to_save_ends(saved: Make) -> None:
    script = saved(
        """
        from job_stream.checkpoints.saver import Saver
        def save(self, state):
            raise RuntimeError("can't start new thread")
        if went_on:
            Saver.save = save
        w = Work(range(3), cpus=1, **keywords)
        w.job(abs)
        @w.result
        def handle(x):
            hold()
        w.run()
        """
    )
    script.killed()  # with results that will be delivered at once
    ended = script.run()
    assert ended.code == 1
    assert "RuntimeError: can't start new thread" in ended.err
