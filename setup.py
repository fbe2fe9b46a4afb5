"""What of the packaging has to be found out when it is built; all else is in pyproject.toml.

The folder baked/ is installed as the package job_stream.baked. The text for PyPI is the README, whose links and
pictures are relative: they become absolute where CITATION.cff says in `repository-code` where the repository is, and
are left out where it doesn't.
"""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
LINK = re.compile(r"`([^`<]+) <(?!\w+:)([^`>]+)>`_")
PICTURE = re.compile(r"^\.\. image:: (?!\w+:)(\S+)\n((?: +\S.*\n)*)", re.MULTILINE)


def version() -> str:
    """Read `__version__` as text: importing the package here would need what it depends on."""
    source = (HERE / "job_stream" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r"""^__version__(?:\s*:\s*\w+)?\s*=\s*['"]([^'"]+)['"]""", source, re.MULTILINE)
    if found is None:
        raise RuntimeError('job_stream/__init__.py has no line `__version__ = "..."`, from which the version is taken')
    return found.group(1)


def packages() -> list[str]:
    baked = ["job_stream.baked", *(f"job_stream.baked.{name}" for name in find_packages("baked"))]
    return find_packages(include=["job_stream", "job_stream.*"]) + baked


def address(key: str) -> str:
    """What CITATION.cff says under this key; empty: nothing."""
    citation = (HERE / "CITATION.cff").read_text(encoding="utf-8")
    found = re.search(rf"""^{key}: *['"]?([^'"\s]+)""", citation, re.MULTILINE)
    return found.group(1).rstrip("/") if found else ""


def urls(repository: str, tag: str) -> dict[str, str]:
    if not repository:
        return {}
    return {
        "Documentation": address("url") or f"{repository}/blob/{tag}/docs/index.rst",
        "Source": repository,
        "Changelog": f"{repository}/blob/{tag}/CHANGELOG.rst",
        "Issues": f"{repository}/issues",
    }


def readme(repository: str, tag: str) -> str:
    """The README as it can be read anywhere. A link stays as wide as it was, since it may stand in a table."""
    text = (HERE / "README.rst").read_text(encoding="utf-8")
    if not repository:
        return LINK.sub(lambda link: link[1].ljust(len(link[0])), PICTURE.sub("", text))
    targets = {name: f".. _{name}: {repository}/blob/{tag}/{path}\n" for name, path in LINK.findall(text)}
    text = LINK.sub(lambda link: f"`{link[1]}`_".ljust(len(link[0])), text)
    text = PICTURE.sub(rf".. image:: {repository}/raw/{tag}/\1\n\2", text)
    return "\n".join((text, *targets.values()))


REPOSITORY = address("repository-code")
TAG = f"v{version()}"

setup(
    version=version(),
    long_description=readme(REPOSITORY, TAG),
    long_description_content_type="text/x-rst",
    project_urls=urls(REPOSITORY, TAG),
    packages=packages(),
    package_dir={"job_stream.baked": "baked"},
    package_data={"job_stream": ["py.typed"]},
)
