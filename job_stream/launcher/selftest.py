"""A small run, by which ``job_stream doctor`` sees whether ranks and their workers find each other.

It prints how many ranks there were, and whether the result was right.
"""

from __future__ import annotations

from .. import Work
from ..ranks.world import rank_of, world

NUMBERS = 400


def _add(parts: list[int], works: list[int], others: list[list[int]]) -> None:
    parts.append(sum(works) + sum(map(sum, others)))


def main() -> None:
    """Squares numbers in a loop and a reduction, on all ranks."""
    w = Work(range(NUMBERS))
    w.job(lambda number: number**2)
    w.reduce(_add, store=list, emit=sum)
    totals = w.run()
    if rank_of() == 0:
        right = totals == [sum(number**2 for number in range(NUMBERS))]
        print(f"{world().size} ranks, {'right' if right else f'wrong: {totals}'}")


if __name__ == "__main__":
    main()
