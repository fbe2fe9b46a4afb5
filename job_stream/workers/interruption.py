"""What is done about a step that takes long, from another thread than the one that is in it.

Between two steps a lane looks itself whether others want work. But a step is a batch of values whose cost is known from
those before them: where that jumps up, it may take hours. So another thread (``divider``) looks every 20 ms whether a
step has taken more than 2 ms, and if so, whether

- others have nothing to do: all that has not been begun is handed over;
- the state of the stream was asked for, or has not been reported for long: the same;
- something is done that others wait for, and the step has taken 50 ms: that is repaid, and the rest handed over.

Nobody waits for any of this but the value in user code, should it end meanwhile. There are three ways:

- *Parting* repays all that is done, hands over all that is not begun, and keeps one unit: the value under way. The rank
  must be able to lend that again, so it needs it as it was before its call. The rank has the values of the unit itself;
  others are packed now, which is right only if nobody can have changed them, or have been copied before (``copies``).
- *Leaving a frame* does the same around one that was opened by a value of the unit, and is still with the lane: nothing
  that came of this value has left the frame. So that value is kept, and the frame stays as it is.
- Otherwise the unit is *shortened*: its values that have not been begun are handed over, and it goes on as a unit of
  those that have. Nothing that has come of these is repaid, and frames and stores stay what and where they are, since
  user code may be changing them.

A step is looked at twice before something is done about it: only that tells one slow value from many fast ones.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from time import perf_counter

from ..evaluate.division import UnderWay
from ..evaluate.evaluator import Evaluator
from ..evaluate.failures import StageFailed
from ..evaluate.outboxes import FrameScope, Outbox
from ..memory.words import ENDING, WANTED, Words
from .divider import Divider
from .repayments import Repayments
from .reporting import Reporting
from .surplus import WORTH_S, Surplus

__all__ = ["Interruption"]

TICK_S = 20e-3
SOON_S = 2e-3
"""A step that has taken so long is looked at; and a look is repeated so soon."""
DELIVER_S = 50e-3


class Interruption:
    """Looks at the step that a lane is in.

    Args:
        flags: that the rank raises.
        evaluator: of the lane.
        surplus: what is left in it.
        repayments: of the lane.
        reporting: when the rank wants to hear of what is under way.
        fail: told what has gone wrong when something had been decided already.
    """

    def __init__(self, flags: Words, evaluator: Evaluator, surplus: Surplus, repayments: Repayments,
                 reporting: Reporting, fail: Callable[[Exception], None]) -> None:  # fmt: skip
        self._flags = flags
        self._evaluator = evaluator
        self._surplus = surplus
        self._repayments = repayments
        self._reporting = reporting
        self._fail = fail
        self._divider = Divider(self.look)
        self._thread = 0
        self._is_at_work = False
        self._settled = self._whole = 0.0
        self._seen = (0.0, 0, 0.0)

    # the lane's thread ------------------------------------------------------------------------------------------------

    def begin_parcel(self, thread: int) -> None:
        """The lane works from now on, in this thread."""
        self._thread, self._is_at_work = thread, True
        self._divider.attend()

    def end_parcel(self) -> None:
        """The lane has nothing to do."""
        self._is_at_work = False

    def close(self) -> None:
        """The lane ends."""
        self._is_at_work = False
        self._divider.close()

    # the divider's thread ---------------------------------------------------------------------------------------------

    def look(self) -> float | None:
        """Does what is to be done about the step under way; tells when to look again."""
        if not self._is_at_work:
            return None
        evaluator, now = self._evaluator, perf_counter()
        since = evaluator.pace.now
        if since == self._settled or now - since < SOON_S or not self._is_reason(now, now - since):
            return TICK_S
        if not evaluator.turn.claim():  # the lane is between two calls, or waits for room
            return TICK_S
        try:
            return self._interrupt(now, since) if self._is_still_at(since) else TICK_S
        except StageFailed:  # the lane will meet it itself, where it is to be told
            return TICK_S
        except Exception as error:
            self._tell(error)
            return TICK_S
        finally:
            evaluator.turn.give_back()

    def _is_still_at(self, since: float) -> bool:
        return self._is_at_work and self._evaluator.pace.now == since

    # whether ----------------------------------------------------------------------------------------------------------

    def _is_reason(self, now: float, took: float) -> bool:
        if self._flags[ENDING]:
            return False
        return bool(self._flags[WANTED]) or took >= DELIVER_S or self._reporting.is_due(now)

    def _interrupt(self, now: float, since: float) -> float:
        way = self._evaluator.under_way
        is_asked = self._reporting.is_due(now) or (bool(self._flags[WANTED]) and self._has_more(way))
        if way.run is None or (self._evaluator.stack.marks and not is_asked):
            if is_asked or self._has_results(way):
                self._leave(since, is_asked)
            return TICK_S
        (seen_since, seen, seen_at), begun = self._seen, way.begun
        self._seen = since, begun, now
        if seen_since != since:
            return SOON_S
        each = (now - seen_at) / max(begun - seen, 1)
        if is_asked:
            if begun > seen and (way.end - begun) * each < WORTH_S and not self._reporting.is_due(now):
                return SOON_S  # it is about to end
        elif not self._has_results(way):
            return TICK_S
        return self._divide(way, now, since, each, is_asked)

    def _has_more(self, way: UnderWay) -> bool:
        """Whether there is something for others to do: in a frame where one thing follows the other there is not."""
        run = way.run
        if run is not None and (way.begun < way.end or (way.outputs and self._surplus.goes_on(run.place))):
            return True
        return self._repayments.are_waiting or self._surplus.has_more

    def _has_results(self, way: UnderWay) -> bool:
        """Whether something is done that others wait for."""
        self._repayments.forget_unwanted()
        run = way.run
        if self._repayments.has_products or run is None or type(run.context) is FrameScope:
            return self._repayments.has_products
        return bool(way.outputs) and not self._surplus.is_unwanted(run.place)

    def _divide(self, way: UnderWay, now: float, since: float, each: float, is_asked: bool) -> float:
        """Cuts the batch, and parts with all of it but the value under way, or with what can be parted with."""
        run = way.run
        assert run is not None
        if way.cut(self._evaluator.stack):
            self._evaluator.pace.notice(run.place, each)
            way.since = now - each
            if self._surplus.is_origin(run):
                self._repayments.notice(run.place, each)
        done = way.finished(self._thread)
        if done is None:  # it is between two values, or about to leave
            return SOON_S
        if self._is_all(way, done):
            self._settled = since
        elif not self._part(way, done, since):
            self._leave(since, is_asked)
        return TICK_S

    def _is_all(self, way: UnderWay, done: int) -> bool:
        """Whether there is nothing but the value under way."""
        return not done and not self._evaluator.stack and self._repayments.is_bare

    # the three ways ---------------------------------------------------------------------------------------------------

    def _part(self, way: UnderWay, done: int, since: float) -> bool:
        """Repays what is done, and hands over all but the value under way. False: that cannot be; nothing is lost."""
        run = way.run
        if run is None or since == self._whole:
            return False
        self._whole = since
        try:
            self._surplus.take_plain()
            work = self._surplus.under_way(run)
            if work is None:
                return False
            self._evaluator.part_with(done)
            self._repayments.collect()
            names: dict[int, int] = {}
            kept = self._surplus.surrender(names)
        except Exception:  # the lane will meet it itself, if it is not for the call under way that it came
            return False
        self._commit(self._repayments.give_back)
        stand_in = None
        if type(run.context) is FrameScope:
            work = work._replace(scope=names[id(run.context)])
            stand_in = self._repayments.new_stand_in()
            run.context = Outbox(stand_in, self._evaluator.plan.bodies[run.context.place.inner].end)
        first = self._surplus.named(work)
        with self._reporting.under_way():
            self._commit(lambda: self._repayments.send((first, *kept), stand_in))
        self._settled = since
        return True

    def _leave(self, since: float, is_asked: bool) -> None:
        """Leaves the frame under way, if it is one; otherwise shortens the unit, if somebody has asked for that."""
        if self._leave_frame():
            self._settled = since
        elif is_asked:
            self._settled = since
            with self._reporting.under_way():
                self._shorten()

    def _leave_frame(self) -> bool:
        """Repays all that is done but for the frame under way, and hands over all else but that."""
        if not self._surplus.is_in_frame:
            return False
        try:
            self._repayments.collect()
            kept = self._surplus.leave_frame()
        except Exception:
            return False
        self._commit(self._repayments.give_back)
        with self._reporting.under_way():
            self._commit(lambda: self._repayments.send((kept,)))
        return True

    def _shorten(self) -> None:
        """Gives back what has not been begun of the parcel, and of the unit under way."""
        self._commit(self._repayments.give_back)
        try:
            shortened = self._surplus.shorten()
        except Exception:
            return
        if shortened is not None:
            kept, rest = shortened
            self._commit(lambda: self._repayments.shorten(kept, rest))

    def _commit(self, send: Callable[[], None]) -> None:
        """Sends what is not here any more: that it does not get there ends the run."""
        try:
            send()
        except ConnectionError:
            pass  # the run is over
        except Exception as error:
            self._tell(error)

    def _tell(self, error: Exception) -> None:
        with suppress(ConnectionError):
            self._fail(error)
