"""What is on record of jobs, from earlier runs and from this one."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from .file_state import FileState

__all__ = ["JobRecord", "Records"]


class JobRecord(NamedTuple):
    """The last success of a job.

    Attributes:
        needs: the fingerprint of each need as it was before the job began.
        outputs: the states of its files when they had been made.
        code: hash of its function; None where there is none.
        params: of each parameter its fingerprint and its text.
        logical: fingerprints of files that are others than their contents.
        made_of: of a value, the fingerprint of what it was made of; of a watched value, its fingerprint.
        explicit: the text that a value gave as its fingerprint.
    """

    needs: Mapping[str, str]
    outputs: Mapping[str, FileState]
    code: str | None
    params: Mapping[str, tuple[str, str]]
    logical: Mapping[str, str] = {}  # noqa: RUF012 - a default that nobody changes
    made_of: str | None = None
    explicit: str | None = None
    seconds: float | None = None
    cpu: float | None = None
    max_memory: int | None = None
    host: str = ""
    reasons: list[str] = []  # noqa: RUF012

    def prints(self) -> dict[str, str]:
        """The fingerprint of each file."""
        return {path: self.logical.get(path, state.digest) for path, state in self.outputs.items()}

    def literal(self) -> tuple[bool, Any]:
        """Whether the watched value can be had again, and the value."""
        try:
            return True, ast.literal_eval(self.params[""][1])
        except (KeyError, ValueError, SyntaxError):
            return False, None


class Records:
    """The records of a build's folder."""

    def __init__(self, folder: str) -> None:
        self._path = os.path.join(folder, "history.jsonl")
        self._jobs: dict[str, JobRecord] = {}
        self._before: dict[str, JobRecord] = {}
        self.states: dict[str, FileState] = {}
        if os.path.exists(self._path):
            for line in Path(self._path).read_text().splitlines():
                kind, job_id, data, sources = json.loads(line)
                if kind == "done":
                    data["outputs"] = {k: FileState(*v) for k, v in data["outputs"].items()}
                    data["params"] = {k: tuple(v) for k, v in data["params"].items()}
                    self._jobs[job_id] = JobRecord(**data)
                    self.states.update({k: FileState(*v) for k, v in sources.items()})
                    self.states.update(data["outputs"])
                elif kind != "removed":
                    self._jobs.pop(job_id, None)
        self._file = open(self._path, "a", buffering=1)

    def _put(self, *event: Any) -> None:
        self._file.write(json.dumps(event) + "\n")

    def get(self, job_id: str) -> JobRecord | None:
        return self._jobs.get(job_id)

    def before(self, job_id: str) -> JobRecord | None:
        """The last success, also of a job that has begun since."""
        return self._jobs.get(job_id) or self._before.get(job_id)

    def begin(self, job_id: str) -> None:
        if job_id in self._jobs:
            self._before[job_id] = self._jobs.pop(job_id)
        self._put("begin", job_id, None, None)

    def done(self, job_id: str, record: JobRecord, sources: Mapping[str, FileState]) -> None:
        self._jobs[job_id] = record
        self.states.update(record.outputs)
        self.states.update(sources)
        self._put("done", job_id, record._asdict(), sources)

    def failed(self, job_id: str, error: str, reasons: list[str]) -> None:
        if job_id in self._jobs:
            self._before[job_id] = self._jobs.pop(job_id)
        self._put("failed", job_id, None, None)

    def removed(self, path: str) -> None:
        self._put("removed", path, None, None)

    def close(self) -> None:
        self._file.close()

    def made_files(self) -> list[str]:
        """All files of jobs that have ever been made, as far as they are on record."""
        return [path for record in self._jobs.values() for path in record.outputs]
