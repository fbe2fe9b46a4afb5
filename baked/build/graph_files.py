"""``b.graph(path)``: the graph of a build as a file, of the kind that its suffix says.

DOT and JSON are for other programs. SVG and HTML are drawn here, with nothing to be installed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from job_stream.errors import BuildError

from .code import CodeReader
from .fingerprints import shortened
from .graph_page import page_of
from .graph_svg import COLOURS, about, svg_of
from .past_runs import TAIL_BYTES, BuildPicture, JobPicture, PastRuns, source_of, tails_of
from .records import NAME

if TYPE_CHECKING:
    from .building import Build
    from .job import BuildJob

__all__ = ["picture_of", "write_graph"]

DOT_SHAPES = {
    "made": "box", "kept": "box", "new": "ellipse", "failed": "octagon", "blocked": "hexagon",
    "stopped": "parallelogram", "running": "doubleoctagon", "pruned": "plaintext",
}  # fmt: skip


def picture_of(build: Build) -> BuildPicture:
    """The jobs as they are declared now, with how they went in this process, or else what the history tells."""
    past = PastRuns(build.folder_text) if os.path.exists(os.path.join(build.folder_text, NAME)) else None
    known = past.jobs() if past is not None else {}
    needs = {job.id: tuple(dict.fromkeys(need.id for need, _ in build.needs_of(job)))
             for job in list(build.jobs.values())}  # fmt: skip
    shown = {job.id for job in build.jobs.values() if not job.is_invariant or job.kind == "source"}
    readers: dict[Any, CodeReader] = {}
    jobs: dict[str, JobPicture] = {}
    codes: dict[str, str] = {}
    for job in build.jobs.values():
        if job.id in shown:
            found = None
            if job.function is not None:
                ignored = tuple(job.options["ignore"])
                found = readers.setdefault(ignored, CodeReader(ignored)).read(job.function)
            if found is not None:
                codes.setdefault(found.digest, source_of(found.parts))
            before = known.get(job.id, JobPicture(job.id, job.kind, "new"))
            ours = tuple(need for need in needs.get(job.id, ()) if need in shown)
            jobs[job.id] = _as_now(build, job, before)._replace(needs=ours, code=found.digest if found else "")
    return BuildPicture(build.root.name or str(build.root), jobs, codes)


def _as_now(build: Build, job: BuildJob, before: JobPicture) -> JobPicture:
    shown = before._replace(kind=job.kind, files=job.outputs.paths, temporary=tuple(sorted(job.outputs.temporary)),
                            params={name: shortened(value) for name, value in job.params.items()})  # fmt: skip
    if job.kind == "source" or job.state == "new":
        return shown if job.kind != "source" else shown._replace(state=_of_source(build, job))
    logs = tails_of(os.path.join(build.folder_text, "logs"), job.id)
    return shown._replace(
        state=job.state, reasons=tuple(job.reasons) or shown.reasons,
        error=str(job.exception) if job.exception is not None else "",
        seconds=job.seconds if job.seconds is not None else shown.seconds, host=job.host or shown.host,
        logs=(logs[0] or job.stdout[-TAIL_BYTES:], logs[1] or job.stderr[-TAIL_BYTES:]),
    )  # fmt: skip


def _of_source(build: Build, job: BuildJob) -> str:
    return "kept" if os.path.exists(build.absolute(job.id)) else "failed"


def write_graph(path: str | os.PathLike[str], picture_of: Callable[[], BuildPicture]) -> Path:
    """Writes the graph, whole or not at all.

    Raises:
        BuildError: the suffix is none of those known, or the file cannot be written.
    """
    target = Path(path)
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        raise BuildError(f"graph({str(path)!r}): the suffix says what to write: one of {', '.join(WRITERS)}")
    if not target.parent.is_dir():
        raise BuildError(f"graph({str(path)!r}): there is no folder {str(target.parent)!r}: make it first")
    if target.is_dir():
        raise BuildError(f"graph({str(path)!r}): that is a folder: name a file in it")
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    text = write(picture_of())
    try:
        fresh.write_text(text, encoding="utf-8", errors="backslashreplace")
        fresh.replace(target)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise BuildError(f"graph({str(path)!r}) cannot be written: {error.strerror or error}") from error
    return target


def _json(picture: BuildPicture) -> str:
    jobs = [{name: value for name, value in job._asdict().items() if name != "logs"} for job in picture.jobs.values()]
    return json.dumps({"format": 1, "title": picture.title, "jobs": jobs, "codes": picture.codes}, indent=1)


def _dot(picture: BuildPicture) -> str:
    names = {job_id: f"n{number}" for number, job_id in enumerate(picture.jobs)}
    lines = [f"digraph {_quoted(picture.title)} {{", "rankdir=LR; node [style=filled, fontname=sans];"]
    for job in picture.jobs.values():
        shape = "note" if job.kind == "source" else DOT_SHAPES[job.state]
        lines.append(f"{names[job.id]} [label={_quoted(job.id)}, shape={shape}, fillcolor={_quoted(COLOURS[job.state])}"
                     f", tooltip={_quoted(about(job))}];")  # fmt: skip
    lines += [f"{names[need]} -> {names[job.id]};" for job in picture.jobs.values() for need in job.needs]
    return "\n".join([*lines, "}", ""])


def _quoted(text: str) -> str:
    for old, new in (("\\", "\\\\"), ('"', '\\"'), ("\r", ""), ("\n", "\\n"), ("\0", "\ufffd")):
        text = text.replace(old, new)
    return f'"{text}"'


WRITERS: Mapping[str, Callable[[BuildPicture], Any]] = {".dot": _dot, ".json": _json, ".svg": svg_of, ".html": page_of}
"""By suffix."""
