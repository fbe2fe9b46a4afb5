"""The plan: where places stand, and where their outputs go."""

from __future__ import annotations

import pytest

from job_stream.stream.plan import LAST, Builder, Kind, Place, Plan, Stage


def stage(kind: str, name: str) -> Stage:
    return Stage(kind, name, print)


def job(builder: Builder, name: str) -> int:
    return builder.add(stage(Kind.JOB, name))


def ways(plan: Plan) -> dict[str, list[str]]:
    """Where the outputs of each place go, by the names of places."""

    def goals(place: Place) -> list[int]:
        return list(place.routes.values()) or [place.next]

    return {
        place.name: [f"{plan.places[goal].kind}: {plan.places[goal].name}" for goal in goals(place)]
        for place in plan.places
        if place.kind != Kind.END
    }


END = "end: the end of the stream"


def test_without_routes_outputs_go_to_the_next_place() -> None:
    builder = Builder()
    job(builder, "a")
    builder.add(stage(Kind.FOLD, "fold"))
    job(builder, "b")
    plan = builder.plan()
    assert ways(plan) == {"a": ["fold: fold"], "fold": ["job: b"], "b": [END]}
    assert [place.kind for place in plan.places] == ["job", "fold", "job", "end"]


def test_one_route_is_another_successor() -> None:
    builder = Builder()
    a, b, c = (job(builder, name) for name in "abc")
    builder.route(a, {"": c})
    builder.route(c, {"": b})
    builder.route(b, {"": LAST})
    plan = builder.plan()
    assert ways(plan) == {"a": ["job: c"], "b": [END], "c": ["job: b"]}
    assert all(place.kind != Kind.SWITCH for place in plan.places)


def test_several_routes_begin_at_a_switch_behind_the_job() -> None:
    builder = Builder()
    a, b = job(builder, "a"), job(builder, "b")
    builder.route(a, {"on": b, "back": a, "out": LAST})
    plan = builder.plan()
    assert ways(plan) == {"a": ["switch: a (routes)"], "a (routes)": ["job: b", "job: a", END], "b": [END]}
    assert plan.places[1].next == 2


def test_routes_lead_to_the_end_of_their_segment() -> None:
    builder = Builder()
    a = job(builder, "a")
    job(builder, "b")
    builder.route(a, {"": LAST})
    builder.add(stage(Kind.FOLD, "fold"))
    job(builder, "c")
    assert ways(builder.plan())["a"] == ["fold: fold"]


def test_routes_of_a_frame_belong_to_the_body_around_it() -> None:
    builder = Builder()
    a = job(builder, "a")
    frame = builder.open_frame(stage(Kind.FRAME, "frame"))
    inner = job(builder, "inner")
    builder.route(inner, {"again": inner, "out": LAST})
    builder.close_frame(stage(Kind.END, "frameEnd"))
    builder.route(frame, {"back": a, "out": LAST})
    found = ways(builder.plan())
    assert found["frame (routes)"] == ["job: a", END]
    assert found["inner (routes)"] == ["job: inner", "end: frameEnd"]


def test_an_entrance_is_the_first_place_of_its_body() -> None:
    builder = Builder()
    builder.open_frame(stage(Kind.FRAME, "frame"))
    a, b = job(builder, "a"), job(builder, "b")
    builder.enter({"": b, "first": a})
    builder.close_frame(stage(Kind.END, "frameEnd"))
    plan = builder.plan()
    entrance = plan.places[plan.bodies[1].segments[0].first]
    assert (entrance.kind, entrance.name) == (Kind.SWITCH, "frame (input)")
    assert {target: plan.places[goal].name for target, goal in entrance.routes.items()} == {"": "b", "first": "a"}
    assert plan.places[entrance.next].name == "b"


def test_an_entrance_runs_where_the_job_behind_it_runs() -> None:
    builder = Builder()
    a = builder.add(stage(Kind.JOB, "a")._replace(processes=False))
    b = job(builder, "b")
    builder.enter({"": a, "b": b})
    assert builder.plan().places[0].processes is False


def test_a_route_cannot_leave_its_segment() -> None:
    builder = Builder()
    a = job(builder, "a")
    builder.add(stage(Kind.FOLD, "fold"))
    b = job(builder, "b")
    builder.route(a, {"": b})
    with pytest.raises(AssertionError):
        builder.plan()


def test_the_origins_of_a_value_are_all_the_stages_it_may_come_from() -> None:
    builder = Builder()
    builder.open_frame(stage(Kind.FRAME, "frame"))
    a, b, c = (job(builder, name) for name in "abc")
    builder.route(a, {"": c})
    builder.route(b, {"": c})
    builder.route(c, {"again": b, "out": LAST})
    builder.enter({"": a, "b": b})
    builder.close_frame(stage(Kind.END, "frameEnd"))
    plan = builder.plan()
    numbers = {place.name: place.number for place in plan.places}
    origins = {name: sorted(place.name for place in plan.origins(number)) for name, number in numbers.items()}
    assert origins == {
        "frame": [], "the end of the stream": ["frame"], "frame (input)": ["frame"], "a": ["frame"],
        "b": ["c", "frame"], "c": ["a", "b"], "c (routes)": ["c"], "frameEnd": ["c"],
    }  # fmt: skip


def test_ahead_of_a_place_are_all_that_its_values_may_come_to() -> None:
    builder = Builder()
    a, b, _, d = (job(builder, name) for name in "abcd")
    builder.route(a, {"": d})
    builder.route(d, {"back": b, "out": LAST})
    builder.route(b, {"": a})
    plan = builder.plan()
    assert [place.name for place in plan.ahead(0)] == ["a", "d", "d (routes)", "b", "the end of the stream"]
    assert [place.name for place in plan.ahead(2)][:2] == ["c", "d"]


def test_ahead_is_nothing_behind_a_reduction() -> None:
    builder = Builder()
    job(builder, "a")
    builder.add(stage(Kind.FOLD, "fold"))
    job(builder, "b")
    assert [place.name for place in builder.plan().ahead(0)] == ["a", "fold"]
