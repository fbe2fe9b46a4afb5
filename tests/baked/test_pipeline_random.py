"""Random jobs, run, changed, made to fail and run again, against a serial runner that knows the rules and no build."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from job_stream.baked.pipeline import Pipeline
from job_stream.errors import GraphError

SEEDS = 200
CHUNKS = 4

PROGRAM = """\
said=''
while [ $# -gt 0 ]; do
    case $1 in
        --in*) read -r line < "$2"; said="$said$line"; shift;;
        --out*) outs="$outs $2"; shift;;
        --salt) salt=$2; shift;;
    esac
    shift
done
[ -e broken ] && [ "$(cat broken)" = "$salt" ] && exit 7
count=${#said}
for out in $outs; do echo "$((salt / 4)).$((count / 3))" > "$out"; done
"""
"""What it writes depends on the length of what it reads, and on that not always."""


def content(salt, texts):
    return f"{salt // 4}.{len(''.join(texts)) // 3}"


class RandomJob:
    """A job of steps with entries of up to two inputs and outputs."""

    def __init__(self, rng):
        self.rng = rng
        self.steps = []
        self.salts = {}
        made = ["start"]
        for number in range(rng.randint(1, 3)):
            step, fresh = [], []
            for _ in range(rng.randint(1, 3)):
                name = f"e{len(self.salts)}"
                inputs = rng.sample(made, min(len(made), rng.randint(0, 2)))
                outputs = {f"{name}.{n}": rng.random() < 0.4 for n in range(rng.randint(1, 2))}
                step.append((name, inputs, outputs))
                self.salts[name] = 100 * len(self.salts)
                fresh += outputs
            self.steps.append((f"step {number}", step))
            made += fresh

    @property
    def entries(self):
        return [entry for _, step in self.steps for entry in step]

    def described(self):
        """As a job file has it."""

        def artifact(name, kind, number, **more):
            return {"name": name, "param_name": f"{kind}{number}", "type": "text", **more}

        return {
            "name": "random", "version": 1,
            "input_artifacts": [{"name": "start", "param_name": "start", "type": "text"}],
            "steps": [{"name": title, "entries": [{
                "module": f"m{len(inputs)}{len(outputs)}", "name": name, "parameters": {"salt": self.salts[name]},
                "inputs": [artifact(each, "in", number) for number, each in enumerate(inputs)],
                "outputs": [artifact(each, "out", number, public=is_public)
                            for number, (each, is_public) in enumerate(outputs.items())],
            } for name, inputs, outputs in step]} for title, step in self.steps],
        }  # fmt: skip


class SerialRunner:
    """Runs entries one after another, and remembers what each was made of."""

    def __init__(self):
        self.past = {}
        self.public = {}

    def run(self, job, start, broken=None):
        """The names of entries that run, and whether all ended well."""
        texts, stale = {"start": start}, {}
        for name, inputs, outputs in job.entries:
            made_of = (job.salts[name], [texts[each] for each in inputs])
            if self.past.get(name) != made_of or any(each not in self.public for each in outputs if outputs[each]):
                stale[name] = made_of
            texts.update(dict.fromkeys(outputs, content(*made_of)))
        runs = self._with_those_before(job, stale)
        if broken in runs:
            return runs, False
        self.past.update(stale)
        self.public.update({each: texts[each] for _, _, outputs in job.entries for each in outputs if outputs[each]})
        return runs, True

    def _with_those_before(self, job, stale):
        """Temporary files that those read are not there any more, so who makes them runs as well."""
        runs = set(stale)
        for name, inputs, _ in reversed(job.entries):
            if name in runs:
                runs |= {maker for maker, _, outputs in job.entries for each in inputs if outputs.get(each) is False}
        return runs


@pytest.fixture(scope="module")
def modules(tmp_path_factory):
    """A module for each number of inputs and outputs."""
    root = tmp_path_factory.mktemp("modules")
    for ins in range(3):
        for outs in range(1, 3):
            path = root / f"m{ins}{outs}"
            path.mkdir()
            (path / "main.sh").write_text(PROGRAM)
            params = {key: [{"param_name": f"{kind}{number}", "type": "any"} for number in range(count)]
                      for key, kind, count in (("inputs", "in", ins), ("outputs", "out", outs))}  # fmt: skip
            (path / "manifest.yaml").write_text(
                f"name: {path.name}\ndescription: .\ncommand: [sh, '{{module}}/main.sh']\ncwd: caller\n"
                f"inputs: {params['inputs']}\noutputs: {params['outputs']}\n"
            )
    return root


def change(job, serial, rng):
    """Something that may have entries run again; the new text of the input."""
    for name in rng.sample(sorted(job.salts), min(2, len(job.salts))):
        job.salts[name] += rng.randrange(4)
    for each in rng.sample(sorted(serial.public), min(1, len(serial.public))):
        os.unlink(f"storage/me/public/{each}")
        del serial.public[each]
    return "s" * rng.randint(1, 7)


def check(job, serial, modules, start):
    Path("start").write_text(f"{start}\n")
    made = Pipeline(job.described(), modulesDir=modules)
    planned = made.plan(["start"], id="me")
    expected, _ = serial.run(job, start)
    result = made.run(["start"], id="me")
    assert sorted(title.partition("/")[2] for title in result.made) == sorted(expected)
    assert {name: path.read_text().strip() for name, path in result.public.items()} == serial.public
    assert set(result.made) <= {each.id for each in planned if each.verb in ("make", "maybe")}
    assert set(planned.ids("keep")) <= set(result.kept)
    left = [path.relative_to("storage/me") for path in Path("storage/me").rglob("*") if path.is_file()]
    assert {str(path) for path in left if path.parts[0] == "public"} == {f"public/{name}" for name in serial.public}
    assert not [path for path in left if path.parts[0] == "temp"]


def fail(job, serial, modules, start, rng):
    """A run in which an entry fails, if it runs."""
    Path("start").write_text(f"{start}\n")
    broken = rng.choice(sorted(job.salts))
    Path("broken").write_text(str(job.salts[broken]))
    _, is_well = serial.run(job, start, broken)
    if is_well:
        Path("broken").unlink()
        return Pipeline(job.described(), modulesDir=modules).run(["start"], id="me")
    with pytest.raises(GraphError) as caught:
        Pipeline(job.described(), modulesDir=modules).run(["start"], id="me", keepGoing=rng.random() < 0.5)
    assert [title.partition("/")[2] for title in caught.value.failures] == [broken]
    Path("broken").unlink()
    return None


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_jobs_come_out_as_if_run_serially(tmp_path, monkeypatch, modules, chunk):
    for seed in range(chunk, SEEDS, CHUNKS):
        rng = random.Random(seed)
        folder = tmp_path / str(seed)
        folder.mkdir()
        monkeypatch.chdir(folder)
        job, serial = RandomJob(rng), SerialRunner()
        check(job, serial, modules, "start")
        start = change(job, serial, rng)
        if seed // CHUNKS % 4 == 0:
            fail(job, serial, modules, start, rng)
            with_results = Pipeline(job.described(), modulesDir=modules).run(["start"], id="me")
            serial.run(job, start)
            assert {name: path.read_text().strip() for name, path in with_results.public.items()} == serial.public
        else:
            check(job, serial, modules, start)
