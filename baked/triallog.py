"""The log of a sweep: a file with a line of JSON for each trial that has ended.

Workers append to it by themselves, each line under a lock of the file, so it has to lie where all machines see it. A
trial may stand there twice, if its worker died right after it had written the line; the last one counts.

Each line says what the trial depends on besides its parameters: the seed, and a number for the source of the stages.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from job_stream.errors import JobStreamError, PlanError

from .sources import sourceOf
from .variables import Parameters, plain

__all__ = ["Logged", "TrialLog"]

SHORT = 500
"""Characters of a message about a line."""
FIELDS = {"id": int, "trial": int, "parameters": dict, "values": dict, "seed": int | None, "code": int}


class Logged(NamedTuple):
    """One line of the log."""

    id: int
    trial: int
    parameters: Parameters
    values: dict[str, float]
    seed: int | None
    code: int


class TrialLog:
    """A log at a path.

    Args:
        path: of the file.
        seed: of the sweep.

    Attributes:
        code: a number for the source of the stages that ``addSource`` was told.
    """

    def __init__(self, path: str | os.PathLike[str], seed: int | None = None) -> None:
        self.path = Path(path)
        self.seed = seed
        self.code = 0

    def addSource(self, function: Any) -> None:
        """Notes that trials run a function."""
        self.code = crc32(sourceOf(function).encode(errors="replace"), self.code)

    def checkNew(self) -> None:
        """Makes sure that trials of an earlier run are not mixed up with those of this one.

        Raises:
            PlanError: there is a log.
        """
        if self.path.exists():
            raise PlanError(
                f"log {str(self.path)!r} exists already: give resume=True to go on with it, another name, or remove it"
            )

    def append(self, id: int, trial: int, parameters: Parameters, values: Mapping[str, float]) -> None:
        """Adds a line; from several processes at once, too.

        Raises:
            OSError: it cannot be written. The file is left as it was.
        """
        logged = Logged(id, trial, plain(parameters), dict(values), plain(self.seed), self.code)
        line = json.dumps(logged._asdict()).encode() + b"\n"
        with self.path.open("ab", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            try:
                written = 0
                while written < len(line):
                    written += file.write(line[written:])
            except OSError:
                file.truncate(end)
                raise

    def read(self) -> list[Logged]:
        """All trials of the log, in its order. The end of a line that was not written completely is cut off.

        Raises:
            JobStreamError: a line is not of a log; names it.
        """
        if not self.path.exists():
            return []
        data = self.path.read_bytes()
        complete = data.rfind(b"\n") + 1
        if complete < len(data):
            os.truncate(self.path, complete)
        return [self._parsed(number, line) for number, line in enumerate(data[:complete].splitlines(), 1)]

    def _parsed(self, number: int, line: bytes) -> Logged:
        try:
            fields = json.loads(line)
            if all(isinstance(fields[name], kind) for name, kind in FIELDS.items()):
                return Logged(*(fields[name] for name in FIELDS))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self.wrong(number, f"is no trial of a sweep: {line[:60].decode(errors='replace')!r}")

    def wrong(self, number: int, what: str) -> JobStreamError:
        return JobStreamError(
            f"{self.path}, line {number} {what:.{SHORT}}. Correct or remove it, or give log= another name"
        )

    def __str__(self) -> str:
        return str(self.path)
