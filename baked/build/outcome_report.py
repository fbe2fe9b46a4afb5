"""What a run has come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["BuildReport"]


class BuildReport(NamedTuple):
    """What ``run()`` returns: the ids of all jobs, by how they ended.

    Attributes:
        made: what ran.
        kept: what need not run.
        failed: what raised, died, took too long, or did not make what it should.
        blocked: what needs something that failed.
        stopped: what was not begun, or was ended.
        pruned: what was left out.
        reasons: why each of those ran that did.
        seconds: how long the run took.
    """

    made: list[str]
    kept: list[str]
    failed: list[str]
    blocked: list[str]
    stopped: list[str]
    pruned: list[str]
    reasons: Mapping[str, list[str]]
    seconds: float

    def __str__(self) -> str:
        more = {"blocked": self.blocked, "stopped": self.stopped, "pruned": self.pruned}
        counts = [f"made {len(self.made)}", f"kept {len(self.kept)}", f"failed {len(self.failed)}"]
        counts += [f"{name} {len(ids)}" for name, ids in more.items() if ids]
        return f"{', '.join(counts)} in {self.seconds:.1f} s"
