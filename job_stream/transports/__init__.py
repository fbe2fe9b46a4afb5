"""Transports move bytes between the ranks of a world, and know nothing else.

``base`` is the seam; ``local`` is a world of one process, ``mpi`` one of many.
"""
