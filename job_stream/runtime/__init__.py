"""Performs what the engine decides: the shell around it, with clocks, threads, processes and messages.

``runtime`` is the loop of the engine's thread and the order in which a run ends; ``source`` and ``prefetch`` bring the
initial work, or ``live`` takes it from whoever puts it in; ``outgoing`` makes payloads fit to travel, ``handlers`` hand
results to the script, ``reports`` put into words what went wrong, ``together`` makes a stream one act of all ranks, and
``sleeping`` says how long to sleep.

It imports every room above it. Three threads run here: the main thread, which is the script's and calls its result
functions; the engine's, which alone touches the engine, the lanes and the transport; and one that takes the initial
work from its iterator.
"""
