"""The command line: `python -m job_stream.simulate`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from .check import failure

__all__ = ["main"]

DESCRIPTION = "Run random plans on simulated ranks and compare what comes out with serial runs."


def main(arguments: list[str] | None = None) -> int:
    """Runs seeds and prints those that fail; the exit code says whether any did."""
    parser = argparse.ArgumentParser(prog="python -m job_stream.simulate", description=DESCRIPTION)
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    given = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    failures = [text for seed in range(given.first, given.first + given.seeds) if (text := failure(seed, counts))]
    for text in failures:
        print(text)
    print(f"{given.seeds - len(failures)} of {given.seeds} seeds gave the serial results;", dict(counts))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
