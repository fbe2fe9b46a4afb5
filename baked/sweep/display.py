"""How far a sweep is, on stderr: a live line in a terminal, elsewhere a line every few seconds.

It is shown by a process of its own, which is forked before the run begins and looks at the board. So it takes nothing
from the run, and no thread is there when workers are forked. It ends when it is told to, or when the script is gone.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import Any

from .progress_table import ProgressTable, TrialCounts

__all__ = ["Display", "duration", "line_of"]

LINE_S = 5.0
LIVE_S = 0.1
PATIENCE_S = 5.0


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss."""
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{left:02}"


def time_left(figures: TrialCounts, elapsed_s: float) -> float | None:
    """Seconds that the rest will take if it goes on as it went; None: that cannot be said yet."""
    fresh = figures.trials - figures.earlier
    if not fresh or figures.expected is None:
        return None
    return elapsed_s * max(0, figures.expected - figures.trials) / fresh


def line_of(figures: TrialCounts, elapsed_s: float) -> str:
    """The progress in words."""
    line = f"sweep: {figures.done} of {figures.combinations} combinations, {figures.trials}"
    if figures.done == figures.combinations:
        return f"{line} trials, took {duration(elapsed_s)}"
    left = time_left(figures, elapsed_s)
    expected = "" if figures.expected is None else f" of about {figures.expected}"
    return f"{line}{expected} trials" + ("" if left is None else f", about {duration(left)} left")


class Display:
    """Shows a board for as long as it is open. As a context, it is open within.

    Args:
        board: what is to be shown.
    """

    def __init__(self, board: ProgressTable) -> None:
        self._board = board
        self._process: Any = None
        self._told: int | None = None

    def open(self) -> None:
        from multiprocessing import get_context

        sys.stderr.flush()
        asked, self._told = os.pipe()
        live = sys.stderr.isatty() and find_spec("rich") is not None
        show = _show_live if live else _show_lines
        arguments = (show, self._board, asked, self._told)
        self._process = get_context("fork").Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        os.close(asked)

    def close(self) -> None:
        """Has the last state shown; nothing is written afterwards."""
        if self._told is None:
            return
        with suppress(BrokenPipeError):  # somebody has ended the display
            os.write(self._told, b".")
        os.close(self._told)
        self._told = None
        self._process.join(PATIENCE_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        self._process.close()

    def __enter__(self) -> Display:
        self.open()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _within(seconds: float, asked: int) -> bool:
    """Whether the end comes within so many seconds: it is asked for, or nobody is left who could ask."""
    ready, _, _ = select.select([asked], [], [], seconds)
    return bool(ready)


def _run(
    show: Callable[[ProgressTable, Callable[[float], bool]], None], board: ProgressTable, asked: int, told: int
) -> None:
    os.close(told)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the script decides what becomes of the run
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    show(board, partial(_within, asked=asked))


def _show_lines(board: ProgressTable, ends_within: Callable[[float], bool]) -> None:
    start = monotonic()
    over = False
    while not over:
        over = ends_within(LINE_S)
        print(line_of(board.figures(), monotonic() - start), file=sys.stderr, flush=True)


def _show_live(board: ProgressTable, ends_within: Callable[[float], bool]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    start = monotonic()
    bar = Progress(
        BarColumn(20), TextColumn("{task.description}"), console=Console(stderr=True), auto_refresh=False,
        redirect_stdout=False, redirect_stderr=False,
    )  # fmt: skip
    with bar:
        task = bar.add_task("")
        over = False
        while not over:
            over = ends_within(LIVE_S)
            figures = board.figures()
            text = line_of(figures, monotonic() - start)
            bar.update(task, total=figures.expected, completed=figures.trials, description=text, refresh=True)
