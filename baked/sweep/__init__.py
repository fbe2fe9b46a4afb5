"""``sweep``: tries out combinations of parameters, keeps a table and a log of the trials, and stops when it is sure.

``sweeping`` is the public call and ``stream`` the stream it makes; ``variables`` and ``samplers`` say what is tried,
``stopping`` when a combination has been tried often enough, ``table``, ``triallog``, ``plot`` and ``progress`` what is
left of it. It is written on the public interface, like every recipe, and runs in the script on the primary.
"""
