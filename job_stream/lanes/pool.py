"""The rank's side of its child processes: starts them, sends to them, hears from them, and learns how they died.

There may be hundreds. So what is done whenever something happens goes through those alone that it concerns.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections import deque
from time import monotonic_ns
from typing import Any, NamedTuple

from ..ground.forks import alone, disown, own
from ..ground.limits import files, files_for_one, raise_files, refusal
from ..ground.texts import signal_name
from ..memory.arena import Arena
from ..memory.codec import Codec
from ..memory.words import NOTE_CPU, NOTE_STARTED, NOTE_WALL
from ..stream.plan import Plan
from ..workers.links import close_segment, hang_up, open_pair, receive_all, try_send
from ..workers.nursery import fork_nursery
from ..workers.protocol import KINDS, Died, Fork, Forked, Kill, NotForked, Stopped, ToWorker
from ..workers.streams import Forwarding
from ..workers.worker import KEEPER, Setup
from .hold import Hold, Start

__all__ = ["Death", "ProcessPool"]

STOPPED_S = 10.0
LOOK_SHARE, LOOK_NS = 20, (2_500_000, 250_000_000)
"""So often within the shortest time limit it is looked whether a child exceeds it, but within these bounds."""
SPARE_FILES = 8
"""So many descriptors, and those of one message, are left for what is open for a moment only."""

FORKS_AT_ONCE = 16
"""So many are asked for before the first has been made; a child that is not wanted any more by then is not made."""


class Death(NamedTuple):
    """A child is gone; ``note`` is what it had noted."""

    lane: int
    cause: str
    note: tuple[int, int, int, int]
    timed: bool


class _Child:
    """The rank's ends of one child: it writes to ``inbox`` and can read back from ``far`` what the child has not.

    Before the child is made there are none, and messages for it are kept as they are (``early``).
    """

    def __init__(self, serial: int, note: memoryview[int]) -> None:
        self.inbox: socket.socket | None = None
        self.far: socket.socket | None = None
        self.serial = serial
        self.note = note
        self.pid = 0
        self.early: list[Any] = []
        self.waiting: deque[tuple[bytes, list[int]]] = deque()
        self.timed = 0
        self.stopped_at: int | None = None

    def close(self) -> None:
        for end in (self.inbox, self.far):
            if end is not None:
                end.close()
        for _, fds in self.waiting:
            _close_all(fds)
        self.waiting.clear()


class ProcessPool:
    """The lanes and the keeper of a run.

    Starts the nursery when it is made. Where that is forked from here, make it before the process has threads.

    Args:
        setup: for the children.
        forwarding: of what they print.
        start: starts the nursery.

    Raises:
        LimitError: the system has refused.
    """

    def __init__(self, setup: Setup, forwarding: Forwarding, start: Start = fork_nursery) -> None:
        self._board = setup.board
        self._plan = setup.plan
        self._spent = Arena(bytearray())
        self._codec = Codec(KINDS, self._spent.write, self._release)
        self._own_codec = Codec(KINDS, self._spent.write, close_segment)
        self._children: dict[int, _Child] = {}
        self._free: dict[int, memoryview] = {}
        self._started = 0
        self._wanted: dict[int, None] = {}
        self._forking = 0
        self._crowded: dict[int, _Child] = {}
        self._stopped: dict[int, _Child] = {}
        self._look_ns = _time_between_looks(setup.plan)
        self._looked_ns = 0
        self._buried_ns = [0, 0]
        raise_files()
        with alone():
            self._replies, outbox = open_pair()
            try:
                self._hold = Hold(setup, forwarding, outbox, self._replies, start)
            except BaseException:
                self._replies.close()
                raise
            finally:
                outbox.close()
            own(self)

    def _release(self, owner: int, number: int, fd: int) -> None:
        os.close(fd)
        free = self._free.get(owner)  # none: it has died, and its slot may be somebody else's
        if free is not None and number < len(free):
            free[number] = 1

    def __contains__(self, lane: int) -> bool:
        """Whether there is such a child, or will be."""
        return lane in self._children

    # outward ----------------------------------------------------------------------------------------------------------

    def start(self, lane: int) -> None:
        """Messages may be sent to this child from now on; it is forked when there is one.

        Raises:
            LimitError: there are too many children.
        """
        self._started += 1
        serial = self._started
        self._board.seat(serial)
        self._free[serial] = self._board.free(serial)
        self._children[lane] = _Child(serial, self._board.note(serial))

    def kill(self, lane: int) -> None:
        self._hold.order(Kill(lane))

    def send(self, lane: int, message: ToWorker) -> None:
        """Sends without waiting; what does not fit now is sent when there is room."""
        child = self._children[lane]
        if child.inbox is None:
            child.early.append(message)
            if lane not in self._wanted:
                self._wanted[lane] = None
                self._fork_wanted()
            return
        data, fds = self._codec.encode(message)
        if child.waiting or not try_send(child.inbox, data, fds):
            child.waiting.append((data, [os.dup(fd) for fd in fds]))
            self._crowded[lane] = child
        self._spent.sent()

    def _fork_wanted(self) -> None:
        """Has children forked for which something waits."""
        while self._wanted and self._forking < FORKS_AT_ONCE:
            lane = next(iter(self._wanted))
            del self._wanted[lane]
            child = self._children[lane]
            if child.early:
                self._fork(lane, child)

    def _fork(self, lane: int, child: _Child) -> None:
        with alone():
            child.inbox, child.far = open_pair()
        if child.far.fileno() >= files() - files_for_one() - SPARE_FILES:
            raise refusal(errno.EMFILE, self._refused())
        self._forking += 1
        self._hold.order(Fork(lane, child.serial, self._board.seat_of(child.serial)), child.far.fileno())
        early, child.early = child.early, []
        for message in early:
            self.send(lane, message)

    def _refused(self) -> str:
        running = sum(child.pid > 0 for child in self._children.values())
        return f"worker process number {running + 1} cannot be started"

    def _send_waiting(self, lane: int, child: _Child) -> None:
        while child.waiting and child.inbox is not None:
            data, fds = child.waiting[0]
            if not try_send(child.inbox, data, fds):
                return
            _close_all(fds)
            child.waiting.popleft()
        del self._crowded[lane]

    def take_back(self, lane: int) -> list[Any]:
        """The messages that a child has not taken, in order."""
        child = self._children[lane]
        if child.far is None:
            early, child.early = child.early, []
            return early
        untaken, _ = receive_all(child.far, self._decode_own)
        untaken += [self._decode_own(data, fds) for data, fds in child.waiting]
        child.waiting.clear()
        self._crowded.pop(lane, None)
        return untaken

    def _decode_own(self, data: bytes, fds: list[int]) -> Any:
        return self._own_codec.decode(data, fds, KEEPER)

    # inward -----------------------------------------------------------------------------------------------------------

    def register(self, poll: select.poll) -> None:
        """Registers what to wait for."""
        poll.register(self._replies, select.POLLIN)
        self._hold.register(poll)

    def is_ready(self, ready: set[int]) -> tuple[bool, bool]:
        """Whether there are reports and replies to be read, if these descriptors are ready. A report may be of a death,
        before which all replies must have been read."""
        reports = self._hold.is_ready(ready)
        return reports, reports or self._replies.fileno() in ready

    def wants_room(self) -> bool:
        """Whether messages are waiting to be sent."""
        return self._hold.wants_room or bool(self._crowded)

    def make_room(self) -> None:
        self._hold.make_room()
        for lane, child in list(self._crowded.items()):
            self._send_waiting(lane, child)

    def replies(self) -> list[Any]:
        """Every message that children have sent."""
        return receive_all(self._replies, self._decode_reply)[0]

    def _decode_reply(self, data: bytes, fds: list[int]) -> Any:
        return self._codec.decode(data[4:], fds, int.from_bytes(data[:4], "little"))

    def reports(self) -> list[Died | Forked]:
        """What the nursery has to say: children that are there, and deaths, after which the child is forgotten.

        Raises:
            EngineError: it is gone.
            LimitError: the system has refused to make another child.
        """
        news: list[Died | Forked] = []
        for report in self._hold.reports():
            if type(report) is NotForked:
                raise refusal(report.error, self._refused())
            child = self._children.get(report.lane)
            if child is None:
                continue
            if type(report) is Forked:
                child.pid = report.pid
                self._forking -= 1
            if isinstance(report, (Died, Forked)):
                news.append(report)
            elif type(report) is Stopped:
                self._note_stop(report.lane, child, report.stopped)
        self._fork_wanted()
        return news

    def _note_stop(self, lane: int, child: _Child, stopped: bool) -> None:
        child.stopped_at = monotonic_ns() if stopped else None
        if stopped:
            self._stopped[lane] = child
        else:
            self._stopped.pop(lane, None)

    def bury(self, died: Died) -> Death:
        """What is known about a dead child; all it had sent must have been read before."""
        self.take_back(died.lane)  # what it had not begun is known from what it has noted
        child = self._children.pop(died.lane)
        self._stopped.pop(died.lane, None)
        child.close()
        words = child.note
        note = words[0], words[1], words[2], words[3]
        for number, word in enumerate((NOTE_WALL, NOTE_CPU)):
            self._buried_ns[number] += words[word]
        del self._free[child.serial]
        self._board.leave(child.serial)
        timed = bool(child.timed) and child.timed == note[NOTE_STARTED]
        return Death(died.lane, self._cause(died.status, child, note[1], timed), note, timed)

    def _cause(self, status: int, child: _Child, place: int, timed: bool) -> str:
        if timed:
            return f"timed out: no answer within {self._plan.places[place].policy.timeout_s:g} s"
        if os.WIFSIGNALED(status):
            return f"worker process {child.pid} died with {signal_name(os.WTERMSIG(status))}"
        return f"worker process {child.pid} ended with exit code {os.WEXITSTATUS(status)}"

    def spent_ns(self) -> tuple[int, int]:
        """Wall and CPU time that children have spent on user code."""
        wall, cpu = self._buried_ns
        notes = [child.note for child in self._children.values()]
        return wall + sum(note[NOTE_WALL] for note in notes), cpu + sum(note[NOTE_CPU] for note in notes)

    # limits -----------------------------------------------------------------------------------------------------------

    def enforce(self) -> None:
        """Kills children that exceed a time limit, or that have been stopped for long; it does not look each time."""
        now = monotonic_ns()
        for lane, child in list(self._stopped.items()):
            if child.stopped_at is not None and now - child.stopped_at > STOPPED_S * 1e9:
                self._note_stop(lane, child, False)
                self.kill(lane)
        if self._look_ns is not None and now - self._looked_ns >= self._look_ns:
            self._looked_ns = now
            self._enforce_limits(now)

    def _enforce_limits(self, now: int) -> None:
        for lane, child in self._children.items():
            _, place, started, _ = child.note[:4]
            if not started or started == child.timed or not 0 <= place < len(self._plan.places):
                continue
            limit = self._plan.places[place].policy.timeout_s
            if limit is not None and now - started > limit * 1e9:
                child.timed = started
                self.kill(lane)

    @property
    def stopped(self) -> bool:
        """Whether a child is stopped by a signal."""
        return bool(self._stopped)

    # the end ----------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends all children and the nursery, and waits until they are gone. The board says if that is to be soon."""
        hang_up(self._replies)  # who still had something to say hears that it is over
        for child in self._children.values():
            if child.inbox is not None:
                hang_up(child.inbox)
        try:
            self._hold.end()
        finally:
            self._close_ends()
            disown(self)

    def _close_ends(self) -> None:
        for child in self._children.values():
            child.close()
        self._replies.close()
        self._children.clear()
        self._crowded.clear()
        self._free.clear()

    def let_go(self) -> None:
        """In a process that was forked meanwhile."""
        self._hold.let_go()
        self._close_ends()


def _time_between_looks(plan: Plan) -> int | None:
    """How often to look for children that exceed a time limit, in ns; None: there is no limit."""
    limits = [place.policy.timeout_s for place in plan.places if place.policy.timeout_s is not None]
    if not limits:
        return None
    least, most = LOOK_NS
    return min(max(int(min(limits) * 1e9) // LOOK_SHARE, least), most)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
