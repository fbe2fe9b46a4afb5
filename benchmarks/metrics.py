"""What is made of a reading: a metric turns the reading of a run, and the work done in it, into the value in the table.

A reading is whatever a contender measures, mostly wall seconds. Since the work is the contender's own, a slow tool may
do less of it and is still comparable.
"""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.budgets import Better


@dataclass(frozen=True)
class Metric:
    """A named value with its unit; `convert(reading, work)` computes it."""

    name: str
    unit: str
    better: Better
    convert: Callable[[float, float], float]


def rate(name: str, unit: str, scale: float = 1.0) -> Metric:
    """Work per unit of the reading, in multiples of `scale`; more is better."""
    return Metric(name, unit, Better.HIGHER, lambda reading, work: work / reading / scale)


def cost(name: str, unit: str, scale: float = 1.0) -> Metric:
    """The reading per unit of work, in multiples of `scale`; less is better."""
    return Metric(name, unit, Better.LOWER, lambda reading, work: reading / work / scale)


def efficiency(workers: int) -> Metric:
    """The share of the workers' time that went into tasks; the work is the tasks' own time in seconds."""
    return Metric("efficiency", "%", Better.HIGHER, lambda reading, work: 100 * work / (reading * workers))
