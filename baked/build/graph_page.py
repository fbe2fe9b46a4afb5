"""The graph of a build as one page of HTML that needs nothing else: no network, no server, no library.

The image is in the page, so that it is seen where scripts are not run, too. What users have written (ids, logs, code)
is in it as escaped text, or as JSON in which nothing can end the element that holds it; the script only ever puts it
into the page as text. A policy in the head forbids the page every request.
"""

from __future__ import annotations

import base64
import json
from hashlib import sha256

from .graph_page_parts import PAGE_SCRIPT, PAGE_STYLE
from .graph_svg import COLOURS, STYLE, about, drawing_of, plain
from .past_runs import BuildPicture

__all__ = ["page_of"]


def page_of(picture: BuildPicture) -> str:
    """The whole page."""
    width, height, body = drawing_of(picture)
    title = plain(picture.title)
    style = STYLE + PAGE_STYLE
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src {_hash(style)}; \
script-src {_hash(PAGE_SCRIPT)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<style>{style}</style></head><body>
<header><h1>{title}</h1><input id="search" type="search" placeholder="Search jobs" aria-label="Search jobs">
<output id="found"></output><span class="buttons"><button id="out" aria-label="Smaller">&minus;</button>
<button id="in" aria-label="Larger">+</button><button id="fit">Fit</button></span>
<ul id="legend">{_legend(picture)}</ul></header>
<main><svg id="graph" role="img" aria-label="Graph of jobs" data-width="{width:.0f}" data-height="{height:.0f}">
<g id="view">{body}</g></svg>
<aside id="panel" hidden><button id="close" aria-label="Close">&times;</button><h2 id="name"></h2>
<div id="facts"></div></aside></main>
<script type="application/json" id="data">{_data(picture)}</script>
<script>{PAGE_SCRIPT}</script></body></html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode()).digest()).decode()}'"


def _legend(picture: BuildPicture) -> str:
    counts = dict.fromkeys(COLOURS, 0)
    for job in picture.jobs.values():
        if job.kind != "source":
            counts[job.state] += 1
    return "".join(f'<li class="{state}"><i></i>{state} {count}</li>' for state, count in counts.items() if count)


def _data(picture: BuildPicture) -> str:
    numbers = {job_id: number for number, job_id in enumerate(picture.jobs)}
    jobs = [[job.id, about(job), [numbers[need] for need in job.needs], list(job.files), dict(job.params),
             job.code, *job.logs] for job in picture.jobs.values()]  # fmt: skip
    text = json.dumps({"jobs": jobs, "codes": picture.codes}, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
