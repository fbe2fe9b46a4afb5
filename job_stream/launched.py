"""Who started this process, and as which rank of how many: read from the environment, without MPI.

Each launcher tells its processes who they are by variables of its own. An MPI launcher may itself run inside an
allocation of a batch system, whose variables are then there as well and mean something else: MPI's come first.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Launch", "alone", "launched"]


class Launch(NamedTuple):
    """What a launcher says about this process.

    ``localRank`` and ``localSize`` count the ranks on this host, and are None where the launcher does not say. ``size``
    is None where only MPI knows.
    """

    launcher: str
    rank: int
    size: int | None
    localRank: int | None = None
    localSize: int | None = None


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """What the launcher of this process says, or None: it was started without one."""
    for read in (_openMpi, _hydra, _pmix, _slurm):
        launch = read(environment)
        if launch is not None:
            return launch
    return None


def alone(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the user asks for a world of this process alone, by JOBS_RANKS=1."""
    return environment.get("JOBS_RANKS") == "1"


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    """The first of these variables that holds a number."""
    texts = (environment.get(name, "") for name in names)
    return next((int(text) for text in texts if text.isdigit()), None)


def _openMpi(environment: Mapping[str, str]) -> Launch | None:
    rank = _number(environment, "OMPI_COMM_WORLD_RANK")
    if rank is None:
        return None
    size = _number(environment, "OMPI_COMM_WORLD_SIZE")
    localRank = _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
    return Launch("Open MPI", rank, size, localRank, _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"))


def _hydra(environment: Mapping[str, str]) -> Launch | None:
    rank, size = _number(environment, "PMI_RANK"), _number(environment, "PMI_SIZE")
    if rank is None or size is None:
        return None
    localRank = _number(environment, "MPI_LOCALRANKID")
    return Launch("MPICH", rank, size, localRank, _number(environment, "MPI_LOCALNRANKS"))


def _pmix(environment: Mapping[str, str]) -> Launch | None:
    rank = _number(environment, "PMIX_RANK")
    if rank is None:
        return None
    size = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    return Launch("PMIx", rank, size, _number(environment, "SLURM_LOCALID"))


def _slurm(environment: Mapping[str, str]) -> Launch | None:
    rank, size = _number(environment, "SLURM_PROCID"), _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if rank is None or size is None or size < 2:
        return None
    return Launch("Slurm", rank, size, _number(environment, "SLURM_LOCALID"))
