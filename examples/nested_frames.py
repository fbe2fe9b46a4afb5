"""Cube roots by a search that zooms in: a frame inside a frame.

    python examples/nested_frames.py [NUMBER ...]

The outer frame is a while-loop: it narrows an interval until it is small enough. The inner frame is a for-loop: it
tries the points of a grid over the interval in parallel, and hands on the best of them.
"""

import sys

from job_stream import Args, Multiple, Object, Work

POINTS = 20
PRECISION = 1e-9

numbers = [float(text) for text in sys.argv[1:]] or [2.0, 27.0, 1000.0]

w = Work(numbers)


@w.frame(store=lambda: Object(number=None), emit=lambda store: (store.number, (store.low + store.high) / 2))
def whileWide(store, number):
    if store.number is None:
        store.number, store.low, store.high = number, 0.0, max(1.0, number)
    if store.high - store.low > PRECISION:
        return Args(number, store.low, store.high)


@w.frame(store=lambda: Object(best=None), emit=lambda store: (store.best[1], store.step))
def forEachPoint(store, number, low, high):
    if store.best is None:
        store.best = (float("inf"), low)
        store.step = (high - low) / POINTS
        return Multiple(Args(number, low + i * store.step) for i in range(POINTS + 1))


@w.job
def distance(number, point):
    return abs(point**3 - number), point


@w.frameEnd
def keepBest(store, candidate):
    store.best = min(store.best, candidate)


@w.frameEnd
def narrow(store, found):
    point, step = found
    store.low, store.high = point - step, point + step


for number, root in sorted(w.run() or []):  # under mpirun, only the primary is given the results
    print(f"the cube root of {number:g} is {root:.6f}")
