"""Makes files again only where something has changed."""

from .building import Build, build
from .fingerprints import Fingerprint
from .job import JobList

__all__ = ["Build", "Fingerprint", "JobList", "build"]
