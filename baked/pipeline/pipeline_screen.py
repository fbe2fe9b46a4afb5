"""What is told on stderr while a job runs: a line for each entry that was made, and at a terminal one that changes."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .progress_telling import PipelineUpdate

if TYPE_CHECKING:
    from ..build.planning import BuildPlan
    from .job_parts import JobStep
    from .pipeline_run import PipelineRun

__all__ = ["WIPE", "PipelineScreen", "say"]

WIPE = b"\r\x1b[K"
"""What empties the line that is shown for a while."""

INTERVAL_S = 0.5

LINES = 20
"""How many entries are told of before a run."""


def say(text: str) -> None:
    """One line."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


class PipelineScreen:
    """The lines of one run.

    Args:
        steps, name: of the job.
        is_quiet: whether nothing is said.

    Attributes:
        is_live: whether there is a line that changes.
        made, kept: entries that are through by now, as 'step/module'.
    """

    def __init__(self, steps: Sequence[JobStep], name: str, is_quiet: bool) -> None:
        self._steps = steps
        self._name = name
        self._is_quiet = is_quiet
        self._has_announced = False
        self.is_live = sys.stderr.isatty() and not is_quiet
        self._step = 1
        self._running: dict[str, float] = {}
        self.made: list[str] = []
        self.kept: list[str] = []
        self._failed_count = 0
        self._before: dict[str, float] = {}
        self._ended = threading.Event()

    def announce(self, plan: BuildPlan | None = None) -> None:
        """What is going to run, and why."""
        if self._is_quiet or self._has_announced:
            return
        self._has_announced = True
        todo = [each for each in plan or () if each.verb in ("make", "maybe")]
        step_count = len(self._steps)
        lines = [f"pipeline: {self._name}, {step_count} steps, {len(todo)} entries to run"]
        numbers = {entry.title: step.number + 1 for step in self._steps for entry in step.entries}
        shown = [f"[{numbers[each.id]}/{step_count} {each.id.replace('/', '] ', 1)}" for each in todo[:LINES]]
        width = max(map(len, shown), default=0)
        lines += [f"  {text:<{width}}  {'; '.join(each.reasons)}" for text, each in zip(shown, todo, strict=False)]
        say("\n".join([*lines, *([f"  ... and {len(todo) - LINES} more"] if len(todo) > LINES else [])]))

    def take(self, update: PipelineUpdate) -> None:
        """What a run tells of itself."""
        if update.entry is None:
            self._step = update.current_step
            return
        self._running.pop(update.entry, None)
        if update.state == "running":
            self._running[update.entry] = time.monotonic()
        elif update.state == "failed":
            self._failed_count += 1
        elif update.state in ("made", "kept"):
            (self.made if update.state == "made" else self.kept).append(update.entry)
        if update.state == "made" and not self._is_quiet:
            self._wipe()
            say(f"[{update.entry}] {update.seconds:.1f} s")
        self._show()

    def end(self, seconds: float) -> None:
        """The counts."""
        self.announce()
        if not self._is_quiet:
            say(f"made {len(self.made)}, kept {len(self.kept)}, failed {self._failed_count} in {seconds:.1f} s")

    # the line that changes --------------------------------------------------------------------------------------------

    @contextmanager
    def showing(self, run: PipelineRun) -> Iterator[None]:
        """Has a line at the terminal tell how far the run is."""
        if not self.is_live:
            yield
            return
        self._before = run.seconds_before
        thread = threading.Thread(target=self._tick, name="pipeline-screen", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
            self._wipe()

    def _tick(self) -> None:
        while not self._ended.wait(INTERVAL_S):
            self._show()

    def _show(self) -> None:
        if self.is_live and self._running:
            width = max(os.get_terminal_size(2).columns - 1, 20)
            sys.stderr.write(f"{WIPE.decode()}{self.line(time.monotonic())[:width]}")
            sys.stderr.flush()

    def line(self, now: float) -> str:
        """Which step, which entries for how long, and what is left if all take as long as they did."""
        running = dict(self._running)
        shown = ", ".join(f"{entry} {now - begin:.0f} s" for entry, begin in running.items())
        through = {*self.made, *self.kept}
        left = [max(0.0, seconds - (now - running.get(entry, now)))
                for entry, seconds in self._before.items() if entry not in through]  # fmt: skip
        cores = max(1, len(running))
        about = f", about {max(sum(left) / cores, max(left)):.0f} s left" if left else ""
        return f"step {self._step} of {len(self._steps)}: {shown}{about}"

    def _wipe(self) -> None:
        if self.is_live:
            sys.stderr.write(WIPE.decode())
            sys.stderr.flush()
