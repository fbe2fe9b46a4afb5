"""Count the words of every .py file under a folder, and print the 20 commonest.

    python examples/word_count.py [FOLDER]

Without a folder, it reads the source of Python's own standard library. One item is one file: a job turns it into a
Counter, and the reduction merges the Counters, those of other worker processes (`others`) as well as those that come in
(`works`).
"""

import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

from job_stream import Work

WORD = re.compile(r"[A-Za-z]+")
INSTALLED = {"site-packages", "dist-packages"}


def sources(folder):
    """The .py files below `folder`, without what was installed beside the standard library."""
    return (path for path in folder.rglob("*.py") if INSTALLED.isdisjoint(path.parts))


folder = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib"))

with Work(sources(folder)) as w:

    @w.job
    def countWords(path):
        text = path.read_text(encoding="utf-8", errors="replace")
        return Counter(word.lower() for word in WORD.findall(text))

    @w.reduce(store=Counter)
    def total(counts, works, others):
        for other in (*works, *others):
            counts.update(other)

    @w.result
    def show(counts):
        commonest = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:20]
        for word, count in commonest:
            print(f"{count:8} {word}")
