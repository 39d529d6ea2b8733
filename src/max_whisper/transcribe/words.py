"""When each word is said, as openai-whisper finds it.

The text that a window was decoded to is read once more by the decoder, over the window as it lies
encoded. The cross-attention of some heads follows the audio; the cheapest way through it gives each
token its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from max_whisper.audio import FRAMES_PER_SECOND
from max_whisper.decoding.options import DecodingResult
from max_whisper.decoding.requests import Acquire, Align, Forward, Release, Steps
from max_whisper.decoding.runtime import Candidates, Constraint
from max_whisper.transcribe.alignment import TOKENS_PER_SECOND
from max_whisper.transcribe.segments import Segment, Word

if TYPE_CHECKING:
    from max_whisper.tokenizer import Tokenizer

SENTENCE_END_MARKS = ".。!！?？"
#: No median duration of words is taken for longer than this, in seconds.
LONGEST_MEDIAN = 0.7


@dataclass
class WordTiming:
    """A word on its way to its place; times in seconds from the window's start."""

    word: str
    tokens: list[int]
    start: float
    end: float
    probability: float


def find_alignment(
    window: int,
    frames: int,
    text_tokens: Sequence[int],
    tokenizer: Tokenizer,
    heads: Sequence[tuple[int, int]],
) -> Steps[list[WordTiming]]:
    """The times of the words of a text in a window.

    Args:
        window: An encoded window.
        frames: How many of its 3000 mel frames hold speech.
        text_tokens: The text, without timestamps.
        tokenizer: Splits it into words.
        heads: (layer, head) pairs whose attention follows the audio.
    """
    words, word_tokens = tokenizer.split_to_word_tokens([*text_tokens, tokenizer.eot])
    if len(word_tokens) <= 1:
        return []
    start = len(tokenizer.sot_sequence)
    tokens = [*tokenizer.sot_sequence, tokenizer.no_timestamps, *text_tokens, tokenizer.eot]
    count = len(tokens)
    rows: tuple[int, ...] = yield Acquire(1)
    found: Candidates = yield Forward(
        tokens,
        rows * count,
        range(count),
        window,
        range(start, start + len(text_tokens)),
        [Constraint(watch=token, watch_stop=tokenizer.eot) for token in text_tokens],
        k=0,
    )
    begins = yield Align(found.queries(), heads, window, frames // 2, slice(start, -1))
    yield Release(rows)
    return _timings(words[:-1], word_tokens[:-1], begins / TOKENS_PER_SECOND, found.watched)


def traced_alignment(
    window: int,
    frames: int,
    result: DecodingResult,
    count: int,
    tokenizer: Tokenizer,
    heads: Sequence[tuple[int, int]],
) -> Steps[list[WordTiming]]:
    """The times of the words that a window was decoded to, from the attention of its decoding.

    Args:
        window: The window, which is encoded still.
        frames: How many of its 3000 mel frames hold speech.
        result: What it was decoded to, with the queries kept.
        count: How many of its tokens have their words placed, timestamps among them.
        tokenizer: Splits text into words.
        heads: (layer, head) pairs whose attention follows the audio.
    """
    trace = result.trace
    if trace is None or trace.queries is None:
        raise ValueError("the window was decoded without keeping its queries")
    places = [i for i, token in enumerate(result.tokens[:count]) if token < tokenizer.eot]
    words, word_tokens = tokenizer.split_to_word_tokens([result.tokens[i] for i in places])
    if not words:
        return []
    first = trace.queries.shape[1] - len(trace.logprobs)
    # What comes after the last word tells where that ends, unless there is nothing.
    after = [places[-1] + 1] if places[-1] + 1 < len(trace.logprobs) else []
    rows = [*range(first), *(first + place for place in [*places, *after])]
    begins = yield Align(trace.queries[:, rows], heads, window, frames // 2, slice(first, None))
    times = begins / TOKENS_PER_SECOND
    times = np.append(times[: len(places)], times[len(places) :] if after else [frames / FRAMES_PER_SECOND])
    probabilities = np.exp([trace.logprobs[place] for place in places])
    return _timings(words, word_tokens, times, probabilities)


def _timings(
    words: Sequence[str],
    word_tokens: Sequence[list[int]],
    times: NDArray[np.float64],
    probabilities: ArrayLike,
) -> list[WordTiming]:
    """Words from when each of their tokens begins, and the last one ends."""
    bounds = np.cumsum([0, *map(len, word_tokens)])
    # Bytes at the end that form no character belong to no word.
    means = np.add.reduceat(np.asarray(probabilities)[: bounds[-1]], bounds[:-1]) / np.diff(bounds)
    at = times[bounds].tolist()
    return [WordTiming(*each) for each in zip(words, word_tokens, at, at[1:], means.tolist())]


def merge_punctuations(alignment: list[WordTiming], prepended: str, appended: str) -> None:
    """Lets marks join the word after or before them, in place; what has joined is left empty.

    Args:
        alignment: Words, in order.
        prepended: Marks that join the word after them.
        appended: Marks that join the word before them.
    """
    following = len(alignment) - 1
    for i in range(len(alignment) - 2, -1, -1):
        mark, word = alignment[i], alignment[following]
        if mark.word.startswith(" ") and mark.word.strip() in prepended:
            word.word, word.tokens = mark.word + word.word, mark.tokens + word.tokens
            mark.word, mark.tokens = "", []
        else:
            following = i
    previous = 0
    for i in range(1, len(alignment)):
        word, mark = alignment[previous], alignment[i]
        if not word.word.endswith(" ") and mark.word in appended:
            word.word, word.tokens = word.word + mark.word, word.tokens + mark.tokens
            mark.word, mark.tokens = "", []
        else:
            previous = i


def place_words(
    segments: Sequence[Segment],
    alignment: list[WordTiming],
    eot: int,
    prepended: str,
    appended: str,
    last_speech: float,
) -> list[Segment]:
    """Gives each segment of a window its words, and its times from them.

    Words that came out too long are cut at the ends of sentences and of segments, where silence
    hides in them.

    Args:
        segments: A window's segments.
        alignment: The words of all their text; changed.
        eot: The first token that is not text.
        prepended: See :func:`merge_punctuations`.
        appended: See there.
        last_speech: When the last word before this window ended, in seconds.
    """
    median, longest = _usual_durations(alignment)
    _cut_at_sentence_ends(alignment, longest)
    merge_punctuations(alignment, prepended, appended)
    remaining = iter(alignment)
    placed = []
    for segment in segments:
        count = sum(token < eot for token in segment.tokens)
        words = _words_of(remaining, count, segment.seek / 100)
        if words:
            _cut_after_pause(words, last_speech, median, longest)
            segment = _agree(segment, words, median)
            last_speech = segment.end
        placed.append(
            replace(segment, words=tuple(Word(w.word, w.start, w.end, w.probability) for w in words))
        )
    return placed


def _usual_durations(alignment: Sequence[WordTiming]) -> tuple[float, float]:
    """The median duration of words, and what is too long for one."""
    durations = [timing.end - timing.start for timing in alignment if timing.end != timing.start]
    median = min(LONGEST_MEDIAN, float(np.median(durations))) if durations else 0.0
    return median, 2 * median


def _cut_at_sentence_ends(alignment: Sequence[WordTiming], longest: float) -> None:
    if longest == 0:
        return
    for before, timing in pairwise(alignment):
        if timing.end - timing.start > longest:
            if timing.word in SENTENCE_END_MARKS:
                timing.end = timing.start + longest
            elif before.word in SENTENCE_END_MARKS:
                timing.start = timing.end - longest


def _words_of(remaining: Iterator[WordTiming], count: int, offset: float) -> list[WordTiming]:
    """Takes the words of so many tokens, with times from the recording's start."""
    words, taken = [], 0
    while taken < count:
        timing = next(remaining, None)
        if timing is None:
            break
        taken += len(timing.tokens)
        if timing.word:
            start, end = round(offset + timing.start, 2), round(offset + timing.end, 2)
            words.append(WordTiming(timing.word, timing.tokens, start, end, timing.probability))
    return words


def _cut_after_pause(words: Sequence[WordTiming], last_speech: float, median: float, longest: float) -> None:
    """Shortens the first two words if the first ends long after the last speech."""
    first = words[0]
    second = words[1] if len(words) > 1 else None
    if first.end - last_speech <= median * 4:
        return
    if first.end - first.start > longest or (second and second.end - first.start > longest * 2):
        if second and second.end - second.start > longest:
            first.end = second.start = max(second.end / 2, second.end - longest)
        first.start = max(0, first.end - longest)


def _agree(segment: Segment, words: Sequence[WordTiming], median: float) -> Segment:
    """Lets a segment and its first and last word agree on when it starts and ends.

    The words are right, unless they are far outside of the segment.
    """
    first, last = words[0], words[-1]
    start, end = segment.start, segment.end
    if start < first.end and start - 0.5 > first.start:
        first.start = max(0, min(first.end - median, start))
    else:
        start = first.start
    if end > last.start and end + 0.5 < last.end:
        last.end = max(last.start + median, end)
    else:
        end = last.end
    return replace(segment, start=start, end=end)
