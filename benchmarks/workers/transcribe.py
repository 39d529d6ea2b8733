"""Runs one engine in a process of its own: ``transcribe.py JOB.json RESULT.json``.

A job has ``adapter``, ``model``, ``threads``, ``beam``, ``options``, ``started`` (the monotonic
clock when the process was asked for), ``clips`` (name -> file of samples), ``many`` (files of
samples to be transcribed as a lot) and ``whole``: only the first clip, once, as a command would.
"""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from adapters import ADAPTERS, Adapter


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    engine = ADAPTERS[job["adapter"]](job["model"], job["threads"], job["beam"], job["options"])
    loaded = time.monotonic() - job["started"]

    import numpy as np

    clips = {name: np.load(path) for name, path in job["clips"].items()}
    first = next(iter(clips.values()))
    warm_up = _timed(engine, first)
    result: dict[str, Any] = {
        "loaded": loaded,
        "first_transcript": time.monotonic() - job["started"],
        "version": engine.version(),
        "runs": {},
    }
    if job["whole"]:
        result["text"] = warm_up["text"]
    else:
        result["runs"] = {name: _timed(engine, samples) for name, samples in clips.items()}
        if job["many"]:
            result["runs"]["many"] = _timed_many(engine, [np.load(path) for path in job["many"]])
    result["peak_mb"] = peak_megabytes()
    Path(result_file).write_text(json.dumps(result))


def _timed(engine: Adapter, samples: Any) -> dict[str, Any]:
    first: list[float] = []

    def heard() -> None:
        if not first:
            first.append(time.perf_counter() - start)

    engine.stages()
    start = time.perf_counter()
    text = engine.transcribe(samples, heard)
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "first_text": first[0] if first else None,
        "text": text,
        "stages": engine.stages(),
    }


def _timed_many(engine: Adapter, recordings: list[Any]) -> dict[str, Any]:
    engine.stages()
    start = time.perf_counter()
    texts = engine.transcribe_many(recordings)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "first_text": None, "texts": texts, "stages": engine.stages()}


def peak_megabytes() -> float:
    """The most memory that this process has had resident, in MB (10^6 bytes).

    Not from getrusage: its figure starts from what the parent had at the fork.
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise OSError("/proc/self/status has no VmHWM; peak memory is measured on Linux alone")
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
