"""How many CPUs this process may use: its affinity mask, and the quota of its control groups."""

from __future__ import annotations

import os
from pathlib import Path

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
    quota = _quota(Path("/sys/fs/cgroup"), Path("/proc/self/cgroup"))
    return max(1, granted if quota is None else min(granted, quota))


def _quota(root: Path, membership: Path) -> int | None:
    """CPUs granted by the control group (version 2) of this process and those around it; None: no limit."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None:
        return None
    folder, quotas = root / own.lstrip("/"), []
    while folder.is_relative_to(root):
        quotas.append(_read(folder / "cpu.max"))
        folder = folder.parent
    return min((quota for quota in quotas if quota is not None), default=None)


def _read(path: Path) -> int | None:
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, -(-int(quota) // int(period)))
