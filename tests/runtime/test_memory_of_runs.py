"""What is left of a run's memory in the script: what the script itself holds, and no more."""

from __future__ import annotations


def test_nothing_of_a_run_stays_mapped(start):
    ended = start("""
        import numpy
        import job_stream

        def mapped():
            lines = [line.split() for line in open("/proc/self/maps") if "memfd" in line]
            return sum(int(end, 16) - int(begin, 16) for begin, _, end in (words[0].partition("-") for words in lines))

        arrays = [numpy.ones(1 << 18) for _ in range(40)]
        for useMultiprocessing in (True, True, False):
            sums = job_stream.map(lambda array: array * 2, arrays, cpus=2, useMultiprocessing=useMultiprocessing)
            assert all(one.sum() == 2 << 18 for one in sums)
            kept = sums[:1]
            del sums
            print(mapped() <= 4 << 20)
        del kept
    """).ended()
    assert (ended.code, ended.out) == (0, "True\n" * 3), ended.err
