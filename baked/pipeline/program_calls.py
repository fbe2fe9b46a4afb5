"""One call of a module's program: without a shell, its lines passed on and kept as they come, its outputs looked at.

It runs in a process that the build has forked for it, which ends with all that the program has started. A line is
written at once and as a whole, so that lines of programs side by side do not mix.
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

from ..build.program_ends import be_guardian, dying_with_starter, end_children, environment_without_ranks

__all__ = ["CallEcho", "ProgramCall", "command_line", "leads_out", "perform"]

LONGEST_LINE = 1 << 16
"""What is longer is passed on in parts."""

LEFT_MS = 2000
"""How long to listen to what another user's process holds open after the program's end."""


class CallEcho(NamedTuple):
    """Where lines of programs are told as they come.

    Attributes:
        file: a file descriptor.
        before: what wipes the line that the terminal shows for a while.
        has_stdout: whether those of stdout are told, too.
    """

    file: int
    before: bytes
    has_stdout: bool


class ProgramCall(NamedTuple):
    """All that a call needs.

    Attributes:
        title: the entry, as lines are marked.
        words: program and arguments; a number stands for the path of the output of that number.
        targets: where the outputs are to be, in the end.
        empty_ok: of each, whether it may be empty.
        folder: the folder of the run, which outputs may not lead out of.
        cwd: where it runs; None: in ``scratch``.
        scratch: the folder to be made for the call and removed after it.
        makes_mark: whether there is no output but a mark of ours that the program has run.
    """

    title: str
    words: tuple[str | int, ...]
    targets: tuple[str, ...]
    empty_ok: tuple[bool, ...]
    folder: str
    cwd: str | None
    scratch: str
    env: Mapping[str, str]
    log: str
    echo: CallEcho | None
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
    Path(call.log).unlink(missing_ok=True)  # a link would lead elsewhere
    with open(call.log, "xb", buffering=0) as log:
        be_guardian(lambda: log.write(f"ended with job_stream, {time.monotonic() - begin:.1f} s\n".encode()))
        log.write(f"$ {command_line(call)}\n".encode(errors="surrogateescape"))
        ending = "not run"
        try:
            code = _run(call, [str(paths[word]) if isinstance(word, int) else word for word in call.words], log.write)
            ending = _in_words(code)
        finally:
            log.write(f"{ending}, {time.monotonic() - begin:.1f} s\n".encode())
    if code:
        error = ProgramError(f"{ending} after {time.monotonic() - begin:.1f} s")
        error.code = code
        raise error
    if call.makes_mark:
        paths[0].write_text("done\n")
    else:
        _check_outputs(paths, call)
    _remove(call.scratch)


def _in_words(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"ended by {signal.Signals(-code).name}"
    return f"ended by signal {-code}"


def _remove(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def _run(call: ProgramCall, words: list[str], log: Callable[[bytes], object]) -> int:
    _remove(call.scratch)
    if call.cwd is None:
        os.makedirs(call.scratch)
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, cwd=call.cwd or call.scratch,
            env={"PYTHONUNBUFFERED": "1", **environment_without_ranks(call.env)}, preexec_fn=dying_with_starter(),
        )  # fmt: skip
    except OSError as error:
        log(f"{words[0]} cannot be run: {error.strerror}\n".encode(errors="surrogateescape"))
        raise ProgramError(f"{words[0]} cannot be run: {error.strerror}") from None
    with process:
        _pass_on(process, call, log)
    return process.returncode


# lines ----------------------------------------------------------------------------------------------------------------


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


def _taker(call: ProgramCall, is_stdout: bool, log: Callable[[bytes], object]) -> Callable[[bytes], object]:
    """What is done with each line of a stream."""
    echo = call.echo
    if echo is None or (is_stdout and not echo.has_stdout):
        return lambda line: log(line + b"\n")
    mark = echo.before + f"[{call.title}] ".encode(errors="surrogateescape")

    def take(line: bytes) -> None:
        log(line + b"\n")
        _write(echo.file, mark + line + b"\n")

    return take


def _pass_on(process: subprocess.Popen[bytes], call: ProgramCall, log: Callable[[bytes], object]) -> None:
    """Both streams until the program has ended, and then what else holds them open has been ended."""
    streams: dict[int, _Lines] = {}
    poll = select.poll()
    for file, is_stdout in ((process.stdout, True), (process.stderr, False)):
        assert file is not None
        os.set_blocking(file.fileno(), False)
        streams[file.fileno()] = _Lines(_taker(call, is_stdout, log))
        poll.register(file, select.POLLIN)
    ended = os.pidfd_open(process.pid)
    poll.register(ended, select.POLLIN)
    open_streams = set(streams)
    try:
        while open_streams or ended >= 0:
            ready = poll.poll(LEFT_MS if ended < 0 else None)
            if not ready:
                break
            for number, _ in ready:
                if number == ended:
                    poll.unregister(ended)
                    os.close(ended)
                    ended = -1
                    process.wait()
                    end_children()
                elif not _take(number, streams[number]):
                    poll.unregister(number)
                    open_streams.discard(number)
    finally:
        for lines in streams.values():
            lines.end()


def _take(number: int, lines: _Lines) -> bool:
    """Whether there may be more."""
    with suppress(BlockingIOError):
        data = os.read(number, 1 << 16)
        lines.add(data)
        return bool(data)
    return True


def _write(number: int, data: bytes) -> None:
    with suppress(OSError):  # whoever read it may have gone
        while data:
            data = data[os.write(number, data) :]


# outputs --------------------------------------------------------------------------------------------------------------


def _check_outputs(paths: Sequence[Path], call: ProgramCall) -> None:
    each = zip(paths, call.targets, call.empty_ok, strict=True)
    flaws = [flaw for path, target, empty_ok in each if (flaw := _flaw(str(path), target, empty_ok, call.folder))]
    if flaws:
        raise JobContractError("; ".join(flaws))


def _flaw(path: str, target: str, empty_ok: bool, folder: str) -> str | None:
    try:
        found = os.stat(path)
    except OSError:
        return f"it has not made {target}"
    if leads_out(path, folder):
        return f"{target} is, or lies behind, a link that leads out of {folder}"
    if not stat.S_ISREG(found.st_mode):
        return f"{target} is no file"
    return f"{target} is empty (emptyOk: true allows that)" if not found.st_size and not empty_ok else None


def leads_out(path: str, folder: str) -> bool:
    """Whether it is, or lies behind, a link to something that is not in the folder."""
    return not os.path.realpath(path).startswith(os.path.join(os.path.realpath(folder), ""))
