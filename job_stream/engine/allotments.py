"""Work that needs a certain host, or several cores: the primary gives it to a rank that has them.

All such work comes home to rank 0, which alone knows what is free where, and goes from there to the rank that does it;
that lends it on to nobody. What waits is sorted by what it needs, so an event costs no more where much of it waits.

**Whose turn it is.** Who has come first is served first. A piece for which no host has room now *reserves* the one of
its hosts with most cores free: nothing that came later begins there until the piece fits. So a large one waits for as
long as what runs there already, and for nothing else; what needs another host goes past it meanwhile.
"""

from __future__ import annotations

from collections import defaultdict, deque
from heapq import heapify, heappop, heappush

from .ledger import Piece
from .messages import ANYWHERE, PRIMARY

__all__ = ["Allotments", "cores_of", "needs_of"]

Needs = tuple[str, int]
"""A host and a number of its cores."""


class Allotments:
    """What waits at rank 0 for a host, and what hosts have been given.

    Args:
        hosts_of: the name of each rank's host.
        lanes_of: how many lanes each rank has.
    """

    def __init__(self, hosts_of: tuple[str, ...], lanes_of: tuple[int, ...]) -> None:
        self._hosts_of = hosts_of
        self._lanes = list(lanes_of)
        self._ranks: dict[str, list[int]] = defaultdict(list)
        self._free: dict[str, int] = defaultdict(int)
        self._cores: dict[str, int] = defaultdict(int)
        for rank, (host, lanes) in enumerate(zip(hosts_of, lanes_of, strict=True)):
            self._ranks[host].append(rank)
            self._free[host] += lanes
            self._cores[host] += lanes
        self._waiting: dict[Needs, deque[tuple[int, Piece]]] = {}
        self._given: dict[Piece, int] = {}
        self._first = self._last = 0
        self._has_changed = False

    def __len__(self) -> int:
        """How many pieces wait."""
        return sum(map(len, self._waiting.values()))

    @property
    def pieces(self) -> list[Piece]:
        """All that wait, those that have come first before others."""
        return [piece for _, piece in sorted((entry for queue in self._waiting.values() for entry in queue), key=_turn)]

    def push(self, piece: Piece) -> None:
        """A piece waits for its turn; one that has come back from a rank that was given it is the next."""
        queue = self._waiting.setdefault(needs_of(piece), deque())
        if piece in self._given:
            self.release(piece)
            self._first -= 1
            queue.appendleft((self._first, piece))
        else:
            self._last += 1
            queue.append((self._last, piece))
        self._has_changed = True

    def keep(self, piece: Piece, rank: int) -> None:
        """A piece takes up what it needs of a rank and its host."""
        self._given[piece] = rank
        self._lanes[rank] -= 1
        self._free[self._hosts_of[rank]] -= cores_of(piece)

    def release(self, piece: Piece) -> None:
        """A piece is done, or will be done by others: what it had needed is free."""
        rank = self._given.pop(piece, None)
        if rank is not None:
            self._lanes[rank] += 1
            self._free[self._hosts_of[rank]] += cores_of(piece)
            self._has_changed = True

    def lost(self, rank: int) -> None:
        """A rank has died; what it had been given has come back already."""
        host, lanes = self._hosts_of[rank], self._lanes[rank]
        if rank in self._ranks[host]:
            self._ranks[host].remove(rank)
            self._free[host] -= lanes
            self._cores[host] -= lanes
            self._has_changed = True

    def refusal(self, needs: Needs) -> str:
        """Why there is no host for such a piece, and will be none; empty: there is."""
        if self._possible(needs):
            return ""
        host, cores = needs
        if host not in (ANYWHERE, PRIMARY, *self._hosts_of):
            return f"it is for the host {host!r}, of which this stream has no rank: {', '.join(map(repr, self._known))}"
        if host not in (ANYWHERE, PRIMARY) and not self._ranks[host]:
            return f"it is for the host {host!r}, which is lost"
        names = {ANYWHERE: self._known, PRIMARY: [self._hosts_of[0]]}.get(host, [host])
        most = max(self._cores[name] for name in names)
        whose = "no host has" if host == ANYWHERE else "its host has not"
        return f"it needs {cores} cores, and {whose} more than {most}"

    @property
    def _known(self) -> list[str]:
        return list(dict.fromkeys(self._hosts_of))

    def take_refused(self) -> list[tuple[Piece, str]]:
        """The pieces for which there is no host any more, and why; they wait no longer."""
        refused = [(needs, reason) for needs in self._waiting if (reason := self.refusal(needs))]
        return [(piece, reason) for needs, reason in refused for _, piece in self._waiting.pop(needs)]

    # serving ----------------------------------------------------------------------------------------------------------

    def serve(self) -> list[tuple[int, Piece]]:
        """What is to be done now, each piece with the rank that it is for."""
        if not self._has_changed:
            return []
        self._has_changed = False
        served: list[tuple[int, Piece]] = []
        reserved: set[str] = set()
        turns = [(queue[0][0], needs) for needs, queue in self._waiting.items()]
        heapify(turns)
        while turns and any(self._free[host] > 0 for host in self._ranks if host not in reserved):
            _, needs = heappop(turns)
            rank = self._rank_for(needs, reserved)
            if rank is None:
                continue  # for now
            piece = self._pop(needs)
            self.keep(piece, rank)
            served.append((rank, piece))
            if needs in self._waiting:
                heappush(turns, (self._waiting[needs][0][0], needs))
        return served

    def _pop(self, needs: Needs) -> Piece:
        queue = self._waiting[needs]
        _, piece = queue.popleft()
        if not queue:
            del self._waiting[needs]
        return piece

    def _rank_for(self, needs: Needs, reserved: set[str]) -> int | None:
        """A rank that may begin now; if there is none for want of cores, a host is reserved."""
        ranks = [rank for rank in self._possible(needs) if self._hosts_of[rank] not in reserved]
        roomy = [rank for rank in ranks if self._free[self._hosts_of[rank]] >= needs[1]]
        fitting = [rank for rank in roomy if self._lanes[rank] > 0]
        if fitting:
            return max(fitting, key=lambda rank: (self._free[self._hosts_of[rank]], self._lanes[rank], -rank))
        if ranks and not roomy:
            reserved.add(max((self._hosts_of[rank] for rank in ranks), key=lambda host: self._free[host]))
        return None

    def _possible(self, needs: Needs) -> list[int]:
        """The ranks that could do such a piece some time."""
        host, cores = needs
        if host == PRIMARY:
            ranks = [0]
        elif host == ANYWHERE:
            ranks = [rank for ranks in self._ranks.values() for rank in ranks]
        else:
            ranks = self._ranks.get(host, [])
        return [rank for rank in ranks if self._cores[self._hosts_of[rank]] >= cores]


def needs_of(piece: Piece) -> Needs:
    """What a piece needs; one that came from before anybody was asked needs any core."""
    return piece.work.needs or (ANYWHERE, 1)


def cores_of(piece: Piece) -> int:
    """How many cores a piece needs."""
    return needs_of(piece)[1]


def _turn(entry: tuple[int, Piece]) -> int:
    return entry[0]
