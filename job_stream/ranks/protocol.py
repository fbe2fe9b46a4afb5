"""What ranks say to each other, besides the engine's own messages."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..engine.messages import TRAVELLING
from ..evaluate.failures import UserFailure
from ..memory.codec import Kinds
from ..stream.fingerprint import Stages

__all__ = ["KINDS", "Figures", "Hello", "Ping", "Pong", "RunFailed", "Shared", "Through"]


class Hello(NamedTuple):
    """Between ranks: the stages of a rank's plan, as kind, name and checksum."""

    stages: Stages


class RunFailed(NamedTuple):
    """Between ranks: the run ends with this exception (pickled, with its cause)."""

    error: bytes


class Ping(NamedTuple):
    """Between ranks: are you there?"""


class Pong(NamedTuple):
    """Between ranks: yes."""


class Through(NamedTuple):
    """Between ranks: the primary's ``run()`` has come to its end, and gone well."""


class Shared(NamedTuple):
    """Between ranks: the primary's value, packed."""

    value: Any


class Figures(NamedTuple):
    """Between ranks: what a rank has done in the run that is over.

    Attributes:
        lanes: how many it could have at a time.
        wall_ns, cpu_ns: time that they and its keepers spent on user code.
        messages: how many it has sent to them and to other ranks.
    """

    lanes: int
    wall_ns: int
    cpu_ns: int
    messages: int


KINDS = Kinds((*TRAVELLING, UserFailure, Hello, RunFailed, Ping, Pong, Figures, Through, Shared))
