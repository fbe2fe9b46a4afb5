"""What is on record of jobs, from earlier runs and from this one: the last successes, and the files that they made.

Of each job its last event counts: 'done' is a record, 'begin' and 'failed' void the one before. Records are read from
the log as they are asked for. Which code a job had is a hash; what the hash stands for is in the log once. Failures and
the graph as it was declared last stay there for those who look at a build without its script.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from .code import CodePart, CodePrint
from .event_log import Event, EventLog, read_events
from .file_state import FileState

__all__ = ["GRAPH", "NAME", "JobRecord", "Records"]

NAME = "history.jsonl"
GRAPH = "graph"


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
        sources: the states of needs that no job makes.
    """

    needs: Mapping[str, str]
    outputs: Mapping[str, FileState]
    code: str | None
    params: Mapping[str, tuple[str, str]]
    logical: Mapping[str, str] = {}
    made_of: str | None = None
    explicit: str | None = None
    seconds: float | None = None
    cpu: float | None = None
    max_memory: int | None = None
    host: str = ""
    reasons: tuple[str, ...] = ()
    sources: Mapping[str, FileState] = {}
    ended: float = 0.0

    def prints(self) -> dict[str, str]:
        """The fingerprint of each file."""
        return {path: self.logical.get(path, state.digest) for path, state in self.outputs.items()}

    def literal(self) -> tuple[bool, Any]:
        """Whether the watched value can be had again, and the value."""
        try:
            return True, ast.literal_eval(self.params[""][1])
        except (KeyError, ValueError, SyntaxError):
            return False, None


_DEFAULTS = JobRecord._field_defaults


def _data_of(record: JobRecord) -> dict[str, Any]:
    return {name: value for name, value in record._asdict().items() if value != _DEFAULTS.get(name, _DEFAULTS)}


def _record_of(data: dict[str, Any]) -> JobRecord:
    changed = {
        "outputs": _states(data["outputs"]),
        "sources": _states(data.get("sources", {})),
        "params": {name: (digest, text) for name, (digest, text) in data["params"].items()},
        "reasons": tuple(data.get("reasons", ())),
    }
    return JobRecord(**{**data, **changed})


def _states(data: dict[str, Any]) -> dict[str, FileState]:
    return {path: FileState(*state) for path, state in data.items()}


class Records:
    """The records of a build's folder.

    Args:
        folder: of the build.
        warn: told what is wrong with the log.
        is_read_only: nothing is made where there is none yet, nor mended: somebody may be writing.
    """

    def __init__(self, folder: str, warn: Callable[[str], None], is_read_only: bool = False) -> None:
        path = os.path.join(folder, NAME)
        self._log = None if is_read_only else EventLog(path, warn)
        self._data: dict[str, dict[str, Any]] = {}
        self._read: dict[str, JobRecord] = {}
        self._before: dict[str, JobRecord] = {}
        self._codes: dict[str, list[list[str]]] = {}
        self._made: dict[str, None] = {}
        self._failures: dict[str, Any] = {}
        self._graph: dict[str, Any] | None = None
        if self._log is not None:
            events = self._log.events
        else:  # one that was made a moment ago may be empty
            events = read_events(path, warn) if os.path.exists(path) and os.stat(path).st_size else []
        for entry in events:
            self._take(entry)

    def _take(self, entry: Event) -> None:
        kind, subject, data = entry
        if kind == "done" and subject is not None:
            self._data[subject] = data
            self._made.update(dict.fromkeys(data["outputs"]))
        elif kind in {"begin", "failed"} and subject is not None:
            self._void(subject)
            self._failures[subject] = data
        elif kind == GRAPH:
            self._graph = data
        elif kind == "removed" and subject is not None:
            self._made.pop(subject, None)
        elif kind == "code" and subject is not None:
            self._codes[subject] = data
        elif kind == "damaged":
            for job_id in [subject] if subject is not None else list(self._data):
                self._data.pop(job_id, None)

    @property
    def states(self) -> dict[str, FileState]:
        """What is known of files, as they were last."""
        found: dict[str, Any] = {}
        for data in self._data.values():
            found.update(data.get("sources", {}))
        for data in self._data.values():
            found.update(data["outputs"])
        return _states(found)

    def get(self, job_id: str) -> JobRecord | None:
        """The last success of a job, if nothing has happened to it since."""
        if job_id not in self._read and job_id in self._data:
            self._read[job_id] = _record_of(self._data[job_id])
        return self._read.get(job_id)

    def before(self, job_id: str) -> JobRecord | None:
        """The last success, also of a job that has begun since."""
        return self.get(job_id) or self._before.get(job_id)

    def _void(self, job_id: str) -> None:
        record = self.get(job_id)
        if record is not None:
            self._before[job_id] = record
            del self._data[job_id], self._read[job_id]

    def made_files(self) -> list[str]:
        """All files that jobs have made and nobody has removed since, as far as that is on record."""
        return list(self._made)

    def parts_of(self, code: str | None) -> list[CodePart]:
        """What a hash of code stands for; empty where that is not on record."""
        return [CodePart(*part) for part in self._codes.get(code or "", ())]

    # writing ----------------------------------------------------------------------------------------------------------

    def _put(self, kind: str, subject: str | None, data: Any = None) -> None:
        if self._log is not None:
            self._log.append(Event(kind, subject, data))

    def run(self, version: str) -> None:
        """A run begins."""
        self._put("run", None, {"version": version, "host": os.uname().nodename, "pid": os.getpid(),
                                "python": sys.version.split()[0], "argv": sys.argv})  # fmt: skip

    def begin(self, job_id: str) -> None:
        """A job is about to begin, so what was made before is about to go."""
        self._void(job_id)
        self._put("begin", job_id)

    def done(self, job_id: str, record: JobRecord) -> None:
        """A job has succeeded, or has been found to be as if it had."""
        self._data[job_id] = data = _data_of(record)
        self._read[job_id] = record
        self._made.update(dict.fromkeys(record.outputs))
        self._put("done", job_id, data)

    def failed(self, job_id: str, error: str, reasons: list[str]) -> None:
        """A job has failed, or is to be made anew for another reason."""
        self._void(job_id)
        self._failures[job_id] = data = {"error": error, "reasons": reasons}
        self._put("failed", job_id, data)

    @property
    def graph(self) -> dict[str, Any] | None:
        """The jobs as they were declared last, if that is on record."""
        return self._graph

    def declared(self, graph: dict[str, Any]) -> None:
        """These are the jobs now."""
        self._graph = graph
        self._put(GRAPH, GRAPH, graph)

    def removed(self, path: str) -> None:
        """A file was removed on purpose."""
        self._made.pop(path, None)
        self._put("removed", path)

    def code(self, found: CodePrint) -> bool:
        """What a hash of code stands for, if that is not on record; whether it was not."""
        is_new = found.digest not in self._codes
        if is_new:
            self._codes[found.digest] = parts = [list(part) for part in found.parts]
            self._put("code", found.digest, parts)
        return is_new

    def close(self) -> None:
        """Nothing more is written; what is outdated is left out, if that is most of it."""
        if self._log is not None:
            self._log.tidy(self._live)
            self._log.close()
            self._log = None

    def _live(self) -> Iterator[Event]:
        used = {data.get("code") for data in self._data.values()}
        yield from (Event("code", digest, parts) for digest, parts in self._codes.items() if digest in used)
        if self._graph is not None:
            yield Event(GRAPH, GRAPH, self._graph)
        yield from (Event("done", job_id, data) for job_id, data in self._data.items())
        yield from (Event("failed", job_id, data) for job_id, data in self._failures.items()
                    if data is not None and job_id not in self._data)  # fmt: skip
