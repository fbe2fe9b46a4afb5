"""A bar for each window, as an SVG image."""

import argparse
import json
from html import escape

WIDTH, HEIGHT, LOWEST = 800, 200, -60

parser = argparse.ArgumentParser()
parser.add_argument("--input", required=True)
parser.add_argument("--output", required=True)
parser.add_argument("--title", default="")
given = parser.parse_args()

with open(given.input, encoding="utf-8") as file:
    levels = json.load(file)["levels"]

width = WIDTH / len(levels)
bars = []
for number, level in enumerate(levels):
    height = HEIGHT * max(0, 1 - level / LOWEST)
    bars.append(f'<rect x="{number * width:.1f}" y="{HEIGHT - height:.1f}" width="{width:.1f}" height="{height:.1f}"/>')
with open(given.output, "w", encoding="utf-8") as file:
    file.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" fill="#4a7fb0">\n')
    file.write(f"<title>{escape(given.title)}</title>\n")
    file.write("\n".join([*bars, "</svg>", ""]))
