"""Silence in which a model hears what nobody said, and how it is skipped.

With word times, invented speech shows: its words are improbable, too short or too long. Where such a
segment stands between silences, or among its like, the recording is heard again from a later point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from max_whisper.transcribe.options import APPEND_PUNCTUATIONS, FRAMES_PER_SECOND, PREPEND_PUNCTUATIONS
from max_whisper.transcribe.segments import Segment, Word

WINDOW_SECONDS = 30.0
PUNCTUATION = PREPEND_PUNCTUATIONS + APPEND_PUNCTUATIONS


@dataclass(frozen=True)
class Heard:
    """A window's segments (None: as if it had not been heard), and the frame to go on from."""

    segments: list[Segment] | None
    seek: int


@dataclass(frozen=True)
class Place:
    """Where a window stands.

    Attributes:
        seek: Its first frame.
        size: How many frames of speech it has.
        frames: How many the recording has.
        last_speech: When the last word before it ended, in seconds.
        closed: Whether nothing was said after its last timestamp.
    """

    seek: int
    size: int
    frames: int
    last_speech: float
    closed: bool

    @property
    def start(self) -> float:
        """In seconds."""
        return self.seek / FRAMES_PER_SECOND

    @property
    def end(self) -> float:
        """Where a whole window would end, in seconds."""
        return (self.seek + int(WINDOW_SECONDS * FRAMES_PER_SECOND)) / FRAMES_PER_SECOND


def skip_silence(heard: Heard, place: Place, threshold: float) -> Heard:
    """Skips silences of more than ``threshold`` seconds where what is heard in them looks invented."""
    segments = heard.segments or []
    heard = _go_on_after_last_word(heard, segments, place, threshold)
    first = _with_words(segments)
    if first is not None and is_anomaly(first):
        gap = first.start - place.start
        if gap > threshold:
            return Heard(None, place.seek + round(gap * FRAMES_PER_SECOND))
    last_end = place.last_speech
    for i, segment in enumerate(segments):
        if not segment.words:
            continue
        if _stands_alone(segments, i, last_end, place, threshold):
            seek = round(max(place.start + 1, segment.start) * FRAMES_PER_SECOND)
            if place.frames / FRAMES_PER_SECOND - segment.end < threshold:
                seek = place.frames
            return Heard(segments[:i], seek)
        last_end = segment.end
    return heard


def is_anomaly(segment: Segment | None) -> bool:
    """Whether a segment's first words look invented."""
    if segment is None or not segment.words:
        return False
    words = [word for word in segment.words if word.word not in PUNCTUATION][:8]
    score = sum(_strangeness(word) for word in words)
    return score >= 3 or score + 0.01 >= len(words)


def last_word_end(segments: Sequence[Segment]) -> float:
    """When the last word of all ends; the last segment if there are no words; -1 for no segments."""
    for segment in reversed(segments):
        if segment.words:
            return segment.words[-1].end
    return segments[-1].end if segments else -1.0


def _strangeness(word: Word) -> float:
    """Words are strange that are improbable, too short or too long."""
    duration = word.end - word.start
    score = 1.0 if word.probability < 0.15 else 0.0
    if duration < 0.133:
        score += (0.133 - duration) * 15
    if duration > 2.0:
        score += duration - 2.0
    return score


def _go_on_after_last_word(
    heard: Heard, segments: Sequence[Segment], place: Place, threshold: float
) -> Heard:
    """Goes on after the last word if a long silence follows it in the window, else after the window."""
    end = last_word_end(segments)
    if place.closed or end <= place.start:
        return heard
    if place.end - end > threshold:
        return replace(heard, seek=round(end * FRAMES_PER_SECOND))
    return replace(heard, seek=place.seek + place.size)


def _stands_alone(
    segments: Sequence[Segment], i: int, last_end: float, place: Place, threshold: float
) -> bool:
    """Whether a segment looks invented and has silence, or more of its kind, on both sides."""
    segment = segments[i]
    if not is_anomaly(segment):
        return False
    following = _with_words(segments[i + 1 :])
    following_start = (
        following.words[0].start
        if following is not None and following.words
        else place.start + place.size / FRAMES_PER_SECOND
    )
    before = (
        segment.start - last_end > threshold or segment.start < threshold or segment.start - place.start < 2
    )
    after = following_start - segment.end > threshold or is_anomaly(following) or place.end - segment.end < 2
    return before and after


def _with_words(segments: Sequence[Segment]) -> Segment | None:
    return next((segment for segment in segments if segment.words), None)
