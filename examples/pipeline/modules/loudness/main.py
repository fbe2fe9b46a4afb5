"""The loudness of each window of a WAV file, in decibels below full scale."""

import argparse
import json
import math
import wave
from array import array

parser = argparse.ArgumentParser()
parser.add_argument("--input", required=True)
parser.add_argument("--output", required=True)
parser.add_argument("--window", type=float, default=0.5, help="in seconds")
given = parser.parse_args()

with wave.open(given.input, "rb") as file:
    rate = file.getframerate()
    samples = array("h", file.readframes(file.getnframes()))

size = max(1, round(given.window * rate))
levels = []
for begin in range(0, len(samples), size):
    window = samples[begin : begin + size]
    power = sum(sample * sample for sample in window) / len(window)
    levels.append(round(10 * math.log10(max(power, 1) / 32767**2), 2))
with open(given.output, "w", encoding="utf-8") as file:
    json.dump({"window": given.window, "levels": levels}, file)
