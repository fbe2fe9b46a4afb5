"""``build``: makes files again only where something has changed.

``building`` is the public call. ``declaring`` and ``decorators`` hold the graph as it is declared, ``decide`` and
``conductor`` say what runs, in pure functions, ``running`` does it on a stream of one frame, and ``errands`` is a
worker's side of it. ``records`` is what earlier runs have left, ``assessing`` how things are now. It is written on the
public interface, like every recipe; decisions are made in the script's own process on the primary.
"""

from .building import Build, build
from .fingerprints import Fingerprint
from .job import JobList

__all__ = ["Build", "Fingerprint", "JobList", "build"]
