"""Streams of large arrays on several ranks: results pile up on their way, and all of them come.

``JOBS_TEST_ROUNDS`` asks for so many rounds of each kind instead of one, with other sizes and speeds in each.
"""

from __future__ import annotations

import os
import random
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest
from mpi_support import find_mpirun, is_open_mpi, mpirun

ROUNDS = int(os.environ.get("JOBS_TEST_ROUNDS", "1"))
SEED = int(os.environ.get("JOBS_TEST_SEED", "0"))
TOTAL_MB = 400 if ROUNDS > 1 else 200

SCRIPT = """
    import sys, time
    import numpy as np
    from job_stream import Work, getRank

    items, size, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    job_s, handler_s, cpus = float(sys.argv[4]), float(sys.argv[5]), int(sys.argv[6])
    arrays = (np.full(size // 8, number % 251, dtype=np.float64) for number in range(items))
    seen = []
    with Work(arrays if kind == "generator" else list(arrays), **({"cpus": cpus} if cpus else {})) as w:
        @w.job
        def double(array):
            time.sleep(job_s)
            return array * 2

        @w.result
        def take(array):
            time.sleep(handler_s)
            seen.append((float(array[0]), float(array[-1]), len(array)))

    if getRank() == 0:
        expected = [(2.0 * (number % 251), 2.0 * (number % 251), size // 8) for number in range(items)]
        print("right" if sorted(seen) == sorted(expected) else f"wrong: {len(seen)} of {items}")
"""


class Stream(NamedTuple):
    """Arguments of the script."""

    items: int
    nbytes: int
    kind: str
    job_s: float
    handler_s: float
    cpus: int


def stream_of(chance: random.Random) -> Stream:
    nbytes = int(10 ** chance.uniform(6, 8 if ROUNDS > 1 else 7.3))
    items = max(8, min(160, TOTAL_MB * 1_000_000 // nbytes))
    slow_s = chance.choice([0.0, 0.0, 0.01, 0.5 / items])
    return Stream(items, nbytes, chance.choice(["list", "generator"]), chance.choice([0.0, 0.02]), slow_s,
                  chance.choice([0, 1, 1]))  # fmt: skip


def ways() -> list[tuple[str, ...]]:
    program = find_mpirun()
    return [(), ("--mca", "btl", "tcp,self")] if program and is_open_mpi(program) else [()]


@pytest.mark.xdist_group("memory")
@pytest.mark.parametrize("round_", range(ROUNDS))
@pytest.mark.parametrize("ranks", [2, 3, 4])
@pytest.mark.parametrize("way", ways(), ids=lambda way: way[-1] if way else "default")
def test_all_arrays_come_and_the_stream_ends(tmp_path: Path, way: tuple[str, ...], ranks: int, round_: int) -> None:
    path = tmp_path / "arrays.py"
    path.write_text(textwrap.dedent(SCRIPT))
    stream = stream_of(random.Random(f"{SEED} {way} {ranks} {round_}"))
    done = mpirun(path, ranks, *stream, options=way)
    assert (done.code, done.out) == (0, "right\n"), f"{stream}: {done.out}{done.err}"
    assert "nothing has moved" not in done.err
