"""How the nursery of a run is started by the fork server; see ``workers.forkserver``. Loaded where that is wanted."""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from types import FunctionType
from typing import Any

from ..errors import EngineError, PlanError
from ..ground.forks import disown, own
from ..ground.texts import said
from ..memory.arena import new_memory_file
from ..stream.plan import Plan
from ..workers.forkserver import READY, Cargo, Circumstances
from ..workers.links import open_pair, send
from ..workers.streams import Forwarding, flush_standard
from ..workers.worker import Setup

__all__ = ["ForkServerStart"]

PATIENCE_S = 2.0
REMEDY = "take that out of it, or leave the start method as it is: Work(startMethod='fork')"


class ForkServerStart:
    """Starts the nursery of one run through the fork server. What is called raises ``PlanError`` if something cannot be
    sent.

    Attributes:
        board: the descriptor of a memory file for the board.
    """

    def __init__(self) -> None:
        self.board = new_memory_file()

    def close(self) -> None:
        """The nursery has been started, or is not wanted any more."""
        os.close(self.board)

    def __call__(self, setup: Setup, forwarding: Forwarding, commands: socket.socket, outbox: socket.socket,
                 foreign: list[socket.socket]) -> int:  # fmt: skip
        flush_standard()
        with ExitStack() as stack:
            cargo = _memory_file(_packed(setup))
            stack.callback(os.close, cargo)
            told, tells = os.pipe2(os.O_CLOEXEC)
            file = stack.enter_context(open(told, "rb"))
            names = forwarding.names
            fds = [cargo, self.board, forwarding.lock_file, commands.fileno(), outbox.fileno(), tells, 1, 2]
            try:
                _server.order(" ".join(names) or " ", [*fds, *(forwarding.descriptor(name) or 0 for name in names)])
            finally:
                os.close(tells)
            answer = file.read()
        if not answer.startswith(READY):
            raise _refused(answer)
        return int(answer[len(READY) :])


def _refused(answer: bytes) -> EngineError | PlanError:
    if not answer:
        return EngineError("the fork server has ended, or what it had forked; it was killed from outside")
    return PlanError(f"startMethod='forkserver': in the new process, what was sent could not be had: {answer.decode()}")


def _memory_file(data: bytes) -> int:
    fd = new_memory_file()
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


# what is sent ---------------------------------------------------------------------------------------------------------


def _packed(setup: Setup) -> bytes:
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    circumstances = Circumstances(dict(os.environ), os.getcwd(), list(sys.path), list(sys.argv), file)
    return pickle.dumps(circumstances) + _packed_cargo(setup)


def _packed_cargo(setup: Setup) -> bytes:
    from ..memory.byvalue import for_strangers  # loads cloudpickle

    sent = tuple(setup._replace(board=None, ending=None))  # type: ignore[arg-type]
    defined = _defined_in_main()
    try:
        return for_strangers(Cargo(sent, defined))
    except Exception:
        _check(setup, for_strangers)
    return for_strangers(Cargo(sent, {name: what for name, what in defined.items() if _goes(what, for_strangers)}))


def _check(setup: Setup, pack: Callable[[Any], bytes]) -> None:
    """Finds out what it is that cannot be sent.

    Raises:
        PlanError: it is needed.
    """
    for what, value in _parts(setup.plan):
        try:
            pack(value)
        except Exception as reason:
            raise PlanError(f"startMethod='forkserver': {what} cannot be sent: {said(reason)}; {REMEDY}") from reason
    try:
        pack((setup.source, setup.plan))
    except Exception as reason:
        text = f"startMethod='forkserver': the initial work cannot be sent: {said(reason)}; {REMEDY}"
        raise PlanError(text) from reason


def _parts(plan: Plan) -> list[tuple[str, Any]]:
    names = {"function": "", "store": "store= of ", "emit": "emit= of ", "key": "key= of "}
    return [(f"{what}stage {place.name!r}", getattr(place, name)) for place in plan.places
            for name, what in names.items() if getattr(place, name) is not None]  # fmt: skip


def _goes(what: Any, pack: Callable[[Any], bytes]) -> bool:
    with suppress(Exception):
        return bool(pack(what))
    return False


def _defined_in_main() -> dict[str, Any]:
    """The functions and classes of the script itself, which items and results may refer to by their names."""
    variables = vars(sys.modules["__main__"])
    return {name: what for name, what in list(variables.items())
            if isinstance(what, (FunctionType, type)) and what.__module__ == "__main__"}  # fmt: skip


# the server -----------------------------------------------------------------------------------------------------------


class _Server:
    """The fork server of this process, started when it is first needed, and anew if it has died."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._renew()
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        """Also in a forked process, which has a server of its own if it needs one."""
        self._lock = threading.Lock()

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        if self._socket is not None:
            self._socket.close()
        self._socket = self._process = None

    def order(self, text: str, fds: list[int]) -> None:
        """Sends an order, of which the answer comes another way."""
        with self._lock:
            for is_last in (False, True):
                try:
                    send(self._there(), text.encode(), fds)
                    return
                except (BrokenPipeError, ConnectionResetError):
                    self._bury()
                    if is_last:
                        raise EngineError("the fork server ends as soon as it is started") from None

    def _there(self) -> socket.socket:
        if self._socket is None:
            here, there = open_pair()
            with closing(there):
                code = f"from job_stream.workers.forkserver import serve; serve({there.fileno()}, {os.getpid()})"
                flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
                self._process = subprocess.Popen([sys.executable, *flags, "-c", code], pass_fds=[there.fileno()],
                                                 stdin=subprocess.DEVNULL, env=_environment())  # fmt: skip
            self._socket = here
            own(self)
            atexit.register(self.end)
        return self._socket

    def end(self) -> None:
        """Lets the server end, which it does at once, unless a fork of this process has the socket, too."""
        with suppress(subprocess.TimeoutExpired):
            self._bury(PATIENCE_S)

    def _bury(self, patience_s: float | None = None) -> None:
        if self._socket is not None:
            self._socket.close()
        if self._process is not None:
            self._process.wait(patience_s)
        self._socket = self._process = None
        disown(self)
        atexit.unregister(self.end)


def _environment() -> dict[str, str]:
    """With the folder of this package, wherever the script has it from."""
    folder = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *filter(None, [os.environ.get("PYTHONPATH")])])}


_server = _Server()
