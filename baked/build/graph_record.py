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

__all__ = ["note_graph"]


def note_graph(build: Build) -> None:
    """Has the jobs on record as they are declared now."""
    known = build.records.graph or {}
    kept = _left_alone(build, known.get("jobs", {}))
    digest = blake2b("\0".join(_signs(build, kept)).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    if digest != known.get("digest"):
        jobs = {**kept, **{job.id: _entry_of(build, job) for job in list(build.jobs.values())}}
        with suppress(BuildError):  # the disk is full, which the run has said
            build.records.declared({"digest": digest, "jobs": jobs})


def _signs(build: Build, kept: dict[str, Any]) -> list[str]:
    """What differs where graphs differ: needs as they were declared are enough, and quick to tell."""
    signs = list(kept)
    for job in build.jobs.values():
        signs += job.id, job.kind, *job.outputs.paths
        for need in build.targets_of(job):
            signs.append(need if isinstance(need, str) else need.path if isinstance(need, JobFile) else need.id)
    return signs


def _left_alone(build: Build, before: dict[str, Any]) -> dict[str, Any]:
    """What a generator declared before that has not come so far this time."""
    undone = {job.id for job in build.jobs.values() if job.kind in GENERATORS and job.state != "made"}
    if not undone:
        return {}
    return {job_id: entry for job_id, entry in before.items()
            if entry.get("by") in undone and job_id not in build.jobs}  # fmt: skip


def _entry_of(build: Build, job: BuildJob) -> dict[str, Any]:
    found = {
        "kind": job.kind, "needs": list(dict.fromkeys(need.id for need, _ in build.needs_of(job))),
        "files": list(job.outputs.paths), "temp": sorted(job.outputs.temporary), "by": job.generated_by,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}
