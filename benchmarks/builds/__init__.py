"""One graph of jobs in the words of each tool that makes files again where something has changed.

``chains`` says what the graph is. The others are scripts, each a process of its own on the clock: they take the folder
of a project with sources in it, and make what is out of date.
"""
