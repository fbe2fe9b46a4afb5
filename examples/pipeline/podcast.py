"""Measure and draw how loud a recording is, with a job in YAML and three modules.

    python examples/pipeline/podcast.py [FOLDER]

Without a recording one is made, as FOLDER/talk.wav: a tone in stereo that swells and fades three times in two seconds.
Run it again, and nothing happens. Put another recording there, or edit a module, and what depends on it is made again.
The same job by the command line, from this folder:

    job_stream pipeline job.yaml FOLDER/talk.wav
"""

import math
import sys
import wave
from array import array
from pathlib import Path

from job_stream.baked import pipeline

here = Path(__file__).parent
folder = Path(sys.argv[1] if len(sys.argv) > 1 else "podcast")
RATE = 8000


def record(path):
    swell = [math.sin(3 * math.pi * n / (2 * RATE)) ** 2 for n in range(2 * RATE)]
    tone = [round(30_000 * loud * math.sin(2 * math.pi * 440 * n / RATE)) for n, loud in enumerate(swell)]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(array("h", [sample for each in tone for sample in (each, each)]).tobytes())


folder.mkdir(exist_ok=True)
if not (folder / "talk.wav").exists():
    record(folder / "talk.wav")

result = pipeline(
    here / "job.yaml", [folder / "talk.wav"], modulesDir=here / "modules", storageDir=folder / "storage", id="talk"
)
print(f"made {len(result.made)}, kept {len(result.kept)}")
print(result.public["loudness.svg"])
