"""Statistics on the lines of the .py files in a folder: how many, how many blank, the longest.

    python examples/line_statistics.py [FOLDER]

Without a folder, it reads the one that this script is in. The store of the reduction is a class of the script's own,
which knows how to merge two of its kind.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from job_stream import Args, Work


@dataclass
class Statistics:
    files: int = 0
    lines: int = 0
    blank: int = 0
    longest: int = 0

    def add(self, other):
        self.files += other.files
        self.lines += other.lines
        self.blank += other.blank
        self.longest = max(self.longest, other.longest)


folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent

with Work(folder.glob("*.py")) as w:

    @w.job
    def read(path):
        return Args(path.name, path.read_text(encoding="utf-8").splitlines())

    @w.job
    def measure(name, lines):
        return Statistics(
            files=1,
            lines=len(lines),
            blank=sum(not line.strip() for line in lines),
            longest=max(map(len, lines), default=0),
        )

    @w.reduce(store=Statistics)
    def total(statistics, works, others):
        for other in (*works, *others):
            statistics.add(other)

    @w.result
    def show(statistics):
        print(f"files:        {statistics.files}")
        print(f"lines:        {statistics.lines}")
        print(f"blank lines:  {statistics.blank}")
        print(f"longest line: {statistics.longest} characters")
