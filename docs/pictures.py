"""Draws the pictures of the documentation: `python docs/pictures.py` writes them to docs/images/.

Each picture has a background of its own and follows the reader's choice of light or dark, so that it can be read on any
page: a page that is dark by its own switch shows it as a light card. A test compares the files with what is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).resolve().parent / "images"

# From the outside in: what is behind all, areas, boxes for functions, boxes for values, lines, and text.
LIGHT = {
    "page": "#ffffff",
    "area": "#eef2f6",
    "code": "#d3e5f8",
    "value": "#fdebc8",
    "line": "#4a5563",
    "text": "#15202b",
}
DARK = {
    "page": "#161b22",
    "area": "#232b35",
    "code": "#1f4468",
    "value": "#5c4514",
    "line": "#9aa7b4",
    "text": "#f0f4f8",
}

LINE_PX = 18
STYLE = """\
<style>
text {{ font: 14px sans-serif; text-anchor: middle; fill: {light[text]} }}
.mono {{ font-family: monospace }}
.small {{ font-size: 13px }}
.page {{ fill: {light[page]} }}
.area {{ fill: {light[area]} }}
.code {{ fill: {light[code]} }}
.value {{ fill: {light[value]} }}
.line {{ fill: none; stroke: {light[line]}; stroke-width: 1.6 }}
.dashed {{ stroke-dasharray: 5 4 }}
.head {{ fill: {light[line]} }}
@media (prefers-color-scheme: dark) {{
text {{ fill: {dark[text]} }}
.page {{ fill: {dark[page]} }}
.area {{ fill: {dark[area]} }}
.code {{ fill: {dark[code]} }}
.value {{ fill: {dark[value]} }}
.line {{ stroke: {dark[line]} }}
.head {{ fill: {dark[line]} }}
}}
</style>
<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto">\
<path class="head" d="M0 0L10 5L0 10z"/></marker></defs>"""


class Picture:
    """A drawing that grows by boxes, arrows and words; all lengths are in pixels, from the upper left corner."""

    def __init__(self, width: int, height: int) -> None:
        self.width = width
        self.height = height
        self.parts = [f'<rect class="page" width="{width}" height="{height}" rx="10"/>']

    def area(self, x: int, y: int, width: int, height: int, title: str = "") -> None:
        """A background for what belongs together; its title stands at the lower edge."""
        self.parts.append(f'<rect class="area" x="{x}" y="{y}" width="{width}" height="{height}" rx="8"/>')
        if title:
            self.words(x + width // 2, y + height - 10, title)

    def box(self, x: int, y: int, width: int, height: int, text: str, kind: str = "code") -> None:
        """A box with lines of text in its middle; `kind` is 'code' for what is run, 'value' for what travels."""
        self.parts.append(f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>')
        lines = text.split("\n")
        top = y + height / 2 + 5 - LINE_PX * (len(lines) - 1) / 2
        for number, line in enumerate(lines):
            self.words(x + width // 2, round(top) + LINE_PX * number, line, "mono small")

    def words(self, x: int, y: int, text: str, style: str = "small") -> None:
        """A line of text around `x`, on the base line `y`."""
        self.parts.append(f'<text class="{style}" x="{x}" y="{y}">{escape(text)}</text>')

    def arrow(self, path: str, style: str = "solid") -> None:
        """An arrow along a path in the language of SVG."""
        self.parts.append(f'<path class="line {style}" d="{path}" marker-end="url(#head)"/>')

    def render(self) -> str:
        head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" width="{self.width}">'
        return "\n".join([head, STYLE.format(light=LIGHT, dark=DARK), *self.parts, "</svg>", ""])


def stream() -> Picture:
    """Items pass the stages of the first example, in worker processes, and the result comes back to the script."""
    picture = Picture(760, 214)
    picture.area(10, 14, 128, 190, "your script")
    picture.area(152, 14, 436, 190, "worker processes, one for each core")
    picture.area(602, 14, 148, 190, "your script")
    picture.box(22, 34, 104, 34, "initial work")
    picture.box(30, 84, 88, 26, '"the"', "value")
    picture.box(30, 114, 88, 26, '"quick"', "value")
    picture.box(30, 144, 88, 26, '"brown"', "value")
    picture.box(168, 34, 118, 34, "@w.job length")
    for row, letters in enumerate("355"):
        y = 97 + 30 * row
        picture.arrow(f"M118 {y}H206")
        picture.box(208, y - 13, 38, 26, letters, "value")
        picture.arrow(f"M246 {y}L380 {127 + 6 * (row - 1)}")
    picture.box(356, 34, 142, 34, "@w.reduce mean")
    picture.box(382, 108, 90, 38, "13 / 3", "value")
    picture.arrow("M472 127H640")
    picture.box(614, 34, 124, 34, "@w.result show")
    picture.box(642, 112, 68, 30, "4.33", "value")
    return picture


def reduction() -> Picture:
    """Each place gathers what comes by into a store of its own, and the stores are merged."""
    picture = Picture(760, 236)
    for worker in range(2):
        top = 14 + 106 * worker
        picture.area(10, top, 350, 100, f"worker {worker + 1}")
        picture.box(24, top + 22, 100, 40, ("3  5  5", "3  5")[worker], "value")
        picture.arrow(f"M124 {top + 42}H218")
        picture.words(171, top + 34, "works", "mono small")
        picture.box(220, top + 18, 126, 48, ("sum=13\ncount=3", "sum=8\ncount=2")[worker], "value")
    picture.arrow("M346 56L470 100")
    picture.arrow("M346 162L470 124")
    picture.words(416, 114, "others", "mono small")
    picture.box(472, 84, 116, 54, "sum=21\ncount=5", "value")
    picture.words(530, 166, "stores that meet")
    picture.words(530, 184, "are merged")
    picture.arrow("M588 111H668")
    picture.words(628, 102, "emit", "mono small")
    picture.box(670, 92, 62, 38, "4.2", "value")
    picture.words(690, 166, "once, when")
    picture.words(690, 184, "all is in")
    return picture


def frame() -> Picture:
    """The while-loop of one item: head, body, end, and the two ways out of the head."""
    picture = Picture(760, 268)
    picture.area(128, 52, 470, 150)
    picture.words(418, 194, "one frame, with a store of its own, for each item")
    picture.box(14, 94, 78, 32, "an item", "value")
    picture.arrow("M92 110H142")
    picture.box(144, 84, 132, 52, "@w.frame\nhead(store, x)")
    picture.arrow("M276 110H316")
    picture.box(318, 84, 92, 52, "the body:\njobs ...")
    picture.arrow("M410 110H448")
    picture.box(450, 84, 136, 52, "@w.frameEnd\nend(store, y)")
    picture.arrow("M518 136V160H364V138")
    picture.words(441, 174, "what frameEnd returns")
    picture.arrow("M518 84V34H226V82")
    picture.words(372, 26, "nothing is left in the body: the head is called again")
    picture.arrow("M178 136V234H628")
    picture.words(404, 226, "the head returns nothing: the loop is over")
    picture.words(404, 254, "emit(store)", "mono small")
    picture.box(630, 216, 116, 36, "what goes on", "value")
    return picture


def lending() -> Picture:
    """Rank 0 lends to its lanes and to another rank, which lends on; all of them repay."""
    picture = Picture(760, 300)
    picture.area(10, 14, 360, 276, "rank 0, on the host where the script was started")
    picture.area(430, 14, 320, 276, "rank 1, on another host")
    picture.box(110, 34, 160, 60, "all open work,\na copy of each loan", "value")
    picture.box(506, 34, 168, 60, "borrowed work,\na copy of each loan", "value")
    picture.arrow("M270 50H504")
    picture.words(400, 42, "lends")
    picture.arrow("M506 78H272", "dashed")
    picture.words(400, 98, "repays")
    lanes = ((40, "lane 1", 150), (220, "lane 2", 230), (446, "lane 1", 550), (606, "lane 2", 630))
    for x, name, top in lanes:
        middle = x + 60
        picture.box(x, 206, 120, 40, name)
        picture.arrow(f"M{top - 8} 94L{middle - 10} 204")
        picture.arrow(f"M{middle + 10} 206L{top + 10} 96", "dashed")
    for middle in (190, 590):
        picture.words(middle, 142, "work is lent")
        picture.words(middle, 162, "and repaid")
    return picture


def rooms() -> Picture:
    """The folders of the package on their floors: each imports only from floors below its own."""
    picture = Picture(760, 430)
    floors = (
        ("what users see", (("launcher", 130), ("baked", 130), ("inline, common, work, futures", 240))),
        ("what performs", (("runtime", 130), ("invoke", 130), ("observe", 130))),
        ("where work is done", (("lanes", 130), ("workers", 130), ("evaluate", 130))),
        ("how it travels, and stays", (("ranks", 130), ("checkpoints", 160))),
        ("what is decided", (("engine", 130), ("simulate", 130))),
        ("what it is", (("stream", 130), ("memory", 130), ("values", 100))),
        ("the ground", (("ground", 130), ("errors", 100))),
    )
    for row, (what, names) in enumerate(floors):
        top = 10 + 59 * row
        picture.area(10, top, 740, 52)
        picture.words(110, top + 31, what)
        left = 220
        for name, width in names:
            picture.box(left, top + 8, width, 36, name)
            left += width + 14
    return picture


PICTURES: dict[str, Callable[[], Picture]] = {
    "stream.svg": stream,
    "reduce.svg": reduction,
    "frame.svg": frame,
    "lending.svg": lending,
    "rooms.svg": rooms,
}


if __name__ == "__main__":
    for name, draw in PICTURES.items():
        (IMAGES / name).write_text(draw().render(), encoding="utf-8")
