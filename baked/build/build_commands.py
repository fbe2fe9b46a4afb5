"""``job_stream build``: what a build's folder tells, and what can be tidied up in it, without the script."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from difflib import get_close_matches
from typing import Any

import click

from job_stream.errors import BuildError

from .file_state import FileState, is_current, read_state
from .folder_lock import FolderLock
from .graph_files import write_graph
from .joblogs import log_path
from .past_runs import HINDERED, JobPicture, PastRuns
from .records import NAME, Records
from .source_diff import source_diff

__all__ = ["build_commands"]

USUAL = ".build"
STATES = ("made", "kept", "failed", "blocked", "stopped", "running", "new")


class _BuildGroup(click.Group):
    """A folder may stand before the command; one that is called like a command is written './status'."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            if not os.path.isdir(args[0]):
                near = get_close_matches(args[0], self.commands, 1)
                hint = f" Did you mean {near[0]!r}?" if near else f" The commands are {', '.join(self.commands)}."
                raise click.UsageError(f"{args[0]!r} is neither a command nor a folder.{hint}", ctx)
            ctx.obj = args.pop(0)
        return super().parse_args(ctx, args)


def _opened(folder: str | None) -> PastRuns:
    """The runs of a build in a folder, or in the usual one in there."""
    given = folder or USUAL
    inside = os.path.join(given, USUAL)
    return PastRuns(inside if not _has_history(given) and _has_history(inside) else given)


def _has_history(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, NAME))


@click.group(
    cls=_BuildGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
    subcommand_metavar="[FOLDER] COMMAND [ARGS]...",
)
def build_commands() -> None:
    """Look at a build, and tidy up, without its script.

    FOLDER is that of the build, or the one it is in; by default .build. Everything is told from its history, which is
    only read, so it can be looked at while it runs.

    \b
    job_stream build status
    job_stream build why out/a.txt
    job_stream build graph graph.html
    job_stream build project/.build clean --temp -n
    """


@build_commands.command()
@click.pass_obj
def status(folder: str | None) -> int:
    """How all jobs went last; ends with 1 if some failed."""
    past = _opened(folder)
    jobs = [job for job in past.jobs().values() if job.kind != "source"]
    counts = Counter(job.state for job in jobs)
    click.echo(", ".join(f"{state} {counts[state]}" for state in STATES if counts[state]) or "no jobs")
    width = max((len(job.id) for job in jobs if job.state not in {"made", "kept"}), default=0)
    for job in jobs:
        if job.state not in {"made", "kept"}:
            about = _last_line(job.error) if job.state == "failed" else ""
            click.echo(f"  {job.state:<8} {job.id:<{width}}  {about}".rstrip())
    return int(counts["failed"] > 0)


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def _job(past: PastRuns, name: str) -> JobPicture:
    """A job by its id, or by a path of one of its files as it is seen from here."""
    jobs = past.jobs()
    paths = {path: job.id for job in jobs.values() for path in job.files}
    relative = os.path.relpath(os.path.abspath(name), past.root)
    for given in (name, relative):
        if given in jobs or given in paths:
            return jobs[given if given in jobs else paths[given]]
    near = get_close_matches(name, [*jobs, *paths], 3)
    hint = f": did you mean {' or '.join(map(repr, dict.fromkeys(near)))}?" if near else ""
    raise BuildError(f"no job is called {name!r} in {past.folder}{hint}")


@build_commands.command()
@click.argument("id")
@click.pass_obj
def why(folder: str | None, id: str) -> None:
    """Why a job ran last, and what has changed since."""
    past = _opened(folder)
    for line in _why(past, _job(past, id)):
        click.echo(line)


def _why(past: PastRuns, job: JobPicture) -> Iterator[str]:
    yield f"{job.id} ({job.kind}): {job.state}"
    data, before = past.done.get(job.id, {}), past.earlier.get(job.id, {})
    if job.error:
        yield f"failed: {job.error}"
    if job.ended:
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(job.ended))
        took = f" in {job.seconds:.3g} s" if job.seconds is not None else ""
        yield f"last success: {when}{took}{f' on {job.host}' if job.host else ''}"
    if job.state == "blocked":
        jobs = past.jobs()
        hindered = [need for need in job.needs if need in jobs and jobs[need].state in HINDERED]
        yield f"it did not run, because of: {', '.join(hindered)}"
    elif job.kind != "source" and (job.reasons or job.ended):
        yield f"why it ran: {'; '.join(job.reasons) or 'it was found up to date'}"
    if data and before:
        yield from _changes(past, before, data)
    yield from _since(past, data)


def _changes(past: PastRuns, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """What was different from the success before."""
    if before.get("code") != after.get("code"):
        parts = [past.codes.get(data.get("code", ""), []) for data in (before, after)]
        yield "code:\n" + (source_diff(*parts) if all(parts) else "no longer on record as it was before")
    for name in dict.fromkeys([*before["params"], *after["params"]]):
        old, new = (data["params"].get(name, ["", "none"]) for data in (before, after))
        if old != new:
            yield f"param {name}: {old[1]} -> {new[1]}"
    for need in dict.fromkeys([*before["needs"], *after["needs"]]):
        prints = [data["needs"].get(need, "none")[:12] for data in (before, after)]
        if prints[0] != prints[1]:
            yield f"need {need}: {prints[0]} -> {prints[1]}"


def _since(past: PastRuns, data: dict[str, Any]) -> Iterator[str]:
    """What the files say now; what code and params are now, only the script knows."""
    for path, state in {**data.get("sources", {}), **data.get("outputs", {})}.items():
        word = "need" if path in data.get("sources", {}) else "file"
        if path not in past.made and word == "file":
            continue  # a temporary one, removed after use
        now = _changed(past.absolute(path), FileState(*state))
        if now:
            yield f"since then: {word} {path} {now}"
    for need, fingerprint in data.get("needs", {}).items():
        made = next((d["outputs"][need] for d in past.done.values() if need in d["outputs"]), None)
        if made is not None and made[0] != fingerprint and need in past.made:
            yield f"since then: need {need} has been made anew and is different"


def _changed(path: str, state: FileState) -> str:
    try:
        is_same = is_current(state, path, os.stat(path)) or read_state(path).digest == state.digest
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    return "" if is_same else "has changed"


@build_commands.command()
@click.argument("file")
@click.pass_obj
def graph(folder: str | None, file: str) -> None:
    """Draw the graph: FILE ends with .dot, .json, .svg or .html."""
    past = _opened(folder)
    click.echo(write_graph(file, past.picture))


@build_commands.command()
@click.argument("id")
@click.pass_obj
def log(folder: str | None, id: str) -> None:
    """What a job wrote last to stdout and stderr, as far as it was kept."""
    past = _opened(folder)
    job = _job(past, id)
    paths = [log_path(os.path.join(past.folder, "logs"), job.id, suffix) for suffix in ("out", "err")]
    found = [path for path in paths if os.path.exists(path)]
    if not found:
        raise BuildError(f"no log of {job.id!r} was kept: those of failed jobs are; build(logs='all') keeps all")
    for path in found:
        with open(path, "rb") as file:
            click.echo(file.read(), nl=False, err=path.endswith(".err"))


@build_commands.command()
@click.pass_obj
def orphans(folder: str | None) -> None:
    """Files that earlier runs made, and that no job makes any more."""
    for path in _opened(folder).orphans():
        click.echo(path)


@build_commands.command()
@click.option("--temp", is_flag=True, help="Temporary files that are left.")
@click.option("--orphans", "is_orphans", is_flag=True, help="Files that no job makes any more; where nothing is given.")
@click.option("--outputs", is_flag=True, help="All files that jobs have made.")
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@click.pass_obj
def clean(folder: str | None, temp: bool, is_orphans: bool, outputs: bool, dry_run: bool) -> None:
    """Remove files that jobs have made; sources never."""
    past = _opened(folder)
    if dry_run:
        chosen = _chosen(past, temp, is_orphans, outputs)
    else:
        lock = FolderLock(os.path.join(past.folder, "lock"))
        try:
            past = PastRuns(past.folder)  # a run may just have ended
            chosen = _chosen(past, temp, is_orphans, outputs)
            _remove(past, chosen)
        finally:
            lock.release()
    for path in chosen:
        click.echo(path)


def _chosen(past: PastRuns, temp: bool, is_orphans: bool, outputs: bool) -> list[str]:
    """Only files on record as made: of others nobody knows whose they are."""
    chosen = set(past.orphans()) if is_orphans or not (temp or outputs) else set()
    for job in past.jobs().values() if temp or outputs else ():
        chosen.update(job.temporary if not outputs else job.files)
    return sorted(path for path in chosen & set(past.made) - past.sources() if past.is_file(path))


def _remove(past: PastRuns, paths: list[str]) -> None:
    records = Records(past.folder, lambda text: None)
    try:
        for path in paths:
            with suppress(FileNotFoundError):
                os.unlink(past.absolute(path))
            records.removed(path)
    except OSError as error:
        raise BuildError(f"{error.filename} cannot be removed: {error.strerror}") from error
    finally:
        records.close()
