"""What a script does beside its streams: threads, forks, children of its own, signals about them. None of it may reach
into a run, and no run may reach into it."""

import errno
import os
import re
import signal
import threading
from collections import Counter as Counts
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing import get_context

import pytest
from support import Gate, die

from job_stream import Work
from job_stream.errors import EngineError
from job_stream.lanes.pool import ProcessPool
from job_stream.lanes.threads import ThreadPool
from job_stream.memory.words import SharedWords
from job_stream.observe.statistics import Statistics
from job_stream.runtime.pools import Pools
from job_stream.runtime.prefetch import ThreadPrefetcher
from job_stream.workers.protocol import Died
from job_stream.workers.streams import Forwarding
from job_stream.workers.worker import KEEPER, Setup


def open_files():
    """What runs have open in this process: sockets, memory files and the like, without their numbers."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            found.append(re.sub(r"\d+", "", os.readlink(f"/proc/self/fd/{name}")))
    return Counts(name for name in found if name.startswith(("socket:", "/memfd:", "anon_inode:")))


def fork_that_waits(gate):
    """A process that knows nothing of the run in which it was forked, and that stays."""
    process = get_context("fork").Process(target=gate.wait)
    process.start()
    return process


# --- two streams at once ------------------------------------------------------------------------------------------
def test_two_threads_may_run_streams_at_the_same_time():
    together = threading.Barrier(2)

    def run(number):
        together.wait()
        w = Work(range(100), cpus=2)
        w.job(lambda work: work + number)
        return sorted(w.run()) == [work + number for work in range(100)]

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(run, range(30)))


def test_a_stream_ends_while_one_that_began_after_it_goes_on(tmp_path):
    begun, gate = Gate(tmp_path / "begun"), Gate(tmp_path / "gate")

    def go_on():
        w = Work([1], cpus=1)

        @w.job
        def wait(work):
            begun.open()
            gate.wait()

        w.run()

    thread = threading.Thread(target=go_on)
    w = Work([0, 1], cpus=2)

    @w.job
    def last_until_another_has_begun(work):
        if work:
            begun.wait()
        return work

    @w.result
    def begin_another(result):
        if result == 0:
            thread.start()

    try:
        w.run()
        assert thread.is_alive()
    finally:
        gate.open()
        thread.join()


def test_workers_inherit_nothing_of_another_stream(tmp_path):
    """Sockets and memory files of another run would stay open for as long as they live."""
    opened, gate = Gate(tmp_path / "opened"), Gate(tmp_path / "gate")

    def files_of_a_worker():
        w = Work([1], cpus=1)
        w.job(lambda work: open_files())
        return w.run()[0]

    def hold_large_values():
        w = Work(iter([bytes(200_000)] * 50), cpus=2)
        w.job(lambda work: work + b"1")

        @w.result
        def wait(result):
            opened.open()
            gate.wait()

        w.run()

    alone = files_of_a_worker()
    thread = threading.Thread(target=hold_large_values)
    thread.start()
    try:
        opened.wait()
        assert files_of_a_worker() == alone
    finally:
        gate.open()
        thread.join()


# --- forks of others ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("stops", ["at its end", "with an error", "in its result function"])
def test_a_process_that_is_forked_during_a_run_does_not_hold_up_its_end(gate, stops):
    forked = []
    w = Work(iter(range(50)), cpus=2)

    @w.job
    def job(work):
        if stops == "with an error" and work == 40:
            raise LookupError
        return bytes(200_000)

    @w.result
    def fork(result):
        if not forked:
            forked.append(fork_that_waits(gate))
        if stops == "in its result function":
            raise LookupError

    try:
        if stops == "at its end":
            w.run()
        else:
            with pytest.raises(LookupError):
                w.run()
        assert forked[0].is_alive()
    finally:
        gate.open()
        forked[0].join()


def test_a_process_that_is_forked_during_a_run_has_nothing_of_it_open(tally):
    before = open_files()
    w = Work(iter([bytes(200_000)] * 20), cpus=2)
    w.job(lambda work: work + b"1")

    @w.result
    def fork(result):
        process = get_context("fork").Process(target=lambda: tally.note(*(open_files() - before)))
        process.start()
        process.join()

    w.run()
    assert set(tally.lines()) == {""}


def test_a_forked_process_that_leaves_the_run_changes_nothing_for_it(start):
    """It goes back through ``run()``, and what it drops on its way is still in use where it came from."""
    ended = start("""
        import os, sys
        from job_stream import Work

        w = Work(iter([bytes([number]) * 200_000 for number in range(60)]), cpus=2)
        w.job(lambda work: work[:1] * 300_000)
        seen = []

        @w.result
        def leave(result):
            pid = os.fork()
            if not pid:
                sys.exit(3)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
            assert result == result[:1] * 300_000
            seen.append(result[0])

        w.run()
        print(sorted(seen) == list(range(60)))
    """).ended()
    assert (ended.code, ended.out) == (0, "True\n"), ended.err


# --- who takes care of children -----------------------------------------------------------------------------------
REAPERS = {
    "ignored": "signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
    "blocked": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])",
    "handler": """
def reap(number, frame):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, reap)
""",
    "thread": """
def reap():
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(1e-3)
threading.Thread(target=reap, daemon=True).start()
""",
}
RUNS = """
import os, signal, sys, threading, time
from job_stream import Work

{reaper}

def stream(job, **keywords):
    w = Work(range(20), cpus=2, **keywords)
    w.job(job)
    return sorted(w.run())

def deadly(work):
    if work == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return work

def wrong(work):
    raise LookupError

for _ in range(5):
    assert stream(lambda work: 2 * work) == list(range(0, 40, 2))
assert len(stream(deadly, onError='skip')) == 19
try:
    stream(wrong)
except LookupError:
    print('through', flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("reaper", REAPERS.values(), ids=REAPERS)
def test_streams_run_whoever_takes_care_of_the_scripts_children(start, reaper):
    ended = start(RUNS.replace("{reaper}", reaper)).ended()
    assert (ended.code, ended.out) == (0, "through\n"), ended.err


def test_streams_run_where_sigchld_is_ignored_from_the_start(start):
    ended = start(
        "import os, signal, sys\nsignal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
        f"os.execv(sys.executable, [sys.executable, '-c', {RUNS.replace('{reaper}', '')!r}])"
    ).ended()
    assert (ended.code, ended.out) == (0, "through\n"), ended.err


def test_streams_run_where_the_system_has_no_descriptors_of_processes(monkeypatch):
    def missing(pid):
        raise OSError(errno.ENOSYS, "")

    monkeypatch.setattr(os, "pidfd_open", missing)
    w = Work(range(10), cpus=2)
    w.job(lambda work: work)
    assert sorted(w.run()) == list(range(10))


# --- the end of a run is always heard of --------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        *((ProcessPool, "close"), (ThreadPool, "close"), (ThreadPrefetcher, "close")),
        *((Pools, "spent_ns"), (Statistics, "gather")),
    ],
)
def test_what_goes_wrong_while_a_run_ends_is_raised(monkeypatch, kind, step):
    real = getattr(kind, step)

    def fails(self, *arguments, **keywords):
        real(self, *arguments, **keywords)
        raise ArithmeticError(step)

    monkeypatch.setattr(kind, step, fails)
    w = Work(iter(range(10)), cpus=1)
    w.job(lambda work: work)
    with pytest.raises(ArithmeticError, match=step):
        w.run()


def test_what_goes_wrong_while_a_run_ends_does_not_hide_why_it_ends(monkeypatch):
    real = ProcessPool.close

    def fails(self):
        real(self)
        raise ArithmeticError

    monkeypatch.setattr(ProcessPool, "close", fails)
    w = Work([0], cpus=1)
    w.job(lambda work: 1 // work)
    with pytest.raises(ZeroDivisionError):
        w.run()


# --- the process that forks the workers is killed -----------------------------------------------------------------
KILLED = """
import os, signal, threading
from job_stream import Work

def killer():
    me = str(os.getpid())
    while True:
        for entry in os.listdir('/proc'):
            try:
                with open(f'/proc/{entry}/stat') as file:
                    if file.read().rpartition(')')[2].split()[1] == me:
                        os.kill(int(entry), signal.SIGKILL)
                        return
            except (OSError, ValueError):
                pass
"""


def assert_says_that_the_nursery_is_gone(ended):
    assert ended.code == 1
    assert ended.err.count("Traceback") <= 2, ended.err  # the second is the cause
    assert "Exception in thread" not in ended.err
    last = ended.err.strip().splitlines()[-1]
    assert last.startswith("job_stream.errors.EngineError: the process that forks the workers is gone"), ended.err


def test_the_end_of_the_forking_process_at_the_start_is_told(start):
    for _ in range(3):
        ended = start(
            KILLED + "threading.Thread(target=killer, daemon=True).start()\n"
            "w = Work(range(1000), cpus=20)\n"
            "w.job(lambda work: signal.pause())\n"
            "w.run()\n"
        ).ended()
        assert_says_that_the_nursery_is_gone(ended)


@pytest.mark.parametrize("item", [0, 30])
def test_the_end_of_the_forking_process_in_a_run_is_told(start, item):
    ended = start(f"""
        import os, signal
        from job_stream import Work

        w = Work(range(1000), cpus=20)

        @w.job
        def kill(work):
            if work == {item}:
                os.kill(os.getppid(), signal.SIGKILL)
                signal.pause()
        w.run()
    """).ended()
    assert_says_that_the_nursery_is_gone(ended)


# --- many that die ------------------------------------------------------------------------------------------------
def test_a_run_goes_on_however_many_workers_have_died(monkeypatch, once):
    """Their places in shared memory are taken by others, and are as good as new then."""
    monkeypatch.setattr("job_stream.memory.words._SLOTS", 4)
    w = Work([bytes([number]) * 200_000 for number in range(60)], cpus=2)

    @w.job
    def deadly(work):
        if work[0] % 3 == 0 and once(work[0]):
            die()
        return work[:1] * 300_000

    results = w.run()
    assert sorted(result[0] for result in results) == list(range(60))
    assert all(result == result[:1] * 300_000 for result in results)


def test_memory_of_a_worker_that_died_is_not_taken_for_that_of_its_successor():
    """Somebody may still read what the dead one wrote, and says so when that is over."""
    recording = Work(range(2))
    recording.job(lambda work: work)
    forwarding = Forwarding()
    pool = ProcessPool(Setup(recording._recording.plan(), None, None, False, SharedWords()), forwarding)
    try:
        for lane in (KEEPER, 1):
            pool.start(lane)
            first = pool._children[lane].serial
            pool.bury(Died(lane, signal.SIGKILL))
            pool.start(lane)
            pool._release(first, 5, os.dup(0))
            assert not any(pool._free[pool._children[lane].serial])
    finally:
        pool.close()
        forwarding.close()


def test_what_goes_wrong_in_a_process_of_ours_does_not_go_on_with_the_script(monkeypatch, tmp_path):
    """A forked process is a copy of the script: what it leaves unhandled would go on in both."""
    script, seen = os.getpid(), tmp_path / "seen"

    def fails():
        raise ArithmeticError("at the begin")

    monkeypatch.setattr("job_stream.workers.nursery.renew", fails)
    w = Work(range(3), cpus=1)
    w.job(lambda work: work)
    try:
        with pytest.raises(EngineError, match="the process that forks the workers is gone"):
            w.run()
    finally:
        if os.getpid() != script:
            seen.touch()
            os._exit(1)
    assert not seen.exists()
