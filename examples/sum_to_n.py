"""Sum the integers from 1 to n, for several n at once.

    python examples/sum_to_n.py [N ...]

Every n opens a frame of its own: it is split into many items, and their results come together again in its store.
Frames finish in any order, so the results are sorted before they are printed.
"""

import sys

from job_stream import Multiple, Object, Work

numbers = [int(text) for text in sys.argv[1:]] or [4, 5, 8, 100]

w = Work(numbers)


@w.frame(store=lambda: Object(n=None, total=0), emit=lambda store: (store.n, store.total))
def upTo(store, n):
    if store.n is None:  # the first call; the second comes when all that was sent out is back
        store.n = n
        return Multiple(range(1, n + 1))


@w.job
def term(number):
    return number  # the work that a term takes would be done here, in parallel


@w.frameEnd
def add(store, number):
    store.total += number


for n, total in sorted(w.run() or []):  # under mpirun, only the primary is given the results
    print(f"1 + ... + {n} = {total}")
