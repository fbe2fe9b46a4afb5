"""The mean length of the words of a text, given as arguments or built in.

    python examples/mean_word_length.py [WORD ...]

What a reduction stores and what it hands on need not be the same: `emit` turns the two sums into their quotient when
everything has come in.
"""

import sys

from job_stream import Object, Work

TEXT = "many hands make light work of a long list"

words = sys.argv[1:] or TEXT.split()

with Work(words) as w:

    @w.job
    def length(word):
        return len(word)

    @w.reduce(store=lambda: Object(letters=0, words=0), emit=lambda store: store.letters / store.words)
    def mean(store, works, others):
        store.letters += sum(works)
        store.words += len(works)
        for other in others:
            store.letters += other.letters
            store.words += other.words

    @w.result
    def show(length):
        print(f"{len(words)} words, {length:.3f} letters each on average")
