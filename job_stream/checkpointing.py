"""Whether a stream has checkpoints, as keywords and the environment say."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any

from .errors import PlanError
from .plan import Plan
from .recorder import isSeconds
from .saver import Saver
from .signals import answering, standBy, stopAtOnce
from .stopping import TimeLimit

__all__ = ["INTERVAL_S", "Checkpointing", "deaf"]

INTERVAL_S = 600.0


class Checkpointing:
    """What the user wants.

    Args:
        path: the checkpoint; None: what JOBS_CHECKPOINT says.
        interval_s: between two checkpoints.
        limit_s: of the run's time; None: what the environment says.

    Raises:
        PlanError: a number is not positive.
    """

    _claimed = False

    def __init__(self, path: str | os.PathLike[str] | None, interval_s: float, limit_s: float | None) -> None:
        checkSeconds("checkpointInterval", interval_s)
        if limit_s is not None:
            checkSeconds("timeLimit", limit_s)
        given = os.fsdecode(path) if path is not None else os.environ.get("JOBS_CHECKPOINT")
        self.path = _whole(given) if given else None
        self.isKeyword = path is not None
        if limit_s is not None and self.path is None:
            raise PlanError("timeLimit needs a checkpoint to go on from: give checkpointFile= or set JOBS_CHECKPOINT")
        self._interval_s = float(interval_s)
        self._limit_s = None if limit_s is None else float(limit_s)
        if self.path is not None:
            standBy()

    def claim(self) -> None:
        """Makes sure that no other stream of this script has checkpoints, too.

        Raises:
            PlanError: one has.
        """
        if self.path is None:
            return
        if Checkpointing._claimed:
            raise PlanError(
                "Cannot run more than one stream with checkpoints in a script, since a checkpoint belongs to one: "
                "give checkpointFile= to the one that takes long, and unset JOBS_CHECKPOINT"
            )
        Checkpointing._claimed = True

    def saver(self, plan: Plan, journal: str) -> Saver | None:
        """What writes the checkpoints; None: nobody wants any."""
        if self.path is None:
            return None
        with answering(stopAtOnce):
            return Saver(self.path, self._interval_s, TimeLimit(self._limit_s), plan, journal)


def checkSeconds(name: str, value: Any) -> None:
    if not isSeconds(value):
        raise PlanError(f"{name} must be a number of seconds above 0, not {value!r}")


def _whole(path: str) -> str:
    """The same file, wherever the script goes."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def deaf() -> AbstractContextManager[None]:
    """Within, a rank other than the primary stays when it is asked to end, since the primary has to save first."""
    return answering(lambda number, frame: None)
