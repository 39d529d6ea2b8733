"""How long subtitles stay: time to read them, without covering the next one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from max_whisper.subtitles.layout import SubtitleLayout

Word = Mapping[str, Any]

_ROUNDING = 1e-3  # seconds: files have milliseconds


@dataclass(frozen=True)
class Timed:
    """What matters of a subtitle here: when its words are said, its characters, and who speaks."""

    start: float
    end: float
    length: int
    speaker: str | None = None


def reading_time(length: int, layout: SubtitleLayout) -> float:
    """The seconds for which so many characters should stay, however long they may."""
    needed = length / layout.max_chars_per_second if layout.max_chars_per_second else 0.0
    return max(needed, layout.min_cue_duration or 0.0)


def pieces(words: Sequence[Word], longest: float) -> Iterator[list[Word]]:
    """Cuts a subtitle where it gets longer than it may be; a word that is longer stays whole."""
    piece: list[Word] = []
    for word in words:
        if piece and word["end"] - piece[0]["start"] > longest:
            yield piece
            piece = []
        piece.append({**word, "word": word["word"].lstrip()} if not piece else word)
    if piece:
        yield piece


def paced(cues: Sequence[Timed], layout: SubtitleLayout) -> list[tuple[float, float]]:
    """When subtitles appear and disappear so that they keep to the layout's limits.

    They appear when their first word is said, whatever the limits are. They stay longer where
    there is time before the next one, and go earlier where it needs its gap or they would stay too
    long. Who speaks at the same time as another is on the screen at the same time.

    Args:
        cues: In order of their starts.
        layout: The limits.
    """
    gap = layout.min_cue_gap or 0.0
    times = []
    for number, cue in enumerate(cues):
        own, others = _next_starts(cues, number)
        latest = cue.start + (layout.max_cue_duration or math.inf)
        end = min(cue.end, latest)
        # Where two are said within the gap, it is given up rather than the first of them.
        end = min(end, own - gap if own - gap > cue.start else own)
        free = min(own, others) - gap
        wanted = min(cue.start + reading_time(cue.length, layout), latest)
        times.append((cue.start, max(end, min(wanted, free))))
    return times


def _next_starts(cues: Sequence[Timed], number: int) -> tuple[float, float]:
    """When the same speaker's next subtitle appears, and another's that is not there already."""
    own = others = math.inf
    for later in cues[number + 1 :]:
        if later.speaker == cues[number].speaker:
            own = later.start
            break
        if later.start > cues[number].start:
            others = min(others, later.start)
    return max(own, cues[number].start), others


def misses(cues: Sequence[Timed], layout: SubtitleLayout) -> list[str]:
    """What the subtitles could not be given, in words; empty where all limits hold.

    Args:
        cues: With the times that they have in the end.
        layout: The limits.
    """
    told = []
    rates = [cue.length / max(cue.end - cue.start, _ROUNDING) for cue in cues]
    limit = layout.max_chars_per_second or math.inf
    if fast := [
        rate for rate, cue in zip(rates, cues) if cue.length / limit > cue.end - cue.start + _ROUNDING
    ]:
        told.append(
            f"{len(fast)} of {len(cues)} subtitles need more than {limit:g} characters a second, "
            f"up to {max(fast):.0f}: they are said that fast"
        )
    shortest = layout.min_cue_duration or 0.0
    if short := [cue.end - cue.start for cue in cues if cue.end - cue.start < shortest - _ROUNDING]:
        told.append(
            f"{len(short)} of {len(cues)} subtitles are shorter than {shortest:g} s, "
            f"down to {min(short):.2f} s: the next ones come too soon"
        )
    gap, close = layout.min_cue_gap or 0.0, 0
    for number, cue in enumerate(cues):
        close += 0 <= _next_starts(cues, number)[0] - cue.end < gap - _ROUNDING
    if close:
        told.append(f"{close} of {len(cues)} gaps are shorter than {gap:g} s: two words start in them")
    return told
