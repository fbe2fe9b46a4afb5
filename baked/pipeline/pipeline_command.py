"""The command ``job_stream pipeline``: options, what is said on stderr, and exit codes.

On stdout are results only: the paths of the public artifacts, or one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from job_stream import getRank
from job_stream.errors import BuildError, GraphError, PipelineError

from .module_folders import Modules
from .pipelines import Pipeline, PipelineResult, PipelineUpdate

__all__ = ["main"]

FAILED, WRONG, TODO = 1, 2, 3
"""Exit codes: an entry failed; nothing has run, since something is wrong; a plan has something to do."""

_LINES = 20
"""How many entries are told of before a run."""


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("job")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--input", "named", multiple=True, metavar="NAME=PATH", help="An input by its name or param_name.")
@click.option(
    "--storage-dir",
    "--storage_dir",
    "storage",
    default="storage",
    metavar="DIR",
    show_default=True,
    help="Where each run has a folder.",
)
@click.option(
    "--modules-dir",
    "--modules_dir",
    "modules",
    default="modules",
    metavar="DIR",
    show_default=True,
    help="Where the modules are.",
)
@click.option("--id", "run_id", metavar="ID", help="The name of the run's folder.")
@click.option("--again", multiple=True, metavar="PATTERN", help="Make these entries, as step/module, anew.")
@click.option("--keep-temp", "--keep_temp", is_flag=True, help="Temporary artifacts stay.")
@click.option("--keep-going", "--keep_going", is_flag=True, help="After a failure run what does not depend on it.")
@click.option("--cores", type=click.IntRange(1), metavar="N", help="How many to use of each host.")
@click.option("--make-venvs", "--make_venvs", is_flag=True, help="Make virtual environments of modules.")
@click.option("--check", is_flag=True, help="Read and check everything, and run nothing.")
@click.option(
    "--plan", is_flag=True, help="Tell what would run and why, and run nothing; exit code 3 if anything would."
)
@click.option("-v", "verbose", is_flag=True, help="All output of programs as it comes, not only stderr.")
@click.option("-q", "quiet", is_flag=True, help="Failures only.")
@click.option("--json", "as_json", is_flag=True, help="The result as a JSON object on stdout.")
def _command(
    job: str,
    inputs: tuple[str, ...],
    named: tuple[str, ...],
    storage: str,
    modules: str,
    run_id: str | None,
    again: tuple[str, ...],
    keep_temp: bool,
    keep_going: bool,
    cores: int | None,
    make_venvs: bool,
    check: bool,
    plan: bool,
    verbose: bool,
    quiet: bool,
    as_json: bool,
) -> int:
    """Runs the job of a YAML file: programs of modules, in steps, on files; only what has changed.

    \b
    job_stream pipeline job.yaml talk.mp4            runs it, and prints the paths of public artifacts
    job_stream pipeline job.yaml talk.mp4 --plan     what would run, and why
    job_stream pipeline job.yaml --check             whether job and modules are fine
    job_stream pipeline modules [DIR]                which modules there are
    """
    given = _inputs(inputs, named)
    made = Pipeline(job, modulesDir=modules, storageDir=storage, makeVenvs=make_venvs)
    if not quiet and not getRank():
        for text in made.warnings:
            _say(f"pipeline: {text}")
    if check:
        made.check(given, id=run_id)
        return 0
    if plan:
        found = made.plan(given, id=run_id, again=again, keepTemp=keep_temp)
        click.echo(str(found))
        return TODO if found else 0
    if not quiet and not getRank():
        _announce(made, given, run_id, again, keep_temp)
    begin, screen = time.monotonic(), _Screen(len(made.steps), quiet)
    try:
        result = made.run(
            given,
            id=run_id,
            again=again,
            keepTemp=keep_temp,
            keepGoing=keep_going,
            cores=cores,
            progress=screen.take,
            quiet=quiet,
            verbose=verbose,
        )
    except GraphError as error:
        screen.wipe()
        _say(f"pipeline: {error}")
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "id": screen.id,
                        "folder": os.path.join(os.path.abspath(storage), screen.id),
                        "public": {},
                        "made": screen.made,
                        "kept": screen.kept,
                        "failed": list(error.failures),
                        "seconds": round(time.monotonic() - begin, 3),
                    }
                )
            )
        return FAILED
    if result is not None:
        screen.wipe()
        _tell(result, quiet, as_json)
    return 0


def _inputs(inputs: Sequence[str], named: Sequence[str]) -> Any:
    if not named:
        return list(inputs)
    if inputs:
        raise click.UsageError("inputs are given both in order and by --input NAME=PATH: use one of the two")
    found: dict[str, str] = {}
    for text in named:
        name, sign, path = text.partition("=")
        if not sign or name in found:
            raise click.UsageError(
                f"--input {text!r} " + ("is there twice" if sign else "is not of the form NAME=PATH")
            )
        found[name] = path
    return found


def _announce(made: Pipeline, given: Any, run_id: str | None, again: Sequence[str], keep_temp: bool) -> None:
    plan = made.plan(given, id=run_id, again=again, keepTemp=keep_temp)
    todo = [each for each in plan if each.verb in ("make", "maybe")]
    steps = {f"{step.name}/{entry.name}": step.number + 1 for step in made.steps for entry in step.entries}
    _say(f"pipeline: {made.name} {made.version}, {len(made.steps)} steps, {len(todo)} entries to run")
    for each in todo[:_LINES]:
        step, _, name = each.id.partition("/")
        _say(f"  [{steps[each.id]}/{len(made.steps)} {step}] {name}  {'; '.join(each.reasons)}")
    if len(todo) > _LINES:
        _say(f"  ... and {len(todo) - _LINES} more")


def _tell(result: PipelineResult, quiet: bool, as_json: bool) -> None:
    if not quiet:
        _say(f"made {len(result.made)}, kept {len(result.kept)}, failed 0 in {result.seconds:.1f} s")
    shown = {
        name: os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
        for name, path in result.public.items()
    }
    if as_json:
        click.echo(
            json.dumps(
                {
                    "id": result.id,
                    "folder": str(result.folder),
                    "public": shown,
                    "made": result.made,
                    "kept": result.kept,
                    "failed": [],
                    "seconds": round(result.seconds, 3),
                }
            )
        )
    else:
        for path in shown.values():
            click.echo(path)


class _Screen:
    """What is told while a job runs: a line for each entry that is through, and one that changes at a terminal."""

    def __init__(self, step_count: int, is_quiet: bool) -> None:
        self._step_count = step_count
        self._is_quiet = is_quiet
        self._is_live = sys.stderr.isatty() and not is_quiet
        self._running: dict[str, None] = {}
        self.id = ""
        self.made: list[str] = []
        self.kept: list[str] = []

    def take(self, update: PipelineUpdate) -> None:
        self.id = update.job_id
        if update.entry is None:
            return
        self._running.pop(update.entry, None)
        if update.state == "running":
            self._running[update.entry] = None
        elif update.state == "kept":
            self.kept.append(update.entry)
        elif update.state == "made":
            self.made.append(update.entry)
            if not self._is_quiet:
                self.wipe()
                _say(f"[{update.entry}] {update.seconds:.1f} s")
        if self._is_live:
            width = max(os.get_terminal_size(2).columns - 1, 20)
            text = f"step {update.current_step} of {self._step_count}: {', '.join(self._running)}"
            sys.stderr.write(f"\r\x1b[K{text[:width]}")
            sys.stderr.flush()

    def wipe(self) -> None:
        if self._is_live:
            sys.stderr.write("\r\x1b[K")


# --- the modules there are --------------------------------------------------------------------------------------------


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("folder", default="modules", metavar="[DIR]")
def _list_modules(folder: str) -> int:
    """Lists the modules of a folder: what they are for, take and make, and what is wrong with them."""
    modules = Modules(folder)
    if not modules.folder.is_dir():
        raise click.UsageError(f"there is no folder of modules {folder!r}")
    found = sorted(modules, key=lambda module: module.name)
    width = max((len(module.name) for module in found), default=0)
    for module in found:
        takes, makes = (
            ", ".join(f"{param.name}: {param.type}" for param in params.values()) or "nothing"
            for params in (module.inputs, module.outputs)
        )
        click.echo(f"{module.name:<{width}}  {takes} -> {makes}  {module.description}".rstrip())
        for problem in module.problems.found:
            click.echo(f"{'':<{width}}  ! {problem}")
    return WRONG if any(module.problems for module in found) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_listing = words[:1] == ["modules"]
    command = _list_modules if is_listing else _command
    name = "job_stream pipeline modules" if is_listing else "job_stream pipeline"
    try:
        return int(command.main(words[1:] if is_listing else words, prog_name=name, standalone_mode=False) or 0)
    except click.ClickException as error:
        error.show()
    except PipelineError as error:
        _say(str(error))
    except BuildError as error:
        _say(f"pipeline: {error}")
    return WRONG
