"""The rank's side of its workers: starts them, sends to them, hears from them, and learns how they died.

``pool`` has lanes that are processes (over ``hold``, its hold on the nursery), ``threads`` lanes that are threads of
the script. Whatever a worker had repaid before its death is heard before the death is reported, and the report comes
once. What runs at the other end is in ``workers``.

It imports ``workers``, ``memory`` and ``ground``. All of it runs in the engine's thread of the script's process.
"""
