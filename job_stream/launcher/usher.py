"""Stands at each rank between mpirun and the program: starts it, and tells the launcher how it ended.

What mpirun says at the end is not enough to know whether a program failed or was killed: Open MPI with fault tolerance
may end with 0 though rank 0 was killed, and some launchers crash or hang when a rank fails early. An usher knows, since
the program is its child. It also passes on signals, and ends the program when the launcher is gone.

It is a script of its own, and imports nothing of job_stream: what a rank is, is found out when that is imported. So it
stands alone, and has once more what others have, too: the names of three variables (``ground/environment.py``), and how
a process dies with its parent (``workers/child.py``). Usage:
``usher.py CPUS PROGRAM ARGUMENTS...``; CPUS is a number of lanes, or - to leave that open.

The environment variable JOBS_LAUNCHER says where the launcher is: ``PORT TOKEN ADDRESS...``. Told are lines:
``hello TOKEN RANK HOST PID``, ``joined``, ``end STATUS`` (an exit code, or a signal as a negative number); heard are
``welcome``, ``signal NUMBER`` and ``noted``. An usher that cannot reach the launcher says so, and does without; one
whose launcher has died does not begin.

An usher ends when its program's end has been *noted*, not before: when it ends, mpirun kills the ushers of other ranks,
and the launcher might hear first that these are gone, and take them for the cause.

*Joined* means that the program's ranks have found each other through MPI: whoever dies before has the others wait for
ever, also where MPI survives deaths. The program tells it by a word to the socket that JOBS_USHER names, which lies in
the abstract namespace: nothing of it has to be removed. All users of the machine see it there, and only this one is
listened to.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

LAUNCHER = "JOBS_LAUNCHER"
USHER = "JOBS_USHER"
JOINED, OVER = b"joined", b"over"
WELCOME = b"welcome\n"
NOTED = b"noted\n"
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "SLURM_PROCID")
CONNECT_S = 5.0
NOTED_S = 5.0
SILENT_S = 20
"""A connection is lost when the kernel of the other end has not answered for so long. That is before ranks miss each
other: what they say then would look like an error of the program."""
PROBE_S, PROBES = 3, 3
_CREDENTIALS = struct.Struct("3i")
"""Process, user and group of who sent something, as the kernel tells them (unix(7), SCM_CREDENTIALS)."""
PASSED_ON: tuple[int, ...] = (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class Usher:
    """The program of one rank.

    Args:
        command: the program and its arguments.
        cpus: lanes; ``-``: left open.
    """

    def __init__(self, command: Sequence[str], cpus: str) -> None:
        self._command = command
        self._link = connect(os.environ.pop(LAUNCHER, ""))
        self._ear = Ear(self._link) if self._link is not None else None
        self._program: subprocess.Popen[bytes] | None = None
        self._pending: list[int] = []
        self._noted = threading.Event()
        if cpus != "-":
            os.environ["JOBS_CPUS"] = cpus

    def run(self) -> int:
        """How the program ended, as ``end`` says it."""
        for number in (*PASSED_ON, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            # Hydra hands an open connection to the program, so descriptors stay open. Open MPI's mpirun never tells
            # a program that its input has ended, so there is none.
            self._program = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=dies_with(os.getpid())
            )
        except OSError as error:
            print(f"job_stream: cannot start {self._command[0]!r}: {error.strerror}", file=sys.stderr, flush=True)
            self._listen()
            return self._tell(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)
        for number in self._pending:
            self._send(number)
        self._listen()
        return self._tell(self._program.wait())

    def _on_signal(self, number: int, frame: object) -> None:
        """Passes a signal on, but for Ctrl-C: that reaches the program by itself, and twice means something else."""
        if number == signal.SIGINT:
            return
        if self._program is None:
            self._pending.append(number)
        else:
            self._send(number)

    def _send(self, number: int) -> None:
        if self._program is not None:
            with suppress(ProcessLookupError):
                self._program.send_signal(number)

    def _listen(self) -> None:
        if self._link is not None:
            threading.Thread(target=self._obey, args=(self._link,), daemon=True).start()

    def _obey(self, link: socket.socket) -> None:
        """Does what the launcher says until that is gone, which is the end of the program, too."""
        with suppress(OSError), link.makefile("rb") as lines:
            for line in lines:
                if line == NOTED:
                    self._noted.set()
                else:
                    self._send(int(line.split()[1]))
        self._send(signal.SIGKILL)
        self._noted.set()

    def _tell(self, status: int) -> int:
        if self._ear is not None:
            self._ear.close()
        if self._link is not None:
            with suppress(OSError):
                self._link.sendall(f"end {status}\n".encode())
                self._noted.wait(NOTED_S)
        return status


class Ear:
    """Hears of the program that it has joined the others, and tells the launcher.

    Args:
        link: to the launcher.
    """

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        name = f"job_stream-{os.urandom(16).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.bind(f"\0{name}")
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        os.environ[USHER] = name

    def _listen(self) -> None:
        while (word := self._hear()) != OVER:
            if word == JOINED:
                with suppress(OSError):
                    self._link.sendall(JOINED + b"\n")

    def _hear(self) -> bytes:
        """The next word; nothing: it was somebody else's."""
        room = socket.CMSG_SPACE(_CREDENTIALS.size)
        word, ancillary, _, _ = self._socket.recvmsg(len(JOINED), room)
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                return word if _CREDENTIALS.unpack(data)[1] == os.getuid() else b""
        return b""

    def close(self) -> None:
        """Returns when all that was heard has been told."""
        self._socket.sendto(OVER, self._socket.getsockname())
        self._thread.join()
        self._socket.close()


def connect(where: str) -> socket.socket | None:
    """A connection to the launcher, by the first of its addresses that answers; None: it cannot be reached."""
    if not where:
        return None
    port, token, *addresses = where.split()
    rank = next((os.environ[name] for name in RANKS if name in os.environ), "0")
    hello = f"hello {token} {rank} {socket.gethostname()} {os.getpid()}\n".encode()
    gone = 0
    for address in addresses:
        try:
            link = socket.create_connection((address, int(port)), CONNECT_S)
            link.sendall(hello)
            if is_welcome(link):
                link.settimeout(None)
                keep_watch(link)
                return link
            link.close()
        except OSError as error:
            gone += isinstance(error, ConnectionError) and is_own(address)
    if gone == len(addresses):
        sys.exit(f"job_stream: the launcher of rank {rank} has died, so that does not begin")
    print(
        f"job_stream: rank {rank} on {socket.gethostname()} cannot reach the launcher at port {port} of "
        f"{', '.join(addresses)}; going on without, so exit status and signals depend on mpirun",
        file=sys.stderr, flush=True,
    )  # fmt: skip
    return None


def keep_watch(link: socket.socket) -> None:
    """Has the kernel find out when the other end's host is gone: when nothing is under way, and when something is."""
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENT_S - PROBE_S * PROBES)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_S)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000 * SILENT_S)


def is_own(address: str) -> bool:
    """Whether an address is one of this machine."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with suppress(OSError), socket.socket(family) as probe:
        probe.bind((address, 0))
        return True
    return False


def is_welcome(link: socket.socket) -> bool:
    """Whether it is the launcher that has answered, and not somebody with the same address elsewhere.

    Raises:
        ConnectionError: it has hung up without a word, as a launcher that dies just then, or that of another run.
    """
    answer = b""
    while len(answer) < len(WELCOME) and (more := link.recv(len(WELCOME) - len(answer))):
        answer += more
    if not answer:
        raise ConnectionResetError
    return answer == WELCOME


def dies_with(parent: int) -> Callable[[], None]:
    """What a child has to do that the kernel is to kill when its parent dies (prctl PR_SET_PDEATHSIG)."""
    prctl = ctypes.CDLL(None).prctl

    def prepare() -> None:
        prctl(1, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has died already
            os._exit(1)

    return prepare


def end_as(status: int) -> None:
    """Ends this process as the program has ended: MPI tells a signal from an exit code."""
    if status >= 0:
        sys.exit(status)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # SIGKILL
        signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)


if __name__ == "__main__":
    end_as(Usher(sys.argv[2:], sys.argv[1]).run())
