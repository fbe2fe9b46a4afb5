"""What a run tells about itself, while it goes on and at its end.

It only listens: nothing here changes what a run does, and a run that nobody watches pays nothing for it. Imports come
from ``ranks``, whose figures the primary gathers. It runs in the engine's thread.
"""
