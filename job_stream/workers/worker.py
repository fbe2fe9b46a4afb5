"""What works at the far end of a link: a lane, or the keeper (number 0); in a process or a thread alike."""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from ..evaluate.ending import Ending
from ..evaluate.evaluator import Evaluator
from ..evaluate.packing import Packing
from ..evaluate.seams import InitialItems
from ..evaluate.workplace import Workplace
from ..memory.words import ALL_CPUS, OWN_CPUS, SharedWords, Words
from ..stream.plan import Plan
from .keeper import Keeper
from .lane import Lane
from .links import Link
from .reporting import REPORT_S

__all__ = ["KEEPER", "Setup", "new_worker"]

KEEPER = 0


class Setup(NamedTuple):
    """What every worker of a run needs to know; it reaches processes by fork."""

    plan: Plan
    source: InitialItems
    seed: int | None
    drop: bool
    board: SharedWords
    survives_sigterm: bool = False
    """There are checkpoints: processes stay when they are asked to end, since the script's own process, which is asked
    too, has to save first, and lanes report now and then what they are at."""

    ending: Ending | None = None
    """Comes when the run is over, for workers that are threads."""

    elsewhere: bool = False
    """This is another rank than the primary."""


def new_worker(setup: Setup, number: int, processes: bool, link: Link, packing: Packing, note: Words) -> Lane | Keeper:
    """The lane or keeper of this number; ``processes``: it runs the stages that are for processes."""
    flags = setup.board.flags
    workplace = Workplace(number, flags[OWN_CPUS], flags[ALL_CPUS], setup.ending)
    evaluator = Evaluator(setup.plan, processes, note, setup.seed, setup.elsewhere, workplace, packing)
    if number == KEEPER:
        return Keeper(link, evaluator, packing, note)
    report_s = REPORT_S if setup.survives_sigterm else inf
    unwanted = frozenset({setup.plan.bodies[0].end} if setup.drop else ())
    return Lane(link, evaluator, packing, setup.source, note, flags, unwanted, report_s)
