"""What every other room stands on: texts that never fail, context managers, forks, what the system allows, and what
the environment says.

Small tools without a word of data flow in them. They promise to work at any moment, also while everything else fails:
none raises while it describes an error, none takes a lock that a fork could find held. They import
``job_stream.errors`` and nothing else of ours, and run in every process and thread that there is.
"""
