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
from .connections import FAREWELL, MESSAGES, WELCOME, Card, Dialing, Door, Greeting, Incoming, Line, read_hello
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
        is_ready: whether something has come.
        broken: when the connection was found to be broken; None: it is not.
        deadline: when a dead rank is lost, unless more comes from it before.
    """

    __slots__ = ("broken", "deadline", "incoming", "is_ready", "outgoing")

    def __init__(self, rank: int, outgoing: Line) -> None:
        super().__init__(rank)
        self.outgoing = outgoing
        self.incoming: Incoming | None = None
        self.is_ready = False
        self.broken: float | None = None
        self.deadline: float | None = None

    @property
    def count(self) -> int:
        return self.outgoing.waiting + (self.is_ready or self._is_within)

    @property
    def large(self) -> bool:
        return self.outgoing.waiting > 0 or self._is_within

    @property
    def _is_within(self) -> bool:
        return self.incoming is not None and self.incoming.is_within


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
        lines = [Line(partial(self._call_to, rank, MESSAGES)) for rank in range(len(cards))]
        super().__init__(mpi, comm, grants, [SocketChannel(rank, line) for rank, line in enumerate(lines)])
        self._epoll = select.epoll()
        self._strangers: dict[int, socket.socket] = {}
        self._callers: dict[int, SocketChannel] = {}
        self._troubled: set[SocketChannel] = set()
        self._farewells: list[Dialing] = []
        self._next_watch = monotonic() + WATCH_S
        self._polled = monotonic()
        self._pusher: threading.Thread | None = None
        self._epoll.register(self._door.socket, select.EPOLLIN)

    @property
    def busy(self) -> bool:
        return super().busy or bool(self._troubled)

    def _call_to(self, rank: int, purpose: int) -> Dialing:
        is_near = self.grants[rank].host == self.grants[self.rank].host
        return Dialing(self.rank, self._cards[rank], is_near, purpose)

    # sending ----------------------------------------------------------------------------------------------------------

    def _send(self, channel: SocketChannel, kind: int, head: bytes, views: list[memoryview], keep: object) -> None:
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
            self._next_watch = 0.0

    # receiving --------------------------------------------------------------------------------------------------------

    def _take_up(self, news: list[News]) -> None:
        self._polled = monotonic()
        for fd, _ in self._epoll.poll(0):
            if fd in self._callers:
                channel = self._callers[fd]
                channel.is_ready = True
                self._moving.add(channel)
            elif fd in self._strangers:
                self._hear(self._strangers[fd], news)
            else:
                self._open_door(news)

    def _open_door(self, news: list[News]) -> None:
        for caller in self._door.callers():
            self._strangers[caller.fileno()] = caller
            self._epoll.register(caller, select.EPOLLIN)
            self._hear(caller, news)
        while len(self._strangers) > MOST_STRANGERS:
            self._send_away(next(iter(self._strangers.values())))

    def _hear(self, caller: socket.socket, news: list[News]) -> None:
        """Finds out who is calling, and what for."""
        try:
            hello = read_hello(caller)
        except OSError:
            self._send_away(caller)
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
        self._send_away(caller)

    def _known(self, hello: Greeting) -> SocketChannel | None:
        """The rank that is calling; None: somebody else, or a rank of which nobody wants to hear any more."""
        is_rank = secrets.compare_digest(hello.token, self._door.card.token) and hello.rank < self.size
        channel = self._channels[hello.rank] if is_rank else None
        return None if channel is None or channel.ended else channel

    def _send_away(self, caller: socket.socket) -> None:
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
        if channel.is_ready and channel.incoming is not None:
            channel.is_ready = False
            if channel.deadline is not None:
                channel.deadline = monotonic() + DRAIN_S
            try:
                for kind, head, token in channel.incoming.messages(room):
                    self._arrived(channel, kind, head, token, news)
                    if channel.ended:
                        return
            except OSError:
                self._stop_receiving(channel)
                self._break(channel)

    def _stop_receiving(self, channel: SocketChannel) -> None:
        channel.is_ready = False
        if channel.incoming is not None:
            del self._callers[channel.incoming.socket.fileno()]
            self._release(channel.incoming.socket)
            channel.incoming = None

    # the end of ranks -------------------------------------------------------------------------------------------------

    def _watch(self, news: list[News]) -> None:
        now = monotonic()
        if now >= self._next_watch:
            self._ask_for_deaths(now)
            self._farewells = [call for call in self._farewells if not _is_said(call)]
            self._next_watch = now + (BROKEN_WATCH_S if self._troubled else WATCH_S)
            for channel in tuple(self._troubled):
                self._judge(channel, now, news)

    def _ask_for_deaths(self, now: float) -> None:
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
            self.give_up(channel.rank)
            news.append(Lost(channel.rank))

    def _expel(self, channel: SocketChannel) -> None:
        farewell = self._call_to(channel.rank, FAREWELL)
        if not _is_said(farewell):
            self._farewells.append(farewell)

    def _drop(self, channel: SocketChannel) -> None:
        self._troubled.discard(channel)
        channel.outgoing.close()
        self._stop_receiving(channel)

    def _hang_up(self) -> None:
        for channel in self._channels:
            self._drop(channel)
        for caller in tuple(self._strangers.values()):
            self._send_away(caller)
        for farewell in self._farewells:
            farewell.close()
        self._epoll.close()
        self._door.socket.close()


def _is_said(farewell: Dialing) -> bool:
    """Whether a rank has been told that it was given up, or cannot be."""
    try:
        answer = farewell.answered()
    except OSError:
        return True
    if answer is not None:
        answer.close()
    return answer is not None
