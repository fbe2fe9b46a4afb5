"""Ranks that die, stop or are interrupted at the worst moments: serial results where the others can go on, a prompt end
where they cannot, and nothing left behind.

Jobs signal with files where they are, so that a fault hits its moment whatever the speed of the machine.
"""

from __future__ import annotations

import os
import signal
import socket
import textwrap
from pathlib import Path

import pytest
from mpi_support import World, find_mpirun, is_open_mpi, pythons
from support import PROMPT_S, Ended, Gate, is_alive, is_stopped, wait_until

pytestmark = pytest.mark.skipif(
    find_mpirun() is None or not is_open_mpi(str(find_mpirun())), reason="Open MPI is not installed"
)

PRELUDE = """
import os, signal, sys, time
from pathlib import Path
from job_stream import Multiple, Object, Work, getRank

rank, rank_pid, here = getRank(), os.getpid(), Path(__file__).parent

def happened(name):
    return (here / name).exists()

def announce(name):
    (here / name).touch()

def wait_for(*names):
    end = time.monotonic() + 50
    while not all(map(happened, names)):
        if time.monotonic() > end:
            raise TimeoutError(names)
        time.sleep(0.001)

def once(name):
    try:
        os.close(os.open(here / name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def kill(pid=rank_pid):
    os.kill(pid, signal.SIGKILL)
    signal.pause()

def gather(store, works, others):
    store.extend(works)
    for other in others:
        store.extend(other)

def check(found, expected):
    print("right" if sorted(found) == sorted(expected) else f"WRONG {found}", flush=True)
"""


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(PRELUDE + textwrap.dedent(text), encoding="utf-8")
    return path


def outlived(folder: Path, text: str, ranks: int, *arguments: object, lanes: int = 1) -> Ended:
    """Runs a script that loses ranks; what it printed, after all of it has ended."""
    path = script(folder, text)
    with World(path, ranks, *arguments, ulfm=True, env={"JOBS_CPUS": str(lanes)}) as world:
        ended = world.ended()
        world.gone()
    assert (folder / "killed").exists(), f"nothing was killed: {ended}"
    assert ended.code == 0, ended.err
    return ended


# --- deaths that change no result ---------------------------------------------------------------------------------
def test_a_rank_dies_while_it_borrows(tmp_path: Path) -> None:
    text = """
    with Work(range(60)) as w:
        @w.job
        def work(x):
            if rank == 1 and once("killed"):
                kill()
            wait_for("killed")
            return Multiple([x] * (x % 3))
        @w.reduce(store=list, emit=sorted)
        def all_of_them(store, works, others):
            gather(store, works, others)
        @w.result
        def show(found):
            check(found, [x for x in range(60) for _ in range(x % 3)])
    """
    assert outlived(tmp_path, text, 3).out == "right\n"


FRAMES = """
with Work([3, 5]) as w:
    @w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: store.total)
    def loop(store, first):
        if not rank:
            wait_for("killed")  # so that another rank has the other frame
        if sys.argv[1] == "frame" and rank and store.rounds == 1 and happened("lent on") and once("killed"):
            kill()
        if store.rounds < 2:
            store.rounds += 1
            return Multiple([(first, rank, rank_pid)] * 500)
    @w.job
    def child(piece):
        first, home, home_pid = piece
        if home and rank not in (0, home):
            announce("lent on")
            if sys.argv[1] == "lender" and once("killed"):
                os.kill(home_pid, signal.SIGKILL)
        if not happened("lent on"):
            time.sleep(0.003)
        return first
    @w.frameEnd
    def add(store, first):
        store.total += first
    @w.finish
    def show(found):
        check(found, [3000, 5000])
"""


@pytest.mark.parametrize("moment", ["lender", "frame"])
def test_a_rank_with_a_frame_dies_while_or_after_its_pieces_were_lent_on(tmp_path: Path, moment: str) -> None:
    assert outlived(tmp_path, FRAMES, 3, moment).out == "right\n"


def test_a_rank_dies_while_it_merges(tmp_path: Path) -> None:
    text = """
    with Work(range(400)) as w:
        @w.job
        def work(x):
            if not happened("killed"):
                time.sleep(0.005)
            return x
        @w.reduce(store=list, emit=sorted)
        def merge(store, works, others):
            if rank and others and once("killed"):
                kill()
            gather(store, works, others)
        @w.result
        def show(found):
            check(found, range(400))
    """
    assert outlived(tmp_path, text, 2, lanes=2).out == "right\n"


@pytest.mark.parametrize("moment", ["last result", "after the stream", "in the next"])
def test_a_rank_dies_at_the_end_of_a_stream(tmp_path: Path, moment: str) -> None:
    text = """
    from job_stream.ranks.world import world
    moment, seen = sys.argv[1], []
    with Work(range(30)) as w:
        w.job(abs)
        @w.result
        def take(x):
            seen.append(x)
            if len(seen) == 30 and moment == "last result" and once("killed"):
                os.kill(world().peers[1].pid, signal.SIGKILL)
    if rank == 1 and moment == "after the stream" and once("killed"):
        kill()
    if not rank:
        check(seen, range(30))
        wait_for(*["killed"] * (moment != "in the next"))
    with Work(range(30)) as w:
        @w.job
        def again(x):
            if rank == 1 and moment == "in the next" and once("killed"):
                kill()
            if moment == "in the next":
                wait_for("killed")
            return x
        @w.finish
        def show(found):
            check(found, range(30))
    """
    assert outlived(tmp_path, text, 3, moment).out == "right\nright\n"


@pytest.mark.parametrize("who", [0, 1, 2])
def test_a_rank_dies_when_all_streams_are_over(tmp_path: Path, who: int) -> None:
    text = """
    with Work(range(30)) as w:
        w.job(abs)
        @w.finish
        def show(found):
            check(found, range(30))
    announce(f"ended {rank}")
    wait_for("ended 0", "ended 1", "ended 2")
    if rank == 1 and once("killed"):
        kill()
    wait_for(*["killed"] * (rank == int(sys.argv[1])))
    """
    assert outlived(tmp_path, text, 3, who).out == "right\n"


@pytest.mark.parametrize("way", ["one after the other", "at once"])
def test_two_of_four_ranks_die(tmp_path: Path, way: str) -> None:
    text = """
    with Work(range(200)) as w:
        @w.job
        def work(x):
            if rank in (1, 2) and once(f"dies {rank}"):
                if sys.argv[1] == "at once":
                    wait_for("dies 1", "dies 2")
                elif rank == 2:
                    wait_for("first")
                announce("killed" if rank == 2 else "first")
                kill()
            wait_for("dies 1", "dies 2")
            return x
        @w.reduce(store=list, emit=sorted)
        def all_of_them(store, works, others):
            gather(store, works, others)
        @w.result
        def show(found):
            check(found, range(200))
    """
    assert outlived(tmp_path, text, 4, way).out == "right\n"


# --- ends that all share ------------------------------------------------------------------------------------------
BUSY = """
with Work(range(1000)) as w:
    @w.job
    def work(x):
        announce(f"busy {rank}")
        time.sleep(60)
"""


def started(folder: Path, text: str, ranks: int, *arguments: object, **keywords: object) -> World:
    return World(script(folder, text), ranks, *arguments, env={"JOBS_CPUS": "1"}, **keywords)  # type: ignore[arg-type]


def wait_for_all(folder: Path, ranks: int) -> None:
    for rank in range(ranks):
        Gate(folder / f"busy {rank}").wait()


@pytest.mark.parametrize(("who", "ulfm"), [(0, False), (0, True), (1, False)], ids=str)
def test_the_death_of_a_rank_that_nobody_can_do_without_ends_all(tmp_path: Path, who: int, ulfm: bool) -> None:
    with started(tmp_path, BUSY, 3, ulfm=ulfm) as world:
        wait_for_all(tmp_path, 3)
        os.kill(world.pids()[who], signal.SIGKILL)
        world.gone(PROMPT_S)
        ended = world.ended()
    assert ended.code != 0
    assert ended.err.count(f"WorldError: rank 0 on {socket.gethostname()}, the primary, died") == int(ulfm), ended.err


@pytest.mark.parametrize("python", pythons())
def test_nothing_of_mpi_stays_in_shared_memory_after_a_crash(tmp_path: Path, python: str) -> None:
    text = """
    w = Work(range(50))
    w.job(lambda x: x)

    @w.result
    def die(x):
        lines = Path("/proc/self/maps").read_text().splitlines()
        (here / "mapped").write_text("\\n".join({line.split(None, 5)[-1] for line in lines if "/dev/shm/" in line}))
        kill()

    w.run()
    """
    with started(tmp_path, text, 3, python=python) as world:
        world.ended()
        world.gone(PROMPT_S)
    mapped = [name.removesuffix(" (deleted)") for name in (tmp_path / "mapped").read_text().splitlines()]
    assert mapped
    assert not [name for name in mapped if Path(name).exists()]


@pytest.mark.parametrize("python", pythons())
def test_a_key_press_ends_all_with_at_most_one_traceback(tmp_path: Path, python: str) -> None:
    with started(tmp_path, BUSY, 2, python=python) as world:
        wait_for_all(tmp_path, 2)
        os.killpg(world.process.pid, signal.SIGINT)  # the foreground process group, as a terminal does
        world.gone(PROMPT_S)
        ended = world.ended()
    assert ended.code != 0
    assert ended.err.count("Traceback (most recent call last)") <= 1, ended.err


@pytest.mark.parametrize("python", pythons())
def test_a_key_press_that_meets_each_rank_elsewhere_ends_all_with_at_most_one_traceback(
    tmp_path: Path, python: str
) -> None:
    text = """
    with Work(range(10)) as w:
        w.job(abs)
    if rank == 1:
        announce("busy 1")
        signal.pause()
    with Work(range(10)) as w:
        @w.job
        def work(x):
            announce(f"busy {rank}")
            time.sleep(60)
    """
    with started(tmp_path, text, 3, python=python) as world:
        wait_for_all(tmp_path, 3)
        for pid in world.pids().values():
            os.kill(pid, signal.SIGINT)
        ended = world.ended()
        world.gone()
    assert ended.code != 0
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err


def test_a_key_press_that_comes_after_another_rank_told_of_it_ends_all_with_one_traceback(tmp_path: Path) -> None:
    text = """
    import job_stream.ranks.world
    from job_stream.ranks.world import world
    job_stream.ranks.world.GRACE_S = 20.0
    def print_late(*error):
        wait_for("both pressed")
        sys.__excepthook__(*error)
    if rank == 0:
        sys.excepthook = print_late
    transport, times = world(), [0]
    def leave(patience_s, inner=transport.leave):
        times[0] += 1
        announce(f"leaving {rank} {times[0]}")
        return inner(patience_s)
    transport.leave = leave
    with Work(range(10)) as w:
        @w.job
        def work(x):
            announce(f"busy {rank}")
            time.sleep(60)
    """
    with started(tmp_path, text, 2) as world:
        wait_for_all(tmp_path, 2)
        pids = world.pids()
        os.kill(pids[0], signal.SIGINT)
        Gate(tmp_path / "leaving 1 1").wait()
        os.kill(pids[1], signal.SIGINT)
        Gate(tmp_path / "leaving 1 2").wait()
        (tmp_path / "both pressed").touch()
        ended = world.ended()
        world.gone()
    assert ended.code != 0
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err


def test_an_interrupt_of_one_rank_alone_is_told(tmp_path: Path) -> None:
    text = """
    from job_stream.ranks.world import world
    world()
    announce(f"busy {rank}")
    signal.pause()
    """
    with started(tmp_path, text, 2) as world:
        wait_for_all(tmp_path, 2)
        os.kill(world.pids()[1], signal.SIGINT)
        ended = world.ended()
        world.gone()
    assert ended.code != 0
    assert ended.err.count("KeyboardInterrupt") == 1, ended.err


# --- silence ------------------------------------------------------------------------------------------------------
SILENT_S = 3  # on a busy machine a rank that lives may be late by a second
PATIENCE = f"""
import job_stream.ranks.silence
job_stream.ranks.silence.SILENT_S = {SILENT_S}
"""


def stop(world: World, rank: int, folder: Path) -> int:
    """Stops a rank, and tells the others when it has; returns its process."""
    pid = world.pids()[rank]
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: is_stopped(pid), f"rank {rank} to stop")
    (folder / "stopped").touch()
    return pid


@pytest.mark.parametrize("moment", ["in a stream", "when all is over"])
def test_a_rank_that_is_stopped_is_given_up_and_ends_alone_when_it_goes_on(tmp_path: Path, moment: str) -> None:
    text = f"""{PATIENCE}
from job_stream.errors import WorldError
try:
    with Work(range(60)) as w:
        @w.job
        def work(x):
            announce(f"busy {{rank}}")
            wait_for("busy 1", "stopped")
            return x
        @w.finish
        def show(found):
            check(found, range(60))
            announce("done")
except WorldError as error:
    assert "given up" in str(error)
    announce("noticed")
wait_for(*["noticed"] * (sys.argv[1] == "in a stream"))
with Work(range(60)) as w:
    w.job(abs)
    @w.finish
    def show(found):
        check(found, range(60))
"""
    with started(tmp_path, text, 3, moment, ulfm=True) as world:
        Gate(tmp_path / "busy 1").wait()
        primary, stopped = world.pids()[0], stop(world, 1, tmp_path)
        Gate(tmp_path / "done").wait()
        if moment == "when all is over":
            wait_until(lambda: not is_alive(primary), "rank 0 to end")
        os.kill(stopped, signal.SIGCONT)
        ended = world.ended()
        world.gone()
    assert (ended.code, ended.out) == (0, "right\nright\n"), ended.err
    assert (tmp_path / "noticed").exists()
    assert ended.err.count("WorldError: rank 1 was given up by the others") == 1, ended.err


def test_a_rank_that_one_has_given_up_is_given_up_by_all(tmp_path: Path) -> None:
    text = f"""{PATIENCE}
with Work(range(60)) as w:
    @w.job
    def work(x):
        announce(f"busy {{rank}}")
        wait_for("busy 1", "stopped")
        return x
    @w.finish
    def show(found):
        check(found, range(60))
"""
    with started(tmp_path, text, 3, ulfm=True) as world:
        Gate(tmp_path / "busy 1").wait()
        ranks = world.pids()
        stopped = stop(world, 1, tmp_path)
        for rank in (0, 2):  # they end, though rank 1 never tells that it has
            wait_until(lambda pid=ranks[rank]: not is_alive(pid), f"rank {rank} to end")
        assert is_stopped(stopped)
        os.kill(stopped, signal.SIGCONT)
        ended = world.ended()
    assert ended.out == "right\n", ended.err
    assert f"rank 1 on {socket.gethostname()} is lost" in ended.err


@pytest.mark.parametrize("ulfm", [False, True], ids=["all end", "the others live on"])
def test_a_rank_that_hears_nothing_of_the_primary_for_long_ends(tmp_path: Path, ulfm: bool) -> None:
    text = """
import job_stream.ranks.silence
job_stream.ranks.silence.PRIMARY_SILENT_S = 1.0
with Work(range(60)) as w:
    @w.job
    def work(x):
        announce(f"busy {rank}")
        wait_for("busy 0", "busy 1", "stopped")
        return x
"""
    with started(tmp_path, text, 2, ulfm=ulfm) as world:
        wait_for_all(tmp_path, 2)
        other, primary = world.pids()[1], stop(world, 0, tmp_path)
        wait_until(lambda: not is_alive(other), "rank 1 to end")
        told = f"WorldError: rank 0 on {socket.gethostname()} has not answered for 1 s"
        wait_until(lambda: told in world.err.read_text(), "the launcher to pass it on")
        assert not ulfm or is_stopped(primary)


def test_without_fault_tolerance_a_rank_that_is_stopped_is_an_error_everywhere(tmp_path: Path) -> None:
    text = f"""{PATIENCE}
from job_stream.errors import WorldError
try:
    with Work(range(60)) as w:
        @w.job
        def work(x):
            announce(f"busy {{rank}}")
            wait_for("stopped")
            return x
except WorldError as error:
    print(rank, error, flush=True)
    raise
"""
    with started(tmp_path, text, 3) as world:
        wait_for_all(tmp_path, 3)
        stop(world, 1, tmp_path)
        ended = world.ended()
        world.gone()
    host = socket.gethostname()
    told = (
        f"rank 1 on {host} has not answered for {SILENT_S} s: it has been stopped, or its host is down, or "
        f"there is no way to it from {host}"
    )
    assert ended.code != 0
    everywhere = {f"{rank} {told}" for rank in range(3)}  # the launcher wakes rank 1 up to end it, and it may hear why
    assert everywhere - {f"1 {told}"} <= set(ended.out.splitlines()) <= everywhere
    assert ended.err.count("Traceback (most recent call last)") == 1, ended.err


def test_a_rank_that_had_nothing_to_do_for_long_is_not_taken_for_silent(tmp_path: Path) -> None:
    text = f"""{PATIENCE}
with Work([0]) as w:
    @w.frame(store=lambda: Object(rounds=0), emit=lambda store: store.rounds)
    def loop(store, x):
        if not store.rounds:
            time.sleep(1.5)
            store.rounds = 1
            return Multiple(range(100))
    @w.job
    def child(x):
        if rank:
            announce("shared")
        elif not happened("shared"):
            time.sleep(0.01)
        return x
    @w.frameEnd
    def add(store, x):
        store.rounds += 1
    @w.finish
    def show(found):
        check(found, [101])
"""
    with started(tmp_path, text, 2) as world:
        ended = world.ended()
        world.gone()
    assert (ended.code, ended.out) == (0, "right\n"), ended.err
    assert (tmp_path / "shared").exists()


# --- the beginning ------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", ["duplicate", "exchange"])
def test_a_rank_that_dies_before_all_have_come_together_is_named(tmp_path: Path, step: str) -> None:
    text = f"""
    from job_stream.ranks import meeting
    if rank == 1:
        meeting.{step} = lambda *_: kill()
    with Work(range(3)) as w:
        w.job(lambda x: x)
    """
    with World(script(tmp_path, text), 3, ulfm=True) as world:
        ended = world.ended()
        world.gone()
    assert ended.code
    assert "WorldError: rank 1 died before the ranks had come together, so none can begin" in ended.err
    assert "mpi4py" not in ended.err


@pytest.mark.parametrize("moment", ["before it initialises MPI", "before it meets the others", "never comes"])
def test_ranks_that_wait_in_vain_for_another_end_and_name_it(tmp_path: Path, moment: str) -> None:
    text = """
    from job_stream.ranks import meeting
    if rank == 1 and sys.argv[1] == "never comes":
        wait_for("over")
        os._exit(0)
    elif rank == 1 and sys.argv[1] == "before it meets the others":
        meeting.initialise = lambda mpi: kill()
    elif rank == 1:
        kill()
    with Work(range(3)) as w:
        w.job(lambda x: x)
    """
    with World(script(tmp_path, text), 3, moment, ulfm=True, env={"JOBS_JOIN_LIMIT": "2"}) as world:
        ended = world.ended()
        Gate(tmp_path / "over").open()
        world.gone()
    assert ended.code
    if "rank 1 died before the ranks had come together" not in ended.err:  # sometimes MPI notices
        assert "has waited for 2 s for the others to join, and ends: rank 1 did not come" in ended.err


def test_a_limit_for_joining_that_is_none_is_refused(tmp_path: Path) -> None:
    with World(script(tmp_path, "with Work([1]) as w: w.job(abs)"), 2, env={"JOBS_JOIN_LIMIT": "soon"}) as world:
        ended = world.ended()
    assert ended.code
    assert "JOBS_JOIN_LIMIT must be a number of seconds above 0, not 'soon'" in ended.err


# --- size ---------------------------------------------------------------------------------------------------------
@pytest.mark.xdist_group("memory")
@pytest.mark.skipif(os.environ.get("JOBS_TEST_LARGE") != "1", reason="takes 10 GiB; JOBS_TEST_LARGE=1 asks for it")
@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("way", ["given", "returned"])
def test_an_item_larger_than_2_gib_travels_between_ranks(tmp_path: Path, python: str, way: str) -> None:
    text = """
    import numpy
    SIZE = 2_300_000_000
    def large():
        array = numpy.zeros(SIZE, numpy.uint8)
        array[[0, 1 << 31, -1]] = 1, 2, 3
        return array
    def contents(array):
        return len(array), int(array.max()), array[[0, 1 << 31, -1]].tolist()
    given = sys.argv[1] == "given"
    def source():
        if given:
            yield 0
            wait_for("busy")
            yield large()
        else:
            yield from range(2)
    def handle(item):
        if not rank:
            announce("busy")
            wait_for("borrowed")
            return None
        wait_for("busy")
        announce("borrowed")
        return contents(item) if given else large()
    with Work(source()) as w:
        w.job(handle)
        @w.result
        def show(found):
            found = found if given else contents(found)
            print(found == (SIZE, 3, [1, 2, 3]), flush=True)
    """
    with started(tmp_path, text, 2, way, python=python) as world:
        ended = world.ended()
        world.gone()
    assert (ended.code, ended.out) == (0, "True\n"), ended.err
