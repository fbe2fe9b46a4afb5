"""What the history tells of a build to somebody who has not its script: its jobs, how each went last, and why.

The history is read and left as it is, so that one can look at a build while it runs. What a job needs and makes is in
the graph that the last run has left there, or, where it was killed before it could, in the record of the job.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from job_stream.errors import BuildError

from .code import CodePart
from .event_log import Event, read_events
from .joblogs import log_path
from .kinds import GENERATORS, INVARIANTS
from .layered import needs_first
from .records import CONFIRMED, GRAPH, INVALIDATED, NAME

__all__ = ["HINDERED", "BuildPicture", "JobPicture", "PastRuns", "source_of", "tails_of"]

TAIL_BYTES = 4096
"""How much of the end of a log is shown with a job."""

HINDERED = frozenset({"failed", "blocked", "stopped"})


class JobPicture(NamedTuple):
    """A job as it is shown.

    Attributes:
        code: hash of its function, under which the picture of the build has its source.
        logs: the ends of what it wrote to stdout and stderr, where that was kept.
        generated_by: the generator that declared it; empty where the script did.
    """

    id: str
    kind: str
    state: str
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    temporary: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    error: str = ""
    seconds: float | None = None
    ended: float | None = None
    host: str = ""
    params: Mapping[str, str] = {}
    code: str = ""
    logs: tuple[str, str] = ("", "")
    generated_by: str = ""


class BuildPicture(NamedTuple):
    """A build as it is shown: its jobs by their ids, and the sources of their functions by their hashes."""

    title: str
    jobs: Mapping[str, JobPicture]
    codes: Mapping[str, str]


def source_of(parts: Iterable[CodePart]) -> str:
    """The code of a job as text: its function, and what else of the project it uses."""
    return "\n\n".join(part.source if not part.name else f"# {part.name}\n{part.source}"
                       for part in parts if part.source)  # fmt: skip


def tails_of(folder: str, job_id: str) -> tuple[str, str]:
    """The ends of what a job has written, where that is still there."""
    return _tail(log_path(folder, job_id, "out")), _tail(log_path(folder, job_id, "err"))


def _tail(path: str) -> str:
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            return file.read(TAIL_BYTES).decode(errors="replace")
    except OSError:
        return ""


class PastRuns:
    """A build's folder, as its runs have left it.

    Args:
        folder: of the build.

    Attributes:
        done: what is on record of the last success of each job, also of one that has begun again since.
        earlier: of the success before that, as far as it is still there.
        failures: what is on record of each failure that no success has followed.
        made: files that were made and that nobody has removed since; whether that was after the graph went on record.

    Raises:
        BuildError: there is no history there, or it cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.root = os.path.dirname(os.path.abspath(folder))
        self.done: dict[str, dict[str, Any]] = {}
        self.earlier: dict[str, dict[str, Any]] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.made: dict[str, bool] = {}
        self.codes: dict[str, list[CodePart]] = {}
        self.last_run: Mapping[str, Any] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._run_at = -1
        self._graph: Mapping[str, Any] | None = None
        for number, entry in enumerate(read_events(os.path.join(folder, NAME), self._warn)):
            self._take(number, entry)

    def _warn(self, text: str) -> None:
        print(f"build: {text}", file=sys.stderr)

    def _take(self, number: int, entry: Event) -> None:
        kind, subject, data = entry
        if kind == "run":
            self.last_run, self._run_at = data, number
        elif kind == GRAPH:
            self._graph = data["jobs"]
            self.made = dict.fromkeys(self.made, False)
        elif kind == CONFIRMED:
            self.made = dict.fromkeys(self.made, False)
        elif subject is None:
            return
        elif kind == "code":
            self.codes[subject] = [CodePart(*part) for part in data]
        elif kind == "removed":
            self.made.pop(subject, None)
        else:
            self._last[subject] = kind, number
            self._take_end(kind, subject, data)

    def _take_end(self, kind: str, job_id: str, data: Any) -> None:
        if kind == "done":
            if job_id in self.done:
                self.earlier[job_id] = self.done[job_id]
            self.done[job_id] = data
            self.failures.pop(job_id, None)
            self.made.update(dict.fromkeys(data["outputs"], True))
        elif kind == "failed":
            self.failures[job_id] = data

    # jobs -------------------------------------------------------------------------------------------------------------

    def jobs(self) -> dict[str, JobPicture]:
        """All jobs and sources, needs first, as far as there is no circle."""
        entries = dict(self._entries())
        makers = {path: job_id for job_id, entry in entries.items() for path in entry.get("files", ())}
        needs = {job_id: _needs_of(entry, makers, entries) for job_id, entry in entries.items()}
        states: dict[str, str] = {}
        for job_id in needs_first(needs):
            states[job_id] = self._state(job_id, entries[job_id]["kind"], [states.get(n, "") for n in needs[job_id]])
        return {job_id: self._job(job_id, entries[job_id], needs[job_id], state) for job_id, state in states.items()}

    def _entries(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is declared, with what the records alone know; values that are watched are no jobs."""
        graph = dict(self._recorded()) if self._graph is None else self._graph
        for job_id, entry in graph.items():
            if entry.get("kind", "file") not in INVARIANTS - {"source"}:
                yield job_id, {"kind": "file", **entry}

    def _recorded(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for path in {path for data in self.done.values() for path in data.get("sources", ())}:
            yield path, {"kind": "source"}
        for job_id in self._last:
            data = self.done.get(job_id, {})
            if data.get("outputs") or not data.get("made_of"):
                yield job_id, {"needs": list(data.get("needs", ())), "files": list(data.get("outputs", ()))}

    def _state(self, job_id: str, kind: str, needed: list[str]) -> str:
        """How it went last; one that could not go on behind another one is blocked."""
        last, number = self._last.get(job_id, ("", -1))
        if kind == "source":
            return "kept" if os.path.exists(os.path.join(self.root, job_id)) else "failed"
        if last == "begin":
            return "running" if self.is_running else "stopped"
        if last == "failed" and self.failures[job_id]["error"] != INVALIDATED:
            return "failed"
        if number <= self._run_at and not HINDERED.isdisjoint(needed):
            return "blocked"
        if last != "done":
            return "new"
        has_run = kind in GENERATORS or (number > self._run_at and self.done[job_id].get("reasons"))
        return "made" if has_run else "kept"

    def _job(self, job_id: str, entry: Mapping[str, Any], needs: tuple[str, ...], state: str) -> JobPicture:
        data, failure = self.done.get(job_id, {}), self.failures.get(job_id, {})
        return JobPicture(
            job_id, entry["kind"], state, needs, tuple(entry.get("files", ())), tuple(entry.get("temp", ())),
            tuple(failure.get("reasons") or data.get("reasons", ())), failure.get("error", ""), data.get("seconds"),
            data.get("ended"), data.get("host", ""), {name: text for name, (_, text) in data.get("params", {}).items()},
            data.get("code") or entry.get("code", ""), tails_of(os.path.join(self.folder, "logs"), job_id),
            entry.get("by", ""),
        )  # fmt: skip

    @property
    def is_running(self) -> bool:
        """Whether the last run is still under way, as far as that can be told from here."""
        host, pid = self.last_run.get("host"), self.last_run.get("pid")
        return host in {socket.gethostname(), os.uname().nodename} and os.path.exists(f"/proc/{pid}")

    def picture(self) -> BuildPicture:
        jobs = self.jobs()
        used = {job.code for job in jobs.values()}
        codes = {digest: source_of(parts) for digest, parts in self.codes.items() if digest in used}
        return BuildPicture(os.path.basename(self.root) or self.root, jobs, codes)

    # files ------------------------------------------------------------------------------------------------------------

    def absolute(self, path: str) -> str:
        return os.path.join(self.root, path)

    def is_file(self, path: str) -> bool:
        return os.path.isfile(self.absolute(path))

    def sources(self) -> set[str]:
        """Files that no job makes, so that nobody is to remove them."""
        known = {path for data in self.done.values() for path in data.get("sources", ())}
        return known | {path for path, entry in (self._graph or {}).items() if entry.get("kind") == "source"}

    def orphans(self) -> list[str]:
        """Files that were made, which are there, and which no job of the last run makes.

        What was made after the graph went on record was made by jobs of a run that has not ended, or was killed.

        Raises:
            BuildError: no run has come so far that it would be known which jobs there are.
        """
        if self._graph is None:
            raise BuildError(f"no run of the build in {self.folder} has been so far that its jobs are on record: run "
                             "it once, then what no job makes any more is known")  # fmt: skip
        declared = {path for entry in self._graph.values() for path in entry.get("files", ())}
        outdated = {path for path, is_fresh in self.made.items() if not is_fresh}
        return sorted(path for path in outdated - declared - self.sources() if self.is_file(path))


def _needs_of(entry: Mapping[str, Any], makers: Mapping[str, str], known: Mapping[str, Any]) -> tuple[str, ...]:
    needs = dict.fromkeys(makers.get(need, need) for need in entry.get("needs", ()))
    return tuple(need for need in needs if need in known)
