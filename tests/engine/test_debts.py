"""What a rank repays of borrowed work, and when."""

from __future__ import annotations

import pytest
from engine_support import Payload, only

from job_stream.engine import messages as m
from job_stream.engine.rank import Rank
from job_stream.stream.plan import LAST, Builder, Kind, Plan, Stage

A, B, STORE, CHILD, RESULT = map(Payload, ("a", "b", "store", "child", "result"))

FRAME, BEHIND = 0, 1


def plan_with_frame(back: bool) -> Plan:
    """A frame with a job in it, and behind it a job, from which a way leads back to the frame or not."""
    builder = Builder()
    frame = builder.open_frame(Stage(Kind.FRAME, "frame", print))
    builder.add(Stage(Kind.JOB, "body", print))
    builder.close_frame(Stage(Kind.END, "frameEnd", print))
    behind = builder.add(Stage(Kind.JOB, "behind", print))
    builder.route(behind, {"back": frame, "out": LAST} if back else {"out": LAST})
    return builder.plan()


def scope_of(lend: m.Lend) -> int:
    return lend.units[0][1].scope


def repay(lend: m.Lend, *products: m.Product) -> m.Repaid:
    return m.Repaid(lend.lane, lend.loan, ((lend.loan, tuple(name for name, _ in lend.units)),), products)


def borrowed(plan: Plan, place: int) -> tuple[Rank, list[m.Lend]]:
    """Rank 1 with two lanes, each with a unit that rank 0 has lent."""
    rank = Rank(plan, (), 2, 1, (1, 2))
    rank.handle(m.Nothing())
    units = tuple(enumerate((m.WorkBatch(0, place, 1, A), m.WorkBatch(0, place, 1, B))))
    lends = only(m.Lend, rank.handle(m.Heard(0, m.Lend(0, 5, units))))
    return rank, sorted(lends, key=lambda lend: str(lend.units[0][1].payload))


def test_a_result_does_not_wait_for_a_frame_that_a_way_back_has_led_another_unit_to() -> None:
    plan = plan_with_frame(back=True)
    rank, (back, out) = borrowed(plan, BEHIND)
    inside, end = plan.bodies[1].segments[0].first, plan.bodies[0].end
    opened = m.Open(-1, scope_of(back), FRAME, STORE, ())
    rank.handle(repay(back, opened, m.WorkBatch(-1, inside, 1, CHILD)))
    actions = rank.handle(repay(out, m.Output(scope_of(out), end, 1, RESULT)), 0.1)
    actions += rank.handle(m.Nothing(), 1.0)
    (repaid,) = [send.message for send in only(m.Send, actions) if type(send.message) is m.Repaid]
    assert repaid.products == (m.Output(m.HOME, end, 1, RESULT),)
    assert repaid.closed == ((5, (1,)),)


@pytest.mark.parametrize(("back", "scopes"), [(True, 2), (False, 1)])
def test_units_have_scopes_of_their_own_only_where_a_frame_can_be_ahead(back: bool, scopes: int) -> None:
    _, lends = borrowed(plan_with_frame(back), BEHIND)
    assert len({scope_of(lend) for lend in lends}) == scopes
