"""What a checkpoint says of itself, to the user who looks at it while a run writes it or after its end."""

from __future__ import annotations

import os
from typing import NamedTuple

from .disk import DISK
from .file import reading, time_text
from .format import FORMAT
from .trust import CheckpointError, Secret

__all__ = ["CheckpointInfo", "info_of"]


class CheckpointInfo(NamedTuple):
    """What a checkpoint says of itself; its ``str`` is a readable summary. ``finished``: the run has ended."""

    path: str
    format: int
    runId: str
    written: float
    finished: bool
    open: int
    byStage: dict[str, int]
    nbytes: int
    delivered: int
    stages: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"checkpoint  {self.path}",
            f"format      {self.format}",
            f"run         {self.runId}{', finished' if self.finished else ''}",
            f"written     {time_text(self.written)}",
            f"tasks open  {self.open:,} ({self.nbytes:,} bytes)",
            *(f"  {count:,} at {name}" for name, count in self.byStage.items()),
            f"results     {self.delivered:,} delivered",
            f"plan        {' -> '.join(self.stages)}",
        ]
        return "\n".join(lines)


def info_of(path: str | os.PathLike[str]) -> CheckpointInfo:
    """What is in a checkpoint, in brief; see ``job_stream.checkpointInfo``."""
    path = os.fspath(path)
    finished = not os.path.lexists(path) and os.path.lexists(path + ".done")
    found = path + ".done" if finished else path
    try:
        with reading(found, Secret(), DISK) as checkpoint:
            header = checkpoint.header()
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    stages = tuple(f"{kind} {name}" for kind, name, _ in header.stages if kind != "end")
    return CheckpointInfo(found, FORMAT, header.run_id, header.written, finished, header.open, dict(header.by_stage),
                          header.nbytes, header.delivered, stages)  # fmt: skip
