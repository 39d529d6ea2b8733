"""Word error rates of recordings with and without a batch.

    python scripts/compare_batch.py AUDIO [AUDIO...] [--models tiny.en,base] [--batch_size 8]
        [--chunk_length 30] [--shifts 1]

Beside each recording lies its transcript, under the same name with the suffix .txt. Each recording is
heard as often as --shifts says, every time 30 ms later: what a single run gives hangs on accidents. Prints
a line for each run: word error rate with Whisper's English normaliser, windows, and seconds. The exit
status is 1 if a batch costs more than 0.3 points over all recordings of a model.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

import max_whisper
from max_whisper.normalizers import EnglishTextNormalizer

ALLOWED = 0.3  # points
SHIFT = 480  # samples: 30 ms


def errors(model: Any, audio: Path, options: dict[str, Any], shift: int) -> tuple[int, int]:
    """How many words of a recording after so many zeros are wrong, and how many there are."""
    normalize = EnglishTextNormalizer()
    reference = normalize(audio.with_suffix(".txt").read_text("utf-8"))
    samples = np.pad(max_whisper.load_audio(str(audio)), (shift, 0))
    start = time.perf_counter()
    result = model.transcribe(samples, language="en", **options)
    seconds = time.perf_counter() - start
    found = jiwer.process_words(reference, normalize(result["text"]))
    wrong = found.substitutions + found.deletions + found.insertions
    words = len(reference.split())
    windows = len({segment["seek"] for segment in result["segments"]})
    print(
        f"  {audio.name} {options or 'sequential'}: {100 * wrong / words:.2f} %, {windows} windows, "
        f"{seconds:.1f} s of {len(samples) / 16000:.0f} s",
        flush=True,
    )
    return wrong, words


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--models", default="tiny.en,base")
    parser.add_argument("--batch_size", type=int, default=8)
    parser.add_argument("--chunk_length", type=float, default=30.0)
    parser.add_argument("--shifts", type=int, default=1)
    chosen = parser.parse_args()
    if chosen.shifts < 1:
        parser.error("--shifts must be at least 1")
    batch = {"batch_size": chosen.batch_size, "chunk_length": chosen.chunk_length}
    worse = False
    for name in chosen.models.split(","):
        model = max_whisper.load_model(name)
        print(name)
        rates = []
        for options in ({}, batch):
            counts = [
                errors(model, audio, options, shift * SHIFT)
                for audio in chosen.audio
                for shift in range(chosen.shifts)
            ]
            rates.append(100 * sum(wrong for wrong, _ in counts) / sum(words for _, words in counts))
        print(f"{name}: {rates[0]:.2f} % sequential, {rates[1]:.2f} % in a batch")
        worse = worse or rates[1] > rates[0] + ALLOWED
    sys.exit(worse)


if __name__ == "__main__":
    main()
