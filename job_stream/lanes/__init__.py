"""The rank's side of its workers: starts them, sends to them, hears from them, and learns how they died.

``pool`` has workers that are processes. It does not fork them itself, since the script's process has threads. Another
process does, the nursery, and ``hold`` is the connection to that; ``starting`` has it forked from the script, or from a
server without threads. ``threads`` has workers that are threads. Both obey the same calls (``Pool`` in
``runtime.pools``). What runs at the other end is in ``workers``.

A worker's death is reported once, and after all that it had repaid, so nothing of that is done again.

It imports ``workers``, ``memory`` and ``ground``. All of it runs in the engine's thread of the script's process.
"""
