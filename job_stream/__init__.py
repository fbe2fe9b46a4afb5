"""Inline, decorator-based data flow over all cores, written in the order in which it runs.

Public names: ``Work``, ``map``, ``Args``, ``Multiple``, ``Object``, ``rng``, ``getRank``, ``getCpuCount``,
``getHostCpuCount``; exceptions are in ``job_stream.errors``.
"""

from __future__ import annotations

from . import common, errors
from .inline import Args, Multiple, Object, Work, getCpuCount, getHostCpuCount, getRank, map, rng

__version__ = "0.1.0"
__all__ = [
    "Args", "Multiple", "Object", "Work", "common", "errors", "getCpuCount", "getHostCpuCount", "getRank", "map", "rng",
]  # fmt: skip
