"""``invoke``: runs another program inside a job, and ends it with the job.

``command`` is the call, ``program`` a program under way with all its processes. None is left behind, whatever ends
first: the program, the job, the worker or the run. It imports ``evaluate`` and ``ranks`` to learn where it is called,
and runs in the worker that the job runs in.
"""

from .call import invoke

__all__ = ["invoke"]
