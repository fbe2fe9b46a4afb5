"""What is the same on every page of a graph: its style and its script."""

from __future__ import annotations

from .graph_svg import COLOURS

__all__ = ["PAGE_SCRIPT", "PAGE_STYLE"]

PAGE_STYLE = (
    """
:root{color-scheme:light dark;--back:#fff;--bar:#f3f5f7;--text:#15191d;--line:#cfd6dc;--code:#f3f5f7}
*{box-sizing:border-box}html,body{height:100%;margin:0}
body{display:flex;flex-direction:column;background:var(--back);color:var(--text);font:14px/1.4 system-ui,sans-serif}
header{display:flex;flex-wrap:wrap;gap:6px 12px;align-items:center;padding:8px 12px;background:var(--bar);
border-bottom:1px solid var(--line)}
h1{font-size:16px;margin:0;max-width:100%;overflow-wrap:anywhere}
input{flex:1 1 140px;max-width:320px;min-width:0;font:inherit;padding:4px 8px;border:1px solid var(--line);
border-radius:6px;background:var(--back);color:inherit}
button{font:inherit;min-width:32px;min-height:32px;border:1px solid var(--line);border-radius:6px;
background:var(--back);color:inherit;cursor:pointer}
#legend{display:flex;flex-wrap:wrap;gap:2px 12px;list-style:none;margin:0;padding:0}
#legend i{display:inline-block;width:12px;height:12px;margin-right:5px;border:1px solid #4a5560;border-radius:3px;
vertical-align:-1px}
main{flex:1;display:flex;min-height:0;position:relative}
#graph{flex:1;min-width:0;height:100%;touch-action:none;cursor:grab}
.job{cursor:pointer}.dim{opacity:.15}.hit path{stroke:#1668c4;stroke-width:3}.picked path{stroke:#1668c4;stroke-width:4}
.edge.near{stroke:#1668c4;stroke-width:2.4}
aside{width:min(420px,100%);overflow:auto;padding:12px 16px;border-left:1px solid var(--line);background:var(--back)}
aside[hidden]{display:none}#close{float:right}
h2{font-size:15px;margin:4px 0 8px;overflow-wrap:anywhere}h3{font-size:13px;margin:14px 0 4px}
p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}
pre{margin:0;padding:8px;background:var(--code);border-radius:6px;overflow:auto;max-height:45vh;font-size:12px}
aside ul{margin:0;padding:0;list-style:none}
aside li button{min-height:0;border:0;padding:2px 0;text-align:left;background:none;color:#1668c4;
overflow-wrap:anywhere}
@media (max-width:700px){aside{position:absolute;left:0;right:0;bottom:0;width:100%;max-height:60%;
border-left:0;border-top:1px solid var(--line)}}
@media (prefers-color-scheme:dark){:root{--back:#15191d;--bar:#1e2429;--text:#e8ecef;--line:#3a434b;--code:#1e2429}
.job path{stroke:#0b0d0f}.edge{stroke:#76828d}.hit path,.picked path{stroke:#6db3ff}.edge.near{stroke:#6db3ff}
aside li button{color:#6db3ff}.new path{fill:#c9ced3}}
"""
    + "".join(f"#legend .{state} i{{background:{colour}}}" for state, colour in COLOURS.items())
)

PAGE_SCRIPT = r"""
"use strict";
const byId = name => document.getElementById(name);
const {jobs, codes} = JSON.parse(byId("data").textContent);
const svg = byId("graph"), view = byId("view"), panel = byId("panel"), search = byId("search");
const groups = [...view.querySelectorAll(".job")];
const edges = [...view.querySelectorAll(".edge")];
const size = [Number(svg.dataset.width), Number(svg.dataset.height)];
const users = jobs.map(() => []);
jobs.forEach((job, number) => job[2].forEach(need => users[need].push(number)));
const at = {x: 0, y: 0, k: 1};
const show = () => view.setAttribute("transform", `translate(${at.x} ${at.y}) scale(${at.k})`);
const room = () => svg.getBoundingClientRect();

function fit() {
  const box = room();
  at.k = Math.min(1.5, box.width / size[0], box.height / size[1]) || 1;
  at.x = (box.width - at.k * size[0]) / 2;
  at.y = (box.height - at.k * size[1]) / 2;
  show();
}

function zoom(factor, x, y) {
  const k = Math.min(8, Math.max(0.002, at.k * factor));
  at.x = x - (x - at.x) * k / at.k;
  at.y = y - (y - at.y) * k / at.k;
  at.k = k;
  show();
}

function zoomMiddle(factor) {
  const box = room();
  zoom(factor, box.width / 2, box.height / 2);
}

const isNarrow = () => getComputedStyle(panel).position === "absolute";

function centre(number) {
  const box = room(), hidden = isNarrow() && !panel.hidden ? panel.offsetHeight : 0;
  const spot = groups[number].transform.baseVal[0].matrix;
  at.k = Math.max(at.k, 0.8);
  at.x = box.width / 2 - at.k * (spot.e + 90);
  at.y = (box.height - hidden) / 2 - at.k * spot.f;
  show();
}

function add(tag, text, parent) {
  const made = document.createElement(tag);
  made.textContent = text;
  parent.append(made);
  return made;
}

function part(title, text, tag) {
  if (text) {
    add("h3", title, byId("facts"));
    add(tag, text, byId("facts"));
  }
}

function links(title, numbers) {
  if (numbers.length) {
    add("h3", title, byId("facts"));
    const list = add("ul", "", byId("facts"));
    for (const number of numbers.slice(0, 100)) {
      add("button", jobs[number][0], add("li", "", list)).onclick = () => { pick(number); centre(number); };
    }
    if (numbers.length > 100) add("li", `and ${numbers.length - 100} more`, list);
  }
}

function pick(number) {
  view.querySelectorAll(".picked, .near").forEach(each => each.classList.remove("picked", "near"));
  panel.hidden = number === null;
  if (number === null) return;
  const [id, about, needs, files, params, code, out, err] = jobs[number];
  groups[number].classList.add("picked");
  const text = String(number);
  edges.forEach(edge => edge.classList.toggle("near", edge.dataset.a === text || edge.dataset.b === text));
  byId("name").textContent = id;
  byId("facts").replaceChildren();
  part("What is known", about.slice(id.length + 1), "p");
  part("Params", Object.entries(params).map(([name, value]) => `${name} = ${value}`).join("\n"), "p");
  part("Files", files.join("\n"), "p");
  links("Needs", needs);
  links("Used by", users[number]);
  part("stderr, the end", err, "pre");
  part("stdout, the end", out, "pre");
  part("Code", codes[code], "pre");
  panel.scrollTop = 0;
}

let hits = [], next = 0;
function find() {
  const word = search.value.trim().toLowerCase();
  hits = [];
  groups.forEach((group, number) => {
    const is = word !== "" && jobs[number][0].toLowerCase().includes(word);
    if (is) hits.push(number);
    group.classList.toggle("hit", is);
    group.classList.toggle("dim", word !== "" && !is);
  });
  byId("found").textContent = word ? `${hits.length} found` : "";
  next = 0;
  if (hits.length) centre(hits[0]);
}

search.oninput = find;
search.onkeydown = event => {
  if (event.key === "Enter" && hits.length) {
    const number = hits[next++ % hits.length];
    pick(number);
    centre(number);
  }
};
svg.addEventListener("wheel", event => {
  event.preventDefault();
  const box = room();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.03 : 0.0015)), event.clientX - box.left, event.clientY - box.top);
}, {passive: false});

const fingers = new Map();
let moved = 0;
svg.onpointerdown = event => {
  fingers.set(event.pointerId, [event.clientX, event.clientY]);
  if (fingers.size === 1) moved = 0;
};
window.onpointermove = event => {
  const before = fingers.get(event.pointerId);
  if (!before) return;
  const other = [...fingers].find(([id]) => id !== event.pointerId)?.[1];
  const now = [event.clientX, event.clientY];
  if (other) {
    const box = room(), far = spot => Math.hypot(spot[0] - other[0], spot[1] - other[1]);
    zoom(far(now) / Math.max(1, far(before)), other[0] - box.left, other[1] - box.top);
  } else {
    at.x += now[0] - before[0];
    at.y += now[1] - before[1];
    show();
  }
  moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
  fingers.set(event.pointerId, now);
};
window.onpointerup = window.onpointercancel = event => fingers.delete(event.pointerId);
svg.onclick = event => {
  if (moved > 5) return;
  const group = event.target.closest(".job");
  pick(group ? Number(group.dataset.n) : null);
  if (group && isNarrow()) centre(Number(group.dataset.n));  // the panel lies above it
};
window.addEventListener("keydown", event => { if (event.key === "Escape") pick(null); });
byId("close").onclick = () => pick(null);
byId("in").onclick = () => zoomMiddle(1.4);
byId("out").onclick = () => zoomMiddle(1 / 1.4);
byId("fit").onclick = fit;
fit();
if (at.k < 0.5 && groups.length) {  // too small to be read: begin where something went wrong, or at the begin
  const failed = groups.findIndex(group => group.classList.contains("failed"));
  centre(Math.max(0, failed));
}
"""
