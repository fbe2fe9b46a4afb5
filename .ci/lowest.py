"""Prints the lowest version of everything that job_stream needs, with its extra sweep, as constraints for pip."""

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    from pip._vendor import tomli as tomllib  # nothing is installed yet

path = Path(__file__).resolve().parent.parent / "pyproject.toml"
project = tomllib.loads(path.read_text(encoding="utf-8"))["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["sweep"]):
    print(re.sub(">=", "==", requirement, count=1))
