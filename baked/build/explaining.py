"""Why a job ran last, and why it would run now: each reason with what was, and what is."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .source_diff import source_diff

if TYPE_CHECKING:
    from .job import BuildJob
    from .records import JobRecord
    from .running import BuildRun

__all__ = ["why_of"]


def why_of(run: BuildRun, job: BuildJob) -> str:
    """All that is known about it, as text."""
    entry = next((entry for entry in run.plan().entries if entry.id == job.id), None)
    record = run.build.records.before(job.id)
    lines = [*_of_last(job, record)]
    if entry is not None:
        lines.append(f"now: {entry.verb}{': ' if entry.reasons else ''}{'; '.join(entry.reasons)}")
    if record is not None:
        lines += _changes(run, job, record)
    return "\n".join(lines)


def _of_last(job: BuildJob, record: JobRecord | None) -> list[str]:
    if record is None:
        return [f"{job.id} ({job.kind}) has no success on record"]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.ended))
    reasons = "; ".join(record.reasons) or "found up to date"
    return [f"{job.id} ({job.kind}) was recorded last at {when}: {reasons}"]


def _changes(run: BuildRun, job: BuildJob, record: JobRecord) -> list[str]:
    """What differs from the record, with the old and the new."""
    lines = []
    found = run.assessor.code_print(job)
    if found is not None and record.code is not None and found.digest != record.code:
        lines += ["code:", source_diff(run.build.records.parts_of(record.code), found.parts)]
    now = run.assessor.params_of(job)
    for name in dict.fromkeys([*record.params, *now]):
        before, after = record.params.get(name), now.get(name)
        if before != after:
            lines.append(f"param {name}: {before[1] if before else 'none'} -> {after[1] if after else 'none'}")
    needs = run.conductor.nodes[job.id].needs_planned
    return lines + _changed_needs(run, record, needs)


def _changed_needs(run: BuildRun, record: JobRecord, needs: Mapping[str, str]) -> list[str]:
    lines = []
    for need in dict.fromkeys([*record.needs, *needs]):
        before, after = record.needs.get(need), needs.get(need)
        if before != after:
            lines.append(f"need {need}: {_short(before)} -> {_short(after)}{_since(run, need)}")
    return lines


def _short(fingerprint: str | None) -> str:
    return fingerprint[:12] if fingerprint else "none"


def _since(run: BuildRun, need: str) -> str:
    """When the file of a need was changed last, if it is one."""
    try:
        state = run.assessor.states.now(run.build.absolute(need))
    except OSError:
        return ""
    return time.strftime(" (changed %Y-%m-%d %H:%M:%S)", time.localtime(state.mtime_ns / 1e9))
