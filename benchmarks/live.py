"""Latency and accuracy of live transcription: python -m benchmarks.live --help.

A clip is fed at the pace at which it was spoken, on a clock that is advanced by hand: by the seconds
that computing takes, and to the next piece of audio where nothing is left to compute. So what is
measured is what a listener would have seen, and takes no longer than the computing.
"""

from __future__ import annotations

import argparse
import difflib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import jiwer
import numpy as np

from benchmarks.clips import DATA
from benchmarks.local_agreement import LocalAgreement
from max_whisper import Whisper, load_audio, load_model
from max_whisper.audio import SAMPLE_RATE
from max_whisper.normalizers import EnglishTextNormalizer
from max_whisper.transcribe.live import Agreed, StreamingTranscriber
from max_whisper.transcribe.segments import Word

PIECE = 0.1  # seconds: what a microphone hands over at a time
LIBRIVOX = sorted((DATA / "librivox").glob("*.flac"))
CLIPS = {
    "jfk": [DATA / "jfk.flac"],
    "librivox": LIBRIVOX,
    "prompts_en": [DATA / "prompts_en.flac"],
}


class Streaming(Protocol):
    """What is measured."""

    def feed(self, samples: np.ndarray) -> Sequence[Any]: ...

    def finish(self) -> Sequence[Any]: ...


@dataclass(frozen=True)
class Run:
    """What came of a clip: agreed words, the second at which each was told, and seconds computed."""

    words: list[Word]
    told: list[float]
    computed: float

    @property
    def text(self) -> str:
        return "".join(word.word for word in self.words)


def simulate(
    streaming: Streaming, samples: np.ndarray, clock: Callable[[], float] = time.perf_counter
) -> Run:
    """Feeds samples as time goes by: a piece when it has been spoken, all that waits when one is late."""
    words: list[Word] = []
    told: list[float] = []
    now = computed = 0.0
    fed, piece = 0, round(PIECE * SAMPLE_RATE)
    while True:
        now = max(now, min(fed + piece, len(samples)) / SAMPLE_RATE)
        there = min(int(now * SAMPLE_RATE + 0.5), len(samples))
        started = clock()
        events = streaming.feed(samples[fed:there]) if fed < len(samples) else streaming.finish()
        spent = clock() - started
        now, computed = now + spent, computed + spent
        for event in events:
            if isinstance(event, Agreed):
                words += event.words
                told += [now] * len(event.words)
        if fed == len(samples):
            return Run(words, told, computed)
        fed = there


def latencies(run: Run, offline: Sequence[Word]) -> list[float]:
    """Seconds from a word's end, by the offline transcript, to its being told; words that both have."""
    ours, theirs = [_bare(word.word) for word in run.words], [_bare(word.word) for word in offline]
    matcher = difflib.SequenceMatcher(None, ours, theirs, autojunk=False)
    return [
        run.told[block.a + i] - offline[block.b + i].end
        for block in matcher.get_matching_blocks()
        for i in range(block.size)
    ]


def _bare(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum())


def _word_errors(reference: str, text: str) -> float:
    normal = EnglishTextNormalizer()
    return float(100 * jiwer.wer(normal(reference), normal(text)))


@dataclass(frozen=True)
class Clip:
    name: str
    samples: np.ndarray
    offline: list[Word]


def _clip(model: Whisper, name: str, paths: Sequence[Path]) -> Clip:
    samples = np.concatenate([load_audio(path) for path in paths])
    found = model.transcribe(samples, language="en", word_timestamps=True)
    words = [Word(**word) for segment in found["segments"] for word in segment["words"]]
    return Clip(name, samples, words)


def _methods(model: Whisper, options: argparse.Namespace) -> Iterator[tuple[str, Callable[[], Streaming]]]:
    for chunk in options.chunks:
        ours = partial(StreamingTranscriber, model, language="en", min_chunk_size=chunk)
        yield f"max-whisper, {chunk:g} s", ours
        if options.vad:
            yield f"max-whisper, {chunk:g} s, VAD", partial(ours, vad_filter=True)
    for chunk in options.baseline_chunks:
        plain = partial(LocalAgreement, model, chunk, language="en", beam_size=options.beam)
        yield f"whisper_streaming's method, {chunk:g} s", plain


def row(name: str, clip: Clip, run: Run) -> str:
    seconds = len(clip.samples) / SAMPLE_RATE
    late = latencies(run, clip.offline)
    errors = _word_errors("".join(word.word for word in clip.offline), run.text)
    figures = [
        *(f"{value:.2f}" for value in (np.mean(late), np.median(late), np.percentile(late, 95))),
        f"{errors:.1f}",
        f"{run.computed / seconds:.2f}",
    ]
    return f"| {clip.name} | {name} | {' | '.join(figures)} |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.live", description=__doc__)
    add = parser.add_argument
    add("--models", nargs="+", default=["tiny.en", "base"])
    add("--precision", default="auto")
    add("--threads", type=int, default=0)
    add("--clips", nargs="+", default=list(CLIPS), help=f"of {', '.join(CLIPS)}, or files")
    add("--chunks", nargs="*", type=float, default=[0.5, 1.0], help="min_chunk_size of ours, several at once")
    add("--baseline-chunks", nargs="*", type=float, default=[1.0], help="the same of the plain method")
    add("--beam", type=int, help="beams of the plain method; greedy if not given")
    add("--vad", action="store_true", help="ours with voice activity detection, too")
    add("--texts", action="store_true", help="print the texts")
    options = parser.parse_args(arguments)
    for name in options.models:
        model = load_model(name, precision=options.precision, threads=options.threads)
        print(f"\n{name}, {options.precision}\n")
        print("| clip | method, chunk | mean s | median s | 95 % s | word errors % | RTF |")
        print("|---|---|---:|---:|---:|---:|---:|")
        for given in options.clips:
            clip = _clip(model, Path(given).stem, CLIPS.get(given, [Path(given)]))
            for method, make in _methods(model, options):
                run = simulate(make(), clip.samples)
                print(row(method, clip, run), flush=True)
                if options.texts:
                    print(run.text)
            if options.texts:
                print("offline:", "".join(word.word for word in clip.offline))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
