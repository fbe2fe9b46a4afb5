"""What goes into the engine and what comes out of it.

Events are facts that the runtime reports, actions are what it is to do, and products are what a lane's work led to.
All are immutable and compare by value. Products (``outcomes``), payloads and what ranks ask each other (``asking``)
have modules of their own; whoever uses several of them finds all here.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

from .asking import AllStill, Ask, Cancel, Pause, Probe, Probed, Refuse, Report, Reported
from .outcomes import ANYWHERE, HOME, PRIMARY, Fail, Fold, Open, Output, Product, Skip, WorkBatch
from .payloads import COUNTED, Payload, RangeSlice, Same, SourceSlice

__all__ = [
    "ANYWHERE",
    "COUNTED",
    "HOME",
    "PRIMARY",
    "TRAVELLING",
    "Action",
    "AllStill",
    "Answered",
    "Ask",
    "Call",
    "CallKind",
    "Cancel",
    "Deliver",
    "Event",
    "Fail",
    "Flush",
    "Fold",
    "Halt",
    "Heard",
    "KeeperLost",
    "LaneForked",
    "LaneLost",
    "LaneMessage",
    "Lend",
    "Nothing",
    "Open",
    "Output",
    "Pause",
    "Payload",
    "Probe",
    "Probed",
    "Product",
    "Pull",
    "RangeSlice",
    "RankLost",
    "RankMessage",
    "Refuse",
    "Repaid",
    "Report",
    "Reported",
    "ResultsTaken",
    "Resume",
    "Returned",
    "Same",
    "Save",
    "Saved",
    "Send",
    "Signal",
    "Skip",
    "SourceGave",
    "SourceSlice",
    "Stalled",
    "StartKeeper",
    "StartLane",
    "TakeBack",
    "WorkBatch",
]  # fmt: skip

# events --------------------------------------------------------------------------------------------------------------


class SourceGave(NamedTuple):
    """Payloads pulled from the source, with their counts. ``done``: there is no more."""

    chunks: tuple[tuple[int, Payload], ...]
    done: bool


class Repaid(NamedTuple):
    """A lane, or another rank, repaid: the ``closed`` units are replaced by ``products``, atomically.

    ``closed``: pairs of a loan and the numbers of its units; a lane may owe several loans. ``returned`` units of
    ``loan`` were not begun. ``computed`` ones are done, but what came of them is still with the lane. ``kept``: pairs
    of a unit's new number and the work that the lane goes on with under it; no payload, from a lane: that of the unit
    closed last. ``stand_ins``: pairs of a scope that the lane does not know the number of, and the name of a unit of
    ``loan`` in it, which this repayment closes.
    ``samples``: (place, items, seconds) of finished units. ``awaits``: the lane waits until it is told to go on
    (``Resume``), since what it hands over is large, or results pile up.
    """

    lane: int
    loan: int
    closed: tuple[tuple[int, tuple[int, ...]], ...]
    products: tuple[Product, ...] = ()
    returned: tuple[int, ...] = ()
    computed: tuple[int, ...] = ()
    kept: tuple[tuple[int, WorkBatch], ...] = ()
    samples: tuple[tuple[int, int, float], ...] = ()
    stand_ins: tuple[tuple[int, int], ...] = ()
    awaits: bool = False


class Returned(NamedTuple):
    """Loans that were taken back before their lane began them."""

    lane: int
    loans: tuple[int, ...]


class LaneForked(NamedTuple):
    """A lane that was to be started is there; nobody need say so of one that is heard of anyway."""

    lane: int


class LaneLost(NamedTuple):
    """A lane is gone. ``loan``, ``unit`` and ``place`` are what it had noted. ``timed``: it was killed for exceeding a
    time limit. ``during_unpickling``: it was unpickling, so that nobody should try that again. What it had not begun
    counts as innocent, since it had noted another loan."""

    lane: int
    loan: int
    unit: int
    place: int
    cause: str
    timed: bool = False
    during_unpickling: bool = False


class Answered(NamedTuple):
    """The keeper finished a call. ``more``: it gave a long Multiple, which is to be asked for."""

    call: int
    products: tuple[Product, ...]
    payload: Payload = None
    more: bool = False


class KeeperLost(NamedTuple):
    """The keeper is gone; it had begun with value number ``index`` of its oldest call."""

    processes: bool
    index: int  # type: ignore[assignment]
    place: int
    cause: str
    timed: bool = False
    during_unpickling: bool = False


class ResultsTaken(NamedTuple):
    """The main thread is done with a delivery of so many results and bytes."""

    count: int  # type: ignore[assignment]
    nbytes: int


class Save(NamedTuple):
    """Somebody wants the state of the stream, as fresh as can be had soon; ``Saved`` brings it."""


class Nothing(NamedTuple):
    """Nothing happened; the engine may want to do something all the same."""


class Heard(NamedTuple):
    """A message of another rank."""

    rank: int
    message: RankMessage


class RankLost(NamedTuple):
    """Another rank is gone."""

    rank: int


Event = (SourceGave | Repaid | Returned | LaneForked | LaneLost | Answered | KeeperLost | ResultsTaken | Save | Nothing
         | Heard | RankLost)  # fmt: skip

# actions -------------------------------------------------------------------------------------------------------------


class StartLane(NamedTuple):
    lane: int
    processes: bool


class StartKeeper(NamedTuple):
    processes: bool


class Lend(NamedTuple):
    """Send a parcel to a lane, or pieces to another rank. ``one_by_one``: one call at a time, so that whatever kills
    the lane is known exactly."""

    lane: int
    loan: int
    units: tuple[tuple[int, WorkBatch], ...]
    one_by_one: bool = False


class TakeBack(NamedTuple):
    """Take what lies in a lane's inbox back, and report it as ``Returned``."""

    lane: int


class Flush(NamedTuple):
    """Tell a lane to repay all it has computed."""

    lane: int


class Resume(NamedTuple):
    """Tell a lane that waits to go on."""

    lane: int


class Signal(NamedTuple):
    """What lanes look at between two steps. ``wanted``: others have nothing to do. ``paused``: results pile up."""

    wanted: bool
    paused: bool


class CallKind(Enum):
    """What is done with a store that the keeper holds."""

    ADOPT = "adopt"
    """The keeper holds it from now on."""
    END = "end"
    """Values have come through a frame: frameEnd takes them in."""
    MERGE = "merge"
    """Another store is merged into it."""
    MORE = "more"
    """The next elements are taken of a long Multiple, which the call gave whose number is the payload."""
    CHECKOUT = "checkout"
    """It comes back and leaves the keeper, since its scope goes on."""
    COPY = "copy"
    """A copy of it comes back."""
    DROP = "drop"
    """It leaves the keeper, as with CHECKOUT, but nobody waits for it."""

    @property
    def takes_in(self) -> bool:
        """Whether something is put into the store, which no copy of it contains yet."""
        return self in (CallKind.END, CallKind.MERGE)

    @property
    def told(self) -> str:
        """What the keeper is told, as plain data."""
        return str((CallKind.CHECKOUT if self is CallKind.DROP else self).value)


class Call(NamedTuple):
    """A call of the keeper. ``kind``: as CallKind tells it; ``without``: numbers of values to leave out."""

    processes: bool
    call: int
    kind: str
    store: tuple[int, int]
    place: int
    payload: Payload
    one_by_one: bool = False
    without: tuple[int, ...] = ()


class Deliver(NamedTuple):
    """Give results to the main thread."""

    payload: Payload
    count: int  # type: ignore[assignment]
    base: int | None


class Pull(NamedTuple):
    """Take about so many items from the source."""

    items: int


class Saved(NamedTuple):
    """The ``capture.State`` that was asked for."""

    state: Any


class Halt(NamedTuple):
    """The stream has ended."""


class Stalled(NamedTuple):
    """Tell the user that the stream stands still, and what this rank waits for."""

    story: str


class Send(NamedTuple):
    """Send a message to another rank."""

    rank: int
    message: RankMessage


Action = (StartLane | StartKeeper | Lend | TakeBack | Flush | Resume | Signal | Call | Deliver | Pull | Fail | Skip
          | Report | Saved | Halt | Stalled | Send)  # fmt: skip

LaneMessage = Lend | Flush | Resume
"""What lanes are sent."""

RankMessage = (Ask | Refuse | Lend | Repaid | Pause | Cancel | Report | Reported | Probe | Probed | AllStill
               | Halt)  # fmt: skip
"""What ranks send each other."""

TRAVELLING = (
    SourceSlice, RangeSlice, WorkBatch, Output, Fold, Open, Skip, Repaid, Answered, Lend, Flush, Resume, Call, Same,
    Fail, Ask, Refuse, Pause, Cancel, Halt, Report, Reported, Probe, Probed, AllStill,
)  # fmt: skip
"""What is sent to lanes, keepers and other ranks, and what comes from them."""
