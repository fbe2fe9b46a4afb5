"""The machines that a script runs on."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from .cpus import CGROUP_MEMBERSHIP, CGROUP_ROOT, host_cpu_count, memory_bytes
from .transport import Peer
from .world import rank_of, size_of, world

__all__ = ["Host", "hosts_of_world", "names_of_hosts"]


class Host(NamedTuple):
    """A machine that runs ranks of this script.

    Attributes:
        name: as the machine calls itself.
        cpus: how many workers its ranks have together.
        memory: bytes that it has, or that a control group or batch system grants there.
        ranks: their numbers, from the lowest one.
    """

    name: str
    cpus: int
    memory: int
    ranks: tuple[int, ...]


def hosts_of_world() -> list[Host]:
    """The hosts of all ranks, in the order of their lowest ranks."""
    if size_of() == 1:
        memory = memory_bytes(CGROUP_ROOT, CGROUP_MEMBERSHIP)
        return [_host([(rank_of(), Peer(socket.gethostname(), host_cpu_count(), os.getpid(), memory))])]
    found: dict[str, list[tuple[int, Peer]]] = {}
    for rank, peer in enumerate(world().peers):
        found.setdefault(peer.host, []).append((rank, peer))
    return [_host(peers) for peers in found.values()]


def names_of_hosts() -> tuple[str, ...]:
    """The name of each rank's host."""
    return tuple(peer.host for peer in world().peers) if size_of() > 1 else (socket.gethostname(),)


def _host(peers: list[tuple[int, Peer]]) -> Host:
    first = peers[0][1]
    memory = min(peer.memory for _, peer in peers)
    return Host(first.host, sum(peer.cpus for _, peer in peers), memory, tuple(rank for rank, _ in peers))
