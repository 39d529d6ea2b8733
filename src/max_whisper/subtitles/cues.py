"""What is on the screen at once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from max_whisper.errors import OptionError
from max_whisper.subtitles.clauses import by_clauses
from max_whisper.subtitles.filling import by_filling
from max_whisper.subtitles.layout import SubtitleLayout
from max_whisper.subtitles.pace import Timed, misses, paced, pieces

Result = Mapping[str, Any]
Word = Mapping[str, Any]


@dataclass(frozen=True)
class Cue:
    """One subtitle.

    Attributes:
        start: When it appears, in seconds.
        end: When it disappears.
        plain: Its text, where its words have no times, or where none is said.
        words: Its words otherwise, with their times; the first of a line but the first begins with
            a line break.
        marked: Which of the words is being said, if that is to be shown.
        speaker: Who says it.
    """

    start: float
    end: float
    plain: str = ""
    words: tuple[Word, ...] = ()
    marked: int | None = None
    speaker: str | None = None

    @property
    def label(self) -> str:
        """What stands before the text: the speaker, if there is one."""
        return labelled(self.speaker, "")

    @property
    def text(self) -> str:
        """The text without the speaker."""
        return "".join(word["word"] for word in self.words) or self.plain


def labelled(speaker: str | None, text: str) -> str:
    """A text with the name of who says it, if there is one."""
    return text if speaker is None else f"{speaker}: {text}"


def subtitle_cues(result: Result, layout: SubtitleLayout) -> list[Cue]:
    """The subtitles of a result as ``transcribe`` returns it, without highlights.

    Raises:
        OptionError: The layout needs the times of words, and the result has none.
    """
    segments = result["segments"]
    if layout.needs_words and any("words" not in segment for segment in segments):
        raise OptionError(
            "subtitles that break at clauses or keep to times need the times of words: "
            "transcribe with word_timestamps"
        )
    if not segments or "words" not in segments[0]:
        return [_plain(segment) for segment in segments]
    cues = _with_words(segments, layout, result.get("language"))
    if layout.is_paced:
        times = paced([_timed(cue) for cue in cues], layout)
        cues = [replace(cue, start=start, end=end) for cue, (start, end) in zip(cues, times)]
    return cues


def highlighted(cues: Sequence[Cue]) -> list[Cue]:
    """One cue a word with that word marked, and plain ones for the time between."""
    return [marked for cue in cues for marked in (_marked(cue) if cue.words else [cue])]


def missed_limits(cues: Sequence[Cue], layout: SubtitleLayout) -> list[str]:
    """What limits of time the subtitles of a layout could not keep to, in words.

    Args:
        cues: As :func:`subtitle_cues` made them.
        layout: Of the same layout.
    """
    if not layout.is_paced:
        return []
    return misses([_timed(cue) for cue in cues], layout)


def _plain(segment: Mapping[str, Any]) -> Cue:
    # "-->" between the times is what marks a cue
    text = segment["text"].strip().replace("-->", "->")
    return Cue(segment["start"], segment["end"], text, speaker=segment.get("speaker"))


def _with_words(
    segments: Sequence[Mapping[str, Any]], layout: SubtitleLayout, language: str | None
) -> list[Cue]:
    """The words of each turn of a speaker, set in cues that have the times of their words."""
    turns = [(who, list(turn)) for who, turn in groupby(segments, lambda segment: segment.get("speaker"))]
    cues = []
    for number, (speaker, turn) in enumerate(turns):
        lead = len(labelled(speaker, ""))
        groups: Iterable[Sequence[Word]]
        if layout.break_at_clauses:
            after = [segment["start"] for _, later in turns[number + 1 : number + 2] for segment in later]
            words = [word for segment in turn for word in segment["words"]]
            groups = by_clauses(words, layout, language, lead, after[0] if after else None)
        else:
            groups = by_filling(turn, layout, lead)
            if layout.max_cue_duration is not None:
                groups = [piece for group in groups for piece in pieces(group, layout.max_cue_duration)]
        cues += [
            Cue(group[0]["start"], group[-1]["end"], words=tuple(group), speaker=speaker) for group in groups
        ]
    return cues


def _timed(cue: Cue) -> Timed:
    return Timed(cue.start, cue.end, len(cue.label) + len(cue.text), cue.speaker)


def _marked(cue: Cue) -> Iterator[Cue]:
    between = replace(cue, plain=cue.text, words=())
    shown = cue.start
    limit = cue.end if cue.end < cue.words[-1]["end"] else math.inf
    for index, word in enumerate(cue.words):
        start, end = min(word["start"], limit), min(word["end"], limit)
        if not _same(start, shown):
            yield replace(between, start=shown, end=start)
        yield replace(cue, start=start, end=end, marked=index)
        shown = end
    if shown < cue.end and not _same(shown, cue.end):
        yield replace(between, start=shown, end=cue.end)


def _same(one: float, other: float) -> bool:
    """Whether two times are the same in a file, which has milliseconds."""
    return round(one * 1000) == round(other * 1000)
