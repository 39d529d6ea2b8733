"""What word times and the voice activity filter cost, as shares of a transcription's time.

    python -m benchmarks.costs speech.flac --models tiny.en base --precisions float32 int8

Each way to transcribe runs a few times, in turns; within a run, what only the option in question does is
timed: reading the text anew and placing the words, or keeping what decoding has seen and placing them, or
looking for speech. Shares are medians of the runs. The filter's share is that of the whole run, in which
less is transcribed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any

from max_whisper import Whisper, load_audio, load_model
from max_whisper.audio import SAMPLE_RATE
from max_whisper.graph.runtime import MaxCandidates

PLAIN = {"language": "en", "temperature": 0.0, "condition_on_previous_text": False}
WAYS: dict[str, dict[str, Any]] = {
    "words": {"word_timestamps": True},
    "fast words": {"word_timestamps": "fast"},
    "voice activity": {"vad_filter": True},
}


class Clock:
    """Adds up the seconds that are spent in some places."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - began

        return timed

    def requests(self, work: Callable[..., Generator[Any, Any, Any]]) -> Callable[..., Any]:
        """Of a generator of requests: all up to its end, for nobody else has the model meanwhile."""

        def timed(*args: Any, **options: Any) -> Generator[Any, Any, Any]:
            began = time.perf_counter()
            result = yield from work(*args, **options)
            self.seconds += time.perf_counter() - began
            return result

        return timed


@contextmanager
def clocked() -> Iterator[Clock]:
    """Times what the options do; without them, nothing of it is called."""
    clock = Clock()
    recording = import_module("max_whisper.transcribe.recording")
    prepared = import_module("max_whisper.transcribe.prepared")
    places: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (recording, "find_alignment", clock.requests),
        (recording, "traced_alignment", clock.requests),
        (recording, "place_words", clock.function),
        (prepared, "speech_timestamps", clock.function),
    ]
    before = [(holder, name, getattr(holder, name)) for holder, name, _ in places]
    for holder, name, timed in places:
        setattr(holder, name, timed(getattr(holder, name)))
    try:
        yield clock
    finally:
        for holder, name, value in before:
            setattr(holder, name, value)


@contextmanager
def keeping_clocked(clock: Clock) -> Iterator[None]:
    """Times as well how queries are kept step by step, which only fast words do while they decode."""
    queries = MaxCandidates.queries
    MaxCandidates.queries = clock.function(queries)  # type: ignore[method-assign]
    try:
        yield
    finally:
        MaxCandidates.queries = queries  # type: ignore[method-assign]


def run(model: Whisper, samples: Any, way: str) -> tuple[float, float]:
    """Seconds that a transcription took, and those spent for the option."""
    with clocked() as clock:
        began = time.perf_counter()
        if way == "fast words":
            with keeping_clocked(clock):
                model.transcribe(samples, **PLAIN, **WAYS[way])
        else:
            model.transcribe(samples, **PLAIN, **WAYS[way])
        return time.perf_counter() - began, clock.seconds


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording")
    parser.add_argument("--models", nargs="+", default=["tiny.en", "base"])
    parser.add_argument("--precisions", nargs="+", default=["float32", "int8"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, help="of the recording's beginning, in place of all")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    args = parser.parse_args()
    samples = load_audio(args.recording)
    if args.seconds:
        samples = samples[: round(args.seconds * SAMPLE_RATE)]
    rows: list[dict[str, Any]] = []
    print(f"{len(samples) / SAMPLE_RATE:.0f} s of {Path(args.recording).name}\n")
    print("| model | precision | " + " | ".join(WAYS) + " |\n|---|---|" + "---:|" * len(WAYS))
    for name in args.models:
        for precision in args.precisions:
            model = load_model(name, precision=precision, threads=args.threads)
            for way in WAYS:
                run(model, samples[: 30 * SAMPLE_RATE], way)  # loads what is loaded late
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
            for _ in range(args.repeats):
                for way, times in found.items():
                    times.append(run(model, samples, way))
            shares = {way: median(spent / total for total, spent in times) for way, times in found.items()}
            rows.append({"model": name, "precision": precision, "shares": shares, "seconds": found})
            cells = [name, precision, *(f"{100 * shares[way]:.1f} %" for way in WAYS)]
            print(f"| {' | '.join(cells)} |", flush=True)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
