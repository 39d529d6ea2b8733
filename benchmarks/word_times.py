"""Word times of several engines against those that people have marked.

    python -m benchmarks.word_times RECORDING GRID TIER [RECORDING GRID TIER ...] --model base \
        --python openai-whisper=~/openai/bin/python --python stable-ts=~/stable/bin/python

A grid is a Praat TextGrid; its tier has the words. Every recording is aligned by itself, and then all of
them joined, several times over in different orders, with a second of silence between them: a long
recording whose word times are known. What is transcribed rather than aligned is compared where its words
are the marked ones.
"""

from __future__ import annotations

import argparse
import difflib
import json
import random
import re
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environments import BenchmarkError
from benchmarks.processes import with_json
from max_whisper.audio import load_audio
from max_whisper.checkpoints import load_checkpoint
from max_whisper.parity.exchange import checkpoint_for

RATE = 16000
#: How often the recordings come in the long one.
ROUNDS = 6
RUNS = (
    ("max-whisper", "align"),
    ("max-whisper", "transcribe"),
    ("max-whisper", "transcribe_fast"),
    ("openai-whisper", "align"),
    ("openai-whisper", "transcribe"),
    ("stable-ts", "align"),
)
#: What graders write for silence.
SILENCES = {"", "sil", "sp", "<p:>"}
Word = tuple[str, float, float]


@dataclass(frozen=True)
class Marked:
    """A recording and its words with their times in seconds."""

    samples: np.ndarray
    words: tuple[Word, ...]

    @property
    def text(self) -> str:
        return " ".join(word for word, _, _ in self.words)


def read_tier(path: Path, tier: str) -> list[Word]:
    """The intervals of one tier of a TextGrid, in the long or the short form.

    Raises:
        BenchmarkError: There is no such tier.
    """
    content = path.read_bytes()
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    # Both forms have the same strings and numbers in the same order, once the long one's names are gone.
    pairs = re.findall(r'"((?:[^"]|"")*)"|(?<![\w\[.])(-?\d+(?:\.\d+)?(?:e-?\d+)?)', text)
    values = iter([(string, number) for string, number in pairs][5:])
    names = []
    for kind, _ in values:
        name, _, _, count = (next(values) for _ in range(4))
        names.append(name[0])
        sizes = 3 if kind == "IntervalTier" else 2
        rows = [[next(values) for _ in range(sizes)] for _ in range(int(count[1]))]
        if name[0] == tier and kind == "IntervalTier":
            return [
                (word[0].replace('""', '"').strip(), float(start[1]), float(end[1]))
                for start, end, word in rows
            ]
    raise BenchmarkError(f"{path} has no tier of intervals {tier!r}; there are {', '.join(names)}")


def marked(recording: str, grid: str, tier: str) -> Marked:
    words = [word for word in read_tier(Path(grid), tier) if word[0].lower() not in SILENCES]
    return Marked(load_audio(recording), tuple(words))


def joined(clips: Sequence[Marked], rounds: int) -> Marked:
    """All clips one after the other, in a new order each time."""
    generator, pause = random.Random(1), np.zeros(RATE, np.float32)
    samples: list[np.ndarray] = []
    words: list[Word] = []
    for _ in range(rounds):
        for clip in generator.sample(clips, len(clips)):
            offset = sum(map(len, samples)) / RATE
            words += [(word, start + offset, end + offset) for word, start, end in clip.words]
            samples += [clip.samples, pause]
    return Marked(np.concatenate(samples), tuple(words))


def plain(word: str) -> str:
    return re.sub(r"[^\w']", "", word.lower())


def errors(expected: Sequence[Word], found: Iterable[Word]) -> tuple[list[float], list[float]]:
    """How far the starts and the ends of the words are off that both have, in seconds."""
    words = [word for word in found if plain(word[0])]
    texts = [plain(word) for word, _, _ in expected], [plain(word) for word, _, _ in words]
    starts, ends = [], []
    for i, j, size in difflib.SequenceMatcher(None, *texts, autojunk=False).get_matching_blocks():
        for known, told in zip(expected[i : i + size], words[j : j + size]):
            starts.append(abs(told[1] - known[1]))
            ends.append(abs(told[2] - known[2]))
    return starts, ends


def measure(clips: Sequence[Marked], results: Sequence[dict[str, Any]]) -> dict[str, float]:
    starts: list[float] = []
    ends: list[float] = []
    for clip, result in zip(clips, results):
        for into, part in zip((starts, ends), errors(clip.words, result["words"])):
            into += part
    return {
        "words": len(starts),
        "of": sum(len(clip.words) for clip in clips),
        "start_mean": float(np.mean(starts)),
        "start_p95": float(np.percentile(starts, 95)),
        "end_mean": float(np.mean(ends)),
        "end_p95": float(np.percentile(ends, 95)),
        "seconds": sum(result["seconds"] for result in results),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| engine | | recordings | words | start, mean | 95 % | end, mean | 95 % | took |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        if "error" in row:
            lines.append(
                f"| {row['engine']} | {row['method']} | {row['recordings']} | {row['error']} |||||| |"
            )
            continue
        times = " | ".join(
            f"{1000 * row[k]:.0f} ms" for k in ("start_mean", "start_p95", "end_mean", "end_p95")
        )
        lines.append(
            f"| {row['engine']} | {row['method']} | {row['recordings']} | {row['words']} of {row['of']} "
            f"| {times} | {row['seconds']:.1f} s |"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("marks", nargs="+", metavar="RECORDING GRID TIER")
    parser.add_argument("--model", default="base")
    parser.add_argument("--precision", default="float32", help="of max-whisper")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="of the recordings in the long one")
    parser.add_argument("--python", action="append", default=[], metavar="ENGINE=PATH")
    parser.add_argument("--only", metavar="ENGINE", action="append", help="in place of all engines")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    if len(args.marks) % 3:
        parser.error("a recording goes with a grid and the name of its tier")
    pythons = {"max-whisper": sys.executable, **dict(given.split("=", 1) for given in args.python)}
    clips = [marked(*args.marks[i : i + 3]) for i in range(0, len(args.marks), 3)]
    kinds = {"by itself": clips, "joined": [joined(clips, args.rounds)]}
    for name, several in kinds.items():
        seconds = sum(len(clip.samples) for clip in several) / RATE
        print(f"{name}: {len(several)} recordings, {seconds:.0f} s", file=sys.stderr)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        arrays = checkpoint_for("openai-cpu", load_checkpoint(args.model), Path(folder))
        for kind, several in kinds.items():
            recordings = []
            for number, clip in enumerate(several):
                path = Path(folder) / f"{kind}-{number}.npy".replace(" ", "-")
                np.save(path, clip.samples)
                recordings.append({"samples": str(path), "text": clip.text})
            for engine, method in RUNS:
                if engine not in pythons or (args.only and engine not in args.only):
                    continue
                job = {
                    "engine": engine,
                    "method": method,
                    "model": args.model,
                    "arrays": arrays,
                    "precision": args.precision,
                    "threads": args.threads,
                    "recordings": recordings,
                }
                row: dict[str, Any] = {
                    "engine": engine,
                    "method": method.replace("_", ", "),
                    "recordings": kind,
                }
                try:
                    results = with_json(Path(pythons[engine]), "word_times.py", job, args.threads)
                    row |= measure(several, results)
                except BenchmarkError as error:
                    row["error"] = str(error).strip().splitlines()[-1]
                rows.append(row)
    print(f"{args.model}, {args.precision}\n\n{table(rows)}")
    if args.json:
        args.json.write_text(json.dumps({"model": args.model, "rows": rows}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
