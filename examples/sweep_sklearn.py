"""Find good parameters of a classifier of handwritten digits, with scikit-learn.

    python examples/sweep_sklearn.py [PLOT]

A trial divides the digits anew into those to learn from and those to be tested with. So a row tells not only how good
a combination of parameters is on the average, but also by how much it depends on chance. The picture, if the name of a
file is given for it, is a heat map of both parameters.
"""

import sys

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from job_stream import rng
from job_stream.baked import sweep

digits = load_digits()
images, numbers = digits.data[::3], digits.target[::3]

with sweep(
    {"C": [0.1, 1, 10, 100], "gamma": [1e-4, 1e-3, 1e-2]},
    trials=10,
    plot=sys.argv[1] if len(sys.argv) > 1 else None,
    showProgress=False,
    seed=1,
) as w:

    @w.job
    def learn(id, trial, C, gamma):
        chance = int(rng().integers(2**31))
        learnt, tested, right, asked = train_test_split(images, numbers, test_size=0.3, random_state=chance)
        return {"score": SVC(C=C, gamma=gamma).fit(learnt, right).score(tested, asked)}


if w.table is not None:  # there is none on ranks other than the primary
    best = w.table.score.idxmax()
    print(f"the best: C = {w.table.C[best]:g}, gamma = {w.table.gamma[best]:g}")
