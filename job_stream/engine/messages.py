"""What goes into the engine and what comes out of it.

Events are facts that the runtime reports, actions are what it is to do, and products are what a lane's work led to.
All are immutable and compare by value. The engine looks into no payload but ``SourceSlice``, and asks
each only for its ``nbytes``.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, NamedTuple

__all__ = [
    "COUNTED",
    "HOME",
    "AllStill",
    "Answered",
    "Ask",
    "Call",
    "CallKind",
    "Cancel",
    "Deliver",
    "Fail",
    "Flush",
    "Fold",
    "Halt",
    "Heard",
    "KeeperLost",
    "LaneForked",
    "LaneLost",
    "Lend",
    "Nothing",
    "Open",
    "Output",
    "Pause",
    "Probe",
    "Probed",
    "Pull",
    "RangeSlice",
    "RankLost",
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


class SourceSlice(NamedTuple):
    """A payload that every lane has already: elements ``start`` to ``stop`` of part ``part`` of the source."""

    part: int
    start: int
    stop: int

    @property
    def nbytes(self) -> int:
        return 0


class RangeSlice(NamedTuple):
    """A payload that says all itself: the numbers from ``start`` to before ``stop`` in steps of ``step``."""

    start: int
    stop: int
    step: int

    @property
    def nbytes(self) -> int:
        return 0


COUNTED = (SourceSlice, RangeSlice)
"""The payloads that only say which values they stand for, so that anybody can cut them."""


class Same(NamedTuple):
    """A payload that the lender has already: that of the unit ``name``, which the same repayment closes."""

    name: int

    @property
    def nbytes(self) -> int:
        return 0


HOME = -(1 << 40)
"""What another rank names as the scope of what it repays: that of the units which the same repayment closes. Lanes
name theirs by numbers below it: see ``Repaid.stand_ins``."""

# products ------------------------------------------------------------------------------------------------------------


class WorkBatch(NamedTuple):
    """Values that are still to go through ``place`` and on.

    The first ``skip`` values of the payload are done; of the Multiple that the first one gives, ``inner`` elements are.
    ``resume``: the payload is a frame between two rounds or, at the end of a segment, a store that is to be emitted, in
    a scope with this ``key``. ``base``: the position in the source, of what comes straight from there. ``failed``: it
    has ended its worker, and a failure is to go on in its place: the cause, how often, and whether its time was up.
    """

    scope: int
    place: int
    count: int  # type: ignore[assignment]
    payload: Any
    base: int | None = None
    skip: int = 0
    inner: int = 0
    resume: bool = False
    one_by_one: bool = False
    key: int = 0
    failed: tuple[str, int, bool] | tuple[()] = ()


class Output(NamedTuple):
    """Values that reached the end of a body. ``base``: the position of the first, in an ordered stream."""

    scope: int
    place: int
    count: int  # type: ignore[assignment]
    payload: Any
    base: int | None = None


class Fold(NamedTuple):
    """A store that values were folded into, for the reduction at ``place``."""

    scope: int
    place: int
    payload: Any


class Open(NamedTuple):
    """A frame that goes on at the rank. ``scope`` is a negative stand-in that the products after it refer to."""

    scope: int
    parent: int
    place: int
    payload: Any
    active: tuple[int, ...]
    key: int = 0


class Skip(NamedTuple):
    """An item that failed and was left out."""

    place: int
    stage: str
    payload: Any
    attempts: int
    reason: str
    scope: int = 0


class Fail(NamedTuple):
    """Give up ``count`` values of a payload from number ``index`` on: they killed their lane, or ran out of time.
    ``final``: that ends the run. ``base``: the position of the first in the source, of what comes straight from
    there."""

    place: int
    payload: Any
    index: int  # type: ignore[assignment]
    count: int  # type: ignore[assignment]
    attempts: int
    cause: str
    timed: bool
    during_unpickling: bool
    final: bool = True
    scope: int = 0
    base: int | None = None


Product = WorkBatch | Output | Fold | Open | Skip | Fail

# events --------------------------------------------------------------------------------------------------------------


class SourceGave(NamedTuple):
    """Payloads pulled from the source, with their counts. ``done``: there is no more."""

    chunks: tuple[tuple[int, Any], ...]
    done: bool


class Repaid(NamedTuple):
    """A lane, or another rank, repaid: the ``closed`` units are replaced by ``products``, atomically.

    ``closed``: pairs of a loan and the numbers of its units; a lane may owe several loans. ``returned`` units of
    ``loan`` were not begun. ``computed`` ones are done, but what came of them is still with the lane. ``kept``: pairs
    of a unit's new number and the work that the lane goes on with under it; no payload, from a lane: that of the unit
    closed last. ``stand_ins``: pairs of a scope that the lane does not know the number of, and the name of a unit of
    ``loan`` in it, which this repayment closes.
    ``samples``: (place, items, seconds) of finished units.
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
    payload: Any = None
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
    """A message of another rank: Ask, Refuse, Lend, Repaid, Pause, Cancel, Report, Reported, Probe, Probed, AllStill or
    Halt."""

    rank: int
    message: Any


class RankLost(NamedTuple):
    """Another rank is gone."""

    rank: int


Event = (SourceGave | Repaid | Returned | LaneForked | LaneLost | Answered | KeeperLost | ResultsTaken | Save | Nothing
         | Heard | RankLost)  # fmt: skip

# between ranks: also Lend, Repaid and Halt ----------------------------------------------------------------------------


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
    """Tell a paused lane to go on."""

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
    payload: Any
    one_by_one: bool = False
    without: tuple[int, ...] = ()


class Deliver(NamedTuple):
    """Give results to the main thread."""

    payload: Any
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
    message: Any


Action = (StartLane | StartKeeper | Lend | TakeBack | Flush | Resume | Signal | Call | Deliver | Pull | Fail | Skip
          | Report | Saved | Halt | Stalled | Send)  # fmt: skip

TRAVELLING = (
    SourceSlice, RangeSlice, WorkBatch, Output, Fold, Open, Skip, Repaid, Answered, Lend, Flush, Resume, Call, Same,
    Fail, Ask, Refuse, Pause, Cancel, Halt, Report, Reported, Probe, Probed, AllStill,
)  # fmt: skip
"""What is sent to lanes, keepers and other ranks, and what comes from them."""
