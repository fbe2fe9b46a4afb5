"""The mean of all channels of a WAV file with samples of 16 bits."""

import argparse
import sys
import wave
from array import array

parser = argparse.ArgumentParser()
parser.add_argument("--input", required=True)
parser.add_argument("--output", required=True)
given = parser.parse_args()

with wave.open(given.input, "rb") as file:
    if file.getsampwidth() != 2:
        sys.exit(f"{given.input}: samples of {8 * file.getsampwidth()} bits, and only those of 16 are understood")
    count, rate = file.getnchannels(), file.getframerate()
    samples = array("h", file.readframes(file.getnframes()))

channels = [samples[channel::count] for channel in range(count)]
with wave.open(given.output, "wb") as file:
    file.setnchannels(1)
    file.setsampwidth(2)
    file.setframerate(rate)
    file.writeframes(array("h", [sum(each) // count for each in zip(*channels, strict=True)]).tobytes())
print(f"{count} channels, {len(channels[0]) / rate:.1f} s")
