"""The graph: sources, and behind each a chain of jobs that copy a text and add a line to it."""

import os
from pathlib import Path

LENGTH = 10


def write_sources(folder: Path, count: int) -> None:
    """A new project."""
    (folder / "made").mkdir(parents=True)
    for chain in range(count):
        source_of(folder, chain).write_text(f"source {chain}\n", encoding="utf-8")


def source_of(folder: Path, chain: int) -> Path:
    return folder / f"source{chain}.txt"


def touch(folder: Path) -> None:
    """Makes the source of the first chain newer, and nothing else."""
    source = source_of(folder, 0)
    time_ns = source.stat().st_mtime_ns + 1_000_000_000
    os.utime(source, ns=(time_ns, time_ns))


def edit(folder: Path) -> None:
    """Adds a line to the source of the first chain."""
    with source_of(folder, 0).open("a", encoding="utf-8") as file:
        file.write("edited\n")


def ends(folder: Path, count: int) -> list[str]:
    """What the last file of each chain holds."""
    return [(folder / "made" / f"{chain}_{LENGTH - 1}.txt").read_text(encoding="utf-8") for chain in range(count)]


def expected(folder: Path, count: int) -> list[str]:
    """What the last file of each chain has to hold."""
    lines = "".join(f"line {step}\n" for step in range(LENGTH))
    return [source_of(folder, chain).read_text(encoding="utf-8") + lines for chain in range(count)]
