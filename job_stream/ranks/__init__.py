"""Which ranks there are, what each may use of its host, and how messages travel between them.

``world`` joins the processes that were started together, and ``transport`` is the seam: messages of one sender keep
their order, a rank that ends is reported once, nothing blocks. ``local`` is the world of one process, ``mpi`` sends
through MPI, ``sockets`` over connections of its own where the others live on when one dies. ``cluster`` is one stream's
view of them: ranks say hello, find out whether they run the same stream, and hear of each other's end;
``silence`` tells who has not been heard of for too long.

It imports ``memory``, ``stream``, and messages of ``engine`` and ``evaluate``. One thread at a time uses a transport:
the script's between streams, the engine's within one.
"""
