"""The longest Collatz sequence that starts below a limit.

    python examples/parallel_map.py [LIMIT]

`job_stream.map` is the built-in `map`, in parallel: results stand in the order of the arguments, in a list. It takes
the keyword arguments of `Work`, too.
"""

import sys

import job_stream

limit = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000


def steps(number):
    count = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        count += 1
    return count


starts = range(1, limit)
lengths = job_stream.map(steps, starts)
if lengths:  # under mpirun, only the primary is given the results
    longest = max(starts, key=lambda start: lengths[start - 1])
    print(f"{longest} takes {lengths[longest - 1]} steps, more than any other start below {limit}")
