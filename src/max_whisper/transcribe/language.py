"""What language is spoken: over the first windows of a recording, among those that are expected."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from max_whisper.decoding.requests import Encode, Release, Request, Steps
from max_whisper.decoding.window import detect_language
from max_whisper.errors import OptionError
from max_whisper.spectrogram import Mel
from max_whisper.tokenizer import language_code
from max_whisper.transcribe.segments import Event, Language

if TYPE_CHECKING:
    from max_whisper.tokenizer import Tokenizer

#: Mel frames in a window of 30 seconds.
WINDOW_FRAMES = 3000


@dataclass(frozen=True)
class Detection:
    """How the language of a recording is found; names and defaults are faster-whisper's.

    Attributes:
        languages: Codes; the language is one of these. All of the model's if there are none.
        segments: How many windows of 30 s are heard at most.
        threshold: A language with a higher probability than this is taken at once. Where no
            window has one, the language is the one that most windows have. None asks all windows.
        in_clips: Whether the first window is the first clip's, rather than the recording's.
    """

    languages: tuple[str, ...] = ()
    segments: int = 1
    threshold: float | None = 0.5
    in_clips: bool = False

    def among(self, probabilities: Mapping[str, float]) -> dict[str, float]:
        """The probabilities of the expected languages, which sum to 1.

        Raises:
            OptionError: The model does not know one of them.
        """
        if not self.languages:
            return dict(probabilities)
        for code in self.languages:
            if code not in probabilities:
                raise OptionError(f"this model does not know the language {code!r} of languages")
        total = sum(probabilities[code] for code in self.languages)
        if not total:
            return {code: 1 / len(self.languages) for code in self.languages}
        return {code: probabilities[code] / total for code in self.languages}


def detection_options(
    languages: str | Sequence[str] | None, segments: int, threshold: float | None
) -> Detection:
    """What the arguments of :func:`~max_whisper.transcribe.options.transcribe_options` mean.

    Raises:
        OptionError: For an unknown language, or numbers out of range.
    """
    given = languages.split(",") if isinstance(languages, str) else languages or ()
    codes = tuple(dict.fromkeys(language_code(language.strip()) for language in given))
    if segments < 1:
        raise OptionError(f"language_detection_segments is {segments}; it must be at least 1")
    if threshold is not None and not 0 <= threshold <= 1:
        raise OptionError(f"language_detection_threshold is {threshold}; it must be from 0 to 1")
    return Detection(codes, segments, threshold)


def spoken_in(window: int, tokenizer: Tokenizer, detection: Detection) -> Steps[Language]:
    """The language of an encoded window."""
    _, found = yield from detect_language(window, tokenizer)
    probabilities = detection.among(found)
    code = max(probabilities, key=probabilities.__getitem__)
    return Language(code, probabilities[code], probabilities=probabilities)


def spoken_language(
    mel: Mel,
    tokenizer: Tokenizer,
    clips: Sequence[tuple[int, int]],
    detection: Detection,
) -> Generator[Request | Event, Any, tuple[Language, int | None]]:
    """The language of a recording, and the encoding of its first window if that was heard whole.

    A short recording's is not: here silence follows as log-mel has it, in its window as zeros.

    Args:
        mel: (n_mels, frames + 3000) float32.
        tokenizer: One of the model's.
        clips: (start, end) frames that are to be transcribed.
        detection: How.
    """
    frames = mel.shape[1] - WINDOW_FRAMES
    first = clips[0][0] if detection.in_clips and clips and clips[0][0] < frames else 0
    kept: int | None = None
    heard: list[Language] = []
    for number in range(detection.segments):
        start = first + number * WINDOW_FRAMES
        if number and start >= frames:
            break
        window: int = yield Encode(np.ascontiguousarray(mel[:, start : start + WINDOW_FRAMES]))
        heard.append((yield from spoken_in(window, tokenizer, detection)))
        if number == 0 and detection.segments == 1 and clips and _is_heard_whole(clips[0], start):
            kept = window
        else:
            yield Release(window=window)
        if detection.threshold is not None and heard[-1].probability > detection.threshold:
            return heard[-1], kept
    return _majority(heard), kept


def _is_heard_whole(clip: tuple[int, int], start: int) -> bool:
    return clip[0] == start and clip[1] - start >= WINDOW_FRAMES


def _majority(heard: Sequence[Language]) -> Language:
    """The language of most windows, with its highest probability; the first one of several."""
    votes: dict[str, list[Language]] = {}
    for language in heard:
        votes.setdefault(language.code, []).append(language)
    most = max(votes.values(), key=len)
    return max(most, key=lambda language: language.probability)
