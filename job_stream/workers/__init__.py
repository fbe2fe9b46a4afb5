"""The far end of a link: what runs in worker processes and thread lanes, and in the nursery that forks them.

``nursery`` is a process with one thread, forked before the run has threads of its own; it forks the children and
reports how they end. ``child`` is a child's first and last moments, ``worker`` what it does between them: ``lane``
takes parcels, runs and repays them (``repayments`` says how, ``surplus`` what it could leave to others), while
``interruption`` looks from a second thread whether it is stuck; ``keeper`` holds the stores of frames and reductions.
The other modules give user code the surroundings that it has in the script: standard streams, random numbers, whole
lines, no processes left behind.

``links`` and ``protocol`` are used at both ends. Imports come from ``evaluate`` and what it stands on; the rank's side
(``lanes``) is never imported.
"""
