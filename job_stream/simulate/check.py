"""Runs a seed and compares what came out with the serial run."""

from __future__ import annotations

from collections import Counter

from .reference import serial
from .simulated_cluster import SimulatedCluster

__all__ = ["failure"]


def failure(seed: int, counts: Counter[str] | None = None) -> str | None:
    """What is wrong with the run of a seed; None: nothing."""
    cluster = SimulatedCluster(seed)
    try:
        found = cluster.run()
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    if counts is not None:
        counts += cluster.counts
    expected = sorted(serial(cluster.plan, 0, list(range(cluster.case.items))))
    if found == expected:
        return None
    what = found if isinstance(found, str) else f"{len(found)} results, expected {len(expected)}"
    return f"seed {seed}: {what}; replay it with: python -m job_stream.simulate --first {seed} --seeds 1"
