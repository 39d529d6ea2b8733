"""What an engine hears: ``silence.py JOB.json RESULT.json``, run in the engine's own environment.

The job names the engine, the weights, options of ``transcribe`` and recordings (``.npy`` files); the
result has the text of each and the seconds taken.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from word_times import ENGINES  # type: ignore[import-not-found, unused-ignore]


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    engine = ENGINES[job["engine"]](job)
    results = []
    for recording in job["recordings"]:
        samples = np.load(recording)
        began = time.perf_counter()
        text = engine.model.transcribe(samples, language="en", **job["options"])["text"]
        results.append({"text": text, "seconds": time.perf_counter() - began})
    Path(sys.argv[2]).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
