"""The graph in job_stream: FOLDER COUNT WORKERS ISOLATE, the last of which is 0 or 1."""

import sys

from job_stream.baked import build

folder, count, workers, isolate = sys.argv[1], *map(int, sys.argv[2:])


def add_line(path, before, step):
    path.write_text(f"{before.read_text()}line {step}\n")


with build(f"{folder}/.build", cores=workers, isolate=bool(isolate), quiet=True) as b:
    for chain in range(count):
        before = f"source{chain}.txt"
        for step in range(10):
            before = b.file(f"made/{chain}_{step}.txt", add_line, needs={"before": before}, params={"step": step})
