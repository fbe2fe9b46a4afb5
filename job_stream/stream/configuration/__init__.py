"""Streams that are described by a mapping, in Python or in a YAML file, and laid onto the same plan as all others.

``yamlfile`` reads a file, ``modules`` checks what it says, ``ways`` finds where work goes, and ``layout`` records the
stages.
"""
