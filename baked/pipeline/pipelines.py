"""``Pipeline``: a job of YAML as a build with one job for each entry.

The build decides what runs, runs it and remembers it. Here stand only the words: which file is where, which program is
called how, and what of a module has its entries run again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from job_stream import getRank, hosts
from job_stream.errors import BuildError, GraphError

from ..build import Build, Fingerprint, build
from ..build.planning import BuildPlan, PlanEntry
from .document import element_of, read_yaml
from .jobfile import JobEntry, JobInput, JobStep, YamlJob, read_job
from .module_folders import Modules, ProgramModule
from .prints import print_of_folder, print_of_interpreter
from .problems import Problems
from .program_calls import ProgramCall, command_line, perform
from .storage import Inputs, check_folder, folder_of, given_inputs, link_inputs
from .venvs import make_venvs

__all__ = ["Pipeline", "PipelineResult", "PipelineUpdate", "pipeline"]

TAIL_LINES = 20
"""How much of the log of a failed entry is told with it."""


class PipelineUpdate(NamedTuple):
    """What ``progress`` is called with.

    Attributes:
        job_id: the id of the run.
        current_step: from 1 on.
        entry: 'step/module'; None where a step begins.
        state: 'running', 'made', 'kept', 'failed' or 'blocked'.
        seconds: how long the entry took.
    """

    job_id: str
    current_step: int
    total_steps: int
    step_name: str
    entry: str | None
    state: str
    seconds: float


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


Progress = Callable[[PipelineUpdate], object]


def pipeline(
    job: str | os.PathLike[str] | Mapping[str, Any],
    inputs: Any = (),
    *,
    modulesDir: str | os.PathLike[str] = "modules",
    storageDir: str | os.PathLike[str] = "storage",
    **keywords: Any,
) -> PipelineResult | None:
    """Reads a job, checks it, and runs what has changed.

    Args:
        job: the path of a job file, or a mapping with the same keys.
        inputs: paths in the order of the job's inputs, or a mapping of their names to paths.
        keywords: those of ``Pipeline.run``.

    Raises:
        PipelineError: the job, a module or an input is wrong; nothing has run.
        GraphError: entries failed.

    Example:
        >>> from job_stream.baked import pipeline
        >>> result = pipeline("job.yaml", ["talk.mp4"])  # doctest: +SKIP
        >>> result.public["loud.json"]  # doctest: +SKIP
    """
    return Pipeline(job, modulesDir=modulesDir, storageDir=storageDir).run(inputs, **keywords)


class Pipeline:
    """A job that has been read and checked.

    Args:
        job: the path of a job file, or a mapping with the same keys.
        modulesDir: the folder of modules.
        storageDir: the folder in which each run has a folder.
        makeVenvs: whether ``run`` makes virtual environments that are missing.

    Attributes:
        name, version: of the job.
        steps: each with its ``name`` and ``entries``.
        modules: those of the folder.
        warnings: lines that somebody should read.

    Raises:
        PipelineError: something is wrong; has all of it.
    """

    def __init__(
        self,
        job: str | os.PathLike[str] | Mapping[str, Any],
        *,
        modulesDir: str | os.PathLike[str] = "modules",
        storageDir: str | os.PathLike[str] = "storage",
        makeVenvs: bool = False,
    ) -> None:
        problems = Problems()
        is_file = not isinstance(job, Mapping)
        self._shown = os.fspath(job) if is_file else "job"  # type: ignore[arg-type]
        self._path = os.path.abspath(self._shown)
        self._makes_venvs = makeVenvs
        self.storage = Path(storageDir)
        self.modules = Modules(modulesDir, makeVenvs)
        element = read_yaml(Path(self._shown), self._shown, problems) if is_file else element_of(job, self._shown)
        self._job = (
            read_job(element, self.modules, problems) if element is not None else YamlJob("", "", "steps", [], [])
        )
        _check_resources(self._used(), problems)
        problems.raise_any()
        self.name, self.version, self.steps = self._job.name, self._job.version, self._job.steps
        self.warnings = [*self.modules.warnings({module.name for module in self._used()}), *self._unread()]

    @property
    def inputs(self) -> list[JobInput]:
        """What has to be given for a run."""
        return self._job.inputs

    def _used(self) -> list[ProgramModule]:
        return list(
            {id(entry.module): entry.module for entry in self._job.entries if entry.module is not None}.values()
        )

    def _unread(self) -> list[str]:
        return [
            f"{each.place[0]}:{each.place[1]}: nobody reads {each.name!r}, which is temporary, so it is removed"
            for entry in self._job.entries
            for each in entry.outputs
            if not each.is_public and not each.reader_count
        ]

    # looking ----------------------------------------------------------------------------------------------------------

    def check(self, inputs: Any = (), *, id: str | None = None) -> None:
        """Checks inputs and storage as ``run`` does; inputs may be missing.

        Raises:
            PipelineError: something is wrong.
        """
        self._declared(inputs, id, are_optional=True)

    def plan(self, inputs: Any = (), *, id: str | None = None, again: Any = (), keepTemp: bool = False) -> BuildPlan:
        """What would run, and why; nothing is run or written."""
        run = self._declared(inputs, id).build(_Options(keeps_temp=keepTemp))
        return run.plan(again)

    # running ----------------------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Any = (),
        *,
        id: str | None = None,
        again: Any = (),
        keepTemp: bool = False,
        keepGoing: bool = False,
        cores: int | None = None,
        progress: Progress | None = None,
        quiet: bool = True,
        verbose: bool = False,
    ) -> PipelineResult | None:
        """Runs what has to be run.

        Args:
            inputs: paths in the order of the job's inputs, or a mapping of their names to paths.
            id: of the run; by default it follows from the job file and the inputs.
            again: patterns of 'step/module' that are made anew though nothing has changed.
            keepTemp: whether temporary artifacts stay.
            keepGoing: whether after a failure everything runs that does not depend on it.
            cores: how many to use of each host.
            progress: called in this thread with a ``PipelineUpdate``.
            quiet: whether programs are not heard on stderr.
            verbose: whether their stdout is heard there, too.

        Returns:
            what was made; on ranks other than the primary, None.

        Raises:
            PipelineError: an input or the storage is wrong; nothing has run.
            BuildError: another run has the folder.
            GraphError: entries failed.
        """
        declared = self._declared(inputs, id)
        if self._makes_venvs and not getRank():
            make_venvs(self._used())
        echo = None if quiet else os.dup(2)
        try:
            options = _Options(keepTemp, keepGoing, cores, echo, verbose)
            return declared.build(options).run(again, progress)
        finally:
            if echo is not None:
                os.close(echo)

    def _declared(self, inputs: Any, run_id: str | None, are_optional: bool = False) -> _Declared:
        problems = Problems()
        is_given = bool(inputs) or not are_optional
        found = given_inputs(self._job, self._shown, inputs, problems, are_optional) if is_given else {}
        folder = folder_of(self.storage, self._job, self._path, found, run_id, problems)
        outputs = [_path_of(each) for entry in self._job.entries for each in entry.outputs]
        check_folder(self.storage, folder, outputs, found, problems)
        problems.raise_any()
        return _Declared(self._job, folder, found)


def _check_resources(modules: Iterable[ProgramModule], problems: Problems) -> None:
    """Cores and memory that no host has."""
    for module in modules:
        if not {"cores", "memory"} & module.options.keys():
            continue
        from ..build.kinds import bytes_of_memory

        there = hosts()
        cores, memory = module.options.get("cores", 1), module.options.get("memory")
        most = max(host.cpus for host in there)
        if isinstance(cores, int) and cores > most:
            problems.add(
                module.place,
                "cores",
                f"module {module.name!r} takes {cores} cores, and no host has more than {most}",
                "give cores: all",
            )
        try:
            size = bytes_of_memory(f"module {module.name!r}", memory) or 0
        except BuildError as error:
            problems.add(module.place, "memory", str(error), "write a number or '8G'")
            continue
        if size > max(host.memory for host in there):
            problems.add(
                module.place,
                "memory",
                f"module {module.name!r} takes {memory} of memory, and no host has that",
                "give less",
            )


def _path_of(artifact: Any) -> str:
    return f"{'public' if artifact.is_public else 'temp'}/{artifact.name}"


class _Options(NamedTuple):
    """What a run is told beside its inputs."""

    keeps_temp: bool = False
    keeps_going: bool = False
    cores: int | None = None
    echo: int | None = None
    is_verbose: bool = False


class _Declared(NamedTuple):
    """A job with its files and its folder."""

    job: YamlJob
    folder: Path
    inputs: Inputs

    def build(self, options: _Options) -> _Run:
        """As a build."""
        limits: dict[str, int] = {}
        for entry in self.job.entries:
            for name, count in (_module_of(entry).options.get("limits") or {}).items():
                limits[name] = max(limits.get(name, 1), count)
        made = build(
            self.folder / ".build",
            keepGoing=options.keeps_going,
            cores=options.cores,
            limits=limits,
            quiet=True,
            undeclared="off",
        )
        run = _Run(self, made, options)
        before: list[Any] = []
        for step in self.job.steps:
            jobs = [run.add(entry, before) for entry in step.entries]
            before = jobs if self.job.order == "steps" else []
        return run


def _module_of(entry: JobEntry) -> ProgramModule:
    assert entry.module is not None
    return entry.module


class _Run:
    """The build of a job, and which of its jobs is which entry."""

    def __init__(self, declared: _Declared, made: Build, options: _Options) -> None:
        self._declared = declared
        self._build = made
        self._options = options
        self._folder = str(declared.folder)
        self._entries: dict[str, JobEntry] = {}
        self._calls: dict[str, ProgramCall] = {}
        self._jobs_of: dict[int, Any] = {}
        self._prints: dict[str, tuple[str, str]] = {}

    # declaring --------------------------------------------------------------------------------------------------------

    def add(self, entry: JobEntry, before: Sequence[Any]) -> Any:
        """Declares an entry."""
        module = _module_of(entry)
        paths = [_path_of(each) for each in entry.outputs] or [self._mark_of(entry)]
        temp = () if self._options.keeps_temp else [n for n, each in enumerate(entry.outputs) if not each.is_public]
        call = self._call(entry, module, paths)
        if module.name not in self._prints:
            self._prints[module.name] = print_of_folder(module), print_of_interpreter(module.interpreter)
        files, interpreter = self._prints[module.name]
        shape = [
            module.cwd,
            sorted(module.env.items()),
            [word if isinstance(word, int) else str(word) for word in call.words],
        ]
        job = self._build.files(
            paths,
            perform,
            temp=temp,
            atomic=True,
            emptyOk=True,
            codeChanges=False,
            title=entry.title,
            after=before,
            needs=[self._need(each) for each in entry.inputs],
            params={"call": Fingerprint(call, ""), "command": shape, "module": files, "interpreter": interpreter},
            **module.options,
        )
        self._entries[job.id], self._calls[job.id] = entry, call
        self._jobs_of[id(entry)] = job
        for number, each in enumerate(entry.outputs):
            self._jobs_of[id(each)] = job[number]
        return job

    def _mark_of(self, entry: JobEntry) -> str:
        """A file that says that an entry without outputs has run; steps and names may change."""
        what = repr([entry.parameters, [(each.param, each.name) for each in entry.inputs]])
        name = f"{_module_of(entry).name}-{blake2b(what.encode(errors='surrogateescape'), digest_size=8).hexdigest()}"
        count = sum(path.startswith(f".build/done/{name}") for path in self._entries)
        return f".build/done/{name}{f'-{count}' if count else ''}"

    def _need(self, artifact: Any) -> Any:
        if isinstance(artifact.source, JobInput):
            return self._input(artifact.source)
        return self._jobs_of[id(artifact.source)]

    def _input(self, given: JobInput) -> str:
        return str(self._declared.inputs.get(given.name or given.param, ""))

    def _call(self, entry: JobEntry, module: ProgramModule, paths: Sequence[str]) -> ProgramCall:
        words: list[str | int] = list(module.command)
        for each in entry.inputs:
            given = each.source
            path = self._input(given) if isinstance(given, JobInput) else os.path.join(self._folder, _path_of(given))
            words += [f"--{each.param}", path]
        for number, each in enumerate(entry.outputs):
            words += [f"--{each.param}", number]
        for name, value in entry.parameters.items():
            for one in value if isinstance(value, list) else [value]:
                words += (
                    [] if one is None or one is False else [f"--{name}"] if one is True else [f"--{name}", str(one)]
                )
        log = f"{entry.step.name}.{entry.name}.{entry.number}"
        cwd = {"module": os.path.abspath(module.folder)}.get(module.cwd, os.getcwd())
        return ProgramCall(
            entry.title,
            tuple(words),
            tuple(os.path.join(self._folder, path) for path in paths),
            tuple(each.empty_ok for each in entry.outputs),
            self._folder,
            cwd,
            os.path.join(self._folder, ".build", "scratch", log) if module.cwd == "scratch" else None,
            module.env,
            os.path.join(self._folder, "logs", f"{log}.log"),
            self._options.echo,
            (self._options.is_verbose, True),
            not entry.outputs,
        )

    # running ----------------------------------------------------------------------------------------------------------

    def _again(self, patterns: Any) -> list[str]:
        found: dict[str, None] = {}
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            ids = [job_id for job_id, entry in self._entries.items() if fnmatchcase(entry.title, pattern)]
            if not ids:
                titles = ", ".join(entry.title for entry in self._entries.values())
                raise BuildError(f"again: no entry fits {pattern!r}; the entries are {titles}")
            found.update(dict.fromkeys(ids))
        return list(found)

    def plan(self, again: Any) -> BuildPlan:
        found = self._build.plan(again=self._again(again))
        return BuildPlan([PlanEntry(self._entries[each.id].title, each.verb, each.reasons) for each in found])

    def run(self, again: Any, progress: Progress | None) -> PipelineResult | None:
        chosen = self._again(again)
        if not getRank():
            self._declared.folder.mkdir(parents=True, exist_ok=True)
        tell = _Teller(self._declared, self._entries, progress) if progress is not None else None
        try:
            report = self._build.run(again=chosen, events=tell)
        except GraphError as error:
            link_inputs(self._declared.folder, self._declared.inputs)
            raise self._failure(error) from None
        if report is None:
            return None
        link_inputs(self._declared.folder, self._declared.inputs)
        if tell is not None:
            tell.tell_steps(len(self._declared.job.steps))
        named = [
            (each.is_public, each.name, self._declared.folder / _path_of(each))
            for entry in self._entries.values()
            for each in entry.outputs
        ]
        return PipelineResult(
            self._declared.folder.name,
            self._declared.folder,
            {name: path for is_public, name, path in named if is_public},
            {name: path for is_public, name, path in named if not is_public and path.exists()},
            [self._entries[job_id].title for job_id in report.made],
            [self._entries[job_id].title for job_id in report.kept],
            report.seconds,
        )

    def _failure(self, error: GraphError) -> GraphError:
        """With all that somebody needs to know who has to mend it."""
        texts = [self._told(job_id, each) for job_id, each in error.failures.items()]
        failures = {self._entries[job_id].title: each for job_id, each in error.failures.items()}
        return GraphError("\n".join(texts), failures)

    def _told(self, job_id: str, error: BaseException) -> str:
        entry, call = self._entries[job_id], self._calls[job_id]
        lines: list[str] = []
        with suppress(OSError):
            lines = Path(call.log).read_text(encoding="utf-8", errors="replace").splitlines()[1:]
        said = "".join(f"\n    {line}" for line in lines[-TAIL_LINES - 1 :])
        return (
            f"{entry.title} (module {_module_of(entry).name}) failed: {error}\n  command: {command_line(call)}"
            f"\n  it said last:{said}\n  log: {call.log}"
        )


class _Teller:
    """Tells how far a job is, in terms of steps and entries."""

    def __init__(self, declared: _Declared, entries: Mapping[str, JobEntry], progress: Progress) -> None:
        self._id = declared.folder.name
        self._steps = declared.job.steps
        self._entries = entries
        self._progress = progress
        self._told_count = 0
        self._has_raised = False

    def __call__(self, job_id: str, state: str, seconds: float) -> None:
        entry = self._entries[job_id]
        self.tell_steps(entry.step.number + 1)
        self._tell(entry.step, entry.title, state, seconds)

    def tell_steps(self, count: int) -> None:
        """Each step that has begun by now."""
        while self._told_count < count:
            self._told_count += 1
            self._tell(self._steps[self._told_count - 1], None, "running", 0.0)

    def _tell(self, step: JobStep, entry: str | None, state: str, seconds: float) -> None:
        update = PipelineUpdate(self._id, step.number + 1, len(self._steps), step.name, entry, state, seconds)
        try:
            self._progress(update)
        except Exception as error:
            if not self._has_raised:
                self._has_raised = True
                sys.stderr.write(
                    f"pipeline: progress= raised {type(error).__name__}: {error}, and goes on being called\n"
                )
