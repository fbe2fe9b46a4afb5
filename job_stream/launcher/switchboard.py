"""The launcher's connections to the ushers at the ranks: how programs ended comes in, signals go out.

Only who knows the token of this run is listened to; it travels in the environment of the ranks. Others who call are
strangers for as long as they have not said it: few of them at once, for some seconds, and for a line at most.
"""

from __future__ import annotations

import secrets
import selectors
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from ..ground.environment import LAUNCHER
from .usher import NOTED, WELCOME, keep_watch
from .verdict import End

__all__ = ["Switchboard", "addresses_towards"]

MAX_LINE_BYTES = 4096
MAX_STRANGERS = 64
"""Connections that have not said hello yet; with so many, who calls next waits until one has, or is hung up on."""
STRANGE_S = 5.0
MAX_LOOKUPS = 8
"""Hosts that are looked up to find the addresses by which they can reach this machine: it has few networks."""
LOOPBACK = "127.0.0.1"
SOMEWHERE = "192.0.2.1"
"""An address that is nobody's (RFC 5737): the way there is the way to where no other is known."""


class _Link:
    """A connection to one usher; ``name`` is known when it has said hello."""

    def __init__(self, link: socket.socket) -> None:
        self.link = link
        self.since = monotonic()
        self.text = b""
        self.name: End | None = None
        self.has_ended = False


class Switchboard:
    """Connections to all ushers of a run.

    Args:
        selector: told what to wait for; who selects calls the ``data`` of each key.
        addresses: of this machine, as the ranks see it.
    """

    def __init__(self, selector: selectors.BaseSelector, addresses: Sequence[str]) -> None:
        self._selector = selector
        self._addresses = addresses
        self._token = secrets.token_hex(16)
        self._server = _server(addresses)
        self._server.setblocking(False)
        self._links: set[_Link] = set()
        self._strangers: dict[_Link, None] = {}
        self._is_open = False
        self.ends: list[End] = []
        self.started = 0
        self._open_or_shut()

    @property
    def environment(self) -> dict[str, str]:
        """What tells ushers where to call."""
        port = self._server.getsockname()[1]
        return {LAUNCHER.name: " ".join([str(port), self._token, *self._addresses])}

    @property
    def running(self) -> int:
        """Ranks whose program runs."""
        return sum(not link.has_ended for link in self._known())

    @property
    def connected(self) -> int:
        """Ranks whose usher is there."""
        return len(self._known())

    def _known(self) -> list[_Link]:
        return [link for link in self._links if link.name is not None]

    def signal(self, number: int) -> None:
        """Has a signal sent to the program of each rank."""
        for link in self._known():
            with suppress(OSError):
                link.link.sendall(f"signal {number}\n".encode())

    def hang_up(self) -> None:
        """Ends all connections; programs that still run are lost, and ended by their ushers."""
        for link in list(self._links):
            self._lose(link)

    def close(self) -> None:
        """Hangs up, and listens no more."""
        self.hang_up()
        if self._is_open:
            self._selector.unregister(self._server)
        self._server.close()

    def poll_policy(self) -> float | None:
        """Seconds until somebody is to be hung up on; None: there are no strangers."""
        first = next(iter(self._strangers), None)
        return None if first is None else max(0.0, first.since + STRANGE_S - monotonic())

    def hang_up_on_strangers(self) -> None:
        """Ends connections that have not said hello in time."""
        while self.poll_policy() == 0:
            self._hang_up(next(iter(self._strangers)))

    def _open_or_shut(self) -> None:
        """Takes calls, or lets them wait while there are too many strangers."""
        is_open = len(self._strangers) < MAX_STRANGERS
        if is_open and not self._is_open:
            self._selector.register(self._server, selectors.EVENT_READ, self._accept)
        elif self._is_open and not is_open:
            self._selector.unregister(self._server)
        self._is_open = is_open

    def _accept(self) -> None:
        with suppress(OSError):
            connection, _ = self._server.accept()
            connection.setblocking(False)
            keep_watch(connection)
            link = _Link(connection)
            self._links.add(link)
            self._strangers[link] = None
            self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(link))
            self._open_or_shut()

    def _read(self, link: _Link) -> None:
        try:
            data = link.link.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(link)
            return
        *lines, link.text = (link.text + data).split(b"\n")
        if len(link.text) > MAX_LINE_BYTES or not all(self._take(link, line) for line in lines):
            self._hang_up(link)

    def _take(self, link: _Link, line: bytes) -> bool:
        """Notes what an usher says; whether it made sense."""
        match line.decode(errors="replace").split():
            case ["hello", token, rank, host, pid] if secrets.compare_digest(token.encode(), self._token.encode()):
                link.name = End(int(rank), None, host, int(pid))
                self.started += 1
                self._strangers.pop(link, None)
                self._open_or_shut()
                with suppress(OSError):
                    link.link.sendall(WELCOME)
                return True
            case ["joined"] if link.name is not None and not link.has_ended:
                link.name = link.name._replace(joined=True)
                return True
            case ["end", status] if link.name is not None and not link.has_ended:
                link.has_ended = True
                self.ends.append(link.name._replace(status=int(status)))
                with suppress(OSError):
                    link.link.sendall(NOTED)
                return True
        return False

    def _lose(self, link: _Link) -> None:
        if link.name is not None and not link.has_ended:
            self.ends.append(link.name)
        self._hang_up(link)

    def _hang_up(self, link: _Link) -> None:
        self._links.discard(link)
        self._strangers.pop(link, None)
        self._selector.unregister(link.link)
        link.link.close()
        self._open_or_shut()


def _server(addresses: Sequence[str]) -> socket.socket:
    if list(addresses) == [LOOPBACK]:
        return socket.create_server((LOOPBACK, 0))
    if socket.has_dualstack_ipv6():
        with suppress(OSError):
            return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def addresses_towards(hosts: Iterable[str]) -> list[str]:
    """Addresses of this machine on the ways to some hosts, to everywhere else, and that of its own name."""
    names = [*list(hosts)[:MAX_LOOKUPS], SOMEWHERE, socket.gethostname()]
    found = dict.fromkeys(address for name in names for address in _address_towards(name))
    beyond = [address for address in found if not address.startswith("127.") and address != "::1"]
    return beyond or [LOOPBACK]


def _address_towards(host: str) -> list[str]:
    """This machine's address on the way to a host; nothing is sent."""
    with suppress(OSError):
        for family, kind, protocol, _, target in _look_up(host):
            with suppress(OSError), socket.socket(family, kind, protocol) as probe:
                probe.connect(target)
                return [probe.getsockname()[0]]
    return []


def _look_up(host: str) -> Any:
    return socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
