"""Make one page of plots from raw tables, and again only what has changed of it.

    python examples/build_report.py [FOLDER]

The tables are Anscombe's quartet (The American Statistician 27, 1973): four sets of points with nearly the same means
and the same straight line through them, which look nothing alike. They are written to FOLDER/raw at first, as a logger
might have left them. Each is cleaned and drawn in a branch of its own, and FOLDER/report.html shows them all.

Run it again, and nothing happens. Edit a table, or add one, and only its branch and the page are made again.
"""

import base64
import csv
import statistics
import sys
from pathlib import Path

from job_stream.baked import build

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "report")

X = [10, 8, 13, 9, 11, 14, 6, 4, 12, 7, 5]
QUARTET = {
    "anscombe1": (X, [8.04, 6.95, 7.58, 8.81, 8.33, 9.96, 7.24, 4.26, 10.84, 4.82, 5.68]),
    "anscombe2": (X, [9.14, 8.14, 8.74, 8.77, 9.26, 8.10, 6.13, 3.10, 9.13, 7.26, 4.74]),
    "anscombe3": (X, [7.46, 6.77, 12.74, 7.11, 7.81, 8.84, 6.08, 5.39, 8.15, 6.42, 5.73]),
    "anscombe4": ([8] * 7 + [19] + [8] * 3, [6.58, 5.76, 7.71, 8.84, 8.47, 7.04, 5.25, 12.50, 5.56, 7.91, 6.89]),
}


def writeRaw(raw):
    """The tables, with a remark above, blanks around the figures, and a line where the logger had nothing to say."""
    raw.mkdir(parents=True)
    for name, (xs, ys) in QUARTET.items():
        lines = [f"{x} , {y}" for x, y in zip(xs, ys, strict=True)]
        (raw / f"{name}.csv").write_text("\n".join(["# as logged", "x,y", *lines[:5], "n/a,n/a", *lines[5:], ""]))


def clean(path, raw):
    lines = [line.split(",") for line in raw.read_text().splitlines() if not line.startswith(("#", "x", "n/a"))]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["x", "y"], *sorted([float(x), float(y)] for x, y in lines)])


def points(table):
    with table.open(newline="") as file:
        rows = [(float(row["x"]), float(row["y"])) for row in csv.DictReader(file)]
    return [x for x, _ in rows], [y for _, y in rows]


def draw(path, table, color):
    from matplotlib.figure import Figure  # here, so that a run in which nothing is drawn need not wait for it

    xs, ys = points(table)
    slope, intercept = statistics.linear_regression(xs, ys)
    figure = Figure(figsize=(4, 3), layout="constrained")
    axes = figure.subplots()
    axes.axline((0, intercept), slope=slope, color="0.7")
    axes.plot(xs, ys, "o", color=color)
    axes.set(xlim=(2, 20), ylim=(2, 14), xlabel="x", ylabel="y")
    figure.savefig(path, dpi=150)


def section(table, picture):
    xs, ys = points(table)
    slope, intercept = statistics.linear_regression(xs, ys)
    image = base64.b64encode(picture.read_bytes()).decode()
    return (
        f'<figure><img src="data:image/png;base64,{image}" alt="The points of the {table.stem} table">'
        f"<figcaption><b>{table.stem}</b>: {len(xs)} points, means {statistics.mean(xs):.2f} and "
        f"{statistics.mean(ys):.2f}, line y = {intercept:.2f} + {slope:.2f} x</figcaption></figure>"
    )


def writePage(path, tables, pictures):
    style = (
        "body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "main{display:grid;grid-template-columns:repeat(auto-fit,minmax(22em,1fr));gap:1.5em}"
        "figure{margin:0}img{width:100%}"
    )
    sections = "\n".join(map(section, tables, pictures))
    path.write_text(
        f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<title>Tables</title><style>{style}</style>\n'
        f"<h1>{len(tables)} tables</h1>\n<main>\n{sections}\n</main></html>\n"
    )


if not (folder / "raw").exists():
    writeRaw(folder / "raw")

with build(folder / ".build") as b:

    @b.generate("branches")
    def branches(b):
        tables, pictures = [], []
        for name in sorted(raw.stem for raw in (folder / "raw").glob("*.csv")):
            table = b.file(f"clean/{name}.csv", clean, needs={"raw": f"raw/{name}.csv"})
            needs, params = {"table": table}, {"color": "tab:blue"}
            tables.append(table)
            pictures.append(b.file(f"plots/{name}.png", draw, needs=needs, params=params))
        b.file("report.html", writePage, needs={"tables": tables, "pictures": pictures})
