"""CPython's own tests of executors, where the running Python has them: those that are about any executor.

Left out are

- ``ProcessPoolExecutorTest`` but for ``test_map_chunksize``, and ``ProcessPoolShutdownTest``: they look into that class
  (``_processes``, ``_executor_manager_thread``, its contexts, ``max_tasks_per_child``, its kind of traceback);
- what expects an executor to be broken by the death of a worker, which is survived here: of ``ExecutorDeadlockTest``
  the bad objects are taken, each of which costs one call and no more;
- ``test_future``, which is about the class ``Future``, and that is the standard one;
- what is about threads.
"""

from __future__ import annotations

import os
import subprocess
import sys
import unittest
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from pickle import PicklingError, UnpicklingError
from typing import Any

import pytest
from support import DEADLINE_S, QUIET, REPOSITORY

from job_stream.errors import JobStreamError, LaneDied, PayloadError, StageError
from job_stream.futures import Executor

if sys.version_info < (3, 12):
    pytest.skip("the tests are one module, bound to its own executors, before Python 3.12", allow_module_level=True)
pytest.importorskip("test.test_concurrent_futures", reason="this Python comes without its tests")

from test.test_concurrent_futures import executor as of_executors
from test.test_concurrent_futures import (
    test_as_completed,
    test_deadlock,
    test_init,
    test_process_pool,
    test_shutdown,
    test_wait,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Case(unittest.TestCase):
    """What CPython's mixins expect of the case that they are mixed into."""

    executor_type: Any = Executor
    worker_count = 2
    executor_kwargs: dict[str, Any] = {}  # noqa: RUF012

    def setUp(self) -> None:  # noqa: N802
        self.executor = Executor(self.worker_count, **self.executor_kwargs)

    def tearDown(self) -> None:  # noqa: N802
        self.executor.shutdown()


class TestExecutor(of_executors.ExecutorTest, Case):
    """submit, map, exceptions, time-outs, references."""

    test_map_chunksize = test_process_pool.ProcessPoolExecutorTest.test_map_chunksize


class TestWait(test_wait.WaitTests, Case):
    """futures.wait"""


class TestAsCompleted(test_as_completed.AsCompletedTests, Case):
    """futures.as_completed"""


class TestShutdown(test_shutdown.ExecutorShutdownTest, Case):
    """shutdown, and the end of scripts without it."""

    @pytest.fixture(autouse=True)
    def _scripts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(test_shutdown, "assert_python_ok", run_script)


def run_script(_: str, source: str) -> tuple[int, bytes, bytes]:
    """Runs one of CPython's scripts with the executor from here."""
    source = source.replace("from concurrent.futures import Executor", "from job_stream.futures import Executor")
    assert "from job_stream.futures import Executor" in source
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, timeout=DEADLINE_S, check=True,
                          env={**os.environ, **QUIET, "PYTHONPATH": str(REPOSITORY)})  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class TestBadObjects(test_deadlock.ExecutorDeadlockTest, Case):
    """What crashes, exits or raises wherever it is pickled, unpickled or called costs one call."""

    test_shutdown_deadlock = test_shutdown_deadlock_pickle = test_crash_big_data = None
    test_gh105829_should_not_deadlock_if_wakeup_pipe_full = None

    def _check_crash(self, error: Any, func: Any, *args: Any, ignore_stderr: bool = False) -> None:
        expected = {
            BrokenProcessPool: (LaneDied, PayloadError, StageError, UnpicklingError),
            PicklingError: PayloadError,
            SystemExit: JobStreamError,
        }
        with pytest.raises(expected.get(error, error)):
            self.executor.submit(func, *args).result(DEADLINE_S)
        assert self.executor.submit(pow, 2, 3).result(DEADLINE_S) == 8


class TestInitializer(Case):
    """What an initializer sets holds in the calls."""

    test_initializer = test_init.InitializerMixin.test_initializer

    def setUp(self) -> None:  # noqa: N802
        test_init.INITIALIZER_STATUS = "uninitialized"
        self.executor_kwargs = {"initializer": test_init.init, "initargs": ("initialized",)}
        super().setUp()


class TestFailingInitializer(Case):
    """One that raises breaks the executor."""

    def test_initializer(self) -> None:
        self.executor.shutdown()
        executor = Executor(2, initializer=test_init.init_fail)
        try:
            with pytest.raises(futures.BrokenExecutor):
                executor.submit(test_init.get_init_status).result()
            with pytest.raises(futures.BrokenExecutor):
                executor.submit(test_init.get_init_status)
        finally:
            executor.shutdown()
