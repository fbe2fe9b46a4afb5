"""The log of a sweep: a file with a line of JSON for each trial that has ended.

Workers append to it by themselves, each line under a lock of the file, so it has to lie where all machines see it. A
trial may stand there twice, if its worker died right after it had written the line; the last one counts.

Each line says what the trial depends on besides its parameters: the seed, and a number for the source of the stages.

A file that is no log is left as it is: nothing is cut off before all lines have been understood, and what is cut off is
the beginning of a line as they are written here.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from job_stream.errors import JobStreamError, PlanError

from .sources import source_of
from .variables import Parameters, plain

__all__ = ["Logged", "TrialLog"]

SHORT = 500
"""Characters of a message about a line."""
FIELDS = {"id": int, "trial": int, "parameters": dict, "values": dict, "seed": int | None, "code": int}
_BEGINNING = b'{"id": 0, "trial": 0, "parameters": {'
"""How each line begins, with 0 for the numbers."""


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
        code: a number for the source of the stages that ``add_source`` was told.
    """

    def __init__(self, path: str | os.PathLike[str], seed: int | None = None) -> None:
        self.path = Path(path)
        self.seed = seed
        self.code = 0
        self._size = self._complete = 0

    def add_source(self, function: Any) -> None:
        """Notes that trials run a function."""
        self.code = crc32(source_of(function).encode(errors="replace"), self.code)

    def check_new(self) -> None:
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
        with open(self.path, "ab", buffering=0, opener=_without_waiting) as file:
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
        """All trials of the log, in its order.

        Raises:
            JobStreamError: a line is not of a log; names it.
        """
        try:
            with open(self.path, "rb", opener=_without_waiting) as file:
                fcntl.flock(file, fcntl.LOCK_SH)
                data = file.read()
        except FileNotFoundError:
            return []
        self._size, self._complete = len(data), data.rfind(b"\n") + 1
        lines = data[: self._complete].splitlines()
        entries = [self._parsed(number, line) for number, line in enumerate(lines, 1)]
        if not _is_beginning(data[self._complete :], bool(entries)):
            raise self._no_trial(len(lines) + 1, data[self._complete :])
        return entries

    def mend(self) -> None:
        """Cuts off the line at the end that was not written completely, if there was one when the log was read."""
        if self._complete < self._size:
            with open(self.path, "r+b", opener=_without_waiting) as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                if file.seek(0, os.SEEK_END) == self._size:
                    file.truncate(self._complete)

    def _parsed(self, number: int, line: bytes) -> Logged:
        found = _trial_in(line)
        if found is None:
            raise self._no_trial(number, line)
        return found

    def _no_trial(self, number: int, line: bytes) -> JobStreamError:
        return self.wrong(number, f"is no trial of a sweep: {line[:60].decode(errors='replace')!r}")

    def wrong(self, number: int, what: str) -> JobStreamError:
        return JobStreamError(
            f"{self.path}, line {number} {what:.{SHORT}}. Correct or remove it, or give log= another name"
        )

    def __str__(self) -> str:
        return str(self.path)


def _trial_in(line: bytes) -> Logged | None:
    """The trial that a line tells of; None: it is none."""
    try:
        fields = json.loads(line)
        if all(isinstance(fields[name], kind) for name, kind in FIELDS.items()):
            return Logged(*(fields[name] for name in FIELDS))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _is_beginning(text: bytes, follows: bool) -> bool:
    """Whether a text without an end of line can be what was written of a trial.

    Args:
        follows: trials stand before it, so it may consist of nothing but zeros, as a power failure leaves them.
    """
    written = text.rstrip(b"\0")
    if text and not written:
        return follows
    if _is_json(written):
        return _trial_in(written) is not None  # only the end of the line is missing
    return _BEGINNING.startswith(re.sub(rb"\d+", b"0", written)[: len(_BEGINNING)])


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _without_waiting(path: str, flags: int) -> int:
    """Opens a file; a pipe that nobody reads is an error."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
