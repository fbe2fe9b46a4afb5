"""How Sphinx builds the documentation."""

import job_stream

project = "job_stream"
author = "The job_stream developers"
copyright = "2026, The job_stream developers"
version = release = job_stream.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["_build"]
default_role = "any"

autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"job_stream {version}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
copybutton_selector = "div:not(.highlight-output) > div.highlight pre"
