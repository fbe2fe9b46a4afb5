"""Measure how far random walks lead, with a checkpoint: a run that was stopped goes on when it is started again.

    python examples/random_walks.py CHECKPOINT [WALKS]

End it with ``kill PID`` while it runs, or with ``kill -9 PID``, and start it again in the same way: it says how much is
left, and prints what it would have printed without the interruption. When all is done the checkpoint becomes
CHECKPOINT.done; remove that to run it once more. The seed gives each walk the same random numbers in every run.
"""

import sys

import numpy as np

from job_stream import Object, Work, rng

STEPS = 1_000_000

if len(sys.argv) < 2:
    sys.exit("Give the name of a file for the checkpoint: python examples/random_walks.py CHECKPOINT [WALKS]")
walks = int(sys.argv[2]) if len(sys.argv) > 2 else 500

with Work(range(walks), seed=1, checkpointFile=sys.argv[1], checkpointInterval=5) as w:

    @w.job
    def walk(_):
        east, north, west, south = np.bincount(rng().integers(4, size=STEPS), minlength=4).tolist()
        return (east - west) ** 2 + (north - south) ** 2

    @w.reduce(store=lambda: Object(walks=0, total=0))
    def add(store, works, others):
        store.walks += len(works) + sum(other.walks for other in others)
        store.total += sum(works) + sum(other.total for other in others)

    @w.result
    def show(store):
        distance = (store.total / store.walks) ** 0.5
        print(f"{store.walks} walks of {STEPS} steps: root mean square distance {distance:.2f}")
