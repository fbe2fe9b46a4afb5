"""How far a job is, in terms of steps and entries, for whoever asked to be told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .job_parts import JobEntry, JobStep

__all__ = ["PipelineUpdate", "Progress", "ProgressTeller"]


class PipelineUpdate(NamedTuple):
    """What ``progress`` is called with.

    Attributes:
        job_id: the id of the run.
        current_step: from 1 on.
        entry: 'step/module'; None where a step begins.
        state: 'running', 'made', 'kept', 'failed' or 'blocked'.
        seconds: how long the entry took.
    """

    job_id: str
    current_step: int
    total_steps: int
    step_name: str
    entry: str | None
    state: str
    seconds: float


Progress = Callable[[PipelineUpdate], object]


class ProgressTeller:
    """Takes what a build tells of its jobs, and tells it of entries.

    Args:
        run_id: of the run.
        steps: of the job.
        entries: by the ids of the build's jobs.
        begun: called once, before all else.
        progress: called with each update, if anybody wants to know.
    """

    def __init__(
        self, run_id: str, steps: Sequence[JobStep], entries: Mapping[str, JobEntry], begun: Callable[[], object],
        progress: Progress | None,
    ) -> None:  # fmt: skip
        self._id = run_id
        self._steps = steps
        self._entries = entries
        self._begun = begun
        self._progress = progress
        self._told_count = 0
        self._has_begun = self._has_raised = False

    def __call__(self, job_id: str, state: str, seconds: float) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._begun()
        entry = self._entries[job_id]
        if state != "blocked":
            self.tell_steps(entry.step.number + 1)
        self._tell(entry.step, entry.title, state, seconds)

    def tell_steps(self, count: int) -> None:
        """Each step that has begun by now."""
        while self._told_count < count:
            self._told_count += 1
            self._tell(self._steps[self._told_count - 1], None, "running", 0.0)

    def _tell(self, step: JobStep, entry: str | None, state: str, seconds: float) -> None:
        if self._progress is None:
            return
        update = PipelineUpdate(self._id, step.number + 1, len(self._steps), step.name, entry, state, seconds)
        try:
            self._progress(update)
        except Exception as error:
            if not self._has_raised:
                self._has_raised = True
                text = f"pipeline: progress= raised {type(error).__name__}: {error}, and goes on being called\n"
                sys.stderr.write(text)
