"""How Sphinx builds the documentation."""

import job_stream

project = "job_stream"
author = "The job_stream developers"
copyright = "2026, The job_stream developers"
version = release = job_stream.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "any"

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"job_stream {version}"
