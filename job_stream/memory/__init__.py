"""Values and messages as bytes, and where those bytes lie.

``payload`` packs values, so that large arrays are laid down once and read in place; ``codec`` writes messages with
payloads in them; ``arena`` and ``buffers`` keep shared memory, ``mappings`` opens it, and ``words`` are the few numbers
that processes show each other without a message. ``kin``, ``byvalue`` and ``exceptions`` see to what pickle alone
refuses. What went in comes out as it was, in another process, too; and memory of others is never written.

It knows no stream, no rank and no lane: imports come from ``ground``, ``values`` and ``errors``. It runs in the script,
in every worker, and between ranks.
"""
