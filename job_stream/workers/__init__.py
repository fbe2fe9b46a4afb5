"""What runs in workers. A worker is a lane or the keeper, a process or a thread; a link connects it with its rank.

Begin with ``lane``: it takes parcels, runs and repays them, and its head says when. ``repayments`` says how, and
``surplus`` what it could leave to others. ``interruption`` looks from a second thread whether a step takes too long.
``keeper`` holds the stores of frames and reductions that several lanes work for. ``worker`` makes one or the other.

Workers that are processes are forked by the nursery (``nursery``), which reports how they end. It is forked itself
before the run has threads, and has one only: a process with more could fork while another thread holds a lock, and
nobody would release that in the child. (Where the script has threads before, ``forkserver`` can fork it instead.)
``child`` is the first and the last moment of such a worker. The other modules give user code what it has in the script:
standard streams, random numbers, whole lines, no processes left behind.

``links`` and ``protocol`` are used at both ends. Imports come from ``evaluate`` and what it stands on; the rank's side
(``lanes``) is never imported.
"""
