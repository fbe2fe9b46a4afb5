"""A run whose workers are feigned: one process answers for hundreds of them, and says at once that it has worked.

So the engine's thread does all that it does in a run with so many cores, on a machine that has two.
"""

import os
import select
import socket
from time import thread_time
from typing import Any
from unittest.mock import patch

import job_stream
from benchmarks.lanes import ITEM_S, ITEMS_PER_LANE
from job_stream.engine import messages as m
from job_stream.lanes import hold
from job_stream.memory.codec import Codec
from job_stream.ranks.cluster import Gone
from job_stream.runtime.loop import Loop
from job_stream.workers.links import close_segment, receive, send
from job_stream.workers.protocol import KINDS, Fork, Forked
from job_stream.workers.worker import Setup


class FeignedNursery:
    """Obeys the rank, and is all lanes itself.

    Args:
        commands: from the rank, and reports back to it.
        outbox: the lanes' way to the rank.
    """

    def __init__(self, commands: socket.socket, outbox: socket.socket) -> None:
        self._commands = commands
        self._outbox = outbox
        self._inboxes: dict[int, tuple[socket.socket, bytes]] = {}
        self._codec = Codec(KINDS, _no_segments, close_segment)
        self._poll = select.epoll()

    def run(self) -> None:
        """Until the rank hangs up."""
        self._poll.register(self._commands, select.EPOLLIN)
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._commands.fileno():
                    if not self._obey():
                        return
                else:
                    self._work(fd)

    def _obey(self) -> bool:
        message = receive(self._commands)
        if message is None:
            return False
        data, fds = message
        order = self._codec.decode(data, [], 0)
        if isinstance(order, Fork):
            inbox = socket.socket(fileno=fds[0])
            self._inboxes[inbox.fileno()] = inbox, order.serial.to_bytes(4, "little")
            self._poll.register(inbox, select.EPOLLIN)
            send(self._commands, self._codec.encode(Forked(order.lane, os.getpid()))[0], [])
        return True

    def _work(self, fd: int) -> None:
        inbox, number = self._inboxes[fd]
        message = receive(inbox)
        if message is None:
            self._poll.unregister(fd)
            return
        lend = self._codec.decode(*message, 0)
        if isinstance(lend, m.Lend):
            names = tuple(name for name, _ in lend.units)
            samples = tuple((work.place, work.count, work.count * ITEM_S) for _, work in lend.units)
            repaid = m.Repaid(lend.lane, lend.loan, ((lend.loan, names),), samples=samples)
            send(self._outbox, number + self._codec.encode(repaid)[0], [])


def _no_segments(parts: list[Any]) -> tuple[int, int]:
    raise AssertionError("feigned workers send small messages only")


def _fork_feigned(setup: Setup, commands: socket.socket, outbox: socket.socket, foreign: list[socket.socket]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            for end in foreign:
                end.close()
            FeignedNursery(commands, outbox).run()
        finally:
            os._exit(0)
    return pid


def thread_s_per_parcel(lanes: int) -> float:
    """CPU seconds of the engine's thread for each message to a lane, with all that it leads to."""
    figures: list[float] = []

    def run(loop: Loop, gone: list[Gone], real: Any = Loop.run) -> None:
        begin = thread_time()
        real(loop, gone)
        figures.append((thread_time() - begin) / loop._messages)

    with patch.object(hold, "fork_nursery", _fork_feigned), patch.object(Loop, "run", run):
        work = job_stream.Work(range(lanes * ITEMS_PER_LANE), cpus=lanes)
        work.job(abs)
        work.run()
    return figures[0]
