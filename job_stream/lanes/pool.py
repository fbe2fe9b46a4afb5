"""The rank's side of its child processes: starts them, sends to them, hears from them, and learns how they died."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections import deque
from time import monotonic_ns
from typing import Any, NamedTuple

from ..errors import EngineError
from ..wire import Codec, Died, Fork, Forked, Kill, Stopped
from .arena import Arena
from .board import NOTE_CPU, NOTE_STARTED, NOTE_WALL
from .links import closeSegment, openPair, receiveAll, send
from .nursery import forkNursery
from .worker import KEEPER, Setup

__all__ = ["Death", "ProcessPool"]

STOPPED_S = 10.0


class Death(NamedTuple):
    """A child is gone; ``note`` is what it had noted."""

    lane: int
    cause: str
    note: tuple[int, int, int, int]
    timed: bool


class _Child:
    """The rank's ends of one child: it writes to ``inbox`` and can read back from ``far`` what the child has not."""

    def __init__(self, inbox: socket.socket, far: socket.socket) -> None:
        self.inbox = inbox
        self.far = far
        self.pid = 0
        self.waiting: deque[tuple[bytes, list[int]]] = deque()
        self.timed = 0
        self.stoppedAt: int | None = None

    def close(self) -> None:
        self.inbox.close()
        self.far.close()
        for _, fds in self.waiting:
            _closeAll(fds)


class ProcessPool:
    """The lanes and the keeper of a run.

    Forks the nursery when it is made, so make it before the process has threads.
    """

    def __init__(self, setup: Setup) -> None:
        self._board = setup.board
        self._plan = setup.plan
        self._spent = Arena(bytearray())
        self._codec = Codec(self._spent.write, self._release)
        self._ownCodec = Codec(self._spent.write, closeSegment)
        self._children: dict[int, _Child] = {}
        self._buried_ns = [0, 0]
        self._commands, commands = openPair()
        self._replies, outbox = openPair()
        import ctypes  # noqa: F401  # for the children: once here is faster than in each of them

        self.pid = forkNursery(setup, commands, outbox, [self._commands, self._replies])
        commands.close()
        outbox.close()

    def _release(self, owner: int, number: int, fd: int) -> None:
        os.close(fd)
        free = self._board.free(owner)
        if number < len(free):
            free[number] = 1

    # outward ----------------------------------------------------------------------------------------------------------

    def start(self, lane: int) -> None:
        """Has a child forked; messages may be sent to it at once."""
        inbox, far = openPair()
        self._children[lane] = _Child(inbox, far)
        self._command(Fork(lane), [far.fileno()])

    def kill(self, lane: int) -> None:
        self._command(Kill(lane), [])

    def _command(self, message: Any, fds: list[int]) -> None:
        data, _ = self._codec.encode(message)
        send(self._commands, data, fds)

    def send(self, lane: int, message: Any) -> None:
        """Sends without waiting; what does not fit now is sent when there is room."""
        child = self._children[lane]
        data, fds = self._codec.encode(message)
        if child.waiting or not _trySend(child.inbox, data, fds):
            child.waiting.append((data, [os.dup(fd) for fd in fds]))
        self._spent.sent()

    def _sendWaiting(self, child: _Child) -> None:
        while child.waiting:
            data, fds = child.waiting[0]
            if not _trySend(child.inbox, data, fds):
                return
            _closeAll(fds)
            child.waiting.popleft()

    def takeBack(self, lane: int) -> list[Any]:
        """The messages that a child has not taken, in order."""
        child = self._children[lane]
        untaken, _ = receiveAll(child.far)
        untaken += child.waiting
        child.waiting.clear()
        return [self._ownCodec.decode(data, fds, KEEPER) for data, fds in untaken]

    # inward -----------------------------------------------------------------------------------------------------------

    def register(self, poll: select.poll) -> None:
        """Registers what to wait for."""
        poll.register(self._replies, select.POLLIN)
        poll.register(self._commands, select.POLLIN)

    def isReady(self, ready: set[int]) -> tuple[bool, bool]:
        """Whether there are reports and replies to be read, if these descriptors are ready. A report may be of a death,
        before which all replies must have been read."""
        reports = self._commands.fileno() in ready
        return reports, reports or self._replies.fileno() in ready

    def wantsRoom(self) -> bool:
        """Whether messages are waiting to be sent."""
        return any(child.waiting for child in self._children.values())

    def makeRoom(self) -> None:
        for child in self._children.values():
            self._sendWaiting(child)

    def replies(self) -> list[Any]:
        """Every message that children have sent."""
        decode, messages = self._codec.decode, receiveAll(self._replies)[0]
        return [decode(data[4:], fds, int.from_bytes(data[:4], "little")) for data, fds in messages]

    def reports(self) -> list[Died]:
        """What the nursery has to say: deaths, after which the child is forgotten."""
        deaths: list[Died] = []
        messages, isOpen = receiveAll(self._commands)
        if not isOpen:
            raise EngineError("the process that forks the workers is gone; it was killed from outside")
        for message in messages:
            report = self._ownCodec.decode(*message, KEEPER)
            child = self._children.get(report.lane)
            if child is None:
                continue
            if type(report) is Died:
                deaths.append(report)
            elif type(report) is Forked:
                child.pid = report.pid
            elif type(report) is Stopped:
                child.stoppedAt = monotonic_ns() if report.stopped else None
        return deaths

    def bury(self, died: Died) -> Death:
        """What is known about a dead child; all it had sent must have been read before."""
        self.takeBack(died.lane)  # what it had not begun is known from what it has noted
        child = self._children.pop(died.lane)
        child.close()
        words = self._board.note(died.lane)
        note = tuple(words[:4])
        for number, word in enumerate((NOTE_WALL, NOTE_CPU)):
            self._buried_ns[number] += words[word]
            words[word] = 0  # another keeper will have the same note
        timed = bool(child.timed) and child.timed == note[NOTE_STARTED]
        return Death(died.lane, self._cause(died.status, child, note[1], timed), note, timed)

    def _cause(self, status: int, child: _Child, place: int, timed: bool) -> str:
        if timed:
            return f"timed out: no answer within {self._plan.places[place].policy.timeout_s:g} s"
        if os.WIFSIGNALED(status):
            return f"worker process {child.pid} died with {_signalName(os.WTERMSIG(status))}"
        return f"worker process {child.pid} ended with exit code {os.WEXITSTATUS(status)}"

    def spent_ns(self) -> tuple[int, int]:
        """Wall and CPU time that children have spent on user code."""
        notes = [self._board.note(lane) for lane in self._children]
        wall, cpu = self._buried_ns
        return wall + sum(note[NOTE_WALL] for note in notes), cpu + sum(note[NOTE_CPU] for note in notes)

    # limits -----------------------------------------------------------------------------------------------------------

    def enforce(self) -> None:
        """Kills children that exceed a time limit, or that have been stopped for long."""
        now = monotonic_ns()
        for lane, child in self._children.items():
            _, place, started, _ = self._board.note(lane)[:4]
            if child.stoppedAt is not None and now - child.stoppedAt > STOPPED_S * 1e9:
                child.stoppedAt = None
                self.kill(lane)
            if not started or started == child.timed or not 0 <= place < len(self._plan.places):
                continue
            limit = self._plan.places[place].policy.timeout_s
            if limit is not None and now - started > limit * 1e9:
                child.timed = started
                self.kill(lane)

    @property
    def stopped(self) -> bool:
        """Whether a child is stopped by a signal."""
        return any(child.stoppedAt is not None for child in self._children.values())

    def close(self) -> None:
        """Ends all children and the nursery, and waits until they are gone. The board says if that is to be soon."""
        self._replies.close()  # who still had something to say hears that it is over
        for child in self._children.values():
            child.inbox.close()
        self._commands.close()
        os.waitpid(self.pid, 0)
        for child in self._children.values():
            child.close()
        self._children.clear()


def _trySend(end: socket.socket, data: bytes, fds: list[int]) -> bool:
    try:
        send(end, data, fds, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (105, 109):  # ENOBUFS, ETOOMANYREFS: too many descriptors under way
            return False
        raise
    return True


def _closeAll(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def _signalName(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
