"""What comes back from workers, and what goes on record of it.

A job is recorded when it ends, with the fingerprints that its needs had before it began. A failure voids its record. Of
a worker that died, jobs that had processes of their own are begun again: their worker's death is not theirs.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from job_stream.errors import BuildError, JobContractError, JobDied, JobTimeout, LaneDied

from .access import complaints
from .conductor import Node
from .errands import JobOutcome, discard, is_isolated
from .fingerprints import fingerprint_of
from .job import BuildJob
from .kinds import LOADS
from .preparing import Preparation
from .records import JobRecord

if TYPE_CHECKING:
    pass

__all__ = ["Bookkeeping"]

_DEATHS = 3
"""How often a worker may die under a job that has a process of its own, until the job is given up."""


class Bookkeeping(Preparation):
    """What is done with the end of each attempt."""

    # what comes back --------------------------------------------------------------------------------------------------

    def _take_in(self, outcome: Any) -> None:
        if not isinstance(outcome, JobOutcome):
            self._take_failure(outcome)
        elif outcome.is_blind:
            raise BuildError(f"the host {outcome.host} does not see the folder {self.build.folder}: builds on several "
                             "hosts need one that all of them share")  # fmt: skip
        elif outcome.job in self._hashing:
            self._take_hash(outcome)
        else:
            self.queue.done(outcome.job)
            self._take_outcome(self.build.jobs[outcome.job], outcome)

    def _take_hash(self, outcome: JobOutcome) -> None:
        self._hashing.discard(outcome.job)
        job = self.build.jobs[outcome.job]
        self.assessor.states.note(self.build.absolute(job.id), outcome.states[0])
        self.conductor.watched(job.id, self.assessor.watched(job))

    def _take_failure(self, failure: Any) -> None:
        """A worker has died, or something of ours went wrong there."""
        job = self.build.jobs[failure.item.job]
        if job.id in self._hashing:
            self._hashing.discard(job.id)
            self.conductor.watched(job.id, self.assessor.watched(job))
            return
        self.queue.done(job.id)
        deaths = self._deaths[job.id] = self._deaths.get(job.id, 0) + 1
        has_process = is_isolated(job, self.build.options["isolate"])
        if has_process and deaths < _DEATHS and isinstance(failure.exception, LaneDied):
            self.conductor.again(job.id)
            return
        error = failure.exception
        if isinstance(error, LaneDied):
            error = JobDied(f"{job.subject} ended the worker that it ran in: {failure.reason.strip()}",
                            *_end_in(failure.reason))  # fmt: skip
        self._fail(job, error)

    def _take_outcome(self, job: BuildJob, outcome: JobOutcome) -> None:
        self._note(job, outcome)
        if outcome.is_given_back:
            self.conductor.stopped(job.id)
        elif outcome.guilty is not None:
            self._fail_load(job, outcome)
        elif outcome.is_success and job.kind in LOADS:
            self._succeed_in_loading(job, outcome)
        elif outcome.is_success:
            self._succeed(job, outcome)
        else:
            attempts = self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
            if attempts <= job.options["retries"] and not self.conductor.is_stopping:
                self.conductor.again(job.id)
            else:
                self._fail(job, self._error_of(job, outcome))

    def _note(self, job: BuildJob, outcome: JobOutcome) -> None:
        self.outcomes[job.id] = outcome
        job.stdout, job.stderr = outcome.stdout, outcome.stderr
        job.seconds, job.maxMemory = outcome.seconds, outcome.max_memory or None
        job.host, job.pid = outcome.host, outcome.pid or None
        if (job.options["logs"] or self.build.options["logs"]) == "echo":
            self.screen.echo(job, outcome)

    def _succeed(self, job: BuildJob, outcome: JobOutcome) -> None:
        said = complaints(self.build, job, outcome.opened) if outcome.opened else []
        if said and self.build.options["undeclared"] == "error":
            discard(map(self.build.absolute, job.outputs.paths), job.details.get("keep_broken", False))
            self._fail(job, JobContractError("; ".join(said)))
            return
        for text in said:
            self.screen.warn(text)
        states = {path: state for path, state in zip(job.outputs.paths, outcome.states, strict=True) if state}
        for path, state in states.items():
            self.assessor.states.note(self.build.absolute(path), state)
        self._note_values(job, outcome)
        self.conductor.ended(job.id, {path: state.digest for path, state in states.items()})
        self._record(job, states)
        self._warn_of_changes(job)

    def _succeed_in_loading(self, job: BuildJob, outcome: JobOutcome) -> None:
        """A value was computed to learn what it says of itself."""
        self._note_values(job, outcome)
        made_of = self.assessor.made_of(job, self.conductor.nodes[job.id].needs_before)
        text = outcome.explicit.get(job.id)
        self._loads_recorded.add(job.id)
        self._write(job, {}, made_of, text)
        self.conductor.ended(job.id, {job.id: made_of if text is None else fingerprint_of(text)})

    def _note_values(self, job: BuildJob, outcome: JobOutcome) -> None:
        """Records the values that a job was given, and has its own record tell what they said of themselves.

        What a value says may be known only now, and then others that are made of it have other fingerprints, too.
        """
        prints: dict[str, str] = {}
        node = self.conductor.nodes[job.id]
        for load in self.conductor.loads_of(node):
            needs = self.conductor.nodes[load].needs_before
            needs.update({need: prints[need] for need in needs if need in prints})
            made_of, text = self.assessor.made_of(self.build.jobs[load], needs), outcome.explicit.get(load)
            prints[load] = made_of if text is None else fingerprint_of(text)
            if load not in self._loads_recorded:
                self._loads_recorded.add(load)
                self._write(self.build.jobs[load], {}, made_of, text)
        node.needs_before.update({load: value for load, value in prints.items() if load in node.needs_before})

    def _record(self, job: BuildJob, states: Mapping[str, Any]) -> None:
        self._write(job, states)

    def _write(self, job: BuildJob, states: Mapping[str, Any], made_of: str | None = None, explicit: str | None = None
               ) -> None:  # fmt: skip
        node, old = self.conductor.nodes[job.id], self.build.records.before(job.id)
        code = self.assessor.code_of(job)
        if not job.options["codeChanges"] and old is not None:
            code = old.code
        prints = {path: value for path, value in node.fingerprints.items()
                  if path in states and states[path].digest != value}  # fmt: skip
        outcome = self.outcomes.get(job.id)
        record = JobRecord(
            needs=dict(node.needs_before), outputs=dict(states), code=code, params=self.assessor.params_of(job),
            logical=prints, made_of=made_of, explicit=explicit,
            seconds=outcome.seconds if outcome else (old.seconds if old is not None else None),
            cpu=outcome.cpu if outcome else None, max_memory=outcome.max_memory if outcome else None,
            host=outcome.host if outcome else "", reasons=tuple(node.reasons), sources=self._source_states(node),
            ended=time.time(),
        )  # fmt: skip
        self._note_code(job)
        self.build.records.done(job.id, record)

    def _note_code(self, job: BuildJob) -> None:
        """The source behind the hash goes on record once; what of it cannot be watched is said then."""
        found = self.assessor.code_print(job)
        if found is not None and self.build.records.code(found):
            for name, kind in found.unwatched:
                self.screen.warn(f"not watched: {name} ({kind}), which {job.id} uses; give params= if it matters")

    def _source_states(self, node: Node) -> dict[str, Any]:
        found = {}
        for need, _ in node.needs:
            if need.role == "watch" and self.build.jobs[need.id].kind == "source":
                state = self.assessor.states.look(self.build.absolute(need.id))
                if state is not None:
                    found[need.id] = state
        return found

    def _warn_of_changes(self, job: BuildJob) -> None:
        """A source that was changed while the job ran: the record has what it was before."""
        for path, state in self._source_states(self.conductor.nodes[job.id]).items():
            with suppress(OSError):
                info = os.stat(self.build.absolute(path))
                if (info.st_mtime_ns, info.st_size) != (state.mtime_ns, state.size) and not os.path.isdir(
                    self.build.absolute(path)
                ):
                    self.screen.warn(f"{path} changed while {job.id} was made from it, so that runs again next time")

    def accept(self, accepted: Iterable[str]) -> None:
        """Records files that are there as made from what there is now."""
        for job in self.jobs:
            node = self.conductor.nodes[job.id]
            node.needs_before = self.conductor.fingerprints_of_needs(node)
            node.fingerprints = self._present(job, node.needs_before)
        for job_id in accepted:
            job = self.build.jobs[job_id]
            states = self.assessor.outputs_of(job)
            gone = [path for path in job.outputs.paths if path not in states and path not in job.outputs.temporary]
            if gone or not job.makes_files:
                lacks = ", ".join(gone) or "files"
                raise BuildError(f"accept() takes files that are there: {job.subject} has no {lacks}")
            self._record(job, states)

    def _present(self, job: BuildJob, needs: Mapping[str, str]) -> Mapping[str, str]:
        if job.is_invariant:
            return self.assessor.watched(job)
        if job.kind in LOADS:
            return {job.id: self.assessor.of_load(job.id, needs)}
        states = self.assessor.outputs_of(job)
        return {path: states[path].digest if path in states else "" for path in job.outputs.paths}

    # failures ---------------------------------------------------------------------------------------------------------

    def _fail(self, job: BuildJob, error: BaseException) -> None:
        self.failures[job.id] = job.exception = error
        job.exitCode = getattr(error, "exitCode", None)
        node = self.conductor.nodes[job.id]
        self.build.records.failed(job.id, str(error), node.reasons)
        self.conductor.failed(job.id)
        for path in job.outputs.paths:
            self.assessor.states.note(self.build.absolute(path), None)
        self.screen.failed(job, error)

    def _fail_load(self, job: BuildJob, outcome: JobOutcome) -> None:
        load = self.build.jobs[str(outcome.guilty)]
        if load.id not in self.failures and outcome.mishap is not None:
            self._fail(load, outcome.mishap.exception())
        self.build.records.failed(job.id, f"blocked by {load.id}", [])
        self.conductor.blocked(job.id)

    def _error_of(self, job: BuildJob, outcome: JobOutcome) -> BaseException:
        if outcome.is_late:
            return JobTimeout(f"{job.subject} took longer than its timeout of {job.options['timeout']:g} s, so it was "
                              "ended with all that it had started")  # fmt: skip
        if outcome.mishap is not None:
            return outcome.mishap.exception()
        if outcome.broken:
            return JobContractError(f"{job.subject} has not made what it was to make: {'; '.join(outcome.broken)}")
        return _death(job, outcome)


def _death(job: BuildJob, outcome: JobOutcome) -> JobDied:
    status = outcome.status or 0
    if os.WIFSIGNALED(status):
        name = _signal_name(os.WTERMSIG(status))
        memory = " (out of memory?)" if outcome.is_oom else ""
        return JobDied(f"{job.subject} was ended by {name}{memory}", None, name)
    code = os.waitstatus_to_exitcode(status)
    return JobDied(f"{job.subject} ended its process with exit code {code} instead of returning", code, None)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _end_in(reason: str) -> tuple[int | None, str | None]:
    """The exit code or signal that the engine's words about a dead worker name."""
    name = re.search(r"\bSIG[A-Z0-9]+\b", reason)
    code = re.search(r"exit code (\d+)", reason)
    return (int(code[1]) if code and not name else None), (name[0] if name else None)
