"""The workloads, in the order of the table."""

from benchmarks.harness import Workload
from benchmarks.workloads import (
    arrays,
    builds,
    checkpoints,
    frames,
    futures,
    lanes,
    noop,
    ranks,
    resources,
    simulated,
    startup,
    steps,
    tasks,
    words,
)

ALL: tuple[Workload, ...] = (
    startup.STARTUP,
    noop.NOOP_MAP,
    noop.NOOP_STREAM,
    noop.CHAINED,
    tasks.GRANULARITY,
    tasks.SKEW,
    steps.COST_STEP,
    frames.FRAME_ROUNDS,
    frames.FRAME_WIDE,
    arrays.ARRAY_SUM,
    arrays.ARRAY_DOUBLE,
    words.WORD_COUNT,
    resources.MEMORY,
    resources.IDLE,
    checkpoints.CHECKPOINTS,
    checkpoints.OPEN_WORK,
    futures.FUTURES,
    builds.BUILDS,
    *ranks.RANK_WORKLOADS,
    lanes.MANY_LANES,
    simulated.SIMULATED,
)
