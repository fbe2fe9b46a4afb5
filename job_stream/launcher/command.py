"""The command that starts a program on its ranks: one a host, not bound to cores, with the environment passed on.

One function for each kind of launcher. Hosts that follow each other and get as many lanes are one part of the command;
where ``cpus=`` differs, the parts are joined by colons. Each rank is started by an usher, which sets its lanes.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import NamedTuple

from .allocation import Allocation, ListedHost
from .error import LauncherError
from .mpirun import MPICH, OPEN_MPI, SLURM, Mpirun, root_variables

__all__ = ["LaunchPlan", "additions", "alone", "command", "is_remote"]

USHER = Path(__file__).with_name("usher.py")

_OWN_PREFIXES = ("OMPI_", "PMIX_", "PRTE_", "PMI_", "SLURM", "PBS_", "SSH_", "XDG_")
_OWN = {"HOSTNAME", "PWD", "OLDPWD", "SHLVL", "_"}
_SSH_ARGUMENTS = "PRTE_MCA_plm_ssh_args"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class LaunchPlan(NamedTuple):
    """What is to be started.

    Attributes:
        program: with its arguments.
        ranks: on this machine; of no interest where there are hosts or an allocation.
        hosts: to run a rank on each.
        allocation: of a batch system, to run a rank on each of its nodes.
    """

    program: tuple[str, ...]
    ranks: int = 1
    hosts: tuple[ListedHost, ...] = ()
    allocation: Allocation | None = None


def is_remote(job: LaunchPlan) -> bool:
    """Whether ranks may run on other machines."""
    return bool(job.hosts or job.allocation)


def alone(job: LaunchPlan) -> list[str]:
    """The command for one rank on this machine, which needs no mpirun."""
    return _ushered(job, None)


def command(job: LaunchPlan, mpirun: Mpirun, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The command for several ranks, or ranks elsewhere.

    Args:
        environment: to be passed on.

    Raises:
        LauncherError: this launcher cannot do what is asked.
    """
    return {OPEN_MPI: _open_mpi, MPICH: _hydra, SLURM: _srun}[mpirun.kind](job, mpirun, environment)


def additions(mpirun: Mpirun, job: LaunchPlan) -> dict[str, str]:
    """What is added to the environment of a launcher."""
    if mpirun.kind != OPEN_MPI:
        return {}
    return {**root_variables(), **(_deafness() if mpirun.recovers and is_remote(job) else {})}


def _deafness() -> dict[str, str]:
    """Keeps mpirun from noticing that a host is cut off: it would end the run, which goes on without that host."""
    options = os.environ.get(_SSH_ARGUMENTS, ""), "-oTCPKeepAlive=no", "-oServerAliveInterval=0"
    return {"PRTE_MCA_oob_tcp_keepalive_time": "0", _SSH_ARGUMENTS: " ".join(options).strip()}


def _ushered(job: LaunchPlan, cpus: int | None) -> list[str]:
    return [sys.executable, "-IS", str(USHER), str(cpus or "-"), *job.program]


def _parts(job: LaunchPlan) -> Iterator[tuple[int | None, list[ListedHost]]]:
    """Hosts that follow each other and get as many lanes."""
    for cpus, hosts in groupby(job.hosts, lambda host: host.cpus):
        yield cpus, list(hosts)


def _joined(parts: Sequence[list[str]]) -> list[str]:
    return list(chain.from_iterable([":", *part] if number else part for number, part in enumerate(parts)))


def _open_mpi(job: LaunchPlan, mpirun: Mpirun, environment: Mapping[str, str]) -> list[str]:
    start = [mpirun.path, *(("--with-ft", "ulfm") if mpirun.recovers else ()), "--bind-to", "none"]
    passed = [word for name in _passed_on(environment) for word in ("-x", name)] if is_remote(job) else []
    if job.hosts:
        _refuse_ipv6(job, mpirun)
        return start + _joined([
            ["--host", ",".join(f"{host.name}:1" for host in hosts), "-n", str(len(hosts)), *passed,
             *_ushered(job, cpus)]
            for cpus, hosts in _parts(job)
        ])  # fmt: skip
    if job.allocation:
        return [*start, "--map-by", "ppr:1:node", *passed, *_ushered(job, None)]
    crowded = ["--map-by", ":OVERSUBSCRIBE"] if mpirun.major >= 5 else ["--oversubscribe"]
    return [*start, *crowded, "-n", str(job.ranks), *_ushered(job, None)]


def _passed_on(environment: Mapping[str, str]) -> list[str]:
    """Variables for other machines: all but those that belong to this one, or to what started this process."""
    names = (name for name in environment if _NAME.fullmatch(name))
    return sorted(name for name in names if name not in _OWN and not name.startswith(_OWN_PREFIXES))


def _hydra(job: LaunchPlan, mpirun: Mpirun, environment: Mapping[str, str]) -> list[str]:
    start = [mpirun.path, "-genvall", "-bind-to", "none"]
    if job.hosts:
        _refuse_ipv6(job, mpirun)
        hosts = ",".join(f"{host.name}:1" for host in job.hosts)
        parts = [["-n", str(len(hosts)), *_ushered(job, cpus)] for cpus, hosts in _parts(job)]
        return [*start, "-hosts", hosts, *_joined(parts)]
    if job.allocation:
        return [*start, "-ppn", "1", "-n", str(job.allocation.nodes), *_ushered(job, None)]
    return [*start, "-n", str(job.ranks), *_ushered(job, None)]


def _refuse_ipv6(job: LaunchPlan, mpirun: Mpirun) -> None:
    for host in job.hosts:
        if ":" in host.name:
            raise LauncherError(
                f"host {host.name}: {mpirun.kind} takes no IPv6 addresses; give its name, in /etc/hosts if need be"
            )


def _srun(job: LaunchPlan, mpirun: Mpirun, environment: Mapping[str, str]) -> list[str]:
    if job.allocation is None or job.allocation.system != "Slurm" or job.hosts:
        raise LauncherError(
            f"{mpirun.path} starts ranks on the nodes of a Slurm job and nowhere else: use it inside of one and "
            "without hosts, or unset JOBS_MPIRUN"
        )
    nodes = str(job.allocation.nodes)
    lanes = environment.get("SLURM_CPUS_PER_TASK")
    return [
        mpirun.path, "--nodes", nodes, "--ntasks", nodes, "--ntasks-per-node", "1", "--cpu-bind=none",
        *(("--cpus-per-task", lanes) if lanes else ()), "--kill-on-bad-exit=1", *_ushered(job, None),
    ]  # fmt: skip
