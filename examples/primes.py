"""Find the primes below a limit.

    python examples/primes.py [LIMIT]

A job that returns nothing drops its item: only primes reach the reduction. Items as small as these are sent to the
worker processes many at a time, so there is no need to group them by hand.
"""

import math
import sys

from job_stream import Work

limit = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000

with Work(range(2, limit)) as w:

    @w.job
    def keepPrimes(number):
        if all(number % divisor for divisor in range(2, math.isqrt(number) + 1)):
            return number

    @w.reduce(store=list)
    def collect(primes, works, others):
        primes.extend(works)
        for other in others:
            primes.extend(other)

    @w.result
    def show(primes):
        print(f"{len(primes)} primes below {limit}")
        print("the largest:", *sorted(primes)[-5:])
