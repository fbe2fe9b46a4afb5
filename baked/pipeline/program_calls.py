"""One call of a module's program: without a shell, its lines passed on and kept as they come, its outputs looked at.

It runs in a process of the build's that ends with its worker, and the program ends with that. A line is written at once
and as a whole, so that lines of programs side by side do not mix.
"""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from job_stream.errors import JobContractError, ProgramError

__all__ = ["ProgramCall", "command_line", "perform"]

LONGEST_LINE = 1 << 16
"""What is longer is passed on in parts."""

_RANK_VARIABLES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "MPI_LOCAL", "HYDRA_", "HYDI_")
"""By these a program would take itself for a rank of this run."""

_PDEATHSIG = 1


class ProgramCall(NamedTuple):
    """All that a call needs.

    Attributes:
        title: the entry, as lines are marked.
        words: program and arguments; a number stands for the path of the output of that number.
        targets: where the outputs are to be, in the end.
        empty_ok: of each, whether it may be empty.
        folder: the folder of the run, which outputs may not lead out of.
        scratch: the folder to be made for the call and removed after it, if that is where it runs.
        echo: a file descriptor for lines; None: none is passed on.
        echoes: of stdout and of stderr, whether lines are passed on.
        makes_mark: whether there is no output but a mark of ours that the program has run.
    """

    title: str
    words: tuple[str | int, ...]
    targets: tuple[str, ...]
    empty_ok: tuple[bool, ...]
    folder: str
    cwd: str
    scratch: str | None
    env: Mapping[str, str]
    log: str
    echo: int | None
    echoes: tuple[bool, bool]
    makes_mark: bool


def command_line(call: ProgramCall) -> str:
    """As it could be pasted into a shell, with the outputs where they are to be."""
    return shlex.join(call.targets[word] if isinstance(word, int) else word for word in call.words)


def perform(paths: Sequence[Path], call: ProgramCall, **watched: Any) -> None:
    """Runs the program to its end.

    Args:
        paths: where it is to write, beside the targets.
        watched: of no interest here; a call is made anew when it has changed.

    Raises:
        ProgramError: it cannot be run, or did not end well.
        JobContractError: an output is missing or empty, or leads out of the folder.
    """
    os.makedirs(os.path.dirname(call.log), exist_ok=True)
    begin = time.monotonic()
    with open(call.log, "wb", buffering=0) as log:
        log.write(f"$ {command_line(call)}\n".encode(errors="surrogateescape"))
        ending = "not run"
        try:
            code = _run(call, [str(paths[word]) if isinstance(word, int) else word for word in call.words], log.write)
            ending = _in_words(code)
        finally:
            log.write(f"{ending}, {time.monotonic() - begin:.1f} s\n".encode())
    if code:
        error = ProgramError(f"{_in_words(code)} after {time.monotonic() - begin:.1f} s")
        error.code = code
        raise error
    if call.makes_mark:
        paths[0].write_text("done\n")
    else:
        _check_outputs(paths, call)
    if call.scratch is not None:
        shutil.rmtree(call.scratch, ignore_errors=True)


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _run(call: ProgramCall, words: list[str], log: Callable[[bytes], object]) -> int:
    if call.scratch is not None:
        shutil.rmtree(call.scratch, ignore_errors=True)
        os.makedirs(call.scratch)
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=call.scratch or call.cwd,
            env=_environment(call),
            preexec_fn=_dying(),
        )
    except OSError as error:
        raise ProgramError(f"{words[0]} cannot be run: {error.strerror}") from None
    with process:
        _pass_on(process, call, log)
        return process.wait()


def _environment(call: ProgramCall) -> dict[str, str]:
    """That of the script, in which the program is no rank, and hands its lines on at once."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_RANK_VARIABLES)}
    return {"PYTHONUNBUFFERED": "1", **own, **call.env}


def _dying() -> Callable[[], object]:
    """Has a program end with the process that started it, whatever ended that."""
    from ctypes import CDLL

    prctl = CDLL(None).prctl
    return lambda: prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class _Lines:
    """The lines of one stream."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        self._take = take
        self._rest = b""

    def add(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > LONGEST_LINE:
            self.end()

    def end(self) -> None:
        if self._rest:
            self._take(self._rest)
            self._rest = b""


def _pass_on(process: subprocess.Popen[bytes], call: ProgramCall, log: Callable[[bytes], object]) -> None:
    """Both streams until the program has ended; what it left running may hold them open, and is not waited for."""
    mark = f"[{call.title}] ".encode()

    def taker(echoes: bool) -> Callable[[bytes], object]:
        def take(line: bytes) -> None:
            log(line + b"\n")
            if echoes and call.echo is not None:
                _write(call.echo, mark + line + b"\n")

        return take

    assert process.stdout is not None
    assert process.stderr is not None
    streams = {
        file.fileno(): _Lines(taker(echoes))
        for file, echoes in zip((process.stdout, process.stderr), call.echoes, strict=True)
    }
    poll = select.poll()
    for number in streams:
        os.set_blocking(number, False)
        poll.register(number, select.POLLIN)
    ended = os.pidfd_open(process.pid)
    poll.register(ended, select.POLLIN)
    open_count = len(streams)
    try:
        while open_count:
            ready = [number for number, _ in poll.poll()]
            for number in [number for number in ready if number != ended]:
                data = _read(number)
                streams[number].add(data or b"")
                if data == b"":
                    poll.unregister(number)
                    open_count -= 1
            if ready == [ended]:
                break
    finally:
        os.close(ended)
        for lines in streams.values():
            lines.end()


def _read(number: int) -> bytes | None:
    try:
        return os.read(number, 1 << 16)
    except BlockingIOError:
        return None


def _write(number: int, data: bytes) -> None:
    with suppress(OSError):  # whoever read it may have gone
        while data:
            data = data[os.write(number, data) :]


def _check_outputs(paths: Sequence[Path], call: ProgramCall) -> None:
    flaws = [
        flaw
        for path, target, empty_ok in zip(paths, call.targets, call.empty_ok, strict=True)
        if (flaw := _flaw(str(path), target, empty_ok, call.folder))
    ]
    if flaws:
        raise JobContractError("; ".join(flaws))


def _flaw(path: str, target: str, empty_ok: bool, folder: str) -> str | None:
    try:
        found = os.stat(path)
    except OSError:
        return f"it has not made {target}"
    if os.path.islink(path) and not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), "")):
        return f"{target} is a link that leads out of {folder}"
    if not stat.S_ISREG(found.st_mode):
        return f"{target} is no file"
    return f"{target} is empty (emptyOk: true allows that)" if not found.st_size and not empty_ok else None
