"""When a combination has had enough trials: a pure rule, and the books of its trials.

The rule is that of Driels and Shin, "Determining the number of iterations for Monte Carlo simulations of weapon
effectiveness" (2004): n trials are enough when n >= (t s / err)^2, with s the sample deviation, t Student's quantile
for n - 1 degrees of freedom, and err the half width that the interval of the mean may have.

Trials end in any order, but are counted in the order of their numbers: what has overtaken others waits. So which trials
there are does not depend on who was faster, a sweep with a seed gives the same table each time, and trials that end
soon have no better chance to be counted than others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import ceil, inf, isfinite, isnan, nan, sqrt
from typing import NamedTuple

__all__ = ["CONFIDENCE", "Moments", "OtherKeys", "Rule", "Trials", "difference_of", "first_trials", "quantile"]

CONFIDENCE = 0.95
SMALL = 15
"""Up to so many trials one more than the rule asks for is made, since their deviation is so uncertain."""


@lru_cache(maxsize=1 << 14)
def quantile(freedom: int) -> float:
    """Student's t for a two-sided interval of 95 % with so many degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + CONFIDENCE) / 2))


class Moments:
    """Number, mean and deviation of values that come one by one.

    Source: Welford, "Note on a method for calculating corrected sums of squares and products" (1962); for ``merge``,
    Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances" (1979).
    """

    __slots__ = ("count", "mean", "squares")

    def __init__(self, count: int = 0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.count = count
        self.mean = mean
        self.squares = squares

    def add(self, value: float) -> None:
        self.count += 1
        before, self.mean = self.mean, _nearer(self.mean, value, self.count)
        self.squares += (value - before) * (value - self.mean)

    def merge(self, other: Moments) -> None:
        """Takes in all values of another."""
        if not other.count:
            return
        count = self.count + other.count
        delta = other.mean - self.mean
        self.mean = _nearer(self.mean, other.mean, count / other.count)
        self.squares += other.squares + delta * delta * self.count * other.count / count
        self.count = count

    @property
    def deviation(self) -> float:
        """The sample deviation; NaN for less than two values."""
        return sqrt(self.squares / (self.count - 1)) if self.count > 1 else nan

    @property
    def half_width(self) -> float:
        """Of the 95 % confidence interval of the mean; NaN for less than two values."""
        return quantile(self.count - 1) * self.deviation / sqrt(self.count) if self.count > 1 else nan


def _nearer(mean: float, other: float, steps: float) -> float:
    """The mean after the first of so many steps to another number, from which it may be infinitely far away."""
    distance = other - mean
    return mean + distance / steps if isfinite(distance) else mean * (1 - 1 / steps) + other / steps


class Rule(NamedTuple):
    """How many trials are enough.

    Attributes:
        relative: half width of a mean's interval that is small enough, as a part of the mean.
        absolute: the same in the unit of the value; the wider of the two counts.
        least: trials that are made in any case.
        most: trials that are never exceeded.
    """

    relative: float = 0.1
    absolute: float = 0.01
    least: int = 3
    most: int = 10_000

    def needed(self, values: Mapping[str, Moments]) -> int:
        """How many trials are needed, as far as can be told now."""
        wanted = max((self._wanted(moments) for moments in values.values()), default=0)
        return int(min(max(wanted, self.least), self.most))

    def _wanted(self, moments: Moments) -> float:
        """The trials that one value asks for. What is not a number asks for none, as it would never be satisfied."""
        if not isfinite(moments.mean):
            return 0
        if moments.count < 2:
            return 2
        spread = quantile(moments.count - 1) * moments.deviation
        if isnan(spread):
            return 0
        error = max(self.relative * abs(moments.mean), self.absolute)
        ratio = spread / error if error else inf if spread else 0.0
        if ratio >= self.most:
            return self.most
        return ceil(ratio**2) + (moments.count <= SMALL)


def first_trials(rule: Rule, cpus: int, combinations: int) -> int:
    """With how many trials a combination begins."""
    return min(rule.most, max(rule.least, cpus // combinations))


class OtherKeys(ValueError):
    """A trial has other keys than those before it.

    Attributes:
        number: of the trial.
        difference: in words.
    """

    def __init__(self, number: int, difference: str) -> None:
        super().__init__(number, difference)
        self.number = number
        self.difference = difference


def difference_of(found: Iterable[str], known: Iterable[str]) -> str:
    """How the keys of a result differ from those that are known; nothing where they are the same."""
    found, known = list(found), list(known)
    changes = [f"lacks {name!r}" for name in known if name not in found]
    changes += [f"has a new {name!r}" for name in found if name not in known]
    return " and ".join(changes)


class Trials:
    """The trials of one combination: what came of them, and which are to be begun.

    Trials of an earlier run are taken in before any is begun. The rule looks at them one after the other, too, as it
    may have asked for more than it asks for in the end: so both runs together make the trials that one would make.

    Args:
        rule: when they are enough.
        first: with how many to begin.

    Attributes:
        values: number, mean and deviation of each value.
        counted: trials that have been taken in; those with a lower number have been, too.
        lost: those among them that failed and were skipped.
    """

    def __init__(self, rule: Rule, first: int) -> None:
        self.values: dict[str, Moments] = {}
        self.counted = 0
        self.lost = 0
        self._rule = rule
        self._early: dict[int, Mapping[str, float] | None] = {}
        self._first = first
        self._begun = 0
        self._goal = first

    def take(self, number: int, values: Mapping[str, float] | None) -> None:
        """Takes in what came of a trial, of an earlier run maybe; None: it failed and was skipped.

        Raises:
            OtherKeys: a trial has other keys than those with lower numbers. It is the same one whichever ended first.
        """
        self._early[number] = values
        self._goal = max(self._goal, number + 1)  # so that what is missing before a trial of an earlier run is made
        while self.counted in self._early:
            self._count(self.counted, self._early.pop(self.counted))
            self._goal = max(self._goal, self._aim())

    def due(self) -> list[int]:
        """The numbers of the trials to begin now; each is told once."""
        begin = max(self._begun, self.counted)
        self._begun = max(begin, self._goal)
        return [number for number in range(begin, self._goal) if number not in self._early]

    @property
    def needed(self) -> int:
        """How many trials there will be, as far as can be told now."""
        if not self.counted:
            return max(self._rule.least, self._first)
        if self.counted == self.lost:
            return self.counted
        return min(self._rule.needed(self.values) + self.lost, self._rule.most)

    def _count(self, number: int, values: Mapping[str, float] | None) -> None:
        self.counted += 1
        if values is None:
            self.lost += 1
            return
        if self.values and (difference := difference_of(values, self.values)):
            raise OtherKeys(number, difference)
        for name, value in values.items():
            self.values.setdefault(name, Moments()).add(value)

    def _aim(self) -> int:
        """The number before which all trials may be begun.

        An estimate from few trials may be far too large. So the rule is not asked before the least number is there; at
        most as many as are known are begun at once, and no more than half of what is missing.
        """
        if self.counted < self._rule.least:
            return self._first
        needed = self.needed
        ahead = max(self._first, min(self.counted, (needed - self.counted) // 2))
        return min(needed, self.counted + ahead)
