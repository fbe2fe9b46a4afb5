"""What ranks say to each other, besides lending and repaying, which they do as lanes do."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["AllStill", "Ask", "Cancel", "Pause", "Probe", "Probed", "Refuse", "Report", "Reported"]


class Ask(NamedTuple):
    """A rank asks for work for so many lanes, its own and those behind it in the tree. ``wait``: it wants no answer
    before there is some. ``left``: for so many seconds its own lanes have something to do."""

    lanes: int
    wait: bool
    left: float = 0.0


class Refuse(NamedTuple):
    """There is nothing to lend."""


class Pause(NamedTuple):
    """Results pile up at rank 0, for an odd number; for an even one they no longer do. The highest number counts."""

    change: int


class Cancel(NamedTuple):
    """Nobody waits for this loan any more."""

    loan: int


class Report(NamedTuple):
    """The state is to be saved, for the ``number``-th time. To a rank: repay what you owe as it stands, and answer with
    ``Reported``; ``again``: lanes need not be asked, they have been just now. As an action: have lanes hand over what
    they are at when their time slice ends."""

    number: int
    again: bool = False


class Reported(NamedTuple):
    """What was owed when this ``Report`` came has been repaid as it stood, as far as that was possible. ``moved``:
    others have been told of a rest, too, and may have to tell it in their turn."""

    number: int
    moved: bool = False


class Probe(NamedTuple):
    """Nothing has moved at rank 0 for long: does anything move at yours?"""

    number: int


class Probed(NamedTuple):
    """The answer. ``is_still``: nothing has moved here either, and no user code runs."""

    number: int
    is_still: bool


class AllStill(NamedTuple):
    """All ranks stand still although the stream is not over: say what you wait for, and ask again."""
