"""How many CPUs a process may use: its affinity mask, the quota of its control groups, and the other ranks on its host.

Each rank finds its own ``Grant``; the rules that share out a host are pure functions of the grants of all ranks, so
that every rank comes to the same answer.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ..ground.environment import CPUS, number_in

__all__ = [
    "CGROUP_MEMBERSHIP", "CGROUP_ROOT", "Grant", "host_cpu_count", "memory_bytes", "narrow_binding", "own_grant",
    "shared_out", "shares",
]  # fmt: skip

CGROUP_ROOT = "/sys/fs/cgroup"
CGROUP_MEMBERSHIP = "/proc/self/cgroup"


class Grant(NamedTuple):
    """What a rank finds out about its CPUs.

    Attributes:
        host: name of its machine.
        pid: its process.
        mask: CPUs it may run on.
        available: CPUs of the host that its user was given, bound or not.
        quota: CPUs' worth of time that its control groups grant; None: no limit.
        wanted: what JOBS_CPUS says; None: nothing.
        memory: bytes that its host has, or that its control groups grant.
    """

    host: str
    pid: int
    mask: frozenset[int]
    available: int
    quota: int | None
    wanted: int | None
    memory: int = 0


def host_cpu_count() -> int:
    """CPUs for the lanes of a process that is alone; the environment variable JOBS_CPUS overrides what is found.

    Raises:
        PlanError: JOBS_CPUS is not a number above 0.
    """
    return shares([own_grant()])[0]


def shared_out(total: int, shares: list[int]) -> tuple[int, ...]:
    """So many lanes for each rank that there are ``total`` of them, in proportion to the CPUs; one at least."""
    counts = [max(1, total * share // sum(shares)) for share in shares]
    for number in range(max(0, total - sum(counts))):
        counts[number % len(counts)] += 1
    return tuple(counts)


def own_grant() -> Grant:
    """The grant of this process.

    Raises:
        PlanError: JOBS_CPUS is not a number above 0.
    """
    return Grant(
        host=socket.gethostname(),
        pid=os.getpid(),
        mask=_mask(),
        available=_available(CGROUP_ROOT, CGROUP_MEMBERSHIP),
        quota=_quota(CGROUP_ROOT, CGROUP_MEMBERSHIP),
        wanted=CPUS.read(),
        memory=memory_bytes(CGROUP_ROOT, CGROUP_MEMBERSHIP),
    )


def shares(grants: Sequence[Grant]) -> tuple[int, ...]:
    """Lanes for each rank.

    JOBS_CPUS decides where it is set. Otherwise each CPU of a host goes to one of the ranks that may run on it, to the
    one with the fewest so far, and a quota is divided evenly. Every rank has one lane at least.
    """
    lanes = [1] * len(grants)
    for ranks in _hosts(grants).values():
        divided = _divide([grants[rank].mask for rank in ranks])
        for index, rank in enumerate(ranks):
            lanes[rank] = _lanes_of(grants[rank], divided[index], index, len(ranks))
    return tuple(lanes)


def _lanes_of(grant: Grant, divided: int, index: int, ranks: int) -> int:
    if grant.wanted is not None:
        return grant.wanted
    if grant.quota is not None:
        divided = min(divided, (grant.quota + ranks - 1 - index) // ranks)
    return max(1, divided)


def _divide(masks: Sequence[frozenset[int]]) -> list[int]:
    """How many CPUs each mask gets. Those that few may use are given out first, so that nobody goes short."""
    holders = {cpu: [i for i, mask in enumerate(masks) if cpu in mask] for cpu in frozenset().union(*masks)}
    counts = [0] * len(masks)
    for cpu in sorted(holders, key=lambda cpu: (len(holders[cpu]), cpu)):
        counts[min(holders[cpu], key=counts.__getitem__)] += 1
    return counts


def _hosts(grants: Sequence[Grant]) -> dict[str, list[int]]:
    """The ranks of each host."""
    hosts: dict[str, list[int]] = {}
    for rank, grant in enumerate(grants):
        hosts.setdefault(grant.host, []).append(rank)
    return hosts


def narrow_binding(grants: Sequence[Grant], option: str) -> str | None:
    """What to tell the user where a launcher has bound the ranks of a host to fewer CPUs than they could use.

    Args:
        grants: of all ranks.
        option: what to give to the launcher so that it doesn't.
    """
    narrow = [(host, bound) for host, ranks in _hosts(grants).items() if (bound := _bound([grants[r] for r in ranks]))]
    if not narrow:
        return None
    host, (used, usable) = narrow[0]
    more = f" (and {len(narrow) - 1} more hosts)" if len(narrow) > 1 else ""
    return (
        f"job_stream: the launcher has bound the ranks on {host}{more} to {used} of {usable} CPUs; to use them all, "
        f"start with {option}, or set {CPUS}={usable} to run as many lanes in each rank regardless"
    )


def _bound(grants: Sequence[Grant]) -> tuple[int, int] | None:
    """CPUs used and usable of one host where these differ without anybody having asked for it."""
    if any(grant.wanted is not None for grant in grants):
        return None
    used = len(frozenset().union(*(grant.mask for grant in grants)))
    usable = min(grant.available if grant.quota is None else min(grant.available, grant.quota) for grant in grants)
    return (used, usable) if used < usable else None


# what the system says ------------------------------------------------------------------------------------------------


def _mask() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _available(root: str, membership: str) -> int:
    """CPUs of this host that the user was given: by its control groups, and by Slurm where that has no such group."""
    counts = [os.cpu_count() or 1]
    for group in _groups(root, membership, "cpuset"):
        texts = (_text(os.path.join(folder, name)) for folder in group for name in _CPU_SETS)
        counts.append(_count_cpus(next(filter(None, texts), "")))
    counts.append(number_in(os.environ.get("SLURM_CPUS_ON_NODE", "")) or 0)
    return min(count for count in counts if count)


_CPU_SETS = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
"""Where a control group says which CPUs it has: in version 2, and in version 1."""


def _count_cpus(text: str) -> int:
    """How many CPUs a list such as ``0-3,8`` names."""
    ranges = [part.partition("-") for part in text.split(",") if part]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)


def _quota(root: str, membership: str) -> int | None:
    """CPUs granted by the control groups of this process and those around them; None: no limit."""
    folders = [folder for group in _groups(root, membership, "cpu") for folder in group]
    quotas = [*map(_cpu_max, folders), *map(_cfs_quota, folders)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _groups(root: str, membership: str, controller: str) -> Iterator[list[str]]:
    """The folders of each control group of this process, and of those around it.

    In version 2 a process has one group. In version 1 it has one for each controller, in a folder of that name; some
    controllers share a folder, ``cpu,cpuacct``. A container may see only part of the way to its group.
    """
    for line in (_text(membership) or "").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            yield _upwards(root, path)
        elif controller in controllers.split(","):
            yield from (_upwards(os.path.join(root, name), path) for name in {controllers, controller})


def memory_bytes(root: str, membership: str) -> int:
    """Memory of this host, or less where the control groups of this process, or those around it, grant less."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for group in _groups(root, membership, "memory"):
        texts = (_text(os.path.join(folder, name)) or "" for folder in group for name in _MEMORY_LIMITS)
        limits += [int(text) for text in texts if text.isdecimal()]
    return min(limits)


_MEMORY_LIMITS = ("memory.max", "memory.limit_in_bytes")
"""Where a control group says how much memory it has, or ``max``: in version 2, and in version 1."""


def _upwards(top: str, path: str) -> list[str]:
    """A folder and those around it, from the inmost one up to ``top``."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:  # the group lies outside of what can be seen here
        parts = []
    return [os.path.join(top, *parts[:count]) for count in range(len(parts), -1, -1)]


def _cpu_max(folder: str) -> int | None:
    quota, _, period = (_text(os.path.join(folder, "cpu.max")) or "").partition(" ")
    return _cpus(quota, period)


def _cfs_quota(folder: str) -> int | None:
    quota, period = (_text(os.path.join(folder, f"cpu.cfs_{name}_us")) or "" for name in ("quota", "period"))
    return _cpus(quota, period)


def _cpus(quota: str, period: str) -> int | None:
    """How many CPUs a quota of each period is, rounded up; None: there is no limit ("max", or -1)."""
    is_limit = quota.isdecimal() and period.isdecimal() and int(period) > 0
    return max(1, -(-int(quota) // int(period))) if is_limit else None


def _text(path: str) -> str | None:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None
