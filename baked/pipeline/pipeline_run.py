"""A job with its files and its folder, as a build with one job for each entry.

The build decides what runs, runs it and remembers it. Here stand only the words: which file is where, which program is
called how, what of a module has its entries run again, and how all of that is told.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from job_stream import getRank
from job_stream.errors import BuildError, GraphError, JobDied, JobTimeout, ProgramError

from ..build import Fingerprint, build
from ..build.planning import BuildPlan, PlanEntry
from .job_parts import Artifact, JobEntry, JobInput, YamlJob
from .module_folders import ProgramModule, print_of_interpreter, watched_folder
from .program_calls import CallEcho, ProgramCall, command_line, leads_out, perform
from .progress_telling import Progress, ProgressTeller
from .storage import Inputs, link_inputs, path_of

__all__ = ["PipelineOptions", "PipelineResult", "PipelineRun"]

TAIL_LINES = 20
"""How much of the log of a failed entry is told with it."""

TAIL_BYTES = 1 << 16

LONGEST_NAME = 200
"""Bytes of a log's name, to which a suffix comes."""


class PipelineResult(NamedTuple):
    """What ``run`` returns.

    Attributes:
        id, folder: of the run.
        public: the files to be kept, by their names.
        temp: the temporary files that are there, by their names.
        made, kept: entries, as 'step/module'.
        seconds: how long the run took.
    """

    id: str
    folder: Path
    public: Mapping[str, Path]
    temp: Mapping[str, Path]
    made: list[str]
    kept: list[str]
    seconds: float


T = TypeVar("T")


class PipelineOptions(NamedTuple):
    """What a run is told beside its inputs."""

    keeps_temp: bool = False
    keeps_going: bool = False
    cores: int | None = None
    echo: CallEcho | None = None


class PipelineRun:
    """A job that can be run on its inputs, in its folder.

    Args:
        job: as it has been read.
        folder: of the run.
        inputs: the given files by their names.
        options: what the run is told.
    """

    def __init__(self, job: YamlJob, folder: Path, inputs: Inputs, options: PipelineOptions) -> None:
        self.job = job
        self.folder = folder
        self._inputs = inputs
        self._options = options
        self._entries: dict[str, JobEntry] = {}
        self._calls: dict[str, ProgramCall] = {}
        self._jobs_of: dict[int, Any] = {}
        self._watched: dict[str, tuple[Any, str]] = {}
        self._taken: Counter[str] = Counter()
        self.build = build(folder / ".build", keepGoing=options.keeps_going, cores=options.cores,
                           limits=_limits(job), quiet=True, undeclared="off")  # fmt: skip
        self.build.name = "pipeline"
        before: list[Any] = []
        for step in job.steps:
            jobs = [self._add(entry, before) for entry in step.entries]
            before = jobs if job.order == "steps" else []
        self.build.finish(self._tidy)

    # declaring --------------------------------------------------------------------------------------------------------

    def _add(self, entry: JobEntry, before: Sequence[Any]) -> Any:
        module = entry.used
        paths = [path_of(each) for each in entry.outputs] or [self._mark_of(entry)]
        temp = () if self._options.keeps_temp else [n for n, each in enumerate(entry.outputs) if not each.is_public]
        call = self._call(entry, module, paths)
        if module.name not in self._watched:
            code = self.build.sources(os.path.abspath(module.folder), without=watched_folder(module))
            self._watched[module.name] = code, print_of_interpreter(module.interpreter)
        code, interpreter = self._watched[module.name]
        words = [word if isinstance(word, int) else str(word) for word in call.words]
        job = self.build.files(
            paths, perform, temp=temp, atomic=True, emptyOk=True, codeChanges=False, title=entry.title, after=before,
            needs=[code, *map(self._need, entry.inputs)], **module.options,
            params={"call": Fingerprint(call, ""), "command": [module.cwd, sorted(module.env.items()), words],
                    "interpreter": interpreter},
        )  # fmt: skip
        self._entries[job.id], self._calls[job.id] = entry, call
        self._jobs_of.update({id(each): job[number] for number, each in enumerate(entry.outputs)})
        return job

    def _mark_of(self, entry: JobEntry) -> str:
        """A file that says that an entry without outputs has run; steps and names may change."""
        what = repr([entry.used.name, entry.parameters, [(each.param, each.name) for each in entry.inputs]])
        digest = blake2b(what.encode(errors="surrogateescape"), digest_size=8).hexdigest()
        self._taken[digest] += 1
        return f".build/done/{digest}-{self._taken[digest]}"

    def _need(self, artifact: Artifact) -> Any:
        if isinstance(artifact.source, JobInput):
            return self._given(artifact.source)
        return self._jobs_of[id(artifact.source)]

    def _given(self, given: JobInput) -> str:
        return str(self._inputs[given.key])

    def _call(self, entry: JobEntry, module: ProgramModule, paths: Sequence[str]) -> ProgramCall:
        words: list[str | int] = list(module.command)
        for each in entry.inputs:
            given = each.source
            words += f"--{each.param}", self._given(given) if isinstance(given, JobInput) else self._at(path_of(given))
        for number, each in enumerate(entry.outputs):
            words += f"--{each.param}", number
        for name, value in entry.parameters.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None and one is not False:
                    words += [f"--{name}"] if one is True else [f"--{name}", str(one)]
        log = self._log_name(entry)
        cwds = {"module": os.path.abspath(module.folder), "caller": os.getcwd()}
        return ProgramCall(
            entry.title, tuple(words), tuple(map(self._at, paths)), tuple(each.empty_ok for each in entry.outputs),
            str(self.folder), cwds.get(module.cwd), self._at(os.path.join(".build", "scratch", log)), module.env,
            self._at(os.path.join("logs", f"{log}.log")), self._options.echo, not entry.outputs,
        )  # fmt: skip

    def _at(self, path: str) -> str:
        return os.path.join(self.folder, path)

    def _log_name(self, entry: JobEntry) -> str:
        """STEP.MODULE.N, where N also tells apart what dots in names have made the same."""
        begin = os.fsencode(f"{entry.step.name}.{entry.used.name}")[:LONGEST_NAME].decode(errors="ignore")
        number = max(entry.number, self._taken[begin] + 1)
        self._taken[begin] = number
        return f"{begin}.{number}"

    # looking ----------------------------------------------------------------------------------------------------------

    def plan(self, again: Any = ()) -> BuildPlan:
        return self._titled(self.build.plan(again=self._again(again)))

    def _titled(self, plan: BuildPlan) -> BuildPlan:
        return BuildPlan([PlanEntry(self._entries[each.id].title, each.verb, each.reasons) for each in plan])

    def _again(self, patterns: Any) -> list[str]:
        """The jobs of what is asked for, and of outputs that do not count as made."""
        found = {job_id: None for job_id, call in self._calls.items()
                 if any(leads_out(path, call.folder) for path in call.targets)}  # fmt: skip
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            ids = [job_id for job_id, entry in self._entries.items()
                   if fnmatchcase(entry.title, pattern)
                   or fnmatchcase(f"{entry.step.name}/{entry.used.name}", pattern)]  # fmt: skip
            if not ids:
                titles = ", ".join(entry.title for entry in self._entries.values())
                raise BuildError(f"again: no entry fits {pattern!r}; the entries are {titles}")
            found.update(dict.fromkeys(ids))
        return list(found)

    def by_title(self, found: Mapping[str, T]) -> dict[str, T]:
        """What is known of jobs, as of entries."""
        return {entry.title: found[job_id] for job_id, entry in self._entries.items() if job_id in found}

    @cached_property
    def seconds_before(self) -> dict[str, float]:
        """How long entries took when they were made last."""
        records = {entry.title: self.build.records.get(job_id) for job_id, entry in self._entries.items()}
        return {title: record.seconds for title, record in records.items() if record is not None and record.seconds}

    # running ----------------------------------------------------------------------------------------------------------

    def run(
        self, again: Any, progress: Progress | None, planned: Callable[[BuildPlan], object] | None = None
    ) -> PipelineResult | None:
        """Runs what has to be run; ``planned`` is called with the plan before, if anything has to."""
        chosen = self._again(again)
        if not getRank():
            self.folder.mkdir(parents=True, exist_ok=True)
        teller = ProgressTeller(self.folder.name, self.job.steps, self._entries, self._link_inputs, progress)
        try:
            report = self.build.run(again=chosen, events=teller,
                                    planned=planned and (lambda plan: planned(self._titled(plan))))  # fmt: skip
        except GraphError as error:
            raise self._failure(error) from None
        if report is None:
            return None
        teller.tell_steps(len(self.job.steps))
        named = [(each.is_public, each.name, Path(self._at(path_of(each))))
                 for entry in self._entries.values() for each in entry.outputs]  # fmt: skip
        made, kept = ([self._entries[job_id].title for job_id in ids if job_id in self._entries]
                      for ids in (report.made, report.kept))  # fmt: skip
        return PipelineResult(
            self.folder.name, self.folder, {name: path for is_public, name, path in named if is_public},
            {name: path for is_public, name, path in named if not is_public and path.exists()},
            made, kept, report.seconds,
        )  # fmt: skip

    def _link_inputs(self) -> None:
        """Once the folder is ours."""
        link_inputs(self.folder, self._inputs)

    def _tidy(self) -> None:
        """After a job in which nothing failed, while the folder is still ours: what killed runs have left goes, too."""
        if not self._options.keeps_temp:
            shutil.rmtree(self._at("temp"), ignore_errors=True)
        shutil.rmtree(self._at(os.path.join(".build", "scratch")), ignore_errors=True)

    # failures ---------------------------------------------------------------------------------------------------------

    def _failure(self, error: GraphError) -> GraphError:
        """With all that somebody needs to know who has to mend it."""
        known = {job_id: each for job_id, each in error.failures.items() if job_id in self._entries}
        if not known:
            return error
        failures = {self._entries[job_id].title: each for job_id, each in known.items()}
        return GraphError("\n".join(self._told(*each) for each in known.items()), failures)

    def _told(self, job_id: str, error: BaseException) -> str:
        entry, call = self._entries[job_id], self._calls[job_id]
        what = str(error)
        if not isinstance(error, ProgramError):
            what += f" after {self.build[job_id].seconds or 0.0:.1f} s"
        if isinstance(error, (JobDied, JobTimeout)):  # who writes the log could not say so
            with suppress(OSError), open(call.log, "a", encoding="utf-8", errors="surrogateescape") as log:
                log.write(f"{what}\n")
        said = "".join(f"\n    {line}" for line in _last_lines(call.log))
        return (f"{entry.title} (module {entry.used.name}) failed: {what}\n  command: {command_line(call)}"
                f"\n  it said last:{said}\n  log: {call.log}")  # fmt: skip


def _last_lines(path: str) -> list[str]:
    """Of what a program wrote; the first line of a log is the command, and the last one how it ended."""
    with suppress(OSError), open(path, "rb") as file:
        first = file.readline()
        file.seek(max(len(first), os.fstat(file.fileno()).st_size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace").splitlines()[:-1][-TAIL_LINES:]
    return []


def _limits(job: YamlJob) -> dict[str, int]:
    """Of each named counter, what the module that takes most of it takes."""
    found: dict[str, int] = {}
    for entry in job.entries:
        for name, count in (entry.used.options.get("limits") or {}).items():
            found[name] = max(found.get(name, 1), count)
    return found
