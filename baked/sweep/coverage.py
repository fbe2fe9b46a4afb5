"""How often the interval of a sweep covers the true mean: ``python -m job_stream.baked.sweep.coverage``.

Sweeps of one combination are repeated with fixed seeds, with the very rule and books that sweeps use, but without any
process. The rule looks at the deviation after every trial and stops as soon as it is satisfied; so it tends to stop
when the deviation happens to look small. What that costs is what is measured here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from .rules import Rule, Trials

__all__ = ["Coverage", "Variable", "main", "measured"]

BATCH = 256


class Variable(NamedTuple):
    """A random variable. ``draw(generator, count)`` gives so many of its values."""

    name: str
    mean: float
    draw: Callable[[Any, int], Any]


VARIABLES = (
    Variable("normal, mean 1, deviation 0.5", 1.0, lambda generator, count: generator.normal(1.0, 0.5, count)),
    Variable("normal, mean 1, deviation 0.1", 1.0, lambda generator, count: generator.normal(1.0, 0.1, count)),
    Variable("exponential, mean 1", 1.0, lambda generator, count: generator.exponential(1.0, count)),
    Variable("Bernoulli, mean 0.1", 0.1, lambda generator, count: generator.random(count) < 0.1),
)
RULES = (Rule(), Rule(least=10), Rule(least=30), Rule(least=100))


class Coverage(NamedTuple):
    """What was found out.

    Attributes:
        covered: part of the sweeps whose interval held the true mean.
        trials: made on the average.
    """

    covered: float
    trials: float


def measured(variable: Variable, rule: Rule, sweeps: int, seed: int = 0) -> Coverage:
    """Repeats a sweep of one combination; sweep number i draws its numbers from ``(seed, i)``."""
    from numpy.random import default_rng

    covered = trials = 0
    for number in range(sweeps):
        moments = _sweep(rule, _values(variable, default_rng([seed, number]))).values["value"]
        covered += abs(moments.mean - variable.mean) <= moments.half_width
        trials += moments.count
    return Coverage(covered / sweeps, trials / sweeps)


def _values(variable: Variable, generator: Any) -> Iterator[float]:
    while True:
        yield from map(float, variable.draw(generator, BATCH))


def _sweep(rule: Rule, values: Iterator[float]) -> Trials:
    """One sweep; in which order its trials end makes no difference."""
    trials = Trials(rule, rule.least)
    while due := trials.due():
        for number in due:
            trials.take(number, {"value": next(values)})
    return trials


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m job_stream.baked.sweep.coverage", description=__doc__)
    parser.add_argument("--sweeps", type=int, default=1000, help="how often each sweep is repeated (1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers (0)")
    chosen = parser.parse_args(arguments)
    for variable in VARIABLES:
        print(variable.name)
        for rule in RULES:
            found = measured(variable, rule, chosen.sweeps, chosen.seed)
            print(f"    min = {rule.least:<4} covered {found.covered:6.1%}   trials {found.trials:8.1f}", flush=True)


if __name__ == "__main__":
    main()
