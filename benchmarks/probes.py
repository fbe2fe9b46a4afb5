"""Measures the process it runs in: `python -m benchmarks.probes NAME TOOL AMOUNT WORKERS` prints one reading.

Peak memory is the kernel's VmHWM of this process, not `ru_maxrss`: the latter survives `exec`, so a process that was
started from a large one would begin with the peak of that.
"""

import importlib
import resource
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import SUBJECT
from benchmarks.peers import find_peer, started
from benchmarks.tasks import nap, unchanged

PEER_CHUNK = 1000


def peak_memory_bytes() -> int:
    """The most memory this process has had at one time."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("/proc/self/status has no VmHWM; peak memory can only be measured on Linux")


def processor_s() -> float:
    """User and system time of this process, without its children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def growth(measure: Callable[[], float], run: Callable[[], object]) -> float:
    """By how much `run()` raises what `measure()` tells."""
    before = measure()
    run()
    return measure() - before


def memory_items(count: int, workers: int) -> float:
    library = importlib.import_module(SUBJECT)

    def run() -> None:
        with library.Work(range(count), cpus=workers) as work:
            work.job(unchanged)

    return growth(peak_memory_bytes, run)


def memory_multiple(count: int, workers: int) -> float:
    library = importlib.import_module(SUBJECT)

    def run() -> None:
        with library.Work([count], cpus=workers) as work:
            work.job(lambda size: library.Multiple(range(size)))

    return growth(peak_memory_bytes, run)


def idle(nap_s: float, workers: int) -> float:
    library = importlib.import_module(SUBJECT)

    def run() -> None:
        with library.Work([nap_s], cpus=workers) as work:
            work.job(nap)

    return growth(processor_s, run)


def peer_memory_items(tool: str, count: int, workers: int) -> float:
    with started(find_peer(tool), workers) as peer:
        return growth(peak_memory_bytes, lambda: peer.stream(unchanged, range(count), drop, chunk=PEER_CHUNK))


def peer_idle(tool: str, nap_s: float, workers: int) -> float:
    with started(find_peer(tool), workers) as peer:
        return growth(processor_s, lambda: peer.map(nap, [nap_s]))


def drop(_result: object) -> None:
    """A result handler that keeps nothing."""


def take_reading(name: str, tool: str, amount: float, workers: int) -> float:
    """The reading of the probe `name`."""
    match name, tool:
        case "memory_items", "job_stream":
            return memory_items(int(amount), workers)
        case "memory_multiple", "job_stream":
            return memory_multiple(int(amount), workers)
        case "idle", "job_stream":
            return idle(amount, workers)
        case "memory_items", _:
            return peer_memory_items(tool, int(amount), workers)
        case "idle", _:
            return peer_idle(tool, amount, workers)
    raise ValueError(f"no probe {name!r} for {tool!r}")


if __name__ == "__main__":
    print(take_reading(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])))
