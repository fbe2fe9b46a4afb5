"""Every exception of job_stream.

Whose fault it is shows in the class: ``PlanError`` is a mistake in how a stream was written, ``StageError`` and its
children are failures of user code while the stream ran, ``WorldError`` is trouble with MPI or its launcher,
``LimitError`` is a limit of the system that the run has met, ``EngineError`` is a mistake of job_stream itself.
``BuildError`` and its children are about builds (``job_stream.baked.build``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "BuildError", "CheckpointError", "CycleError", "EngineError", "GraphError", "JobContractError", "JobDied",
    "JobStreamError", "JobTimeout", "LaneDied", "LimitError", "PayloadError", "PipelineError", "PlanError",
    "ProgramError", "StageError", "StageTimeout", "WorldError",
]  # fmt: skip


class JobStreamError(Exception):
    """The base of every exception that job_stream defines."""


class PlanError(JobStreamError):
    """The stream is put together wrongly; raised at the call that made the mistake."""


class EngineError(JobStreamError):
    """job_stream broke one of its own rules. Please report it with the text of the error."""


class LimitError(JobStreamError):
    """The system refuses what a run needs, such as another process or an open file; names the limit."""


class PayloadError(JobStreamError):
    """A value cannot travel between processes because it cannot be pickled."""


class WorldError(JobStreamError):
    """The ranks of a run cannot find or reach each other: MPI is missing, does not fit the launcher, or failed."""


class CheckpointError(JobStreamError):
    """A checkpoint cannot be used, or cannot be written where it is to be; says why, and what to do about it."""


class ProgramError(JobStreamError, RuntimeError):
    """An external program that ``invoke`` was to run cannot be run, or failed.

    Attributes:
        code: its exit code; the number of the signal that killed it, negative; None if it did not run.
    """

    code: int | None = None


class StageError(JobStreamError):
    """User code failed in a stage.

    It is the ``__cause__`` of the user's own exception where that could be brought back, and is raised itself where
    it could not.

    Args:
        stage: name of the function that failed.
        item: shortened ``repr`` of the item it was given.
        traceback: the traceback in the process where it happened, or what is known instead (a signal, a time-out).
        pid: process that ran the stage.
        host: machine that ran the stage.
        rank: number of the rank that ran it; None where there is only one.
    """

    def __init__(
        self, stage: str, item: str, traceback: str, pid: int = 0, host: str = "", rank: int | None = None
    ) -> None:
        super().__init__(stage, item, traceback, pid, host, rank)
        self.stage = stage
        self.item = item
        self.traceback = traceback
        self.pid = pid
        self.host = host
        self.rank = rank

    def __str__(self) -> str:
        rank = "" if self.rank is None else f"rank {self.rank}, "
        where = f" ({rank}process {self.pid} on {self.host})" if self.pid else ""
        return f"{self.traceback.rstrip()}\nWhile processing work with target: {self.stage}{where}\nItem: {self.item}"


class LaneDied(StageError):
    """A worker process died each time it was given this item."""


class StageTimeout(StageError):
    """A call took longer than its ``timeout``."""


class BuildError(JobStreamError):
    """A build is put together wrongly, or cannot be run where it is; names the job, the place and the way out."""


class CycleError(BuildError):
    """Jobs need each other in a circle; all of them are named, in order."""


class JobContractError(BuildError):
    """A job has not done what it was declared to do: files are missing or empty, or it has changed other jobs."""


class JobDied(BuildError):
    """The process of a job has ended without a word.

    Args:
        text: what happened, in words.
        exitCode: of its process; None: a signal has ended it.
        signal: the name of that signal, such as 'SIGKILL'; None: it has ended by itself.
    """

    def __init__(self, text: str, exitCode: int | None = None, signal: str | None = None) -> None:
        super().__init__(text, exitCode, signal)
        self.exitCode = exitCode
        self.signal = signal

    def __str__(self) -> str:
        return str(self.args[0])


class JobTimeout(BuildError):
    """A job took longer than its ``timeout``, so it was ended, with all that it had started."""


class GraphError(BuildError):
    """Jobs of a build have failed; the text says which, why they ran, and where their logs are.

    Args:
        text: all of that.
        failures: the exception of each job that failed, by its id.
    """

    def __init__(self, text: str, failures: Mapping[str, BaseException]) -> None:
        super().__init__(text, failures)
        self.failures = dict(failures)

    def __str__(self) -> str:
        return str(self.args[0])


class PipelineError(BuildError):
    """A job in YAML, its modules or its inputs are wrong; nothing has run.

    Args:
        problems: all that is wrong; each has ``file``, ``line``, ``key``, ``what`` and ``way_out``, and as text is a
            line ``FILE:LINE: what; way out``.
    """

    def __init__(self, problems: Sequence[Any]) -> None:
        super().__init__(problems)
        self.problems = list(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
