"""How much memory a process takes for recordings of minutes and of hours.

    python -m benchmarks.memory speech.flac --minutes 8 60 120

The recording is repeated up to each length and written as a file, which a process of its own
transcribes: the most memory that it had resident, once the model is loaded and in the end, in 10^6 bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import BenchmarkError
from benchmarks.processes import with_json
from benchmarks.run import RESULTS, processor
from benchmarks.tables import table
from max_whisper.audio import SAMPLE_RATE, load_audio
from max_whisper.errors import MaxWhisperError

WAYS: dict[str, dict[str, Any]] = {
    "one window after the other": {},
    "batch_size=8": {"batch_size": 8},
    "vad_filter": {"vad_filter": True},
}


def write_repeated(samples: np.ndarray, seconds: float, path: Path) -> None:
    """Writes samples (n,) of 16 kHz again and again, up to a length, as a WAV file of 16 bits."""
    part = np.round(samples * 32768).astype("<i2")
    left = round(seconds * SAMPLE_RATE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        while left > 0:
            file.writeframes(part[:left].tobytes())
            left -= len(part)


def report(rows: Sequence[Mapping[str, Any]], about: str) -> str:
    """The results as Markdown."""
    head = ["model", "precision", "way", "minutes", "model loaded, MB", "peak MB"]
    cells = [
        [
            *(str(row[name]) for name in ("model", "precision", "way")),
            f"{row['minutes']:g}",
            *(f"{row[name]:.0f}" for name in ("loaded_mb", "peak_mb")),
        ]
        for row in rows
    ]
    return f"# Memory\n\n{about}\n\n{table(head, cells)}\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.memory",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recording", type=Path)
    add("--models", nargs="+", default=["base"])
    add("--precisions", nargs="+", default=["int8"])
    add("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    add("--minutes", nargs="+", type=float, default=[8, 60, 120])
    add("--threads", type=int, default=2)
    add("--output", type=Path, default=RESULTS, help="folder of the results")
    add("--name", default=f"{datetime.now(timezone.utc):%Y-%m-%d}-memory", help="name of the results")
    options = parser.parse_args(arguments)
    rows: list[dict[str, Any]] = []
    try:
        for row in measure(options):
            rows.append(row)
            print(f"\n{write(rows, options)}", flush=True)
    except (BenchmarkError, MaxWhisperError) as error:
        print(f"benchmarks.memory: {error}")
        return 1
    return 0


def write(rows: Sequence[Mapping[str, Any]], options: argparse.Namespace) -> str:
    """Writes what is known so far, so that a run can be stopped; returns the table."""
    machine = f"{processor()}, {len(os.sched_getaffinity(0))} cores, {options.threads} threads"
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    about = f"{machine}; {today}; {options.recording.stem} again and again. Method: docs/benchmarks.md."
    text = report(rows, about)
    options.output.mkdir(parents=True, exist_ok=True)
    base = options.output / options.name
    content = json.dumps({"about": about, "rows": list(rows)}, indent=1)
    base.with_name(f"{base.name}.json").write_text(content + "\n")
    base.with_name(f"{base.name}.md").write_text(text)
    return text


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One process for each model, precision, way and length."""
    samples = load_audio(str(options.recording))
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            file = Path(folder) / f"{minutes:g}.wav"
            write_repeated(samples, 60 * minutes, file)
            for model in options.models:
                for precision in options.precisions:
                    for way in options.ways:
                        row = {"model": model, "precision": precision, "way": way, "minutes": minutes}
                        job = {**row, "audio": str(file), "threads": options.threads, "options": WAYS[way]}
                        found = with_json(Path(sys.executable), "memory.py", job, options.threads)
                        yield {**row, **found}
            file.unlink()


if __name__ == "__main__":
    sys.exit(main())
