"""``pipeline``: jobs written in YAML, which call programs of modules.

``pipelines`` is the public call. ``document`` reads files, ``schema`` says which keys there are, ``module_folders`` and
``jobfile`` check what they say, ``storage`` where files are. ``program_calls`` runs one program. All else is a build's.
"""

from .pipelines import Pipeline, PipelineResult, PipelineUpdate, pipeline

__all__ = ["Pipeline", "PipelineResult", "PipelineUpdate", "pipeline"]
