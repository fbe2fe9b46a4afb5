"""Many ranks of the real engine in one process and in virtual time, from one seed.

A random plan is run by a random number of ranks, whose lanes and keepers are simulated: they hand work back, keep
stores, report what is left, and die; messages between two ranks keep their order and take any time; ranks die. In some
runs everything dies, and other ranks go on from the state that was saved last. What comes out is compared with a serial
interpreter of the same plan. A failure prints the command that replays it.

Example:
    python -m job_stream.simulate --seeds 2000
"""

from .check import failure
from .simulated_cluster import SimulatedCluster

__all__ = ["SimulatedCluster", "failure"]
