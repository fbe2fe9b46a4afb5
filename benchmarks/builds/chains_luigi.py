"""The graph as tasks of luigi: FOLDER COUNT WORKERS."""

import os
import sys

import luigi


class Source(luigi.ExternalTask):
    chain = luigi.IntParameter()

    def output(self):
        return luigi.LocalTarget(f"source{self.chain}.txt")


class AddLine(luigi.Task):
    chain = luigi.IntParameter()
    step = luigi.IntParameter()

    def requires(self):
        return AddLine(self.chain, self.step - 1) if self.step else Source(self.chain)

    def output(self):
        return luigi.LocalTarget(f"made/{self.chain}_{self.step}.txt")

    def run(self):
        with self.input().open() as source, self.output().open("w") as file:
            file.write(f"{source.read()}line {self.step}\n")


folder, count, workers = sys.argv[1], *map(int, sys.argv[2:])
os.chdir(folder)
done = luigi.build([AddLine(chain, 9) for chain in range(count)], local_scheduler=True, workers=workers,
                   log_level="ERROR")  # fmt: skip
sys.exit(0 if done else 1)
