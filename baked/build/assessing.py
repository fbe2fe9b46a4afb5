"""How things are: what is on record, what lies on disk, and what the code says now; for who decides (``decide``).

Each file is looked at once in a run, each function hashed once, and nothing is looked at that nobody asks for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from glob import escape, glob, has_magic
from hashlib import blake2b
from typing import Any

from job_stream.errors import BuildError

from .code import CodePrint, CodeReader
from .decide import Past, Present, Verdict, decide
from .declaring import Declaring
from .file_state import FileState, FileStates, print_of_contents
from .fingerprints import fingerprint_of, shortened
from .job import BuildJob
from .records import JobRecord, Records

__all__ = ["Assessor", "unreadable"]

INLINE_BYTES = 1 << 20
"""Files above this size are read by workers."""


def unreadable(job: BuildJob, error: OSError) -> str:
    """What is said of a source that is there, and cannot be read."""
    users = ", ".join(repr(user.id) for user in list(job.usedBy)[:5])
    return f"{job.id!r} cannot be read: {error.strerror or error}{f'; needed by {users}' if users else ''}"


class Assessor:
    """What the conductor asks about jobs.

    Args:
        owner: the jobs.
        records: what earlier runs have left.
        asked: ids of the jobs that are to be made anew.
        warn: told of what somebody should know.
    """

    def __init__(
        self, owner: Declaring, records: Records, asked: Iterable[str], warn: Callable[[str], object]
    ) -> None:
        self._owner = owner
        self._records = records
        self._asked = frozenset(asked)
        self._warn = warn
        without = {owner.absolute(job.id): job.watched for job in owner.jobs.values()
                   if job.kind == "source" and job.watched}  # fmt: skip
        self.states = FileStates({owner.absolute(path): state for path, state in records.states.items()}, without)
        self._readers: dict[tuple[Any, ...], CodeReader] = {}
        self._prints: dict[str, Mapping[str, str]] = {}
        self._needs: dict[str, Mapping[str, str]] = {}

    # what the conductor asks ------------------------------------------------------------------------------------------

    def verdict(self, job_id: str, needs: Mapping[str, str]) -> Verdict:
        """Whether a job that makes files is out of date."""
        job, record = self._owner.jobs[job_id], self._records.get(job_id)
        missing, empty, is_refreshed = self._look_at_outputs(job, record)
        present = Present(
            needs, job.outputs.paths, self.code_of(job), self.params_of(job), missing, empty,
            watches_code=bool(job.options["codeChanges"]), is_asked_for=job_id in self._asked,
            watches_nothing=job.watches_nothing and not self._records.is_in_doubt(job_id),
            are_there=not missing and not empty,
        )  # fmt: skip
        verdict = decide(self._past(record), present)
        if is_refreshed and not verdict.reasons:
            return verdict._replace(is_new_record=True)
        return verdict

    def recorded(self, job_id: str) -> Mapping[str, str]:
        """The fingerprints of its files if it does not run."""
        found = self._prints.get(job_id)
        if found is None:
            record = self._records.get(job_id)
            found = self._prints[job_id] = self._recorded(job_id, record) if record is not None else {}
        return found

    def _recorded(self, job_id: str, record: JobRecord) -> Mapping[str, str]:
        return {job_id: fingerprint_of(record.explicit)} if record.explicit is not None else record.prints()

    def of_load(self, job_id: str, needs: Mapping[str, str]) -> str:
        """The fingerprint of a value: of what makes it, or the text that it gave when the same made it."""
        job, record = self._owner.jobs[job_id], self._records.get(job_id)
        made_of = self.made_of(job, needs)
        if record is not None and record.made_of == made_of and record.explicit is not None:
            return fingerprint_of(record.explicit)
        return made_of

    def has_to_be_asked(self, job_id: str, needs: Mapping[str, str]) -> bool:
        """Whether a value gave a text as its fingerprint, and is made of other things by now."""
        record = self._records.get(job_id)
        if record is None or record.explicit is None:
            return False
        return record.made_of != self.made_of(self._owner.jobs[job_id], needs)

    def made_of(self, job: BuildJob, needs: Mapping[str, str]) -> str:
        """One fingerprint of a function, its parameters and its needs."""
        digest = blake2b((self.code_of(job) or "").encode(), digest_size=16)
        for name, (value, _) in sorted(self.params_of(job).items()):
            digest.update(f"\0{name}\0{value}".encode())
        for need, value in sorted(needs.items()):
            digest.update(f"\1{need}\0{value}".encode())
        return digest.hexdigest()

    def is_there(self, job_id: str) -> bool:
        """Whether all files of a job exist as they are on record."""
        record = self._records.get(job_id)
        if record is None:
            return False
        for path in self._owner.jobs[job_id].outputs.paths:
            known = record.outputs.get(path)
            try:
                if known is None or self.states.now(self._owner.absolute(path)).digest != known.digest:
                    return False
            except OSError:
                return False
        return True

    # files ------------------------------------------------------------------------------------------------------------

    def _look_at_outputs(self, job: BuildJob, record: JobRecord | None) -> tuple[list[str], list[str], bool]:
        """What is missing, what is empty, and whether the record is to be written with what was read anew."""
        outputs = job.outputs
        if outputs.is_lazy or (record is None and not job.watches_nothing):
            return [], [], False
        missing, empty, is_refreshed = [], [], False
        prints = dict(self.recorded(job.id))
        for path in outputs.paths:
            if path in outputs.temporary:
                continue
            try:
                state = self._now(path)
            except OSError:
                missing.append(path)
                continue
            if not state.size and not job.details.get("empty_ok", True):
                empty.append(path)
            known = record.outputs.get(path) if record is not None else None
            if known != state:
                if os.path.isdir(self._owner.absolute(path)):  # it is in the way, and who runs says so
                    missing.append(path)
                    continue
                is_refreshed = True
            if known is None or known.digest != state.digest:
                prints[path] = state.digest
                if known is not None:
                    self._warn(f"{path} was changed by somebody else since {job.id} made it; its users see the new "
                               f"content. To make it anew: run(again={job.id!r})")  # fmt: skip
        self._prints[job.id] = prints
        return missing, empty, is_refreshed

    def _now(self, path: str) -> FileState:
        absolute = self._owner.absolute(path)
        return self.states.look(absolute) or self.states.now(absolute)

    def outputs_of(self, job: BuildJob) -> dict[str, FileState]:
        """The states of its files that are there."""
        found = {}
        for path in job.outputs.paths:
            try:
                found[path] = self._now(path)
            except OSError:
                continue
        return found

    def is_dear(self, path: str) -> bool:
        """Whether a source has to be read, and is so large that a worker should do it."""
        absolute = self._owner.absolute(path)
        return self.states.look(absolute) is None and os.path.getsize(absolute) > INLINE_BYTES

    # what is only watched ---------------------------------------------------------------------------------------------

    def watched(self, job: BuildJob) -> Mapping[str, str]:
        """The fingerprint of what has no function to run.

        Raises:
            BuildError: a source cannot be read.
        """
        try:
            return {job.id: _WATCHES[job.kind](self, job)}
        except OSError as error:
            raise BuildError(unreadable(job, error)) from error

    def _of_source(self, job: BuildJob) -> str:
        return self._now(job.id).digest

    def _of_sources(self, job: BuildJob) -> str:
        return print_of_contents(self._now(path).digest for path in self.found(job.watched))

    def found(self, patterns: Iterable[str]) -> list[str]:
        """The files that fit patterns; those of jobs are left out."""
        found: dict[str, None] = {}
        for pattern in patterns:
            for path in self._fitting(pattern):
                if not os.path.isdir(path):
                    found[self._owner.relative(path)] = None
        return sorted(path for path in found if path not in self._owner.makers)

    def _fitting(self, pattern: str) -> list[str]:
        """What is there; a name without wildcards stands for itself, and so does a file called like a pattern."""
        absolute = self._owner.absolute(pattern)
        if not has_magic(pattern):
            return [absolute]
        root = "" if pattern.startswith("/") else escape(self._owner.absolute(""))
        return [path for path in (*glob(root + pattern, recursive=True), absolute) if os.path.exists(path)]

    def _of_params(self, job: BuildJob) -> str:
        digest = fingerprint_of(job.watched, job.subject)
        old = self._records.get(job.id)
        if job.unchanged is not None and old is not None and old.made_of not in (None, digest):
            known, value = old.literal()
            if known and job.unchanged(value, job.watched):
                return str(old.made_of)
        return digest

    def _of_function(self, job: BuildJob) -> str:
        return CodeReader().read(job.function).digest

    def _of_versions(self, job: BuildJob) -> str:
        from importlib.metadata import PackageNotFoundError, version

        try:
            return fingerprint_of([(name, version(name)) for name in job.watched])
        except PackageNotFoundError as error:
            raise BuildError(f"{job.subject}: the package {error.name!r} is not installed") from None

    # jobs -------------------------------------------------------------------------------------------------------------

    def code_of(self, job: BuildJob) -> str | None:
        """The hash of its function."""
        found = self.code_print(job)
        return found.digest if found is not None else None

    def code_print(self, job: BuildJob) -> CodePrint | None:
        """The hash of its function, and what it is made of."""
        if job.function is None:
            return None
        ignored = tuple(job.options["ignore"])
        if ignored not in self._readers:
            self._readers[ignored] = CodeReader(ignored)
        return self._readers[ignored].read(job.function)

    def params_of(self, job: BuildJob) -> dict[str, tuple[str, str]]:
        """Of each parameter, its fingerprint and its text."""
        return {name: (fingerprint_of(value, name), shortened(value)) for name, value in job.params.items()}

    def _past(self, record: JobRecord | None) -> Past | None:
        if record is None:
            return None
        return Past(record.needs, list(record.outputs), record.code, record.params)


_WATCHES: dict[str, Callable[[Assessor, BuildJob], str]] = {
    "source": Assessor._of_source,
    "sources": Assessor._of_sources,
    "params": Assessor._of_params,
    "function": Assessor._of_function,
    "versions": Assessor._of_versions,
}
