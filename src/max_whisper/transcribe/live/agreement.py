"""Words of hypotheses, and how far two of them agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from max_whisper.transcribe.segments import Word
from max_whisper.transcribe.words import SENTENCE_END_MARKS, WordTiming, merge_punctuations


@dataclass(frozen=True)
class HeardWord:
    """A word of a hypothesis with the punctuation that clings to it; times in seconds of the stream."""

    word: str
    tokens: tuple[int, ...]
    start: float
    end: float
    probability: float

    @property
    def ends_sentence(self) -> bool:
        """Whether a sentence may end with it."""
        return self.word.rstrip("\"'”)]}").endswith(tuple(SENTENCE_END_MARKS))

    def told(self) -> Word:
        """The word as events have it."""
        return Word(self.word, self.start, self.end, self.probability)


def after_tokens(timings: Sequence[WordTiming], count: int) -> list[WordTiming]:
    """The words of a window's text but those of its first ``count`` tokens."""
    starts = accumulate((len(timing.tokens) for timing in timings), initial=0)
    return [timing for timing, start in zip(timings, starts) if start >= count]


def placed(
    timings: Sequence[WordTiming], offset: float, bounds: tuple[float, float], prepended: str, appended: str
) -> list[HeardWord]:
    """The words of a window, in the stream.

    Args:
        timings: All words of the window's text in order; punctuation is merged in place.
        offset: When the window begins, in seconds.
        bounds: Words begin and end within these seconds, and none before the one before it.
        prepended: Marks that join the word after them.
        appended: Marks that join the word before them.
    """
    timings = list(timings)
    merge_punctuations(timings, prepended, appended)
    earliest, latest = bounds
    words = []
    for timing in timings:
        if not timing.tokens:
            continue
        start = min(max(offset + timing.start, earliest), latest)
        end = min(max(offset + timing.end, start), latest)
        earliest = end
        words.append(
            HeardWord(timing.word, tuple(timing.tokens), round(start, 3), round(end, 3), timing.probability)
        )
    return words


def agreeing(before: Sequence[HeardWord], now: Sequence[HeardWord]) -> int:
    """How many words at the start of two hypotheses are the same (LocalAgreement-2).

    Case and punctuation may differ, and are then those of the later one; but for its last word,
    where a hypothesis ends a sentence for no better reason than that the audio ends.

    Args:
        before: What was heard the last time.
        now: What is heard now, with more audio.
    """
    last = len(now) - 1
    for i, (earlier, later) in enumerate(zip(before, now)):
        same = earlier.word == later.word or (i < last and _bare(earlier.word) == _bare(later.word) != "")
        if not same:
            return i
    return min(len(before), len(now))


def _bare(word: str) -> str:
    return "".join(c for c in word.casefold() if c.isalnum())
