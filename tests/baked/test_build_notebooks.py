"""Notebooks as jobs of builds, run by a real kernel."""

from __future__ import annotations

import importlib.util
import json
import os
import threading
from pathlib import Path

import pytest
from support import is_alive, wait_until

from job_stream.baked.build import build
from job_stream.errors import BuildError, GraphError

needs_kernel = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nbformat", "nbclient", "nbconvert", "ipykernel")),
    reason="needs the extra job_stream[notebook]",
)


pytestmark = pytest.mark.usefixtures("folder")


def noted(*code, prose="words"):
    cells = [{"cell_type": "markdown", "metadata": {}, "source": [prose], "id": "prose"}]
    cells += [{"cell_type": "code", "metadata": {}, "source": text.splitlines(keepends=True), "outputs": [],
               "execution_count": None, "id": f"cell{number}"} for number, text in enumerate(code)]  # fmt: skip
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    whole = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    Path("work.ipynb").write_text(json.dumps(whole))


def declared(**keywords):
    b = build(quiet=True)
    b.file("in.txt", lambda path: path.write_text("7"))
    b.notebook("work.ipynb", "out.txt", **{"html": "page.html", "needs": ["in.txt"], **keywords})
    return b


@needs_kernel
def test_a_notebook_is_run_and_only_its_code_is_watched():
    code = "text = open('in.txt').read()", "open('out.txt', 'w').write(text * 3)\nprint('it said ' + text)"
    noted(*code)
    assert declared().run().made == ["in.txt", "out.txt"]
    assert Path("out.txt").read_text() == "777"
    assert "it said 7" in Path("page.html").read_text()
    noted(*code, prose="other words")
    assert declared().run().made == []
    noted(code[0], code[1].replace("3", "2"))
    report = declared().run()
    assert report.made == ["out.txt"]
    assert "notebook out.txt" in str(report.reasons["out.txt"])
    assert Path("out.txt").read_text() == "77"


@needs_kernel
def test_a_cell_that_raises_is_a_failure_of_the_job():
    noted("open('out.txt', 'w').write('half')", "wrong = 1 / 0")
    with pytest.raises(GraphError, match=r"out.txt.*a cell raised ZeroDivisionError: division by zero"):
        declared(html=None).run()
    assert not Path("out.txt").exists()


@needs_kernel
def test_a_kernel_ends_with_its_job():
    noted("import os\nopen('new', 'w').write(str(os.getpid()))\nos.rename('new', 'pid')\nimport time\ntime.sleep(1000)")
    b = declared(html=None)

    def cancel():
        wait_until(Path("pid").exists, "the kernel to begin")
        b.cancel()

    canceller = threading.Thread(target=cancel)
    canceller.start()
    assert b.run().stopped == ["out.txt"]
    canceller.join()
    kernel = int(Path("pid").read_text())
    wait_until(lambda: not is_alive(kernel), "the kernel to end")


@pytest.mark.parametrize(("missing", "html"), [("nbclient", None), ("nbconvert", "page.html")])
def test_what_a_notebook_needs_is_missing(monkeypatch, missing, html):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == missing else find(name, *rest))
    noted("1")
    with pytest.raises(ImportError, match=rf"notebook.*needs {missing}.*pip install 'job_stream\[notebook\]'"):
        build(quiet=True).notebook("work.ipynb", "out.txt", html=html)


def test_a_file_that_is_no_notebook():
    Path("work.ipynb").write_text("{}")
    with pytest.raises(BuildError, match="cannot be read as a notebook"):
        build(quiet=True).notebook("work.ipynb", "out.txt")
    os.unlink("work.ipynb")
    with pytest.raises(BuildError, match="cannot be read as a notebook"):
        build(quiet=True).notebook("work.ipynb", "out.txt")
