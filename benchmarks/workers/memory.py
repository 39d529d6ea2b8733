"""Transcribes a file and tells how much memory that took: ``memory.py JOB.json RESULT.json``."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from max_whisper import load_model


def peak_mb() -> float:
    """The most memory that this process had resident so far, in 10^6 bytes."""
    found = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError("the system does not tell how much memory a process takes")
    return int(found[1]) * 1024 / 1e6


def main(job_file: str, result_file: str) -> None:
    job = json.loads(Path(job_file).read_text())
    model = load_model(job["model"], precision=job["precision"], threads=job["threads"])
    loaded = peak_mb()
    plain = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False}
    model.transcribe(job["audio"], **plain, **job["options"])
    found = {"loaded_mb": loaded, "peak_mb": peak_mb()}
    Path(result_file).write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
