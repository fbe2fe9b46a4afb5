"""The graph of a build as a file: DOT, JSON, SVG, and a page that is opened in a real browser."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser_support import Browser, needs_browser

from job_stream.baked.build import build
from job_stream.baked.build.layered import COLUMN, ROW, layered, needs_first
from job_stream.errors import BuildError

HOSTILE = '</script><script>document.title="taken"</script><b>&"\'\\ \x07]]>--'
SVG = "{http://www.w3.org/2000/svg}"


pytestmark = pytest.mark.usefixtures("folder")


def fails(path, text):
    print("before it failed")
    raise ValueError(HOSTILE)


def declared(**keywords):
    """A source, what is made of it, what fails then, and what is blocked by that."""
    Path("source.txt").write_text("x")
    b = build(quiet=True, **keywords)
    first = b.file("first", lambda path, text, n: path.write_text("x"), needs={"text": "source.txt"}, params={"n": 7})
    second = b.file("second", fails, needs={"text": first})
    hostile = b.load(HOSTILE, lambda: None)
    b.file("third", lambda path: path.write_text("x"), needs=[second, hostile])
    return b




def ran(**keywords):
    b = declared(**keywords)
    b.run(raiseErrors=False)
    return b


# --- layout -----------------------------------------------------------------------------------------------------------


def test_each_job_stands_right_of_all_that_it_needs():
    needs = {f"j{n}": [f"j{m}" for m in {n // 2, n // 3, n - 7} if 0 <= m < n] for n in range(300)}
    spots = layered(needs)
    assert all(spots[need].x < spots[name].x for name, needed in needs.items() for need in needed)
    by_column = {}
    for spot in spots.values():
        by_column.setdefault(spot.x, []).append(spot.y)
    gaps = [b - a for heights in map(sorted, by_column.values()) for a, b in pairwise(heights)]
    assert min(gaps) >= ROW - 1e-6


def test_chains_do_not_cross():
    needs = {f"{c}{n}": [f"{c}{n - 1}"] if n else [] for n in range(5) for c in "badc"}
    spots = layered(needs)
    assert {len({spots[f"{c}{n}"].y for n in range(5)}) for c in "abcd"} == {1}


def test_a_circle_is_drawn_all_the_same():
    assert needs_first({"a": ["b"], "b": ["a"], "c": []}) == ["c", "a", "b"]
    assert set(layered({"a": ["b"], "b": ["a"], "c": ["b"]})) == {"a", "b", "c"}


def test_ten_thousand_jobs_with_many_lines_are_laid_out():
    needs = {str(n): [str(m) for m in range(n - 10, n, 3) if m >= 0] for n in range(9_000)}
    needs.update({f"leaf{n}": ["8999"] for n in range(1_000)})
    spots = layered(needs)
    assert len(spots) == 10_000
    assert max(spot.x for spot in spots.values()) >= 900 * COLUMN


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_suffix_that_is_not_known_is_refused_with_those_that_are(folder):
    with pytest.raises(BuildError, match=r"\.dot, \.json, \.svg, \.html"):
        declared().graph("graph.pdf")


def test_a_folder_that_is_not_there_is_named(folder):
    with pytest.raises(BuildError, match="no folder 'nowhere'"):
        declared().graph("nowhere/graph.svg")


def test_json_has_all_jobs_with_needs_states_reasons_and_code(folder):
    b = ran()
    assert b.graph("graph.json") == Path("graph.json")
    found = json.loads(Path("graph.json").read_text())
    assert found["format"] == 1
    assert found["title"] == folder.name
    jobs = {job["id"]: job for job in found["jobs"]}
    assert set(jobs) == {"source.txt", "first", "second", "third", HOSTILE}
    assert [jobs[name]["state"] for name in ("source.txt", "first", "second", "third")] == [
        "kept", "made", "failed", "blocked",
    ]  # fmt: skip
    assert jobs["first"]["needs"] == ["source.txt"]
    assert jobs["first"]["reasons"] == ["never made"]
    assert jobs["first"]["params"] == {"n": "7"}
    assert jobs["second"]["error"] == HOSTILE
    assert "raise ValueError" in found["codes"][jobs["second"]["code"]]


def test_before_a_run_the_history_is_shown(folder):
    ran()
    declared().graph("graph.json")
    states = {job["id"]: job["state"] for job in json.loads(Path("graph.json").read_text())["jobs"]}
    assert (states["first"], states["second"], states["third"]) == ("made", "failed", "blocked")


def test_without_a_run_all_jobs_are_new(folder):
    declared().graph("graph.json")
    states = {job["id"]: job["state"] for job in json.loads(Path("graph.json").read_text())["jobs"]}
    assert set(states.values()) == {"new", "kept"}
    assert not Path(".build").exists()


def test_dot_is_sound_whatever_jobs_are_called(folder):
    ran().graph("graph.dot")
    text = Path("graph.dot").read_text()
    string = r'"(?:[^"\\\n]|\\.)*"'
    attribute = rf"\w+=(?:{string}|\w+)"
    lines = text.splitlines()
    assert re.fullmatch(rf"digraph {string} \{{", lines[0])
    assert lines[-1] == "}"
    for line in lines[2:-1]:
        assert re.fullmatch(rf"n\d+ \[{attribute}(, {attribute})*\];|n\d+ -> n\d+;", line), line
    assert text.count(" -> ") == 4
    assert "shape=octagon" in text
    assert "shape=note" in text


def test_svg_is_sound_and_says_why_in_titles(folder):
    ran().graph("graph.svg")
    root = ElementTree.parse("graph.svg").getroot()
    titles = [group.find(f"{SVG}title").text for group in root.iter(f"{SVG}g") if "job" in group.get("class", "")]
    assert len(titles) == 5
    assert any("second\nfile, failed\nwhy: never made\nerror: </script>" in title for title in titles)
    assert not list(root.iter(f"{SVG}script"))


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(tmp_path):
    with Browser(tmp_path, 1280, 800) as browser:
        yield browser


@needs_browser
def test_the_page_can_be_moved_zoomed_searched_and_asked(folder, browser):
    ran().graph("graph.html")
    browser.open(folder / "graph.html")
    view = "document.getElementById('view').getAttribute('transform')"
    shown = "document.getElementById('panel').innerText"
    assert browser.js("document.querySelectorAll('.job').length") == 5

    begin = browser.js(view)
    browser.mouse("mousePressed", 600, 700, button="left", clickCount=1)
    browser.mouse("mouseMoved", 640, 660, button="left", buttons=1)
    browser.mouse("mouseReleased", 640, 660, button="left", clickCount=1)
    moved = browser.js(view)
    assert [float(b) - float(a) for a, b in zip(*(re.findall(r"[-\d.]+", text) for text in (begin, moved)), strict=True)
            ] == pytest.approx([40, -40, 0])  # fmt: skip

    browser.mouse("mouseWheel", 600, 400, deltaX=0, deltaY=-400)
    assert float(browser.js(view).split("scale(")[1][:-1]) > float(moved.split("scale(")[1][:-1])
    browser.click("#fit")
    assert browser.js(view) == begin

    browser.click("#search")
    browser.type("secon")
    assert browser.js("document.getElementById('found').innerText") == "1 found"
    assert browser.js("document.querySelectorAll('.job.hit').length") == 1
    browser.click(".job.failed")
    assert all(word in browser.js(shown) for word in ("second", "never made", "before it failed", "raise ValueError"))
    assert browser.js("document.querySelectorAll('.edge.near').length") == 2
    browser.press("Escape")
    assert browser.js("document.getElementById('panel').hidden")

    assert browser.js("document.title") == folder.name
    assert [url for url in browser.requests if not url.startswith(("file:", "data:"))] == []
    assert len([url for url in browser.requests if url.startswith("file:")]) == 1
    assert browser.complaints == []


@needs_browser
def test_the_page_fits_a_telephone(folder, tmp_path):
    ran().graph("graph.html")
    with Browser(tmp_path, 390, 800) as browser:
        browser.open(folder / "graph.html")
        browser.click(".job.failed")
        assert browser.js("document.documentElement.scrollWidth") <= 390
        assert "never made" in browser.js("document.getElementById('panel').innerText")
        picked, panel = (browser.js(f"document.querySelector('{name}').getBoundingClientRect().{side}")
                         for name, side in ((".picked", "bottom"), ("#panel", "top")))  # fmt: skip
        assert picked < panel
        assert browser.complaints == []
