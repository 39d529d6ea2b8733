"""Agreed words to segments: a line of a transcript or a subtitle each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from max_whisper.decoding.options import compression_ratio
from max_whisper.transcribe.live.agreement import HeardWord
from max_whisper.transcribe.segments import Segment

#: A pause (seconds) that ends a segment, and the length at which one ends between any two words.
LONG_PAUSE = 1.5
LONGEST = 12.0
_FRAMES_PER_SECOND = 100


class Sentences:
    """Gathers agreed words until a sentence is complete.

    One is known to be complete when the next word begins and is not written small, after a long
    pause, and where the utterance ends.
    """

    def __init__(self) -> None:
        self._count = 0
        self._words: list[HeardWord] = []
        self._scores = (0.0, 0.0)

    def add(self, words: Sequence[HeardWord], avg_logprob: float, no_speech_prob: float) -> list[Segment]:
        """Takes words over; returns the segments that they complete.

        Args:
            words: Agreed words, in order.
            avg_logprob: Of the hearing that they come from.
            no_speech_prob: Likewise.
        """
        self._scores = (avg_logprob, no_speech_prob)
        done = []
        for word in words:
            if self._words and self._begins_another(word):
                done.append(self._close())
            if self._words and _is_mark(word.word):
                self._words.append(_joined(self._words.pop(), word))
            else:
                self._words.append(word)
        return done

    def end(self) -> list[Segment]:
        """The utterance ends: the rest is a segment."""
        return [self._close()] if self._words else []

    def _begins_another(self, word: HeardWord) -> bool:
        last = self._words[-1]
        text = word.word.strip()
        return (
            (last.ends_sentence and not text[:1].islower())
            or word.start - last.end >= LONG_PAUSE
            or word.end - self._words[0].start > LONGEST
        )

    def _close(self) -> Segment:
        words, self._words = self._words, []
        text = "".join(word.word for word in words)
        avg_logprob, no_speech_prob = self._scores
        number, self._count = self._count, self._count + 1
        return Segment(
            id=number,
            seek=round(words[0].start * _FRAMES_PER_SECOND),
            start=words[0].start,
            end=words[-1].end,
            text=text,
            tokens=tuple(token for word in words for token in word.tokens),
            temperature=0.0,
            avg_logprob=avg_logprob,
            compression_ratio=compression_ratio(text),
            no_speech_prob=no_speech_prob,
            words=tuple(word.told() for word in words),
        )


def _is_mark(text: str) -> bool:
    """Whether it is punctuation that clings to the word before it."""
    return not text.startswith(" ") and not any(c.isalnum() for c in text)


def _joined(word: HeardWord, mark: HeardWord) -> HeardWord:
    return replace(word, word=word.word + mark.word, tokens=word.tokens + mark.tokens)
