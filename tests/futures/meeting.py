"""The begin of a script whose calls wait for each other, which shows that they are made on both ranks."""

from __future__ import annotations

import textwrap
from pathlib import Path

__all__ = ["MEETING", "ONE_LANE", "write"]

ONE_LANE = {"JOBS_CPUS": "1"}

MEETING = """
import os, signal, sys, time
from pathlib import Path
from job_stream import getCpuCount, getRank
from job_stream.futures import Executor

folder = Path(__file__).parent

def meet(own, others):
    (folder / own).touch()
    end = time.monotonic() + 100
    while not all((folder / other).exists() for other in others):
        if time.monotonic() > end:
            raise TimeoutError(own)
        time.sleep(0.005)
    return getRank()
"""


def write(folder: Path, *texts: str) -> Path:
    """The script that these texts are together."""
    path = folder / "script.py"
    path.write_text("".join(map(textwrap.dedent, texts)), encoding="utf-8")
    return path
