"""What a figure has to reach, and the verdict on it.

A budget names two bounds. `at_least` is the promise: a figure beyond it is MISSED. `aim` is where the figure should be.
Either may be left out. A budget is about the measured value itself, or, with `against`, about the ratio of job_stream's
value to the value that another contender had in the same run; ratios carry over from machine to machine, values don't.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """In which direction a metric improves."""

    HIGHER = "higher"
    LOWER = "lower"

    def reaches(self, figure: float, bound: float) -> bool:
        return figure >= bound if self is Better.HIGHER else figure <= bound

    @property
    def sign(self) -> str:
        return ">=" if self is Better.HIGHER else "<="


class Verdict(Enum):
    """How a figure stands to its budget."""

    AIM = "aim"
    REACHED = "reached"
    BELOW_AIM = "below aim"  # the budget has an aim only, so nothing was promised
    MISSED = "MISSED"
    UNKNOWN = "-"


@dataclass(frozen=True)
class Budget:
    """Bounds of one figure; `against` is the contender whose value the figure is a ratio to."""

    at_least: float | None = None
    aim: float | None = None
    against: str | None = None

    def figure(self, subject: float | None, others: Mapping[str, float]) -> float | None:
        """The number to judge: `subject`, or its ratio to the contender `against`; None when one is missing."""
        if subject is None or self.against is None:
            return subject
        other = others.get(self.against)
        return subject / other if other else None

    def judge(self, figure: float | None, better: Better) -> Verdict:
        if figure is None:
            return Verdict.UNKNOWN
        if self.at_least is not None and not better.reaches(figure, self.at_least):
            return Verdict.MISSED
        if self.aim is not None and better.reaches(figure, self.aim):
            return Verdict.AIM
        return Verdict.BELOW_AIM if self.at_least is None else Verdict.REACHED
