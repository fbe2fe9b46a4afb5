"""CPython's own tests of executors, where the running Python has them: those that are about any executor.

Left out are those that look into ``ProcessPoolExecutor`` (``_processes``, ``_executor_manager_thread``, its contexts of
``multiprocessing``), and those that want an executor to be broken by a worker's death, which is survived here.
"""

from __future__ import annotations

import sys
import unittest
from concurrent import futures
from typing import Any

import pytest

from job_stream.futures import Executor

if sys.version_info < (3, 12):
    pytest.skip("the tests are one module, bound to its own executors, before Python 3.12", allow_module_level=True)
pytest.importorskip("test.test_concurrent_futures", reason="this Python comes without its tests")

from test.test_concurrent_futures import executor as of_executors
from test.test_concurrent_futures import test_as_completed, test_init, test_shutdown, test_wait

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


class TestWait(test_wait.WaitTests, Case):
    """futures.wait"""


class TestAsCompleted(test_as_completed.AsCompletedTests, Case):
    """futures.as_completed"""


class TestShutdown(Case):
    """The parts of CPython's tests of shutdown that start no script of their own."""

    test_run_after_shutdown = test_shutdown.ExecutorShutdownTest.test_run_after_shutdown
    test_hang_issue12364 = test_shutdown.ExecutorShutdownTest.test_hang_issue12364
    test_cancel_futures = test_shutdown.ExecutorShutdownTest.test_cancel_futures
    test_hang_gh94440 = test_shutdown.ExecutorShutdownTest.test_hang_gh94440


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
