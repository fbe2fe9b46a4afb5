"""Ctrl-C, SIGTERM, SIGUSR1 and Enter while a build runs.

Ctrl-C once has nothing new begun, twice ends what runs; SIGTERM is as twice. Handlers are those of the script's main
thread, and are put back at the end. Where the build runs in another thread, or in a job, signals are not touched.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

    from .running import BuildRun

__all__ = ["Interrupts", "signals_ignored"]

INTERRUPTED, TERMINATED = 130, 75
"""Exit codes: what a shell makes of Ctrl-C, and what job_stream's other ends by SIGTERM have."""


@contextmanager
def signals_ignored() -> Iterator[None]:
    """For ranks that only help: the primary hears of signals, too, and decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class Enter:
    """Has Enter at the terminal answered, by a thread that reads lines for as long as the build runs."""

    def __init__(self, answer: Callable[[], object]) -> None:
        self._answer = answer
        self._thread: threading.Thread | None = None
        self._ended = os.eventfd(0)

    def start(self) -> None:
        with suppress(OSError, ValueError, AttributeError):
            if sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp():
                self._thread = threading.Thread(target=self._listen, args=(sys.stdin.fileno(),), daemon=True)
                self._thread.start()

    def _listen(self, file: int) -> None:
        while True:
            ready, _, _ = select.select([file, self._ended], [], [])
            if self._ended in ready or not os.read(file, 4096):
                return
            self._answer()

    def stop(self) -> None:
        os.eventfd_write(self._ended, 1)
        if self._thread is not None:
            self._thread.join()
        os.close(self._ended)


class Interrupts:
    """Answers signals for a run, and knows how the script is to end."""

    def __init__(self, run: BuildRun) -> None:
        self._run = run
        self._before: dict[int, Any] = {}
        self._enter = Enter(lambda: run.screen.say(run.told_at_length()))
        self.code: int | None = None
        self.is_killed = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            answers = {signal.SIGINT: self._interrupt, signal.SIGTERM: self._terminate, signal.SIGUSR1: self._tell}
            for number, answer in answers.items():
                self._before[number] = signal.signal(number, answer)
            self._enter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enter.stop()
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self.is_killed = self.is_killed or self._run.is_cancelled

    def _interrupt(self, number: int, frame: Any) -> None:
        if self.code is None:
            self.code = INTERRUPTED
            running = self._run.stop()
            text = f"nothing new is begun; {running} running jobs may finish (Ctrl-C again ends them)"
            self._run.screen.say(f"{self._run.screen.name}: {text}")
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
