"""Look words up in an index of a text that is loaded once and shared by all worker processes.

    python examples/shared_data.py [FILE [WORD ...]]

`init` runs in the script's own process before the worker processes are forked from it, so they find the index in
their memory: it is neither loaded again nor sent to them. What `init` returns would be added to the initial work.
"""

import os
import re
import sys
from collections import defaultdict
from pathlib import Path

from job_stream import Object, Work

file = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__)
words = sys.argv[2:] or ["index", "work", "zebra"]

shared = Object(lines=None, loadedBy=None)

with Work(words) as w:

    @w.init
    def load():
        shared.lines = defaultdict(list)
        shared.loadedBy = os.getpid()
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            for word in set(re.findall(r"[a-z]+", line.lower())):
                shared.lines[word].append(number)

    @w.job
    def lookUp(word):
        return word, shared.lines.get(word, []), shared.loadedBy

    @w.finish
    def show(found):
        for word, lines, _ in sorted(found):
            print(f"{word}:", *(["lines", *lines] if lines else ["nowhere"]))
        print("times the index was loaded:", len({loader for _, _, loader in found}))
