"""A job as a picture: its entries, and the artifacts that go from one to another, drawn as a build's graph is."""

from __future__ import annotations

import os
from pathlib import Path

from ..build.graph_files import picture_of, write_graph
from ..build.past_runs import BuildPicture, JobPicture
from .job_parts import YamlJob
from .pipeline_run import PipelineRun

__all__ = ["draw"]


def draw(path: str | os.PathLike[str], job: YamlJob, run: PipelineRun | None) -> Path:
    """Writes the picture.

    Args:
        run: on its inputs, which knows how entries went last.
    """
    return write_graph(path, lambda: _picture(job, run))


def _picture(job: YamlJob, run: PipelineRun | None) -> BuildPicture:
    past = {} if run is None else run.by_title(picture_of(run.build).jobs)
    given = [each.key for each in job.inputs]
    jobs = {name: JobPicture(name, "source", "new") for name in given}
    for entry in job.entries:
        title = entry.title
        while title in jobs:
            title += " "  # the same module twice, or a file that is called so
        needs = tuple(dict.fromkeys(each.name for each in entry.inputs))
        files = tuple(each.name for each in entry.outputs)
        jobs[title] = past.get(entry.title, JobPicture(title, "entry", "new"))._replace(
            id=title, kind=f"module {entry.used.name}", needs=needs, files=files, params={}, code=""
        )
        jobs.update({each.name: JobPicture(each.name, "source", "new", (title,)) for each in entry.outputs})
    return BuildPicture(f"{job.name} {job.version}", jobs, {})
