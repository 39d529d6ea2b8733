"""How many words are made up where nobody speaks: with the voice activity filter, without, and beside
openai-whisper.

    python -m benchmarks.silence --model base --python openai-whisper=~/openai/bin/python

All options are the defaults, English is given. openai-whisper, which is slow at this, hears the beginning
of each sound, and so does max-whisper once more.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import with_json
from benchmarks.sounds import SOUNDS
from max_whisper.audio import SAMPLE_RATE
from max_whisper.checkpoints import load_checkpoint
from max_whisper.parity.exchange import checkpoint_for

VAD, LONG, SHORT, OPENAI = "with vad_filter", "without", "without, beginning", "openai-whisper, beginning"


def words(text: str) -> int:
    """How many words a text has; marks alone are none."""
    return sum(any(map(str.isalnum, word)) for word in text.split())


def table(counts: Mapping[str, Mapping[str, int]], minutes: float, beginning: float) -> str:
    """Words of each sound in each way to hear it, as Markdown."""
    ways = list(counts)
    lengths = {way: beginning if way in (SHORT, OPENAI) else minutes for way in ways}
    head = " | ".join(f"{way}, {lengths[way]:g} min" for way in ways)
    lines = [f"| words in | {head} |", "|---|" + "---:|" * len(ways)]
    lines += [
        f"| {sound} | " + " | ".join(str(counts[way][sound]) for way in ways) + " |" for sound in SOUNDS
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="base")
    parser.add_argument("--precision", default="float32", help="of max-whisper")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=30, help="of each sound")
    parser.add_argument("--beginning", type=float, default=3, help="minutes that openai-whisper hears")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--json", type=Path, help="also write the texts here")
    args = parser.parse_args()
    pythons = {"max-whisper": sys.executable, **dict(given.split("=", 1) for given in args.python)}
    heard: dict[str, Sequence[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        paths: dict[str, list[str]] = {"whole": [], "beginning": []}
        for number, make in enumerate(SOUNDS.values()):
            samples = make(60 * args.minutes)
            for part, minutes in (("whole", args.minutes), ("beginning", args.beginning)):
                path = Path(folder) / f"{number}-{part}.npy"
                np.save(path, samples[: round(60 * minutes * SAMPLE_RATE)])
                paths[part].append(str(path))
        job = {
            "model": args.model,
            "arrays": checkpoint_for("openai-cpu", load_checkpoint(args.model), Path(folder)),
            "precision": args.precision,
            "threads": args.threads,
        }
        for way, engine, part, options in (
            (VAD, "max-whisper", "whole", {"vad_filter": True}),
            (LONG, "max-whisper", "whole", {}),
            (SHORT, "max-whisper", "beginning", {}),
            (OPENAI, "openai-whisper", "beginning", {"fp16": False, "verbose": None}),
        ):
            if engine in pythons:
                one = {**job, "engine": engine, "options": options, "recordings": paths[part]}
                heard[way] = with_json(Path(pythons[engine]), "silence.py", one, args.threads)
                print(f"{way}: {sum(each['seconds'] for each in heard[way]):.0f} s", file=sys.stderr)
    counts = {
        way: {sound: words(result["text"]) for sound, result in zip(SOUNDS, results)}
        for way, results in heard.items()
    }
    print(f"{args.model}, {args.precision}\n\n{table(counts, args.minutes, args.beginning)}")
    if args.json:
        texts = {way: dict(zip(SOUNDS, results)) for way, results in heard.items()}
        args.json.write_text(json.dumps({"model": args.model, "heard": texts}, indent=1) + "\n")
    return 1 if any(result["text"] for result in heard[VAD]) else 0


if __name__ == "__main__":
    sys.exit(main())
