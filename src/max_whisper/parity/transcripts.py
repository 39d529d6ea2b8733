"""Two transcripts: the first token that differs, the words, and the error rate."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from max_whisper.normalizers import BasicTextNormalizer, EnglishTextNormalizer

Result = Mapping[str, Any]


def tokens_of(result: Result) -> list[int]:
    """All token ids of a result, timestamps among them."""
    return [token for segment in result["segments"] for token in segment["tokens"]]


def normalised(text: str, language: str | None) -> list[str]:
    """The words that an error rate counts, by Whisper's normaliser for the language."""
    normalise = EnglishTextNormalizer() if language in ("en", None) else BasicTextNormalizer()
    return str(normalise(text)).split()


def edit_distance(expected: Sequence[str], found: Sequence[str]) -> int:
    """Insertions, deletions and substitutions from one sequence of words to the other."""
    codes = {word: code for code, word in enumerate(dict.fromkeys([*expected, *found]))}
    target = np.array([codes[word] for word in found], dtype=np.int64)
    steps = np.arange(len(found) + 1)
    row = steps.copy()
    for count, word in enumerate(expected, start=1):
        changed = np.empty_like(row)
        changed[0] = count
        changed[1:] = np.minimum(row[1:] + 1, row[:-1] + (target != codes[word]))
        # An insertion costs one a step to the right: the running minimum of what is left of it.
        row = np.minimum.accumulate(changed - steps) + steps
    return int(row[-1])


def word_error_rate(expected: str, found: str, language: str | None) -> float:
    """Edits over the expected words; 0 where both are empty, and infinite where only one is."""
    words = normalised(expected, language), normalised(found, language)
    edits = edit_distance(*words)
    if not words[0]:
        return float("inf") if edits else 0.0
    return edits / len(words[0])


@dataclass(frozen=True)
class TokenDifference:
    """Where two sequences of tokens part."""

    position: int
    expected: int | None
    found: int | None

    def __str__(self) -> str:
        """For people."""
        return f"token {self.position}: {self.found}, the reference has {self.expected}"


def first_difference(expected: Sequence[int], found: Sequence[int]) -> TokenDifference | None:
    """The first position at which the sequences differ; None where they are equal."""
    for position in range(max(len(expected), len(found))):
        pair = tuple(side[position] if position < len(side) else None for side in (expected, found))
        if pair[0] != pair[1]:
            return TokenDifference(position, *pair)
    return None


def marked(expected: str, found: str) -> list[tuple[str, str, str]]:
    """The texts word by word, as (``equal`` or ``replace``, expected words, found words)."""
    sides = expected.split(), found.split()
    matcher = difflib.SequenceMatcher(a=sides[0], b=sides[1], autojunk=False)
    return [
        ("equal" if kind == "equal" else "replace", " ".join(sides[0][a:b]), " ".join(sides[1][c:d]))
        for kind, a, b, c, d in matcher.get_opcodes()
    ]


def stopped_early(expected: Result, found: Result) -> str | None:
    """Whether one side leaves windows out that the reference hears; says where it stops."""
    seeks = [max((s["seek"] for s in side["segments"]), default=-1) for side in (expected, found)]
    if seeks[0] == seeks[1] or -1 in seeks:
        return None
    ends = [max(segment["end"] for segment in side["segments"]) for side in (expected, found)]
    if ends[1] >= ends[0] - 1.0:
        return None
    return (
        f"our last window starts at {seeks[1] / 100:.2f} s and its text ends at {ends[1]:.2f} s; the "
        f"reference goes on to a window at {seeks[0] / 100:.2f} s and ends at {ends[0]:.2f} s"
    )


@dataclass(frozen=True)
class Comparison:
    """One backend's transcript against the reference's; ``error`` in place of all else where it failed.

    Attributes:
        backend: Its name.
        text: Its text.
        characters: The text's length.
        length_ratio: That over the reference's length.
        word_error_rate: Against the reference.
        transcript_error_rate: Against the given transcript, if one was given.
        tokens: How many tokens it has; None where the backend tells none.
        difference: The first token that differs from the reference's.
        stops: Where it stops before the reference.
        load_seconds: To a loaded model.
        seconds: Of the transcription.
        rtfx: Seconds of speech a second.
        peak_bytes: Greatest resident memory of its process.
    """

    backend: str
    error: str | None = None
    text: str | None = None
    characters: int | None = None
    length_ratio: float | None = None
    word_error_rate: float | None = None
    transcript_error_rate: float | None = None
    tokens: int | None = None
    difference: TokenDifference | None = None
    stops: str | None = None
    load_seconds: float | None = None
    seconds: float | None = None
    rtfx: float | None = None
    peak_bytes: int | None = None

    @property
    def same_tokens(self) -> bool | None:
        """Whether all tokens equal the reference's; None where that is not known."""
        return None if self.tokens is None else self.difference is None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**asdict(self), "same_tokens": self.same_tokens}


def compare_transcripts(
    backend: str, reference: Result, found: Result, *, language: str | None, transcript: str | None = None
) -> Comparison:
    """Measures a transcript; times and memory are for the caller to add."""
    text, expected = found["text"], reference["text"]
    tokens = tokens_of(found)
    known = bool(tokens) and bool(tokens_of(reference))
    return Comparison(
        backend,
        text=text,
        characters=len(text),
        length_ratio=len(text) / len(expected) if expected else None,
        word_error_rate=word_error_rate(expected, text, language),
        transcript_error_rate=None if transcript is None else word_error_rate(transcript, text, language),
        tokens=len(tokens) if known else None,
        difference=first_difference(tokens_of(reference), tokens) if known else None,
        stops=stopped_early(reference, found),
    )
