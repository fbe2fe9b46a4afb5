"""Whether a stream has checkpoints, as keywords and the environment say.

Every stream asks, and most have none. So what writes them is loaded by those that have. But not what answers signals:
it has to stand before the script's own exit functions, to be there as long as these are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import NoneType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from ..errors import PlanError
from ..ground.contexts import context
from ..ground.environment import CHECKPOINT
from ..ground.texts import shorten
from ..stream.checks import is_seconds
from ..stream.plan import Plan, ResultsUse
from .signals import handling_stop_signals, stop_at_once
from .stopping import TimeLimit

if TYPE_CHECKING:
    from .saver import Saver

__all__ = ["INTERVAL_S", "Checkpointing", "ignoring_stop_signals"]

INTERVAL_S = 600.0


class Checkpointing:
    """What the user wants.

    A file belongs to one stream while that runs. The system's lock keeps other processes from it, but not this one.

    Args:
        path: the checkpoint; None: what JOBS_CHECKPOINT says; False: none.
        interval_s: between two checkpoints.
        limit_s: of the run's time; None: what the environment says.

    Raises:
        PlanError: a number is not positive.
    """

    _running: ClassVar[dict[str, object]] = {}
    _ended: ClassVar[set[str]] = set()

    def __init__(
        self, path: str | os.PathLike[str] | Literal[False] | None, interval_s: float, limit_s: float | None
    ) -> None:
        check_seconds("checkpointInterval", interval_s)
        if limit_s is not None:
            check_seconds("timeLimit", limit_s)
        check_path(path)
        given = CHECKPOINT.read() if path is None else None if path is False else os.fsdecode(path)
        self.path = _whole(given) if given else None
        self.is_keyword = path is not None and path is not False
        if limit_s is not None and self.path is None:
            raise PlanError(f"timeLimit needs a checkpoint to go on from: give checkpointFile= or set {CHECKPOINT}")
        self._interval_s = float(interval_s)
        self._limit_s = None if limit_s is None else float(limit_s)

    @context
    def claimed(self) -> Iterator[None]:
        """Within, a stream runs, and has its checkpoint for itself.

        Raises:
            PlanError: another stream has it.
        """
        if self.path is None:
            yield
            return
        file, stream = os.path.realpath(self.path), object()
        if self._running.setdefault(file, stream) is not stream:
            raise PlanError(f"{self.path} is the checkpoint of another stream that runs in this process: {_OWN_FILES}")
        try:
            yield
            self._ended.add(file)
        finally:
            del self._running[file]

    def saver(self, plan: Plan, results: ResultsUse, post: Callable[[BaseException], object],
              wake: Callable[[], object]) -> Saver | None:  # fmt: skip
        """What writes the checkpoints; None: nobody wants any.

        Args:
            plan: the stream.
            results: what becomes of them.
            post: takes what is to end the run.
            wake: has the engine's thread look around.

        Raises:
            PlanError: a stream of this very process has ended with this checkpoint. That is no reason to end the
                script as if all of it had been done.
        """
        if self.path is None:
            return None
        saver = self._saver(self.path, plan, results, post, wake)
        if saver.ended is not None and os.path.realpath(self.path) in self._ended:
            raise PlanError(f"a stream of this process has ended with the checkpoint {self.path}: {_OWN_FILES}, or "
                            f"remove {self.path}.done to run it again")  # fmt: skip
        return saver

    def _saver(self, path: str, plan: Plan, results: ResultsUse, *reach: Callable[..., object]) -> Saver:
        from .saver import EngineThread, Saver

        with handling_stop_signals(stop_at_once):
            return Saver(path, self._interval_s, TimeLimit(self._limit_s), plan, results, EngineThread(*reach))


_OWN_FILES = "give each stream a checkpointFile= of its own"


def check_path(path: Any) -> None:
    if path is True or not isinstance(path, (str, bytes, os.PathLike, bool, NoneType)):
        raise PlanError(f"checkpointFile must be a path, None or False, not {shorten(path, 80)}")


def check_seconds(name: str, value: Any) -> None:
    if not is_seconds(value):
        raise PlanError(f"{name} must be a number of seconds above 0, not {value!r}")


def _whole(path: str) -> str:
    """The same file, wherever the script goes."""
    return path if os.path.isabs(path) else os.path.join(os.getcwd(), path)


def ignoring_stop_signals() -> AbstractContextManager[None]:
    """Within, a rank other than the primary stays when it is asked to end, since the primary has to save first."""
    return handling_stop_signals(lambda number, frame: None)
