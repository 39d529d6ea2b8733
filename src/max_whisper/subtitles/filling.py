"""Words in lines and subtitles as openai-whisper sets them: each is filled up before the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from max_whisper.subtitles.layout import SubtitleLayout

Word = Mapping[str, Any]

_LONG_PAUSE = 3.0  # seconds of silence after which a subtitle that fills lines freely is ended
_UNLIMITED = 1000  # openai-whisper's stand-in for "no limit"


def by_filling(
    segments: Sequence[Mapping[str, Any]], layout: SubtitleLayout, lead: int = 0
) -> Iterator[list[Word]]:
    """Sets the words of segments in subtitles: a list of words each, line breaks in front of some.

    Args:
        segments: Segments with words, of one speaker.
        layout: Width, lines and words.
        lead: How many characters of the first line of each subtitle are taken.
    """
    by_segment = layout.max_line_count is None or layout.max_line_width is None
    width = layout.max_line_width or _UNLIMITED
    subtitle: list[Word] = []
    used, lines = 0, 1
    previous = _first_start(segments)
    for word, opens_group in _grouped(segments, layout.max_words_per_line or _UNLIMITED):
        text = word["word"]
        pause = not by_segment and word["start"] - previous > _LONG_PAUSE
        breaks = by_segment and opens_group and bool(subtitle)
        room = width - (lead if lines == 1 else 0)
        if used and used + len(text) <= room and not pause and not breaks:
            used += len(text)
        else:
            text = text.strip()
            full = layout.max_line_count is not None and (pause or lines >= layout.max_line_count)
            if breaks or (subtitle and full):
                yield subtitle
                subtitle, lines = [], 1
            elif used:
                lines += 1
                text = "\n" + text
            used = len(text.strip())
        subtitle.append({**word, "word": text})
        previous = word["start"]
    if subtitle:
        yield subtitle


def _first_start(segments: Sequence[Mapping[str, Any]]) -> float:
    starts = (word["start"] for segment in segments for word in segment["words"])
    return float(next(starts, segments[0]["start"]))


def _grouped(segments: Sequence[Mapping[str, Any]], size: int) -> Iterator[tuple[Word, bool]]:
    """All words, and whether each is the first of a group of ``size`` in its segment."""
    for segment in segments:
        for index, word in enumerate(segment["words"]):
            yield word, index % size == 0
