"""Ctrl-C, SIGTERM and SIGUSR1 while a build runs.

Ctrl-C once has nothing new begun, twice ends what runs; SIGTERM is as twice. Handlers are those of the script's main
thread, and are put back at the end. Where the build runs in another thread, or in a job, signals are not touched.
"""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .running import BuildRun

__all__ = ["Interrupts"]

INTERRUPTED, TERMINATED = 130, 75
"""Exit codes: what a shell makes of Ctrl-C, and what job_stream's other ends by SIGTERM have."""


class Interrupts:
    """Answers signals for a run, and knows how the script is to end."""

    def __init__(self, run: BuildRun) -> None:
        self._run = run
        self._before: dict[int, Any] = {}
        self.code: int | None = None
        self.is_killed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            answers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate, signal.SIGUSR1: self._tell}
            for number, answer in answers.items():
                self._before[number] = signal.signal(number, answer)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.is_killed = self.is_killed or self._run.is_cancelled

    def _interrupt(self, number: int, frame: Any) -> None:
        if self.code is None:
            self.code = INTERRUPTED
            running = self._run.stop()
            self._run.screen.say(f"build: nothing new is begun; {running} running jobs may finish (Ctrl-C again ends them)")
        else:
            self._kill()

    def _terminate(self, number: int, frame: Any) -> None:
        self.code = TERMINATED
        self._kill()

    def _kill(self) -> None:
        self.is_killed = True
        self._run.cancel()

    def _tell(self, number: int, frame: Any) -> None:
        self._run.screen.say(self._run.told_at_length())

    def leave(self) -> None:
        """Ends the script where a signal asked for that."""
        if self.code is not None:
            raise SystemExit(self.code)
