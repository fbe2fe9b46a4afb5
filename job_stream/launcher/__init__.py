"""The command line: starts a program on ranks with the mpirun that fits, watches it, and starts it again.

``cli`` reads the command, ``start`` and ``run`` carry it out, ``restarts`` go on from a checkpoint, ``doctor`` looks at
the machine. Nothing that was started is left behind, and the exit code says how the program ended. ``usher`` runs as a
file of its own on each host, beside the program, and so imports nothing of ours.

It stands above all rooms and is imported by none; only ``python -m job_stream`` and the command run it, in a process
that is not a rank.
"""
