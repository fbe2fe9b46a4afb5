"""What is to be done: the stages that a script has declared, checked and put in order.

``recorder`` takes down decorated functions, ``adapting`` makes such of ``classes`` that users derive, and
``configuration`` reads how these are put together; all of it comes to one ``plan.Plan``, which never changes
afterwards. A mistake in the shape of a stream is raised at the line that made it. ``fingerprint`` says whether two
processes mean the same stream.

Nothing is run here. It imports ``values``, ``ground`` and ``errors``, and runs in the script, before a run begins.
"""
