"""One run of an external program: what it writes, how it ends, and that it doesn't outlive who started it.

A process that is killed can end nothing itself, so somebody else has to do it: a *warden*, a shell that is started
before each program and waits for the end of a pipe whose other end only the caller holds. The kernel's own means, a
signal at the parent's death, would have to be asked for between fork and exec, where a process with threads must not
run Python; it would also come when the thread ends that started the program, and not reach the program's children.
The warden is a shell since that starts in a millisecond and takes less memory than anything else.

The program leads a session of its own. What it leaves running in its process group is killed when it ends. When the
caller dies, or gives up, whatever still has the program's mark in its environment is killed too, wherever it has gone.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import IO, NamedTuple

from ..ground.environment import INVOKED

__all__ = ["Ended", "Program"]


CHUNK = 1 << 20
LOOK_S = 0.1
"""How often to look whether a program has ended whose output somebody else still holds open."""

_WARDEN = """\
read -r program
read -r never
[ -n "$program" ] && kill -KILL "-$program"
for try in 1 2 3 4 5 6 7 8 9 10; do
    found=$(grep -lsF "$1" /proc/[0-9]*/environ)
    [ -n "$found" ] || exit
    for file in $found; do
        pid=${file#/proc/}
        kill -KILL "${pid%/environ}"
    done
done
"""


class Ended(NamedTuple):
    """How a program ended. ``code``: its exit code; the number of the signal that killed it, negative."""

    code: int
    out: bytes
    err: bytes


class Program:
    """A program that runs from the moment this is made.

    Args:
        command: the file to execute, and its arguments.
        environment: of the program.

    Raises:
        OSError: it could not be started.
    """

    def __init__(self, command: Sequence[str | bytes], environment: Mapping[str, str]) -> None:
        self._lock = threading.Lock()
        self._is_over = False
        mark = os.urandom(16).hex()
        self._watchdog = _Watchdog(mark)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, INVOKED.name: mark},
                start_new_session=True,
            )
        except OSError:
            self._watchdog.dismiss()
            raise
        except BaseException:
            self._watchdog.unleash()
            raise
        try:
            self._watchdog.tell(self._process.pid)
        except BaseException:
            self._give_up()
            raise

    def outcome(self) -> Ended:
        """Waits for the program's end. If the waiting is interrupted, the program is ended.

        Raises:
            ChildProcessError: somebody else has waited for it, so that its exit code is not known.
        """
        try:
            out, err = self._read()
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        except BaseException:
            self._give_up()
            raise
        self._watchdog.dismiss()
        return Ended(self._bury(), out, err)

    def _give_up(self) -> None:
        self._watchdog.unleash()
        self._bury()

    def kill(self) -> None:
        """Ends the program and its process group, from any thread."""
        with self._lock:
            if not self._is_over:
                self._kill_group()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _bury(self) -> int:
        """Ends what is left in the program's process group, whose number is not given away before; its exit code."""
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        with self._lock:
            self._kill_group()
            self._is_over = True
            try:
                status = os.waitpid(self._process.pid, 0)[1]
            except ChildProcessError:
                self._process.returncode = 0  # it is gone: nobody need wait for it
                raise
            self._process.returncode = os.waitstatus_to_exitcode(status)
        return self._process.returncode

    # reading ----------------------------------------------------------------------------------------------------------

    def _read(self) -> tuple[bytes, bytes]:
        """All that the program writes, until it closes both streams or has ended."""
        streams = self._process.stdout, self._process.stderr
        chunks: dict[IO[bytes], list[bytes]] = {}
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                assert stream is not None
                chunks[stream] = []
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ, chunks[stream])
            self._read_all(selector)
        out, err = (b"".join(parts) for parts in chunks.values())
        return out, err

    def _read_all(self, selector: selectors.BaseSelector) -> None:
        looked, is_last = monotonic(), False
        while selector.get_map() and not is_last:
            if monotonic() - looked > LOOK_S:
                looked, is_last = monotonic(), self._has_ended()
            for key, _ in selector.select(0 if is_last else LOOK_S):
                data = os.read(key.fd, CHUNK)
                key.data.append(data)
                if not data:
                    selector.unregister(key.fileobj)

    def _has_ended(self) -> bool:
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        except ChildProcessError:
            return True


class _Watchdog:
    """Kills a program, and all that came of it, once nobody holds its line any more."""

    def __init__(self, mark: str) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _WARDEN, "job_stream-warden", mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath)},
            bufsize=0,
            start_new_session=True,
        )

    def tell(self, pid: int) -> None:
        """Says which program it is. Even before, the mark tells."""
        self._say(b"%d\n" % pid)

    def dismiss(self) -> None:
        """Ends the warden: the program has ended by itself."""
        self._shell.kill()
        self._close()

    def unleash(self) -> None:
        """Has it end all, and waits until it has. To close the line might not be enough: if this process was forked
        meanwhile, the fork holds it too."""
        self._say(b"\n\n")
        self._close()

    def _say(self, text: bytes) -> None:
        assert self._shell.stdin is not None
        with suppress(BrokenPipeError):  # somebody has killed it; the program can do without
            self._shell.stdin.write(text)

    def _close(self) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()
