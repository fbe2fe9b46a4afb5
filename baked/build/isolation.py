"""A call in a process of its own, forked for it, with all that it starts.

The child leads a session, so Ctrl-C at the terminal does not reach it, and what it starts can be ended together with
it. It dies with the worker that forked it (the kernel sees to that), so a worker that is killed leaves none behind.
What it has to say comes through a pipe; that it ended without a word is seen by its process descriptor, since others
may have inherited the pipe.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

from .joblogs import bind_streams

__all__ = ["ChildEnding", "call_isolated", "end_tree", "prepare"]

_PDEATHSIG = 1
_prctl: Any = None


class ChildEnding(NamedTuple):
    """How a call in a process of its own ended.

    Attributes:
        answer: what it gave, None where it gave nothing.
        status: the wait status of its process.
        is_late: whether it was ended since its time was over.
        max_memory: bytes that the process had at most.
        cpu: seconds of processor time.
    """

    answer: Any
    status: int
    is_late: bool
    max_memory: int
    cpu: float
    pid: int


def prepare() -> None:
    """Has at hand what a child needs at once; before the first fork, once in a worker."""
    global _prctl  # the address of a C function, looked up once
    if _prctl is None:
        from ctypes import CDLL

        _prctl = CDLL(None).prctl


def call_isolated(call: Callable[[], Any], out: int, err: int, timeout: float | None) -> ChildEnding:
    """Has a forked child run ``call``, whose answer must be picklable, with its output to two files."""
    prepare()
    inlet, outlet = os.pipe2(os.O_CLOEXEC)
    parent = os.getpid()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads: the child uses none of theirs
        pid = os.fork()
    if not pid:
        os.close(inlet)
        _be_child(call, out, err, outlet, parent)
    os.close(outlet)
    try:
        return _await(pid, inlet, timeout)
    finally:
        os.close(inlet)


def _be_child(call: Callable[[], Any], out: int, err: int, outlet: int, parent: int) -> None:
    """Everything that the child does; it never returns."""
    code = 1
    try:
        os.setsid()
        _prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        _take_over(out, err)
        answer = pickle.dumps(call())
        _flush_streams()
        view = memoryview(answer)
        while view:
            view = view[os.write(outlet, view) :]
        code = 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        _flush_streams()
        os._exit(code & 0xFF)


def _take_over(out: int, err: int) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.close(nothing)
    bind_streams()


def _flush_streams() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()


def _await(pid: int, inlet: int, timeout: float | None) -> ChildEnding:
    """Reads the answer until the child has ended, or its time is over; then ends what it left in its session."""
    process = os.pidfd_open(pid)
    deadline = None if timeout is None else time.monotonic() + timeout
    poll = select.poll()
    poll.register(process, select.POLLIN)
    poll.register(inlet, select.POLLIN)
    parts: list[bytes] = []
    is_late = False
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = dict(poll.poll(None if left is None else left * 1000 + 1))
            if inlet in ready:
                part = os.read(inlet, 1 << 16)
                if not part:
                    poll.unregister(inlet)
                parts.append(part)
            elif process in ready:
                break
            elif not ready:
                is_late = True
                end_tree(pid)
                deadline = None
        end_session(pid)
    finally:
        os.close(process)
    _, status, usage = os.wait4(pid, 0)
    answer = pickle.loads(b"".join(parts)) if parts and not status and not is_late else None
    return ChildEnding(answer, status, is_late, usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime, pid)


def end_session(pid: int) -> None:
    """Ends what is left in the session of a process that was not waited for, so that its number is still its own."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_tree(pid: int) -> None:
    """Ends a process with all that it has started, also what has left its session."""
    for process in [*descendants(pid), pid]:
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGKILL)
    end_session(pid)


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    stack = [pid]
    while stack:
        below = children.get(stack.pop(), [])
        found += below
        stack += below
    return found
