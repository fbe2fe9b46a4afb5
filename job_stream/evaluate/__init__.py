"""Runs values through the user's functions, depth first, with a stack in place of recursion.

``calls`` is the innermost loop, ``evaluator`` the machine around it, with a ``stack`` and the way of values with or
without ``keys``; ``loading`` puts lent work onto its stack and ``products`` makes what it has led to ready to be
repaid. Every value that went in is accounted for: it led to something, was skipped, or ended the run. It knows no
process and no socket, so the same code runs in a worker process, in a thread lane, and for a stream within a job
(``serial``).

It imports ``stream``, ``memory``, the messages of ``engine``, and what these stand on.
"""
