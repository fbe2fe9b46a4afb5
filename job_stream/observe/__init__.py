"""What a run tells about itself, while it goes on and at its end.

``observer`` has the hooks by which a run is watched, ``statistics`` the first that watches. They only listen: nothing
here changes what a run does, and a run that nobody watches pays nothing for it. Imports come from ``engine``, whose
events and actions the hooks tell, and ``ranks``, whose figures the primary gathers. It runs in the engine's thread.
"""
