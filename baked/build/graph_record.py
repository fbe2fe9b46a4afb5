"""The graph as it stays in the history, for those who look at a build without its script.

It is written when a run ends with other jobs than the one before, so a run that changes nothing writes nothing.
"""

from __future__ import annotations

from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from job_stream.errors import BuildError

from .job import JobFile
from .kinds import GENERATORS

if TYPE_CHECKING:
    from .building import Build
    from .job import BuildJob

__all__ = ["note_graph", "undeclared"]


def note_graph(build: Build) -> None:
    """Has the jobs on record as they are declared now."""
    known = build.records.graph or {}
    kept = undeclared(build)
    digest = blake2b("\0".join(_signs(build, kept)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    with suppress(BuildError):  # the disk is full, which the run has said
        if digest == known.get("digest"):
            build.records.confirmed()
        else:
            jobs = {**kept, **{job.id: _entry_of(build, job) for job in list(build.jobs.values())}}
            build.records.declared({"digest": digest, "jobs": jobs})


def _signs(build: Build, kept: dict[str, Any]) -> list[str]:
    """What differs where graphs differ: needs as they were declared are enough, and quick to tell."""
    signs = list(kept)
    for job in build.jobs.values():
        signs += job.id, job.kind, *job.outputs.paths
        for need in build.targets_of(job):
            signs.append(need if isinstance(need, str) else need.path if isinstance(need, JobFile) else need.id)
    return signs


def undeclared(build: Build) -> dict[str, Any]:
    """What is on record of jobs that a generator declared before and, as it has not come so far, has not declared yet.

    A generator that has been declared by another one is among them.
    """
    undone = {job.id for job in build.jobs.values() if job.kind in GENERATORS and job.state != "made"}
    before = build.records.graph["jobs"] if undone and build.records.graph else {}
    by_generator: dict[str, list[str]] = {}
    for job_id, entry in before.items():
        if "by" in entry and job_id not in build.jobs:
            by_generator.setdefault(entry["by"], []).append(job_id)
    found: dict[str, Any] = {}
    waiting = sorted(undone)
    while waiting:
        for job_id in by_generator.pop(waiting.pop(), ()):
            found[job_id] = before[job_id]
            waiting.append(job_id)
    return found


def _entry_of(build: Build, job: BuildJob) -> dict[str, Any]:
    found = {
        "kind": job.kind, "needs": list(dict.fromkeys(need.id for need, _ in build.needs_of(job))),
        "files": list(job.outputs.paths), "temp": sorted(job.outputs.temporary), "by": job.generated_by,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}
