"""What tests of the pure engine share."""

from __future__ import annotations

from job_stream.stream.plan import Builder, Kind, Plan, Stage


class Payload:
    """Stands for packed values."""

    def __init__(self, name: str, nbytes: int = 10) -> None:
        self.name = name
        self.nbytes = nbytes

    def __repr__(self) -> str:
        return self.name


def plan_of(*kinds: str) -> Plan:
    builder = Builder()
    for kind in kinds:
        if kind == "frameEnd":
            builder.close_frame(Stage(Kind.END, kind, print))
        elif kind == Kind.FRAME:
            builder.open_frame(Stage(kind, kind, print))
        else:
            builder.add(Stage(kind, kind, print))
    return builder.plan()


def only(kind: type, actions: list) -> list:
    return [action for action in actions if type(action) is kind]
