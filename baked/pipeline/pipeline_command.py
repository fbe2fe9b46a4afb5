"""The command ``job_stream pipeline``: options, what is said on stderr, and exit codes.

On stdout are results only: the paths of the public artifacts, or one JSON object; or what ``--plan`` was asked for.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from job_stream import getRank
from job_stream.errors import BuildError, GraphError, PipelineError

from ..build.planning import BuildPlan
from .module_folders import Modules
from .pipeline_run import PipelineOptions, PipelineResult, PipelineRun
from .pipeline_screen import WIPE, PipelineScreen, say
from .pipelines import Pipeline
from .program_calls import CallEcho

__all__ = ["main"]

FAILED, WRONG, TODO = 1, 2, 3
"""Exit codes: an entry failed; nothing has run, since something is wrong; a plan has something to do."""

F = TypeVar("F", bound=Callable[..., Any])


def _folder_option(name: str, what: str) -> Callable[[F], F]:
    return click.option(f"--{name}-dir", f"--{name}_dir", name, default=name, metavar="DIR", show_default=True,
                        help=what)  # fmt: skip


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.argument("job")
@click.argument("inputs", nargs=-1, metavar="[INPUT]...")
@click.option("--input", "named", multiple=True, metavar="NAME=PATH", help="An input by its name or param_name.")
@_folder_option("storage", "Where each run has a folder.")
@_folder_option("modules", "Where the modules are.")
@click.option("--id", "run_id", metavar="ID", help="The name of the run's folder.")
@click.option("--again", multiple=True, metavar="PATTERN", help="Make these entries, as step/module, anew.")
@click.option("--keep-temp", "--keep_temp", is_flag=True, help="Temporary artifacts stay.")
@click.option("--keep-going", "--keep_going", is_flag=True, help="After a failure run what does not depend on it.")
@click.option("--cores", type=click.IntRange(1), metavar="N", help="How many to use of each host.")
@click.option("--make-venvs", "--make_venvs", is_flag=True, help="Make virtual environments of modules.")
@click.option("--check", is_flag=True, help="Read and check everything, and run nothing.")
@click.option("--plan", is_flag=True, help="Tell what would run and why; exit code 3 if anything would.")
@click.option("--graph", metavar="FILE", help="Draw steps, entries and artifacts: a .svg, .html or .dot file.")
@click.option("-v", "verbose", is_flag=True, help="All output of programs as it comes, not only stderr.")
@click.option("-q", "quiet", is_flag=True, help="Failures only.")
@click.option("--json", "as_json", is_flag=True, help="The result as a JSON object on stdout.")
def _command(
    job: str, inputs: tuple[str, ...], named: tuple[str, ...], storage: str, modules: str, run_id: str | None,
    again: tuple[str, ...], keep_temp: bool, keep_going: bool, cores: int | None, make_venvs: bool, check: bool,
    plan: bool, graph: str | None, verbose: bool, quiet: bool, as_json: bool,
) -> int:  # fmt: skip
    """Runs the job of a YAML file: programs of modules, in steps, on files; only what has changed.

    \b
    job_stream pipeline job.yaml talk.mp4            runs it, and prints the paths of public artifacts
    job_stream pipeline job.yaml talk.mp4 --plan     what would run, and why
    job_stream pipeline job.yaml --check             whether job and modules are fine
    job_stream pipeline modules [DIR]                which modules there are
    """
    given = _inputs(inputs, named)
    made = Pipeline(job, modulesDir=modules, storageDir=storage, makeVenvs=make_venvs)
    is_looking = check or plan or graph is not None
    if is_looking and getRank():
        return 0
    for text in () if quiet or getRank() else made.warnings:
        say(f"pipeline: {text}")
    if check:
        made.check(given, id=run_id)
    elif graph is not None:
        made.graph(graph, given, id=run_id)
    elif plan:
        return _show_plan(made.plan(given, id=run_id, again=again, keepTemp=keep_temp))
    if is_looking:
        return 0
    screen = PipelineScreen(made.steps, f"{made.name} {made.version}", quiet or bool(getRank()))
    echo = None if quiet else CallEcho(os.dup(2), WIPE if screen.is_live else b"", verbose)
    run = made.prepared(given, run_id, PipelineOptions(keep_temp, keep_going, cores, echo), will_run=True)
    return _run(run, again, screen, as_json)


def _inputs(inputs: Sequence[str], named: Sequence[str]) -> Any:
    if not named:
        return list(inputs)
    if inputs:
        raise click.UsageError("inputs are given both in order and by --input NAME=PATH: use one of the two")
    found: dict[str, str] = {}
    for text in named:
        name, sign, path = text.partition("=")
        if not sign or name in found:
            wrong = f"is the second one for {name!r}" if sign else "is not of the form NAME=PATH"
            raise click.UsageError(f"--input {text!r} {wrong}")
        found[name] = path
    return found


def _show_plan(plan: BuildPlan) -> int:
    click.echo(plan.summary.replace("build:", "pipeline:", 1))
    for entry in plan:
        click.echo(f"  {entry}")
    return TODO if plan else 0


def _run(run: PipelineRun, again: Sequence[str], screen: PipelineScreen, as_json: bool) -> int:
    begin = time.monotonic()
    try:
        with screen.showing(run):
            result = run.run(again, screen.take, screen.announce)
    except GraphError as error:
        say(f"pipeline: {error}")
        screen.end(time.monotonic() - begin)
        if as_json:
            _print_json(run, {}, screen.made, screen.kept, list(error.failures), time.monotonic() - begin)
        return FAILED
    except SystemExit:
        screen.end(time.monotonic() - begin)
        say("pipeline: ended by a signal; the same command goes on from here")
        raise
    if result is not None:
        screen.end(result.seconds)
        _print(run, result, as_json)
    return 0


def _print(run: PipelineRun, result: PipelineResult, as_json: bool) -> None:
    here = Path.cwd()
    shown = {name: str(path.relative_to(here) if path.is_relative_to(here) else path)
             for name, path in result.public.items()}  # fmt: skip
    if as_json:
        _print_json(run, shown, result.made, result.kept, [], result.seconds)
    else:
        for path in shown.values():
            click.echo(os.fsencode(path))


def _print_json(
    run: PipelineRun, public: dict[str, str], made: list[str], kept: list[str], failed: list[str], seconds: float
) -> None:
    click.echo(json.dumps({"id": run.folder.name, "folder": str(run.folder), "public": public, "made": made,
                           "kept": kept, "failed": failed, "seconds": round(seconds, 3)}))  # fmt: skip


# the modules there are ------------------------------------------------------------------------------------------------


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
        takes, makes = (", ".join(f"{param.name}: {param.type}" for param in params.values()) or "nothing"
                        for params in (module.inputs, module.outputs))  # fmt: skip
        click.echo(f"{module.name:<{width}}  {takes} -> {makes}  {module.description}".rstrip())
        for problem in modules.problems_of(module):
            click.echo(f"{'':<{width}}  ! {problem}")
    return WRONG if any(map(modules.problems_of, found)) else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    is_listing = words[:1] == ["modules"]
    command = _list_modules if is_listing else _command
    name = "job_stream pipeline modules" if is_listing else "job_stream pipeline"
    try:
        return int(command.main(words[1:] if is_listing else words, prog_name=name, standalone_mode=False) or 0)
    except (click.ClickException, BuildError) as error:
        if getRank():  # all ranks find the same
            return WRONG
        if isinstance(error, click.ClickException):
            error.show()
        else:
            say(str(error) if isinstance(error, PipelineError) else f"pipeline: {error}")
    return WRONG
