"""The command line: `python -m benchmarks`, from the root of the checkout.

Needs what the extra `bench` installs. Without options it runs everything at full size, prints the table and writes
`benchmarks/results/latest.json` and `latest.png` beside it.
"""

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.chart import draw_chart
from benchmarks.contenders import ROOT
from benchmarks.facts import machine_facts
from benchmarks.harness import Outcome, Settings, Size, Workload, run_race
from benchmarks.peers import Peer, find_peers
from benchmarks.report import make_lines, render_table, to_json
from benchmarks.workloads import ALL

DEFAULT_JSON = ROOT / "benchmarks" / "results" / "latest.json"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; returns the exit status."""
    options = make_parser().parse_args(arguments)
    if options.list:
        print("\n".join(f"{workload.name:<19}{workload.summary}" for workload in ALL))
        return 0
    settings = Settings(options.workers, options.size, options.repeat, options.timeout)
    peers = [peer for peer in find_peers() if peer.available()]
    outcomes = run_workloads(options.only, settings, peers)
    facts = machine_facts()
    written = write_results(outcomes, settings, facts, options.json)
    print(f"{headline(settings, facts)}\n\n{render_table(outcomes, [peer.name for peer in peers])}\n\n{written}")
    return 1 if options.strict and any(line.failed for line in make_lines(outcomes)) else 0


def make_parser() -> ArgumentParser:
    parser = ArgumentParser(
        "python -m benchmarks", description="Measure job_stream against other ways of running Python in parallel."
    )
    add_sizes(parser)
    add = parser.add_argument
    add("--only", type=workloads_named, default=ALL, metavar="NAME[,NAME]", help="run these workloads")
    add("--list", action="store_true", help="list the workloads and stop")
    add("--repeat", type=positive, metavar="N", help="repetitions of everything (default: by size and workload)")
    add("--workers", type=positive, default=2, metavar="N", help="worker processes of each tool (default: 2)")
    add(
        "--timeout",
        type=float,
        default=300.0,
        metavar="S",
        help="give a tool up after this many seconds (default: 300)",
    )
    add(
        "--json",
        type=Path,
        default=DEFAULT_JSON,
        metavar="PATH",
        help="where to write; the chart goes beside it, as .png",
    )
    add("--strict", action="store_true", help="exit with 1 if a budget was missed or job_stream failed")
    return parser


def add_sizes(parser: ArgumentParser) -> None:
    sizes = parser.add_mutually_exclusive_group()
    sizes.set_defaults(size=Size.FULL)
    sizes.add_argument(
        "--quick", dest="size", action="store_const", const=Size.QUICK, help="smaller sizes, some minutes"
    )
    sizes.add_argument(
        "--smoke",
        dest="size",
        action="store_const",
        const=Size.SMOKE,
        help="tiny sizes: shows that it runs, no figures",
    )


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ArgumentTypeError(f"{text} is not positive")
    return number


def workloads_named(text: str) -> tuple[Workload, ...]:
    """The workloads of a list of names with commas between them, in the order of the table."""
    names = {name.strip() for name in text.split(",")}
    unknown = names - {workload.name for workload in ALL}
    if unknown:
        raise ArgumentTypeError(f"no workload {', '.join(sorted(unknown))}; see --list")
    return tuple(workload for workload in ALL if workload.name in names)


def run_workloads(workloads: Sequence[Workload], settings: Settings, peers: Sequence[type[Peer]]) -> list[Outcome]:
    outcomes = [
        run_race(race, settings, show_progress) for workload in workloads for race in workload.build(settings, peers)
    ]
    show_progress("")
    return outcomes


def show_progress(text: str) -> None:
    """Keep one line of a terminal up to date; a log gets nothing."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def headline(settings: Settings, facts: dict[str, object]) -> str:
    place = f"{facts['cpu']}, {facts['cores_usable']} cores, {facts['python']}, commit {facts['commit'] or 'unknown'}"
    return f"{settings.size.value} size, {settings.workers} workers; {place}, {facts['date']}"


def write_results(outcomes: Sequence[Outcome], settings: Settings, facts: dict[str, object], path: Path) -> str:
    """Write the JSON and, where matplotlib is installed, the chart beside it; returns what to tell the user."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(outcomes, settings, facts), indent=2) + "\n", encoding="utf-8")
    if find_spec("matplotlib") is None:
        return f"Written: {path}; no chart, as matplotlib is not installed."
    chart = path.with_suffix(".png")
    draw_chart(outcomes, headline(settings, facts), chart)
    return f"Written: {path} and {chart}"


if __name__ == "__main__":
    sys.exit(main())
