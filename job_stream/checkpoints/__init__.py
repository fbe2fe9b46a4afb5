"""The state of a run in files: written while it goes on, read when it starts again.

``saver`` decides when, ``file`` and ``format`` write a whole state, ``log`` and ``journal`` what has come since, and
``info`` tells the user what is in a file. A file is complete or refused with the reason; nothing in it is unpickled
before it is known to be ours (``trust``).
``signals`` and ``stopping`` end a run in such a way that it can go on.

It imports the engine's state, ``memory``, and from ``ranks`` who the primary is. It runs on the primary: saving in the
engine's thread, signals in the main thread.
"""
