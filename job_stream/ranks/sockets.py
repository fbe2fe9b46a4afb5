"""Ranks that exchange messages over sockets of their own, where the others live on when one dies.

MPI brings them together, tells who has died (``mpirun --with-ft ulfm``), and can end all; it carries no messages. What
is on its way to a rank that has died, which nobody knows yet, holds fragments of Open MPI's shared memory, which those
that live need, or has its TCP transport crash the sender (5.0.11). A socket fails alone. Nothing that RDMA could do
better is lost, since with fault tolerance Open MPI sends over TCP and shared memory only.

A rank is lost when MPI says so, after what it had sent has been taken. A line that breaks although MPI knows of no
death (a process that ended by itself without leaving, a network that drops connections) is waited for a little, and
then its rank is given up.
"""

from __future__ import annotations

import secrets
import select
import socket
import threading
from contextlib import suppress
from functools import partial
from time import monotonic, sleep
from typing import Any

from .base import Channel, RanksTransport
from .connections import FAREWELL, MESSAGES, WELCOME, Call, Card, Door, Hello, Incoming, Line, readHello
from .cpus import Grant
from .meeting import meet
from .transport import Lost, News, Room

__all__ = ["SocketTransport"]

WATCH_S = 0.25
"""How often to ask MPI for dead ranks."""
BROKEN_WATCH_S = 0.01
"""The same while a line is broken."""
DRAIN_S = 0.05
"""A dead rank is lost when nothing has come from it for so long."""
BROKEN_S = 3.0
"""How long to wait for news of a death when a line has broken. Of two that are cut off from each other, the one with
the lower number is first to lose patience, and the other is lost."""
UNATTENDED_S = 0.01
"""When nobody has polled for so long, what waits to be sent is sent by a thread of its own."""
MOST_STRANGERS = 128
"""Callers that have said nothing yet; beyond that the oldest are sent away."""


class SocketChannel(Channel):
    """What is under way between this rank and another.

    Attributes:
        outgoing: messages to it.
        incoming: messages from it, when it has called.
        isReady: whether something has come.
        broken: when the connection was found to be broken; None: it is not.
        deadline: when a dead rank is lost, unless more comes from it before.
    """

    __slots__ = ("broken", "deadline", "incoming", "isReady", "outgoing")

    def __init__(self, rank: int, outgoing: Line) -> None:
        super().__init__(rank)
        self.outgoing = outgoing
        self.incoming: Incoming | None = None
        self.isReady = False
        self.broken: float | None = None
        self.deadline: float | None = None

    @property
    def count(self) -> int:
        return self.outgoing.waiting + (self.isReady or self._isWithin)

    @property
    def large(self) -> bool:
        return self.outgoing.waiting > 0 or self._isWithin

    @property
    def _isWithin(self) -> bool:
        return self.incoming is not None and self.incoming.isWithin


class SocketTransport(RanksTransport[SocketChannel]):
    """The ranks of MPI's world, which outlives those that die.

    Args:
        mpi: the initialised module ``mpi4py.MPI``.
        grant: CPUs of this rank.
        addresses: of this host, for ranks on others; empty: all are on this one.

    Raises:
        WorldError: the ranks cannot come together, since one of them has died.
    """

    recovers = True

    def __init__(self, mpi: Any, grant: Grant, addresses: list[str]) -> None:
        self._door = Door(addresses)
        comm, grants, cards = meet(mpi, grant, self._door.card.packed())
        self._cards = [Card.unpacked(card) for card in cards]
        lines = [Line(partial(self._callTo, rank, MESSAGES)) for rank in range(len(cards))]
        super().__init__(mpi, comm, grants, [SocketChannel(rank, line) for rank, line in enumerate(lines)])
        self._epoll = select.epoll()
        self._strangers: dict[int, socket.socket] = {}
        self._callers: dict[int, SocketChannel] = {}
        self._troubled: set[SocketChannel] = set()
        self._farewells: list[Call] = []
        self._nextWatch = monotonic() + WATCH_S
        self._polled = monotonic()
        self._pusher: threading.Thread | None = None
        self._epoll.register(self._door.socket, select.EPOLLIN)

    @property
    def busy(self) -> bool:
        return super().busy or bool(self._troubled)

    def _callTo(self, rank: int, purpose: int) -> Call:
        isNear = self.grants[rank].host == self.grants[self.rank].host
        return Call(self.rank, self._cards[rank], isNear, purpose)

    # sending ----------------------------------------------------------------------------------------------------------

    def _send(self, channel: SocketChannel, kind: int, head: bytes, views: list[memoryview], keep: Any) -> None:
        if channel.broken is None:
            channel.outgoing.put(kind, head, views, keep)
            self._push(channel)
            if channel.outgoing.waiting and self._pusher is None:
                self._pusher = threading.Thread(target=self._attend, name="job_stream-pusher", daemon=True)
                self._pusher.start()

    def _attend(self) -> None:
        """Sends what waits while nobody polls, as between two streams of a script, until nothing waits."""
        while True:
            sleep(UNATTENDED_S)
            with self._lock:
                waiting = [channel for channel in self._moving if channel.outgoing.waiting]
                if not waiting:
                    self._pusher = None
                    return
                if monotonic() - self._polled > UNATTENDED_S:
                    for channel in waiting:
                        self._push(channel)

    def _push(self, channel: SocketChannel) -> None:
        try:
            channel.outgoing.push()
        except OSError:
            self._break(channel)
        if channel.busy:
            self._moving.add(channel)

    def _break(self, channel: SocketChannel) -> None:
        """Nothing can be sent to a rank any more; who has left doesn't listen."""
        channel.outgoing.close()
        if not channel.ended and channel.broken is None:
            channel.broken = monotonic()
            self._troubled.add(channel)
            self._nextWatch = 0.0

    # receiving --------------------------------------------------------------------------------------------------------

    def _takeUp(self, news: list[News]) -> None:
        self._polled = monotonic()
        for fd, _ in self._epoll.poll(0):
            if fd in self._callers:
                channel = self._callers[fd]
                channel.isReady = True
                self._moving.add(channel)
            elif fd in self._strangers:
                self._hear(self._strangers[fd], news)
            else:
                self._openDoor(news)

    def _openDoor(self, news: list[News]) -> None:
        for caller in self._door.callers():
            self._strangers[caller.fileno()] = caller
            self._epoll.register(caller, select.EPOLLIN)
            self._hear(caller, news)
        while len(self._strangers) > MOST_STRANGERS:
            self._sendAway(next(iter(self._strangers.values())))

    def _hear(self, caller: socket.socket, news: list[News]) -> None:
        """Finds out who is calling, and what for."""
        try:
            hello = readHello(caller)
        except OSError:
            self._sendAway(caller)
            return
        if hello is None:
            return
        channel = self._known(hello)
        if channel is not None and hello.purpose == MESSAGES and channel.incoming is None:
            caller.send(WELCOME)
            del self._strangers[caller.fileno()]
            self._callers[caller.fileno()] = channel
            channel.incoming = Incoming(caller)
            return
        if channel is not None and hello.purpose == FAREWELL:
            caller.send(WELCOME)
            self._lose(self.rank, news)
        self._sendAway(caller)

    def _known(self, hello: Hello) -> SocketChannel | None:
        """The rank that is calling; None: somebody else, or a rank of which nobody wants to hear any more."""
        isRank = secrets.compare_digest(hello.token, self._door.card.token) and hello.rank < self.size
        channel = self._channels[hello.rank] if isRank else None
        return None if channel is None or channel.ended else channel

    def _sendAway(self, caller: socket.socket) -> None:
        del self._strangers[caller.fileno()]
        self._release(caller)

    def _release(self, caller: socket.socket) -> None:
        """Closes a connection; a child of this process may have it, too."""
        self._epoll.unregister(caller)
        with suppress(OSError):
            caller.shutdown(socket.SHUT_RDWR)
        caller.close()

    def _move(self, channel: SocketChannel, room: Room, news: list[News]) -> None:
        if channel.outgoing.waiting:
            self._push(channel)
        if channel.isReady and channel.incoming is not None:
            channel.isReady = False
            if channel.deadline is not None:
                channel.deadline = monotonic() + DRAIN_S
            try:
                for kind, head, token in channel.incoming.messages(room):
                    self._arrived(channel, kind, head, token, news)
                    if channel.ended:
                        return
            except OSError:
                self._stopReceiving(channel)
                self._break(channel)

    def _stopReceiving(self, channel: SocketChannel) -> None:
        channel.isReady = False
        if channel.incoming is not None:
            del self._callers[channel.incoming.socket.fileno()]
            self._release(channel.incoming.socket)
            channel.incoming = None

    # the end of ranks -------------------------------------------------------------------------------------------------

    def _watch(self, news: list[News]) -> None:
        now = monotonic()
        if now >= self._nextWatch:
            self._askForDeaths(now)
            self._farewells = [call for call in self._farewells if not _isSaid(call)]
            self._nextWatch = now + (BROKEN_WATCH_S if self._troubled else WATCH_S)
            for channel in tuple(self._troubled):
                self._judge(channel, now, news)

    def _askForDeaths(self, now: float) -> None:
        with suppress(self._mpi.Exception):
            self._comm.Iprobe(self._mpi.ANY_SOURCE)  # has MPI look what has come to it
        group = self._comm.Get_failed()
        if group.Get_size():
            self._comm.Ack_failed()
            for rank in group.Translate_ranks(None, self._comm.Get_group()):
                channel = self._channels[rank]
                self._break(channel)
                if not channel.ended and channel.deadline is None:
                    channel.deadline = now + DRAIN_S
                    self._whole = False
        group.Free()

    def _judge(self, channel: SocketChannel, now: float, news: list[News]) -> None:
        """Loses a rank that is known to be dead, or of which nothing is known for too long."""
        if channel.deadline is not None:
            if now >= channel.deadline:
                self._lose(channel.rank, news)
        elif channel.broken is not None and now - channel.broken > BROKEN_S * (1 + (channel.rank < self.rank)):
            self.giveUp(channel.rank)
            news.append(Lost(channel.rank))

    def _expel(self, channel: SocketChannel) -> None:
        farewell = self._callTo(channel.rank, FAREWELL)
        if not _isSaid(farewell):
            self._farewells.append(farewell)

    def _drop(self, channel: SocketChannel) -> None:
        self._troubled.discard(channel)
        channel.outgoing.close()
        self._stopReceiving(channel)

    def _hangUp(self) -> None:
        for channel in self._channels:
            self._drop(channel)
        for caller in tuple(self._strangers.values()):
            self._sendAway(caller)
        for farewell in self._farewells:
            farewell.close()
        self._epoll.close()
        self._door.socket.close()


def _isSaid(farewell: Call) -> bool:
    """Whether a rank has been told that it was given up, or cannot be."""
    try:
        answer = farewell.answered()
    except OSError:
        return True
    if answer is not None:
        answer.close()
    return answer is not None
