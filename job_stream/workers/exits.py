"""How a worker process ends: in order, like a script that comes to its end.

Its threads are joined unless they are daemons, what lies in queues of ``multiprocessing`` is sent, executors end their
workers, and what was registered with ``atexit`` is called. All that the script has registered itself is inherited by
fork, but is not for a worker to do: it would remove the script's temporary folders, or end its processes. So a worker
disowns that before it begins.

Here are the only places where job_stream reaches into modules of the standard library. They do the same for the
processes of ``multiprocessing``.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = ["disown", "leave"]

_THREADS_OF_EXECUTORS = {
    "concurrent.futures.thread": "_threads_queues",  # one of them may be this one: the stream was run in an executor
    "concurrent.futures.process": "_threads_wakeups",
    "loky.process_executor": "_threads_wakeups",
    "joblib.externals.loky.process_executor": "_threads_wakeups",
}


def disown() -> None:
    """Forgets what the script is to do at its own end; queues, proxies and the like are as in a new process."""
    atexit._clear()
    _disown_finalizers()
    _disown_processes()
    for module, threads in _THREADS_OF_EXECUTORS.items():
        getattr(sys.modules.get(module), threads, {}).clear()


def _disown_finalizers() -> None:
    finalize: Any = weakref.finalize
    for finalizer in list(finalize._registry):
        finalizer.atexit = False
    if finalize._registered_with_atexit:
        atexit.register(finalize._exitfunc)


def _disown_processes() -> None:
    process: Any = sys.modules.get("multiprocessing.process")
    util: Any = sys.modules.get("multiprocessing.util")
    if process is not None:
        process._children.clear()
    if util is not None:
        util._finalizer_registry.clear()
        util._run_after_forkers()
        atexit.register(util._exit_function)


def leave() -> None:
    """Does all that is to be done at the end; takes as long as that takes."""
    for step in (threading._shutdown, atexit._run_exitfuncs):  # type: ignore[attr-defined]
        _attempt(step)


def _attempt(step: Callable[[], None]) -> None:
    """Errors are told, since nobody is there who could catch them; the other steps are not their victims."""
    try:
        step()
    except BaseException:
        import traceback

        traceback.print_exc()
