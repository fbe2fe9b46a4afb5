"""The backend of joblib gives what loky gives, and keeps its workers."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from estimators import ESTIMATORS
from joblib import Parallel, delayed, parallel_config
from support import DEADLINE_S, descendants, die, is_alive, wait_until

import job_stream
import job_stream.joblib as backend
from job_stream.errors import LaneDied, StageError
from job_stream.futures import keeping

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def square(number):
    return number * number


@pytest.fixture(autouse=True)
def _no_workers_stay():
    yield
    backend._kept.give_way()
    wait_until(lambda: not descendants(), "the end of the workers")


@pytest.fixture
def here():
    with parallel_config(backend="job_stream", n_jobs=2):
        yield


pytest_here = pytest.mark.usefixtures("here")


# --- calls ------------------------------------------------------------------------------------------------------------
@pytest_here
def test_calls_of_any_function_are_made_in_workers():
    ten = 10
    assert Parallel()(delayed(lambda number: number + ten)(i) for i in range(300)) == list(range(10, 310))
    pids = set(Parallel()(delayed(os.getpid)() for _ in range(4)))
    assert os.getpid() not in pids


@pytest_here
def test_an_exception_is_the_one_of_the_function_and_the_next_call_goes_on():
    with pytest.raises(ZeroDivisionError) as raised:
        Parallel()(delayed(divmod)(1, number) for number in (1, 0, 1))
    assert isinstance(raised.value.__cause__, StageError)
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


@pytest_here
def test_an_exception_ends_the_calls_that_are_under_way(tmp_path):
    def pause():
        (tmp_path / "pid").write_text(f"{os.getpid()}\n")
        signal.pause()

    def fail():
        wait_until((tmp_path / "pid").exists, "the other call")
        raise KeyError("why")

    with Parallel() as parallel:
        with pytest.raises(KeyError, match="why"):
            parallel([delayed(pause)(), delayed(fail)()])
        pid = int((tmp_path / "pid").read_text() or 0)
        wait_until(lambda: not is_alive(pid), "the end of the worker")
        assert parallel(delayed(square)(i) for i in range(3)) == [0, 1, 4]


@pytest_here
def test_of_two_that_use_the_workers_one_may_fail(gate):
    results = []

    def wait():
        gate.wait()
        return "there"

    def other():
        with parallel_config(backend="job_stream", n_jobs=2):
            results.extend(Parallel()([delayed(wait)()]))

    thread = threading.Thread(target=other)
    thread.start()
    wait_until(lambda: backend._kept._users, "the other call")
    with pytest.raises(ZeroDivisionError):
        Parallel()(delayed(divmod)(1, number) for number in (1, 0))
    gate.open()
    thread.join()
    assert results == ["there"]


@pytest_here
def test_results_may_come_from_generators_in_order_or_not(gate):
    def first_waits(number):
        if number == 0:
            gate.wait()
        return number

    unordered = Parallel(return_as="generator_unordered", batch_size=1)(delayed(first_waits)(i) for i in range(2))
    assert next(unordered) == 1
    gate.open()
    assert list(unordered) == [0]
    assert list(Parallel(return_as="generator")(delayed(square)(i) for i in range(100))) == [i * i for i in range(100)]


@pytest_here
def test_a_generator_that_is_forgotten_costs_nothing():
    results = Parallel(return_as="generator")(delayed(square)(i) for i in range(1000))
    assert next(results) == 0
    with pytest.warns(UserWarning, match='cancelled'):  # joblib's
        results.close()
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


@pytest_here
def test_a_call_that_takes_too_long_is_a_time_out():
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.1)(delayed(signal.pause)() for _ in range(2))
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


@pytest_here
def test_a_worker_that_dies_costs_nothing(once):
    assert Parallel()(delayed(lambda i: die() if i == 7 and once() else i)(i) for i in range(20)) == list(range(20))


@pytest_here
def test_a_call_that_always_ends_its_worker_raises():
    with pytest.raises(LaneDied):
        Parallel(batch_size=1)(delayed(die)() for _ in range(1))
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


@pytest_here
def test_calls_within_calls_are_made_one_after_the_other():
    def nested(number):
        return os.getpid(), Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(number))

    assert all(set(inner) == {own} for own, inner in Parallel()(delayed(nested)(2) for _ in range(4)))


def test_in_a_job_calls_are_made_one_after_the_other():
    def nested(number):
        with parallel_config(backend="job_stream", n_jobs=-1):
            return os.getpid(), set(Parallel()(delayed(os.getpid)() for _ in range(number)))

    assert all(inner == {own} for own, inner in job_stream.map(nested, [2, 3]))


@pytest_here
def test_threads_where_memory_is_to_be_shared():
    assert Parallel(require="sharedmem")(delayed(os.getpid)() for _ in range(2)) == [os.getpid()] * 2


def test_threads_of_blas_are_as_wanted():
    def threads():
        np.ones((2, 2)) @ np.ones((2, 2))
        from threadpoolctl import threadpool_info

        return {info["num_threads"] for info in threadpool_info()}

    with parallel_config(backend="job_stream", n_jobs=2, inner_max_num_threads=2):
        assert Parallel()(delayed(threads)() for _ in range(2)) == [{2}] * 2


# --- numbers ----------------------------------------------------------------------------------------------------------
def test_how_many_calls_are_made_at_once():
    cpus = job_stream.getCpuCount()
    for wanted, found in [(None, 1), (3, 3), (-1, cpus), (-2, max(1, cpus - 1)), (-1000, 1)]:
        with parallel_config(backend="job_stream"):
            assert backend.JobStreamBackend().effective_n_jobs(wanted) == found
    with pytest.raises(ValueError, match="n_jobs == 0"), parallel_config(backend="job_stream", n_jobs=0):
        Parallel()(delayed(square)(i) for i in range(3))


def test_keywords_that_nobody_knows_are_refused():
    with pytest.raises(TypeError, match="wokers"), parallel_config(backend="job_stream", n_jobs=2, wokers=3):
        Parallel()(delayed(square)(i) for i in range(3))


# --- large arrays -----------------------------------------------------------------------------------------------------
@pytest_here
def test_a_large_array_lies_in_memory_once_and_is_read_only():
    def mapped(array):
        maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
        inodes = {line[4] for line in maps if re.fullmatch("/memfd:job_stream-[0-9a-f]{32}", " ".join(line[5:6]))}
        return array.flags.writeable, array.sum(), frozenset(inodes)

    array = np.ones((1024, 1024))
    calls = Parallel(batch_size=1)(delayed(mapped)(array) for _ in range(8))
    assert {(writeable, total) for writeable, total, _ in calls} == {(False, array.size)}
    shared = frozenset.intersection(*(inodes for _, _, inodes in calls))
    assert len(shared) == 1


@pytest_here
def test_small_arrays_and_those_of_other_wishes_are_not():
    def write(array):
        array += 1
        return array[0]

    small, large = np.zeros(10), np.zeros(1 << 18)
    assert Parallel()(delayed(write)(small) for _ in range(4)) == [1] * 4
    for wishes in ({"max_nbytes": None}, {"max_nbytes": "1G"}, {"mmap_mode": None}, {"mmap_mode": "c"}):
        assert set(Parallel(batch_size=1, **wishes)(delayed(write)(large) for _ in range(4))) == {1}
    with pytest.raises(ValueError, match="read-only"):
        Parallel(max_nbytes=10)(delayed(write)(small) for _ in range(4))
    with pytest.raises(ValueError, match="mmap_mode must be 'r', 'c' or None"):
        Parallel(mmap_mode="w+")(delayed(write)(large) for _ in range(4))
    assert not small.any()
    assert not large.any()


@pytest_here
def test_a_file_that_is_mapped_may_be_given(tmp_path):
    np.save(tmp_path / "array.npy", np.arange(1 << 18))
    array = np.load(tmp_path / "array.npy", mmap_mode="r")
    assert Parallel()(delayed(np.sum)(array) for _ in range(3)) == [np.arange(1 << 18).sum()] * 3


# --- workers stay -----------------------------------------------------------------------------------------------------
@pytest_here
def test_workers_stay_from_call_to_call():
    backend._kept.give_way()

    def pids():
        return set(Parallel(batch_size=1)(delayed(os.getpid)() for _ in range(8)))

    assert len(pids() | pids() | pids()) <= 2


@pytest_here
def test_workers_that_nobody_uses_end_after_a_while(monkeypatch):
    monkeypatch.setattr(keeping, "IDLE_S", 0.05)
    before = descendants()
    Parallel()(delayed(square)(i) for i in range(3))
    backend._kept.give_way()
    Parallel()(delayed(square)(i) for i in range(3))
    wait_until(lambda: not descendants() - before, "the end of the workers")
    assert Parallel()(delayed(square)(i) for i in range(3)) == [0, 1, 4]


def test_another_number_of_workers_takes_their_place():
    for number in (2, 3):
        with parallel_config(backend="job_stream", n_jobs=number):
            Parallel()(delayed(square)(i) for i in range(3))
        assert backend._kept._service.lanes == number


def test_a_script_with_workers_that_stay_ends(script):
    path = script("""
        import joblib, job_stream.joblib
        with joblib.parallel_config(backend="job_stream", n_jobs=2):
            print(joblib.Parallel()(joblib.delayed(lambda i: i * i)(i) for i in range(3)))
    """)
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 4]\n", "")


# --- without joblib ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("missing", "version"), [(True, ""), (False, "1.3.2")])
def test_what_is_needed_is_said(missing, version):
    source = "import sys\n" + (
        "sys.modules['joblib'] = None\n" if missing else f"import joblib; joblib.__version__ = {version!r}\n"
    )
    done = subprocess.run([sys.executable, "-c", source + "import job_stream.joblib"], capture_output=True, text=True,
                          timeout=DEADLINE_S)  # fmt: skip
    assert "ImportError: job_stream.joblib needs joblib 1.4 or later" in done.stderr
    assert version in done.stderr


# --- scikit-learn -----------------------------------------------------------------------------------------------------
def test_estimators_are_fitted_as_loky_does_it(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(ESTIMATORS + "check('loky')\ncheck('job_stream')\n")
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, timeout=DEADLINE_S)
    assert (done.returncode, done.stdout, done.stderr) == (0, "loky the same\njob_stream the same\n", "")
