"""What the items of the workloads are put through; module-level functions, so that every tool can send them."""

from time import perf_counter, sleep
from typing import Any


def unchanged(item: Any) -> Any:
    """A job that does nothing: what is left is the tool's own cost."""
    return item


def spin(duration_s: float) -> None:
    """Keep the processor busy for `duration_s` seconds of wall time."""
    end = perf_counter() + duration_s
    while perf_counter() < end:
        pass


def spin_and_count(duration_s: float) -> int:
    """Spin, and be counted as one item done."""
    spin(duration_s)
    return 1


def churn(steps: int) -> int:
    """A computation of so many steps. Unlike spinning it takes longer when it has to share its core."""
    state = steps
    for _ in range(steps):
        state = (1_103_515_245 * state + 12_345) % 2_147_483_648
    return state


def nap(duration_s: float) -> None:
    """Wait without using the processor."""
    sleep(duration_s)


def nap_if_long(duration_s: float) -> None:
    """Wait, unless that would be for no time at all."""
    if duration_s:
        sleep(duration_s)


class Tally:
    """Counts what it is given and drops it."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, _result: object) -> None:
        self.count += 1
