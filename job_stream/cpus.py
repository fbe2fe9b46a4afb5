"""How many CPUs this process may use: its affinity mask, and the quota of its control groups."""

from __future__ import annotations

import os

from .errors import PlanError

__all__ = ["hostCpuCount"]


def hostCpuCount() -> int:
    """CPUs for the lanes of this rank; the environment variable JOBS_CPUS overrides what is found.

    Raises:
        PlanError: JOBS_CPUS is not a number above 0.
    """
    wanted = os.environ.get("JOBS_CPUS")
    if wanted:
        if not wanted.isdigit() or int(wanted) < 1:
            raise PlanError(f"JOBS_CPUS must be a number of CPUs above 0, not {wanted!r}")
        return int(wanted)
    granted = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota("/sys/fs/cgroup", "/proc/self/cgroup")
    return max(1, granted if quota is None else min(granted, quota))


def _quota(root: str, membership: str) -> int | None:
    """CPUs granted by the control group (version 2) of this process and those around it; None: no limit."""
    try:
        with open(membership) as file:
            lines = file.read().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    folder, quotas = os.path.join(root, own.strip("/")), []
    while len(folder) >= len(root):
        quotas.append(_read(os.path.join(folder, "cpu.max")))
        folder = os.path.dirname(folder)
    return min((quota for quota in quotas if quota is not None), default=None)


def _read(path: str) -> int | None:
    try:
        with open(path) as file:
            quota, period = file.read().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))
