"""``pipeline``: jobs written in YAML, which call programs of modules.

``pipelines`` is the public call. ``document`` reads files, ``schema`` says which keys there are, ``module_folders`` and
``jobfile`` what they say, ``wiring`` whether it fits, ``storage`` where files are. ``pipeline_run`` has a build do the
rest, and ``program_calls`` runs one program. ``pipeline_command`` is the command.
"""

from .pipelines import Pipeline, PipelineResult, PipelineUpdate, pipeline

__all__ = ["Pipeline", "PipelineResult", "PipelineUpdate", "pipeline"]
