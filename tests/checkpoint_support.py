"""What the tests of checkpoint files share: states with payloads, and children in which a system call goes wrong."""

from __future__ import annotations

import os
import random
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from support import Counter, die

from job_stream.checkpoints.file import Header
from job_stream.engine.messages import SourceSlice, WorkBatch
from job_stream.memory.payload import Blob, MemorySegment, Parts

RUN = "0123456789abcdef" * 2
STAGES = (("job", "parse", 11), ("fold", "merge", 12), ("end", "the end of the stream", 0))
CALLS = ("open", "write", "pwrite", "fsync", "ftruncate", "link", "rename", "replace", "unlink")


def header(delivered: int = 0, **changes: Any) -> Header:
    return Header(RUN, STAGES, 3, (("parse", 2), ("merge", 1)), 1000, delivered)._replace(**changes)


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that differ from place to place."""
    return random.Random(seed).randbytes(size)


def inline(*frames: bytes) -> Blob:
    return Blob([len(frame) for frame in frames], None, 0, b"".join(frames))


def in_memory_file(offset: int, *frames: bytes) -> Blob:
    """A payload in shared memory, as a lane hands it over."""
    fd = os.memfd_create("test")
    os.write(fd, b"x" * offset + b"".join(frames))
    return Blob([len(frame) for frame in frames], MemorySegment(fd, 0, 0, lambda *_: os.close(fd)), offset, None)


def state(size: int, seed: int = 1) -> dict[str, Any]:
    """A state whose file has about so many bytes."""
    works = tuple(WorkBatch(0, place, 5, inline(noise(size // 4, seed + place))) for place in range(4))
    return {"seed": seed, "works": works, "source": WorkBatch(0, 0, 9, SourceSlice(0, 1, 10), base=1)}


def bare(value: Any) -> Any:
    """The value with the content of payloads in their place, so that it can be compared."""
    if isinstance(value, (Blob, Parts)):
        frames = value.frames() if isinstance(value, Blob) else value.frames
        return "payload", [bytes(frame) for frame in frames]
    if isinstance(value, dict):
        return {key: bare(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value).__name__, [bare(part) for part in value]
    return type(value).__name__, value


def in_child(work: Callable[[], None]) -> int:
    """Runs something in a forked process; gives its exit code, or the signal that killed it as a negative number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Trouble:
    """Has the n-th system call of those in ``calls`` end otherwise; ``count`` counts them, in all processes.

    Install it in a child only, or with a ``monkeypatch``.
    """

    def __init__(self, at: int, happen: Callable[[Callable[..., Any], tuple[Any, ...]], Any]) -> None:
        self.at = at
        self.count = Counter()
        self._happen = happen

    def install(self, put: Callable[[Any, str, Any], None] = setattr, calls: tuple[str, ...] = CALLS) -> None:
        for name in calls:
            put(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **keywords: Any) -> Any:
            self.count.value += 1
            if self.count.value == self.at:
                return self._happen(call, arguments)
            return call(*arguments, **keywords)

        return wrapper


def dies_before(_call: Callable[..., Any], _arguments: tuple[Any, ...]) -> None:
    die()


def dies_within(call: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Half of what is to be written is written; any other call is made."""
    with suppress(OSError):
        if call.__name__ in ("write", "pwrite"):
            fd, data, *rest = arguments
            call(fd, bytes(data)[: len(data) // 2], *rest)
        else:
            call(*arguments)
    die()


def calls_of(work: Callable[[], None]) -> int:
    """How many system calls something makes."""
    trouble = Trouble(-1, dies_before)

    def counted() -> None:
        trouble.install()
        work()

    assert in_child(counted) == 0
    return trouble.count.value


def killed_at(number: int, happen: Callable[..., Any], work: Callable[[], None]) -> None:
    """Does something in a child that is killed at its n-th system call."""

    def doomed() -> None:
        Trouble(number, happen).install()
        work()

    assert in_child(doomed) == -9
