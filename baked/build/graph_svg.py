"""The graph of a build as an SVG image: jobs with colours and shapes for their states, and what is known in titles."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from html import escape

from .layered import Spot, layered
from .past_runs import BuildPicture, JobPicture

__all__ = ["COLOURS", "STYLE", "about", "drawing_of", "plain", "svg_of"]

WIDTH, HEIGHT, MARGIN = 180, 28, 24
LETTERS = 25
"""How many there is room for."""

COLOURS = {
    "made": "#a7dba9", "kept": "#dfe5ea", "new": "#ffffff", "failed": "#f2a29b", "blocked": "#f7d08a",
    "stopped": "#d9c3ea", "running": "#a5cdf3", "pruned": "#f4f4f4",
}  # fmt: skip

STYLE = (
    ".job path{stroke:#4a5560;stroke-width:1.2}.job text{font:12px system-ui,sans-serif;fill:#111}"
    ".edge{fill:none;stroke:#8a949e;stroke-width:1.2}.failed path{stroke-width:2.4}"
    ".new path,.pruned path{stroke-dasharray:4 3}"
    + "".join(f".{state} path{{fill:{colour}}}" for state, colour in COLOURS.items())
)

_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""What XML cannot hold, and what is not seen."""


def plain(text: str) -> str:
    """Text of a user's for XML and HTML."""
    return escape(_FORBIDDEN.sub("\ufffd", text))


def about(job: JobPicture) -> str:
    """What is to be known of a job, in a few lines."""
    lines = [job.id, f"{job.kind}, {job.state}"]
    lines += [f"why: {reason}" for reason in job.reasons]
    if job.error:
        lines.append(f"error: {job.error}")
    if job.seconds is not None:
        lines.append(f"took {job.seconds:.3g} s{f' on {job.host}' if job.host else ''}")
    if job.ended:
        lines.append(time.strftime("recorded at %Y-%m-%d %H:%M:%S", time.localtime(job.ended)))
    return "\n".join(lines)


def svg_of(picture: BuildPicture) -> str:
    """The whole image, which needs nothing else."""
    width, height, body = drawing_of(picture)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}">\n<title>{plain(picture.title)}</title>\n<style>{STYLE}</style>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n'
    )


def drawing_of(picture: BuildPicture) -> tuple[float, float, str]:
    """Width and height, and what is drawn, without what stands around it."""
    spots = layered({job.id: job.needs for job in picture.jobs.values()})
    top = min((spot.y for spot in spots.values()), default=0.0)
    moved = {name: Spot(x + MARGIN, y - top + MARGIN + HEIGHT / 2) for name, (x, y) in spots.items()}
    width = max((spot.x for spot in moved.values()), default=0.0) + WIDTH + MARGIN
    height = max((spot.y for spot in moved.values()), default=0.0) + HEIGHT / 2 + MARGIN
    return width, height, "\n".join([*_edges(picture, moved), *_jobs(picture, moved)])


def _edges(picture: BuildPicture, spots: Mapping[str, Spot]) -> Iterator[str]:
    numbers = {job_id: number for number, job_id in enumerate(picture.jobs)}
    for job in picture.jobs.values():
        end = spots[job.id]
        for need in job.needs:
            begin = spots[need]
            x = begin.x + WIDTH
            bend = max(30.0, (end.x - x) / 2)
            way = (f"M{x:.0f} {begin.y:.0f}C{x + bend:.0f} {begin.y:.0f} {end.x - bend:.0f} {end.y:.0f} "
                   f"{end.x:.0f} {end.y:.0f}")  # fmt: skip
            yield f'<path class="edge" data-a="{numbers[need]}" data-b="{numbers[job.id]}" d="{way}"/>'


def _jobs(picture: BuildPicture, spots: Mapping[str, Spot]) -> Iterator[str]:
    for number, job in enumerate(picture.jobs.values()):
        x, y = spots[job.id]
        yield (f'<g class="job {job.state}" data-n="{number}" transform="translate({x:.0f} {y:.0f})">'
               f'<title>{plain(about(job))}</title><path d="{_shape(job)}"/>'
               f'<text x="{WIDTH / 2:.0f}" y="4" text-anchor="middle">{plain(_short(job.id))}</text></g>')  # fmt: skip


def _short(text: str) -> str:
    """The end of an id tells more than its begin, which is the folder."""
    text = " ".join(text.split())
    return text if len(text) <= LETTERS else f"…{text[1 - LETTERS :]}"


def _shape(job: JobPicture) -> str:
    """Shapes, so that states are told apart without colours as well; a source has a folded corner."""
    w, h, c = WIDTH, HEIGHT / 2, 9
    if job.kind == "source":
        return f"M0 {-h}H{w - c}L{w} {c - h}V{h}H0ZM{w - c} {-h}V{c - h}H{w}"
    if job.state == "failed":
        return f"M{c} {-h}H{w - c}L{w} {c - h}V{h - c}L{w - c} {h}H{c}L0 {h - c}V{c - h}Z"
    if job.state == "blocked":
        return f"M{c} {-h}H{w - c}L{w} 0L{w - c} {h}H{c}L0 0Z"
    if job.state == "stopped":
        return f"M{c} {-h}H{w}L{w - c} {h}H0Z"
    if job.state in {"new", "running"}:
        return f"M{h} {-h}H{w - h}A{h} {h} 0 0 1 {w - h} {h}H{h}A{h} {h} 0 0 1 {h} {-h}Z"
    r = 6 if job.state == "made" else 0
    return f"M{r} {-h}H{w - r}q{r} 0 {r} {r}V{h - r}q0 {r} {-r} {r}H{r}q{-r} 0 {-r} {-r}V{r - h}q0 {-r} {r} {-r}Z"
