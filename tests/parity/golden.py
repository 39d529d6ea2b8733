"""What openai-whisper transcribes (scripts/make_reference.py), and what differs from it."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parent.parent / "data"
#: What must be equal: ids and text exactly, times in seconds, scores absolutely.
TIMES, SCORES = 0.01, 1e-3

Result = Mapping[str, Any]


def load(model: str, clip: str, directory: Path = DATA / "golden") -> dict[str, Any]:
    golden: dict[str, Any] = json.loads((directory / model / f"{clip}.json").read_text(encoding="utf-8"))
    return golden


def audio(clip: str) -> Path:
    """The recording of a clip: ``librivox-0870`` lies in a folder of its own."""
    if clip.startswith("librivox-"):
        return DATA / "librivox" / f"{clip.removeprefix('librivox-')}.flac"
    return DATA / f"{clip}.flac"


def differences(golden: Result, ours: Result) -> list[str]:
    """Every way in which a result is not the golden one, in words; empty where it is equal.

    Args:
        golden: One run of a golden file, with its ``segments`` and ``text``.
        ours: A result of ``transcribe``.
    """
    return [*_tokens(golden, ours), *_text(golden, ours), *_segments(golden, ours)]


def _tokens(golden: Result, ours: Result) -> Iterator[str]:
    expected, found = ([t for s in r["segments"] for t in s["tokens"]] for r in (golden, ours))
    matcher = difflib.SequenceMatcher(a=expected, b=found, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            before = expected[max(0, a - 3) : a]
            yield f"tokens from {a}: after {before} expected {expected[a:b]}, found {found[c:d]}"


def _text(golden: Result, ours: Result) -> Iterator[str]:
    if golden["text"] != ours["text"]:
        expected, found = golden["text"].split(" "), ours["text"].split(" ")
        matcher = difflib.SequenceMatcher(a=expected, b=found, autojunk=False)
        for kind, a, b, c, d in matcher.get_opcodes():
            if kind != "equal":
                yield f"text: expected {' '.join(expected[a:b])!r}, found {' '.join(found[c:d])!r}"
    if golden.get("language", ours["language"]) != ours["language"]:
        yield f"language: expected {golden['language']}, found {ours['language']}"


def _segments(golden: Result, ours: Result) -> Iterator[str]:
    if len(golden["segments"]) != len(ours["segments"]):
        yield f"segments: expected {len(golden['segments'])}, found {len(ours['segments'])}"
        return
    tolerances = {"start": TIMES, "end": TIMES, "avg_logprob": SCORES, "no_speech_prob": SCORES}
    for number, (expected, found) in enumerate(zip(golden["segments"], ours["segments"], strict=True)):
        where = f"segment {number} ({expected['start']:.2f} s)"
        if list(expected["tokens"]) != list(found["tokens"]):
            yield f"{where}: expected tokens {expected['tokens']}, found {found['tokens']}"
        for key in ("seek", "temperature", "text"):
            if expected[key] != found[key]:
                yield f"{where}: expected {key} {expected[key]!r}, found {found[key]!r}"
        for key, tolerance in tolerances.items():
            if not abs(expected[key] - found[key]) <= tolerance + 1e-9:
                yield f"{where}: expected {key} {expected[key]}, found {found[key]}"
        yield from _words(where, expected, found)


def _words(where: str, expected: Result, found: Result) -> Iterator[str]:
    """Words are (text, start, end, probability) in the golden files, dictionaries in a result."""
    texts = [word[0] for word in expected.get("words", ())], [w["word"] for w in found.get("words", ())]
    if texts[0] != texts[1]:
        yield f"{where}: expected words {texts[0]}, found {texts[1]}"
        return
    for (text, *values), word in zip(expected.get("words", ()), found.get("words", ()), strict=True):
        tolerances = {"start": TIMES, "end": TIMES, "probability": SCORES}
        for (key, tolerance), value in zip(tolerances.items(), values, strict=True):
            if not abs(value - word[key]) <= tolerance + 1e-9:
                yield f"{where}: {text!r} expected {key} {value}, found {word[key]}"
