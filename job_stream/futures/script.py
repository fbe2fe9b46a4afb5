"""A script that runs on rank 0 alone, while the other ranks serve its executors until it ends."""

from __future__ import annotations

import os
import runpy
import sys
from contextlib import suppress

from ..errors import JobStreamError
from ..ranks.world import rank_of, size_of
from ..runtime.together import close_openings, keep_to_primary, next_opening
from .service import Order, close_all, serve

__all__ = ["run"]

USAGE = "python -m job_stream.futures script.py [ARGUMENTS]... | -m module [ARGUMENTS]..."


def run(arguments: list[str]) -> None:
    """Runs a script, or a module after ``-m``, as python does; on other ranks than the primary, serves it."""
    if not arguments or arguments[0] in ("-h", "--help") or arguments == ["-m"]:
        sys.exit(f"usage: {USAGE}")
    if size_of() == 1:
        _run_script(arguments)
    elif rank_of() == 0:
        _run_at_home(arguments)
    else:
        _serve_all()


def _run_at_home(arguments: list[str]) -> None:
    keep_to_primary()
    try:
        _run_script(arguments)
    finally:
        close_all()
        with suppress(JobStreamError):  # what is wrong with the other ranks is told elsewhere
            close_openings()


def _run_script(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, os.getcwd())
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv = arguments
    sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
    runpy.run_path(arguments[0], run_name="__main__")


def _serve_all() -> None:
    """Serves the executors of the script, one after the other."""
    while (order := next_opening()) is not None:
        serve(Order(*order))
