"""``pipeline``: jobs written in YAML, which call programs of modules.

``pipelines`` is the public call. ``document`` reads files, ``schema`` says which keys there are, ``modules`` and
``jobfile`` check what they say, ``storage`` where files are. ``calls`` runs one program. All else is a build's.
"""

from .pipelines import Pipeline, PipelineResult, PipelineUpdate, pipeline

__all__ = ["Pipeline", "PipelineResult", "PipelineUpdate", "pipeline"]
