"""Recipes: whole streams that come up again and again, ready to be used.

What lives here, installed as `job_stream.baked`, is written on the public interface of job_stream only, as a user could
have written it. A recipe that needs something from inside the engine shows that the public interface lacks something;
the interface is then what should grow.

``sweep`` tries out combinations of parameters; ``zipped``, ``randomPoints``, ``latinHypercube`` and ``sobol`` make
lists of combinations for it. They need libraries that come with ``pip install 'job_stream[sweep]'``.

``build`` makes files again only where something has changed. ``pipeline`` has it run jobs that are written in YAML.
"""

from .build import Fingerprint, JobList
from .build.building import Build, build
from .pipeline.pipelines import Pipeline, pipeline
from .sweep.samplers import latinHypercube, randomPoints, sobol, zipped
from .sweep.sweeping import Sweep, sweep

__all__ = [
    "Build", "Fingerprint", "JobList", "Pipeline", "Sweep", "build", "latinHypercube", "pipeline", "randomPoints",
    "sobol", "sweep", "zipped",
]  # fmt: skip
