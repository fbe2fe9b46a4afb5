"""Estimate pi by throwing darts at a square, with more and more darts a trial.

    python examples/sweep_pi.py [TABLE [PLOT]]

Each row tells the mean of the estimates, their deviation, and how well the mean is known: within 0.02 here. Few darts
make a rough estimate, so more trials are made until the mean is known that well. The table is saved if the name of a
file is given (.csv, .json or .parquet), and drawn if there is another one (.png, .svg or .pdf).
"""

import sys

from job_stream import rng
from job_stream.baked import sweep

table, plot = [*sys.argv[1:], None, None][:2]

with sweep(
    {"darts": [100, 300, 1000, 3000, 10_000]},
    output=table,
    plot=plot,
    trialsParms={"E": 0, "eps": 0.02, "min": 30},
    showProgress=False,
    seed=1,
) as w:

    @w.job
    def throw(id, trial, darts):
        x, y = rng().random((2, darts))
        return {"pi": 4 * (x**2 + y**2 < 1).mean()}
