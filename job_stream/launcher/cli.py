"""The command line: options, and what may stand after them."""

from __future__ import annotations

import os
import re
import sys
import threading
from importlib import import_module
from itertools import chain
from typing import Any

import click

from .. import __version__
from ..checkpoints.trust import CheckpointError, open_trusted
from ..errors import BuildError
from ..ground.environment import CHECKPOINT
from . import settings
from .doctor import checks, examine
from .error import LauncherError, shorten
from .restarts import say
from .start import USUAL_CHECKPOINT, Options, start
from .verdict import INTERRUPTED

__all__ = ["main"]

WRONG_USE = 2
PROGRAM = "run-program"
"""What a program given on the command line is to click; users never see this name."""

_ARGUMENTS = "job_stream.arguments"
_PROPERTY = re.compile(r"[A-Za-z_]+=\S*")
_CLOCK = re.compile(r"(\d+):([0-5]\d):([0-5]\d)")


class _Commands(click.Group):
    """Commands and programs in one place: what is not a command, or stands behind ``--``, is a program."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        args = _with_properties(args)
        ctx.meta[_ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        given = ctx.meta[_ARGUMENTS]
        if args[0] in self.commands and given[-len(args) - 1 : -len(args)] != ["--"]:
            return super().resolve_command(ctx, args)
        return PROGRAM, self.commands[PROGRAM], args


def _with_properties(args: list[str]) -> list[str]:
    """Takes the words after ``--host a,b`` that are its properties, as ``cpus=3``, together with it."""
    taken: list[str] = []
    for word in args:
        is_host = taken[-2:-1] == ["--host"] or "".join(taken[-1:]).startswith("--host=")
        if is_host and _PROPERTY.fullmatch(word) and "--" not in taken:
            taken[-1] += f" {word}"
        else:
            taken.append(word)
    return taken


def _seconds(text: str) -> float:
    """What a number of seconds, or HH:MM:SS, means in seconds."""
    try:
        hours, minutes, seconds = found.groups() if (found := _CLOCK.fullmatch(text)) else ("0", "0", text)
        total = 3600 * float(hours) + 60 * float(minutes) + float(seconds)
    except ValueError:
        raise click.BadParameter(f"{shorten(text)} is neither a number of seconds nor HH:MM:SS") from None
    if not 0 < total <= threading.TIMEOUT_MAX:
        raise click.BadParameter(f"{shorten(text)} is not above 0, or longer than anything")
    return total


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
    no_args_is_help=True,
    subcommand_metavar="[--] PROG [ARGS]... | COMMAND",
    epilog="docs/clusters.rst tells more: ssh, containers, Slurm and PBS.",
)
@click.option("-c/--no-c", "usual", help=f"Checkpoints in {USUAL_CHECKPOINT} of the current folder, or none there.")
@click.option("--checkpoint", metavar="PATH", help="Where checkpoints are written, and gone on from.")
@click.option("--host", multiple=True, metavar="A,B [cpus=N]", help="Hosts to run on, a rank each.")
@click.option("--hostfile", metavar="FILE", help="Hosts to run on: one a line, as in 'node1 cpus=4  # comment'.")
@click.option("-n", "ranks", type=click.IntRange(1), metavar="RANKS", help="Ranks on this machine.")
@click.option("--restarts", type=click.IntRange(0), default=0, metavar="N",
              help="Start again from the checkpoint, N times at most, after a crash.")  # fmt: skip
@click.option("--time-limit", type=_seconds, metavar="TIME",
              help="Seconds or HH:MM:SS; shortly before, the checkpoint is written, and the status is 75.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Print the command and what it adds to the environment; start nothing.")
@click.option("--primary-only", is_flag=True,
              help="The script runs on rank 0 alone; the others serve its executors (job_stream.futures).")  # fmt: skip
@click.version_option(__version__, "--version", prog_name="job_stream")
@click.pass_context
def commands(ctx: click.Context, usual: bool, checkpoint: str | None, host: tuple[str, ...], hostfile: str | None,
             ranks: int | None, restarts: int, time_limit: float | None, dry_run: bool,
             primary_only: bool) -> None:  # fmt: skip
    """Starts PROG on one rank a host, and ends with its exit status.

    Without hosts, PROG runs on this machine; in a job of Slurm or PBS, on all of its nodes.

    \b
    job_stream -- python script.py                        here, on all cores
    job_stream -n 2 -- python script.py                   two ranks here
    job_stream --host a,b cpus=3 -- python script.py      on a, and on b with 3 lanes
    job_stream -c --restarts 5 --hostfile hosts -- python sweep.py
    """
    if ctx.invoked_subcommand is None:
        raise click.UsageError("There is no program to start: job_stream [OPTIONS] -- PROG [ARGS]...")
    if usual and checkpoint is not None:
        raise LauncherError(f"-c is --checkpoint {USUAL_CHECKPOINT}, and --checkpoint says another: give one of them")
    checkpoint = USUAL_CHECKPOINT if usual else checkpoint
    ctx.obj = Options(checkpoint, host, hostfile, ranks, restarts, time_limit, dry_run, primary_only)


@commands.command(PROGRAM, hidden=True, add_help_option=False,
                  context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})  # fmt: skip
@click.argument("program", nargs=-1, type=click.UNPROCESSED, required=True)
@click.pass_obj
def run_program(options: Options, program: tuple[str, ...]) -> int:
    """Runs a program."""
    return start(options, program, [name for name in commands.commands if name != PROGRAM])


@commands.command()
@click.argument("words", nargs=-1, metavar="[KEY=VALUE]...")
@click.pass_obj
def config(options: Options, words: tuple[str, ...]) -> None:
    """List the settings, or set some.

    \b
    job_stream config                       lists them
    job_stream config hostfile=~/hosts      the hostfile to use where no hosts and no -n are given
    job_stream config hostfile=             unsets it
    """
    _refuse_options("config", options)
    for word in words:
        settings.change(word)
    if not words:
        values = settings.read()
        for key in settings.KEYS:
            click.echo(f"{key}={values.get(key, '')}")


@commands.command()
@click.pass_obj
def doctor(options: Options) -> int:
    """Tell what there is on this machine, and how to mend what is not fine.

    With --host or --hostfile before it, the self-test runs on those hosts.
    """
    _refuse_options("doctor", options._replace(host=(), hostfile=None))
    hosts = [*chain.from_iterable(("--host", text) for text in options.host)]
    machine = examine(hosts if options.hostfile is None else [*hosts, "--hostfile", options.hostfile])
    findings = []
    for check in checks():
        findings.append(check(machine))
        click.echo(findings[-1])
    return int(any(finding.remedy for finding in findings))


@commands.command("build", add_help_option=False,
                  context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})  # fmt: skip
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def look_at_build(options: Options, words: tuple[str, ...]) -> Any:
    """Look at a build, and tidy up, without its script."""
    _refuse_options("build", options)
    recipe = import_module("job_stream.baked.build.build_commands")  # no other command needs it
    try:
        return recipe.build_commands.main([*words], "job_stream build", standalone_mode=False)
    except BuildError as error:
        raise LauncherError(str(error)) from None


@commands.command(add_help_option=False,
                  context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})  # fmt: skip
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def pipeline(options: Options, words: tuple[str, ...]) -> int:
    """Run the job of a YAML file; 'job_stream pipeline --help' tells more.

    What says where to run may stand before it.
    """
    if options._replace(host=(), hostfile=None, ranks=None, dry_run=False) != Options():
        raise LauncherError("pipeline goes on by itself where it was ended: it takes no checkpoint, restarts or limit")
    return start(options, (sys.executable, "-m", "job_stream.baked.pipeline", *words))


@commands.command("git-results-progress")
@click.pass_obj
def git_results_progress(options: Options) -> None:
    """Print when the checkpoint was last written, in seconds since 1970; -1 if there is none.

    What says where to run may stand before it, and is of no interest.
    """
    _refuse_options("git-results-progress", options._replace(checkpoint=None, host=(), hostfile=None))
    path = options.checkpoint or CHECKPOINT.read()
    if not path:
        raise LauncherError("git-results-progress needs --checkpoint PATH, or -c, before it")
    click.echo(_last_written(path))


def _last_written(path: str) -> float:
    for name in (f"{path}.done", path):
        try:
            with os.fdopen(open_trusted(name)) as file:
                return os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            continue
        except CheckpointError as error:
            raise LauncherError(str(error)) from None
        except OSError as error:
            raise LauncherError(f"{name}: {error.strerror}") from None
    return -1


def _refuse_options(name: str, options: Options) -> None:
    """An option without effect is a mistake."""
    if options != Options():
        raise LauncherError(f"{name} takes no such options; write 'job_stream -- {name}' for a program of that name")


def main() -> None:
    """The console script ``job_stream``."""
    try:
        code = commands.main(prog_name="job_stream", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except click.Abort:
        code = INTERRUPTED
    except LauncherError as error:
        say(str(error))
        code = WRONG_USE
    sys.exit(code)
