"""``Pipeline``: a job of YAML that has been read and checked, to be looked at, drawn and run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from job_stream import getRank

from ..build.planning import BuildPlan
from .document import element_of, read_yaml
from .job_parts import JobInput, YamlJob
from .jobfile import read_job
from .module_folders import Modules, ProgramModule, check_resources
from .pipeline_run import PipelineOptions, PipelineResult, PipelineRun
from .problems import Problems
from .program_calls import CallEcho
from .progress_telling import PipelineUpdate, Progress
from .storage import check_folder, folder_of, given_inputs
from .venvs import make_venvs

__all__ = ["Pipeline", "PipelineResult", "PipelineUpdate", "pipeline"]


def pipeline(
    job: str | os.PathLike[str] | Mapping[str, Any], inputs: Any = (), *,
    modulesDir: str | os.PathLike[str] = "modules", storageDir: str | os.PathLike[str] = "storage", **keywords: Any,
) -> PipelineResult | None:  # fmt: skip
    """Reads a job, checks it, and runs what has changed.

    Args:
        job: the path of a job file, or a mapping with the same keys.
        inputs: paths in the order of the job's inputs, or a mapping of their names to paths.
        modulesDir: the folder of modules.
        storageDir: the folder in which each run has a folder.
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
        self, job: str | os.PathLike[str] | Mapping[str, Any], *, modulesDir: str | os.PathLike[str] = "modules",
        storageDir: str | os.PathLike[str] = "storage", makeVenvs: bool = False,
    ) -> None:  # fmt: skip
        problems = Problems()
        self._shown = "job" if isinstance(job, Mapping) else os.fspath(job)
        self._makes_venvs = makeVenvs
        self.storage = Path(storageDir)
        self.modules = Modules(modulesDir, makeVenvs)
        element = (element_of(job, self._shown) if isinstance(job, Mapping)
                   else read_yaml(Path(self._shown), self._shown, problems))  # fmt: skip
        self._job = YamlJob("", "", "steps", [], [])
        if element is not None:
            self._job = read_job(element, self.modules, problems)
        check_resources(self._used(), problems)
        problems.raise_any()
        self.name, self.version, self.steps = self._job.name, self._job.version, self._job.steps
        self.warnings = [*self.modules.warnings({module.name for module in self._used()}), *self._unread()]

    @property
    def inputs(self) -> list[JobInput]:
        """What has to be given for a run."""
        return self._job.inputs

    def _used(self) -> list[ProgramModule]:
        return list({id(each.module): each.module for each in self._job.entries if each.module is not None}.values())

    def _unread(self) -> list[str]:
        return ["{}:{}: nobody reads {!r}, which is temporary, so it is removed".format(*each.place, each.name)
                for entry in self._job.entries for each in entry.outputs
                if not each.is_public and not each.reader_count]  # fmt: skip

    # looking ----------------------------------------------------------------------------------------------------------

    def check(self, inputs: Any = (), *, id: str | None = None) -> None:
        """Checks inputs and storage as ``run`` does; inputs may be missing.

        Raises:
            PipelineError: something is wrong.
        """
        self._placed(inputs, id, are_optional=True)

    def plan(self, inputs: Any = (), *, id: str | None = None, again: Any = (), keepTemp: bool = False) -> BuildPlan:
        """What would run, and why; nothing is run or written."""
        return self.prepared(inputs, id, PipelineOptions(keepTemp)).plan(again)

    def graph(self, path: str | os.PathLike[str], inputs: Any = (), *, id: str | None = None) -> Path:
        """Draws entries and artifacts; with inputs, also how the entries went last.

        Args:
            path: of the file to write; its suffix says what: '.dot', '.json', '.svg' or '.html'.

        Raises:
            BuildError: the suffix is another one, or the file cannot be written.
        """
        from .pipeline_graph import draw  # few runs draw anything

        run = self.prepared(inputs, id) if inputs or id is not None else None
        return draw(path, self._job, run)

    # running ----------------------------------------------------------------------------------------------------------

    def run(
        self, inputs: Any = (), *, id: str | None = None, again: Any = (), keepTemp: bool = False,
        keepGoing: bool = False, cores: int | None = None, progress: Progress | None = None, quiet: bool = True,
    ) -> PipelineResult | None:  # fmt: skip
        """Runs what has to be run.

        Args:
            inputs: paths in the order of the job's inputs, or a mapping of their names to paths.
            id: of the run; by default it follows from the job file and the inputs.
            again: patterns of 'step/module' that are made anew though nothing has changed.
            keepTemp: whether temporary artifacts stay.
            keepGoing: whether after a failure everything runs that does not depend on it.
            cores: how many to use of each host.
            progress: called in this thread with a ``PipelineUpdate``.
            quiet: whether what programs write to stderr is only in their logs.

        Returns:
            what was made; on ranks other than the primary, None.

        Raises:
            PipelineError: an input or the storage is wrong; nothing has run.
            BuildError: another run has the folder.
            GraphError: entries failed.
        """
        echo = None if quiet else CallEcho(os.dup(2), b"", False)
        try:
            options = PipelineOptions(keepTemp, keepGoing, cores, echo)
            return self.prepared(inputs, id, options, will_run=True).run(again, progress)
        finally:
            if echo is not None:
                os.close(echo.file)

    def prepared(
        self, inputs: Any, id: str | None, options: PipelineOptions | None = None, *, will_run: bool = False
    ) -> PipelineRun:
        """The job with its files; what modules lack is made now, if it will run and that was asked for."""
        folder, found = self._placed(inputs, id)
        if will_run and self._makes_venvs and not getRank():
            make_venvs(self._used())
        return PipelineRun(self._job, folder, found, options or PipelineOptions())

    def _placed(self, inputs: Any, run_id: str | None, are_optional: bool = False) -> tuple[Path, dict[str, Path]]:
        """The folder of a run, and its inputs."""
        problems = Problems()
        is_given = bool(inputs) or not are_optional
        found = given_inputs(self._job, self._shown, inputs, problems, are_optional) if is_given else {}
        folder = folder_of(self.storage, self._job, os.path.abspath(self._shown), found, run_id, problems)
        check_folder(self.storage, folder, self._job, found, problems)
        problems.raise_any()
        return folder, found
