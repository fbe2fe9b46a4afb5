"""The standard streams of workers.

Input: a worker has none, nor have the programs that it starts; else they would take what the script has not read.

Output: where the script's stream is a file, a pipe or a terminal, workers write there themselves. Any other object (a
``StringIO``, a console, a notebook's stream) is in the script's process only, so what workers print is brought there,
by a thread that writes it.
"""

from __future__ import annotations

import io
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from ..evaluate.context import current
from ..ground.forks import disown, own
from .whole_lines import LineLock, Lines, write_all

__all__ = ["Forwarding", "flush_standard", "lines_of_threads", "occupy", "settle_input", "settle_output"]

_NAMES = ("stdout", "stderr")
_CHUNK = 1 << 16
_LAST_S = 10.0
_kept: list[Any] = []


def occupy() -> None:
    """Opens what is closed of the descriptors 0 to 2, on nothing. Otherwise files of ours would have these numbers, and
    programs and C libraries would write into them."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def flush_standard() -> None:
    """Has nothing in a buffer when a process is forked, which would print it again."""
    for name in _NAMES:
        with suppress(ValueError):  # it is closed
            _flusher(getattr(sys, name))()


def _flusher(stream: Any) -> Callable[[], Any]:
    """What flushes a stream, which need not have a method for that."""
    flush = getattr(stream, "flush", None)
    return flush if callable(flush) else lambda: None


def settle_input() -> None:
    """Leaves this process, and all that it starts, without standard input."""
    nothing = os.fdopen(os.open(os.devnull, os.O_RDONLY))
    if sys.__stdin__ is not None:  # else the script was started without, and 0 is another file
        os.dup2(nothing.fileno(), 0)
    _kept.extend((sys.stdin, sys.__stdin__))  # not to be closed, which might wait for a thread of the script
    sys.stdin = nothing
    sys.__stdin__ = nothing  # type: ignore[misc]


# output of processes --------------------------------------------------------------------------------------------------


class Forwarding:
    """Brings what workers print to streams that are in the script's process only.

    Make it before workers are forked. ``write`` is theirs, all else is the script's.

    Attributes:
        lock: held by whoever prints.
    """

    def __init__(self) -> None:
        self._lock_file = os.memfd_create("job_stream-lines", os.MFD_CLOEXEC)
        self.lock = LineLock(self._lock_file)
        self._streams = {name: getattr(sys, name) for name in _NAMES if _is_elsewhere(getattr(sys, name))}
        self._pipes = {name: os.pipe2(os.O_CLOEXEC) for name in self._streams}
        self._thread: threading.Thread | None = None

    @classmethod
    def handed(cls, lock_file: int, ends: dict[str, int]) -> Forwarding:
        """The same in a process that is no fork, and was handed the descriptors."""
        found = cls.__new__(cls)
        found._lock_file, found.lock, found._thread = lock_file, LineLock(lock_file), None
        found._streams, found._pipes = {}, {name: (-1, end) for name, end in ends.items()}
        return found

    @property
    def lock_file(self) -> int:
        """The descriptor of the file that is locked."""
        return self._lock_file

    @property
    def names(self) -> list[str]:
        """Of the streams that are brought to the script."""
        return list(self._pipes)

    def descriptor(self, name: str) -> int | None:
        """Where a worker writes to, for a stream that is brought to the script."""
        return self._pipes[name][1] if name in self._pipes else None

    def start(self) -> None:
        """Begins, once the process that forks the workers is there."""
        own(self)
        if self._pipes:
            self._end, self._ended = os.pipe2(os.O_CLOEXEC)
            self._thread = threading.Thread(target=self._run, name="job_stream-output", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Ends when all that workers have printed has arrived; they are gone. Others may hold the pipes still."""
        if self._thread is not None:
            os.close(self._ended)
            self._thread.join(_LAST_S)
            if self._thread.is_alive():
                return  # a stream that takes nothing must not keep the run from its end
            os.close(self._end)
        self._close_files()
        disown(self)

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        if self._thread is not None:
            os.close(self._ended)
            os.close(self._end)
        self._close_files()

    def _close_files(self) -> None:
        for fd in (self._lock_file, *(fd for pipe in self._pipes.values() for fd in pipe)):
            os.close(fd)

    def _run(self) -> None:
        sinks = {self._pipes[name][0]: _Sink(stream) for name, stream in self._streams.items()}
        poll = select.poll()
        for fd in (self._end, *sinks):
            poll.register(fd, select.POLLIN)
        while ready := {fd for fd, _ in poll.poll()}:
            for fd in ready & sinks.keys():
                sinks[fd].take(os.read(fd, _CHUNK))
            if ready == {self._end}:
                break
            if not poll.poll(0):
                for sink in sinks.values():
                    sink.give_rest()
        for sink in sinks.values():
            sink.give_rest()


class _Sink:
    """Writes what comes to a stream, in whole lines where they come as such."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._rest = b""

    def take(self, data: bytes) -> None:
        whole, end, self._rest = (self._rest + data).rpartition(b"\n")
        self._write(whole + end)

    def give_rest(self) -> None:
        """What has not come to the end of its line; nothing else has come for now."""
        rest, self._rest = self._rest, b""
        self._write(rest)

    def _write(self, data: bytes) -> None:
        if not data or self._stream is None:
            return
        try:
            self._stream.write(data.decode("utf-8", "surrogatepass"))
            _flusher(self._stream)()
        except Exception:
            import traceback

            self._stream = None  # what comes is taken nevertheless: workers must not wait
            if sys.__stderr__ is not None:
                traceback.print_exc(file=sys.__stderr__)


def _is_elsewhere(stream: Any) -> bool:
    """Whether workers cannot write to a stream themselves."""
    return hasattr(stream, "write") and not getattr(stream, "closed", False) and not _is_file(stream)


def _is_file(stream: Any) -> bool:
    if not isinstance(stream, io.TextIOWrapper):
        return False
    with suppress(AttributeError, ValueError, OSError):
        return isinstance(getattr(stream.buffer, "raw", stream.buffer), io.FileIO) and stream.fileno() >= 0
    return False


@contextmanager
def settle_output(forwarding: Forwarding) -> Iterator[None]:
    """In a worker: within, what it prints goes on in whole lines, and all of it has gone on at the end."""
    settled = [lines for name in _NAMES if (lines := _settle(name, forwarding)) is not None]
    try:
        yield
    finally:
        for lines in settled:
            with suppress(OSError, ValueError):
                lines.finish()


def _settle(name: str, forwarding: Forwarding) -> Lines | None:
    stream = getattr(sys, name)
    fd, encoding, errors = forwarding.descriptor(name), "utf-8", "surrogatepass"
    if fd is None:
        if stream is None or not _is_file(stream):
            return None
        fd, encoding, errors = stream.fileno(), stream.encoding, stream.errors
    target = fd

    def emit_bytes(data: bytes) -> int:
        with forwarding.lock:
            write_all(target, data)
        return len(data)

    lines = Lines(stream, lambda text: emit_bytes(text.encode(encoding, errors)))
    if not lines.attach():
        setattr(sys, name, lines)
    elif _is_file(stream):
        with suppress(AttributeError):
            stream.buffer.write = emit_bytes  # what lay in its buffer would be lost when this process is killed
    return lines


# output of threads ----------------------------------------------------------------------------------------------------


def lines_of_threads() -> list[Lines]:
    """Has workers that are threads of this process print in whole lines, until these are detached."""
    lock = LineLock()

    def attached(stream: Any) -> Lines | None:
        direct = getattr(stream, "write", None)
        if direct is None or isinstance(getattr(direct, "__self__", None), Lines):
            return None

        def emit(text: str) -> None:
            with lock:
                direct(text)

        lines = Lines(stream, emit, _flusher(stream), lambda: current() is not None)
        return lines if lines.attach() else None

    return [lines for name in _NAMES if (lines := attached(getattr(sys, name))) is not None]
