"""The pure engine: events in, actions out. No clock, no input or output, no chance, no user code, no pickle.

**What it is for.** ``rank.Rank`` decides for one rank what is lent to whom and what becomes of what is repaid. It is
the only entrance: ``Rank.handle(event, now)`` takes one event and returns the actions that follow, in order. The same
events at the same times give the same actions, so whole clusters run in one process, in virtual time, from one seed
(``job_stream.simulate``). ``messages`` has all that goes in and comes out; it is the dictionary to this text.

**How it goes.** Work waits in *pieces*: values at one place of the plan. A *loan* gives some of them to a borrower,
which is a lane of this rank or another rank. It is *repaid* with *products*: results, values that are to go on, stores,
frames that go on here. Each piece belongs to a *scope*: the stream, an open frame, or what was borrowed from another
rank. The rank that has opened a scope is its *home*.

**What it promises.**

1. A piece of work is in exactly one place: waiting here, or lent in one loan. Its lender keeps it until it is repaid.
2. A repayment is atomic: all of its units are closed and all its products filed, or, if one of them is not open any
   more, nothing is.
3. What a piece leads to is counted before the piece is closed. So a scope has ended when nothing is open in it, and
   its home sees that without asking anybody.
4. Whatever a borrower holds may be dropped without harm: the lender lends it again.
5. Between any two events, ``Rank.capture()`` of rank 0 is a complete and consistent state of the stream.
6. Results pile up to a bound only: rank 0 has all ranks pause until the script has taken some.
7. If nothing moves although the stream is not over, the user is told, and the work is asked for again.
8. What goes wrong in here is an ``EngineError``, which tells what had happened last (``history``).

**What whoever drives it owes.** ``job_stream.runtime`` does so in reality; what else does must keep to the same.

- It hands in one event at a time, from one thread, by a clock that never goes back, and performs all actions in their
  order.
- Messages of one rank to another arrive in the order in which they were sent, or the sender is reported as dead.
- ``RankLost`` comes once, after all that the dead rank had sent; ``LaneLost`` and ``KeeperLost`` after all that the
  dead process had repaid.
- Whoever has been lent something repays it or is reported as dead. ``Deliver`` is answered by ``ResultsTaken``,
  ``Pull`` by ``SourceGave``, ``Call`` by ``Answered``, ``TakeBack`` by ``Returned``.
- When ``Rank.deadline`` has come, some event is handed in; ``Nothing`` will do. The engine has no clock to wake it.
- After ``Halt`` or a final ``Fail`` the rank has halted, and takes no notice of what else comes.
"""
