"""Modules and jobs for tests of pipelines."""

from __future__ import annotations

from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path

words = sys.argv[1:]
given = dict(zip(words[::2], words[1::2]))
with open(os.environ.get("RAN", os.devnull), "a") as file:
    file.write(Path(__file__).parent.name + " ")
print("said", flush=True)
print("whispered", file=sys.stderr)
text = "".join(Path(path).read_text() for name, path in given.items() if name.startswith("--in"))
for name, path in given.items():
    if name.startswith("--out"):
        Path(path).write_text(text + Path(__file__).parent.name[0])
"""


def module(title, inputs=("input: text",), outputs=("output: text",), program=PROGRAM, more="", folder="modules"):
    """Writes a module; params are given as 'name: type'."""
    path = Path(folder, title)
    path.mkdir(parents=True, exist_ok=True)
    (path / "main.py").write_text(program)
    lines = [f"name: {title}", f"description: The module {title}.", "entrypoint: main.py"]
    for key, params in (("inputs", inputs), ("outputs", outputs)):
        lines.append(f"{key}:")
        lines += [f"  - {{param_name: {name}, type: {kind}}}" for name, kind in (param.split(": ") for param in params)]
    (path / "manifest.yaml").write_text("\n".join(lines) + f"\n{more}")
    return path




def ran(path="RAN"):
    """The modules that have run since the last call."""
    names = Path(path).read_text().split() if Path(path).exists() else []
    Path(path).unlink(missing_ok=True)
    return names


JOB = """\
name: letters
version: 1.0
input_artifacts:
  - {name: start.txt, param_name: input, type: text}
steps:
  - name: one
    entries:
      - module: a
        input_artifacts: [{name: start.txt, param_name: input, type: text}]
        output_artifacts: [{name: a.txt, param_name: output, type: text}]
  - name: two
    entries:
      - module: b
        input_artifacts: [{name: a.txt, param_name: input, type: text}]
        output_artifacts: [{name: b.txt, param_name: output, type: text, public: true}]
"""


def letters():
    """A job of two steps, its modules and its input, in the current folder."""
    module("a")
    module("b")
    Path("start.txt").write_text("s")
    Path("job.yaml").write_text(JOB)
