"""What is promised elsewhere than on Linux: streams run in threads, and who asks for more is told what does not work.

Scripts run here in a Python from which all has been taken that there is on Linux only: functions and constants of
modules, what the C library has, and the folders /proc and /sys. It takes itself for one on macOS.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support import DEADLINE_S

MACHINE = '''
import ctypes, os, platform, select, signal, socket, sys, sysconfig

sysconfig.get_config_vars()  # made for this system, and kept

HIDDEN = {
    os: "eventfd eventfd_read eventfd_write EFD_CLOEXEC EFD_NONBLOCK memfd_create MFD_CLOEXEC pidfd_open P_PIDFD pipe2"
        " sched_getaffinity sched_setaffinity posix_fallocate splice",
    socket: "SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK MSG_CMSG_CLOEXEC MSG_NOSIGNAL",
    select: "epoll EPOLLIN EPOLLOUT EPOLLET",
    signal: "SIGRTMIN SIGRTMAX pidfd_send_signal sigtimedwait sigwaitinfo",
}
for module, names in HIDDEN.items():
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)


class Library(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "prctl":
            raise AttributeError("no prctl")
        return super().__getattr__(name)


ctypes.CDLL = Library
LINUX = ("/proc", "/sys", "/dev/shm")
WITH_PATHS = ("open", "os.listdir", "os.scandir")


def hide(event, words):
    if event in WITH_PATHS and str(words[0]).startswith(LINUX):
        raise FileNotFoundError(2, "there is none", words[0])
    if event in ("os.fork", "os.forkpty"):
        raise AssertionError("nothing forks here")


sys.addaudithook(hide)
sys.platform = "darwin"
platform.system = lambda: "Darwin"
'''


def run(tmp_path: Path, source: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "script.py"
    path.write_text(MACHINE + textwrap.dedent(source), encoding="utf-8")
    command = (sys.executable, "-W", "error", str(path), *words)
    environment = {**os.environ, **variables}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=DEADLINE_S)


def printed(tmp_path: Path, source: str, **variables: str) -> list[str]:
    done = run(tmp_path, source, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_streams_run_in_threads(tmp_path: Path) -> None:
    source = """
        import threading
        import job_stream
        from job_stream import Multiple, Object, Work

        print(job_stream.map(lambda base, exponent: base**exponent, [2, 3], [10, 5], useMultiprocessing=False))

        w = Work(iter([3, 4]), useMultiprocessing=False, seed=1)

        @w.frame(store=lambda: Object(rounds=0, total=0), emit=lambda store: store.total)
        def rounds(store, first):
            if store.rounds < first:
                store.rounds += 1
                return Multiple(range(first))

        @w.job
        def draw(x):
            return x + int(job_stream.rng().integers(1, 2))

        @w.frameEnd
        def add(store, x):
            store.total += x

        @w.reduce(store=list, emit=sorted)
        def gather(totals, works, others):
            totals.extend(works)
            for other in others:
                totals.extend(other)

        print(w.run())

        met = threading.Barrier(2, timeout=60)
        w = Work(range(2), useMultiprocessing=False, cpus=2)
        w.job(lambda x: met.wait() >= 0)
        print(w.run())

        with Work(range(20_000), useMultiprocessing=False) as w:
            w.job(lambda x: x)
            w.finish(lambda results: print(len(results)))

        w = Work([1, 0], useMultiprocessing=False, onError="skip")
        w.job(lambda x: 1 // x)
        print(w.run(), [failure.item for failure in w.failures])

        w = Work([1, 0], useMultiprocessing=False)
        w.job(lambda x: 1 // x)
        try:
            w.run()
        except ZeroDivisionError as error:
            print(type(error.__cause__).__name__)
    """
    assert printed(tmp_path, source, JOBS_STATS="0") == [
        "[1024, 243]", "[[18, 40]]", "[True, True]", "20000", "[1] [0]", "StageError",
    ]  # fmt: skip


def test_a_thread_stream_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    source = f"""
        from job_stream import Work

        def run(fails):
            w = Work(range(4), useMultiprocessing=False, checkpointFile={str(tmp_path / "saved")!r})

            @w.job
            def square(x):
                if fails and x == 3:
                    raise KeyError(x)
                return x * x

            return w.run()

        try:
            run(True)
        except KeyError as error:
            print(error)
        print(sorted(run(False)))
    """
    assert printed(tmp_path, source) == ["3", "[0, 1, 4, 9]"]


ONE_STAGE = "w = Work([1], useMultiprocessing=False); w.job(abs, useMultiprocessing=True); w.run()"


@pytest.mark.parametrize("stream", ["w = Work([1]); w.job(abs); w.run()", "job_stream.map(abs, [1])", ONE_STAGE])
def test_processes_are_refused_with_the_way_out(tmp_path: Path, stream: str) -> None:
    source = f"""
        import job_stream
        from job_stream import Work
        from job_stream.errors import PlanError

        try:
            {stream}
        except PlanError as error:
            print(error)
    """
    (line,) = printed(tmp_path, source)
    assert "under Linux only, and this is Darwin" in line
    assert "useMultiprocessing=False" in line


def test_ranks_are_refused_with_the_way_out(tmp_path: Path) -> None:
    source = """
        import job_stream
        from job_stream.errors import PlanError

        try:
            job_stream.map(abs, [1], useMultiprocessing=False)
        except PlanError as error:
            print(error)
    """
    (line,) = printed(tmp_path, source, OMPI_COMM_WORLD_SIZE="2", OMPI_COMM_WORLD_RANK="0")
    assert "under Linux only, and this is Darwin: start the script without mpirun" in line


def test_all_public_modules_can_be_imported(tmp_path: Path) -> None:
    source = """
        import job_stream, job_stream.inline, job_stream.common, job_stream.errors, job_stream.keywords
        import job_stream.baked
        print(job_stream.getCpuCount() > 0, job_stream.getRank())
    """
    assert printed(tmp_path, source) == ["True 0"]


def test_doctor_says_what_there_is(tmp_path: Path) -> None:
    done = run(tmp_path, "from job_stream.launcher.cli import main\nmain()", "doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on Darwin, where streams run in threads only (useMultiprocessing=False)" in done.stdout
    assert "MEND" not in done.stdout
