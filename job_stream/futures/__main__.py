"""``python -m job_stream.futures script.py``: the script runs on rank 0 alone; the others serve its executors."""

from __future__ import annotations

import sys

from .script import run

if __name__ == "__main__":
    run(sys.argv[1:])
