"""Performs what the engine decides: the shell around it, with clocks, threads, processes and messages.

``runtime`` is the main thread's side, ``loop`` the engine thread's, and ``shutdown`` says how these two hear of each
other and in which order a run ends: read it first. ``actions`` performs what the engine decides, ``pools`` knows which
lanes there are, and ``shell`` holds all these parts. ``source`` and ``prefetch`` bring the initial work, or ``live``
takes it from whoever puts it in; ``outgoing`` makes payloads fit to travel, ``handlers`` hand results to the script,
``reports`` put into words what went wrong, ``together`` makes a stream one act of all ranks, and ``sleeping`` says how
long to sleep.

It imports every room above it. Three threads run here: the main thread, which is the script's and calls its result
functions; the engine's, which alone touches the engine, the lanes and the transport; and one that takes the initial
work from its iterator.
"""
