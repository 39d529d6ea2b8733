"""Forced alignment: when the words of a known text are said, in a recording of any length.

A long recording is walked window by window. The decoder reads a generous piece of the text over each
window, and two things tell how much of the piece belongs there: the words that the model finds
probable, up to where it would rather end the text; and the attention, which places each word. Words
close to the window's end are left to the next window, which begins after the last word that is kept.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.options import compression_ratio
from max_whisper.decoding.requests import Acquire, Align, Encode, Forward, Release, Request, Steps
from max_whisper.decoding.runtime import Candidates, Constraint
from max_whisper.errors import AlignmentError
from max_whisper.spectrogram import Mel
from max_whisper.transcribe.alignment import TOKENS_PER_SECOND
from max_whisper.transcribe.cutting import Window
from max_whisper.transcribe.encoding import window_of
from max_whisper.transcribe.known_text import TextWord, words_of
from max_whisper.transcribe.language import WINDOW_FRAMES, Detection, spoken_in
from max_whisper.transcribe.options import APPEND_PUNCTUATIONS, FRAMES_PER_SECOND, PREPEND_PUNCTUATIONS
from max_whisper.transcribe.pauses import quiet_frames, take_pauses_out
from max_whisper.transcribe.recording import TokenizerFor
from max_whisper.transcribe.segments import Event, Progress, Segment, Transcript, Word
from max_whisper.transcribe.words import WordTiming, merge_punctuations

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

Array = NDArray[np.float64]

#: A word is taken for said where its tokens' mean log-probability is above this. Over speech it is
#: about -0.5, and -3 to -10 for the words that come after what a window holds.
SAID = -3.0
#: One word counts no more than this, in nats, so that a few slips in a text end nothing.
ONE_WORD = 3.0
#: What words must speak for a window, each on average: a text of another recording is at -ONE_WORD.
LEAST = -1.0
#: An end of the text that is less probable than this (log) is as good as excluded.
NO_END = -8.0
#: A word that lasts no longer than this, in seconds, has no time of its own; so many in a row are a tear.
INSTANT, TORN = 0.01, 4
#: Words that begin in the last seconds of a window are left to the next one.
MARGIN = 1.5
#: Seconds that the next window hears again where a window has nothing of the text: it may begin there.
OVERLAP = 5.0
#: No word is taken to last longer, in seconds, where silence may hide in it.
LONGEST_WORD = 2.0
_SHOWN = 8


@dataclass(frozen=True)
class AlignOptions:
    """How to align a text.

    Attributes:
        language: Code of the language that is spoken, and that the text is in; None detects it.
        original_split: Whether segments are the lines of the text; otherwise they are sentences.
        token_logprobs: Whether segments tell their tokens' log-probabilities.
        prepend_punctuations: Marks that belong to the word after them.
        append_punctuations: Marks that belong to the word before them.
    """

    language: str | None = None
    original_split: bool = False
    token_logprobs: bool = False
    prepend_punctuations: str = PREPEND_PUNCTUATIONS
    append_punctuations: str = APPEND_PUNCTUATIONS


@dataclass(frozen=True, eq=False)
class Reading:
    """A piece of the text as the decoder read it over a window.

    Attributes:
        count: How many of its words are said in the window.
        starts: (count,) when they begin, in seconds from the window's start.
        ends: (count,) when they end.
        logprobs: The log-probability of each of their tokens, among those of text alone.
        no_speech_prob: The probability that nobody speaks in the window.
    """

    count: int
    starts: Array
    ends: Array
    logprobs: list[list[float]]
    no_speech_prob: float


def align_recording(
    mel: Mel,
    text: str,
    dims: ModelDimensions,
    tokenizer_for: TokenizerFor,
    options: AlignOptions,
    heads: Sequence[tuple[int, int]],
) -> Generator[Request | Event, Any, Transcript]:
    """Places a text in a recording: a generator of requests and events, as of transcription.

    Args:
        mel: (n_mels, frames + 3000) float32, the log-mel of the recording and 30 s of silence.
        text: All that is said.
        dims: The model's dimensions.
        tokenizer_for: Makes tokenizers.
        options: How.
        heads: (layer, head) pairs whose attention follows the audio.

    Returns:
        The text, in segments that have words.

    Raises:
        AlignmentError: The recording does not say (all of) the text.
        OptionError: The text is empty.
    """
    language = options.language
    if language is None:
        language = (
            (yield from _detect(mel, tokenizer_for(None, "transcribe"))) if dims.is_multilingual else "en"
        )
    tokenizer = tokenizer_for(language, "transcribe")
    most = dims.n_text_ctx // 2  # more tokens than a model writes for a window
    words = words_of(text, tokenizer, most, options.original_split)
    frames = mel.shape[1] - WINDOW_FRAMES
    segments: list[Segment] = []
    seek = at = 0
    while at < len(words) and seek < frames:
        window = Window(seek, min(WINDOW_FRAMES, frames - seek))
        piece = _piece(words, at, most)
        encoded = yield Encode(window_of(mel, window))
        reading = yield from read(encoded, window.size, piece, tokenizer, heads)
        yield Release(window=encoded)
        ends_here = seek + window.size >= frames
        if ends_here and at + len(piece) == len(words):
            kept = reading.count  # what is missing of it is nowhere
        else:
            kept = safe_count(reading, piece, window.seconds, options.append_punctuations)
        if kept:
            quiet = quiet_frames(mel[:, seek : seek + window.size])
            found = _segments(window, piece[:kept], reading, quiet, tokenizer, options, len(segments))
            segments += found
            yield from found
        at += kept
        if at == len(words) or (ends_here and not kept):
            break
        seek += round(_advance(reading, kept, window.seconds) * FRAMES_PER_SECOND)
        yield Progress(min(seek, frames), frames)
    if at < len(words):
        raise AlignmentError(_misfit(words, at, segments))
    yield Progress(frames, frames)
    spoken = tokenizer.decode([token for word in words for token in word.tokens])
    return Transcript(spoken, tuple(segments), language)


def read(
    encoded: int,
    frames: int,
    piece: Sequence[TextWord],
    tokenizer: Tokenizer,
    heads: Sequence[tuple[int, int]],
) -> Steps[Reading]:
    """Has a piece of the text read over a window, and finds what of it is said there.

    Args:
        encoded: The window.
        frames: How many of its 3000 mel frames hold speech.
        piece: The words, at least one.
        tokenizer: Of the recording's language.
        heads: (layer, head) pairs whose attention follows the audio.
    """
    eot, first = tokenizer.eot, len(tokenizer.sot_sequence)
    text = [token for word in piece for token in word.tokens]
    bounds = np.cumsum([0, *(len(word.tokens) for word in piece)])
    tokens = [*tokenizer.sot_sequence, tokenizer.no_timestamps, *text, eot]
    total = len(tokens)
    (row,) = yield Acquire(1)
    # The token that starts the transcript tells of silence; from the last before the text on, each tells
    # of its successor.
    outputs = [0, *range(first, first + len(text) + 1)]
    found: Candidates = yield Forward(
        tokens, [row] * total, range(total), encoded, outputs, [Constraint()] * len(outputs), logits=True
    )
    logits, queries = found.logits(), found.queries()
    said, among_text, end = _logprobs(logits[1:], [*text, eot], eot)
    means, spoken = _means(said, bounds), _spoken(piece)
    count = most = said_count(means, end[bounds], spoken)
    times = np.zeros(0)
    while count:
        at = first + 1 + int(bounds[count])
        if count < len(piece):
            # Attention is causal, so only the end of the text has to be read anew, in its new place.
            again: Candidates = yield Forward([eot], [row], [at], encoded, [0], [Constraint()])
            last = again.queries()
        else:
            last = queries[:, at : at + 1]
        asked = np.concatenate([queries[:, :at], last], axis=1)
        begins = yield Align(asked, heads, encoded, frames // 2, slice(first, -1))
        found_times = begins / TOKENS_PER_SECOND
        if count == most:
            times = found_times
        if not is_torn(found_times[bounds[: count + 1]], spoken[:count], frames / FRAMES_PER_SECOND):
            times = found_times
            break
        count = said_count(means[: (shorter := count * 3 // 4)], end[bounds[: shorter + 1]], spoken[:shorter])
    else:
        count = most  # no shorter piece is better: the text itself must have what nobody says
    yield Release((row,))
    starts, ends = times[bounds[:count]], times[bounds[1 : count + 1]]
    by_word = [among_text[i:j].tolist() for i, j in pairwise(bounds[: count + 1])]
    return Reading(count, starts, ends, by_word, _probability(logits[0], tokenizer.no_speech))


def is_torn(times: Array, spoken: NDArray[np.bool_], seconds: float) -> bool:
    """Whether several words in a row have no time at all, before the window's end.

    So it is where the piece is too long: a text that repeats itself is probable though nobody says it
    again, and the attention of its words goes to where they were said before.

    Args:
        times: (n + 1,) when each word begins, and when the last one ends.
        spoken: (n,) whether a word is more than a mark.
        seconds: Where the window ends.
    """
    run = 0
    for instant, start in zip((np.diff(times) <= INSTANT)[spoken], times[:-1][spoken]):
        run = run + 1 if instant and start < seconds - MARGIN else 0
        if run == TORN:
            return True
    return False


def said_count(words: Array, ends: Array, spoken: NDArray[np.bool_]) -> int:
    """How many words of a piece are said in a window.

    Each word that is probable speaks for the window to reach beyond it, each improbable one against
    it, and so does at each place the probability that the text ends there.

    Args:
        words: (n,) mean log-probability of each word's tokens.
        ends: (n + 1,) log-probability of the end before each word, and after the last.
        spoken: (n,) whether a word is more than a mark; marks are probable anywhere.
    """
    evidence = np.concatenate([[0.0], np.cumsum(np.clip(words - SAID, -ONE_WORD, ONE_WORD) * spoken)])
    number = np.concatenate([[0], np.cumsum(spoken)])
    score = np.where(evidence >= LEAST * number, evidence + np.maximum(ends, NO_END), -np.inf)
    return int(score.argmax())


def safe_count(reading: Reading, piece: Sequence[TextWord], seconds: float, appended: str) -> int:
    """How many words of a window are kept, where the next window may hear the others better.

    These are the words up to the last sentence that ends in the window's later half, or else up to the
    last word that begins well before its end.

    Args:
        reading: Of the piece.
        piece: The words.
        seconds: How long the window is.
        appended: Marks that are not separated from the word before them.
    """
    starts = reading.starts.copy()
    if len(starts):
        # All that comes before the first word counts to it.
        starts[0] = max(starts[0], reading.ends[0] - LONGEST_WORD)
    fits = int((starts <= seconds - MARGIN).sum())
    marks = [word.word.strip() in appended for word in piece] + [False]
    free = [i for i in range(1, fits + 1) if not marks[i]]
    sentences = [i for i in free if piece[i - 1].closes and reading.ends[i - 1] >= seconds / 2]
    return max(sentences or free, default=fits)


def _advance(reading: Reading, kept: int, seconds: float) -> float:
    """Where the next window starts, in seconds from this one's start."""
    if kept:
        start, end = float(reading.starts[kept - 1]), float(reading.ends[kept - 1])
        # The end of the last word of all may be anywhere in the silence after it.
        return end if kept < reading.count else min(end, start + LONGEST_WORD)
    if reading.count:
        return max(0.0, float(reading.ends[0]) - LONGEST_WORD)
    return seconds - OVERLAP


def _detect(mel: Mel, tokenizer: Tokenizer) -> Generator[Request | Event, Any, str]:
    window: int = yield Encode(np.ascontiguousarray(mel[:, :WINDOW_FRAMES]))
    language = yield from spoken_in(window, tokenizer, Detection())
    yield Release(window=window)
    yield language
    return language.code


def _piece(words: Sequence[TextWord], at: int, most: int) -> list[TextWord]:
    """As many of the next words as a window could hold."""
    sizes = np.cumsum([len(word.tokens) for word in words[at : at + most]])
    return list(words[at : at + int((sizes <= most).sum())])


def _logprobs(logits: NDArray[np.float32], tokens: Sequence[int], eot: int) -> tuple[Array, Array, Array]:
    """Of (n, n_vocab) logits: each token's log-probability among all, among text, and the end's."""
    ids = np.array(tokens)
    rows = np.arange(len(ids))
    top = logits.max(axis=1, keepdims=True)
    weights = np.exp(logits - top)
    text = np.log(weights[:, :eot].sum(axis=1, dtype=np.float64))
    whole = np.log(weights.sum(axis=1, dtype=np.float64))
    values = (logits - top).astype(np.float64)
    return values[rows, ids] - whole, values[rows, ids] - text, values[:, eot] - whole


def _probability(logits: NDArray[np.float32], token: int) -> float:
    weights = np.exp(logits - logits.max())
    return float(weights[token] / weights.sum())


def _means(values: Array, bounds: NDArray[np.int64]) -> Array:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Array = np.diff(sums[bounds]) / np.diff(bounds)
    return means


def _spoken(piece: Sequence[TextWord]) -> NDArray[np.bool_]:
    return np.array([any(map(str.isalnum, word.word)) for word in piece])


def _segments(
    window: Window,
    words: Sequence[TextWord],
    reading: Reading,
    quiet: NDArray[np.bool_],
    tokenizer: Tokenizer,
    options: AlignOptions,
    first_id: int,
) -> list[Segment]:
    """The kept words of a window, in segments, each with its words."""
    timings = [
        WordTiming(word.word, list(word.tokens), float(start), float(end), float(np.exp(values).mean()))
        for word, start, end, values in zip(words, reading.starts, reading.ends, reading.logprobs)
    ]
    take_pauses_out(timings, quiet)
    merge_punctuations(timings, options.prepend_punctuations, options.append_punctuations)
    logprob = float(np.mean([value for values in reading.logprobs[: len(words)] for value in values]))
    ratio = compression_ratio(tokenizer.decode([token for word in words for token in word.tokens]))
    cuts = [i + 1 for i, word in enumerate(words) if word.closes and i + 1 < len(words)]
    segments: list[Segment] = []
    for i, j in pairwise([0, *cuts, len(words)]):
        tokens = tuple(token for word in words[i:j] for token in word.tokens)
        placed = tuple(_placed(timing, window.start) for timing in timings[i:j] if timing.word)
        values = tuple(value for values in reading.logprobs[i:j] for value in values)
        segments.append(
            Segment(
                id=first_id + len(segments),
                seek=window.seek,
                start=placed[0].start if placed else round(window.start + timings[i].start, 2),
                end=placed[-1].end if placed else round(window.start + timings[j - 1].end, 2),
                text=tokenizer.decode(tokens),
                tokens=tokens,
                temperature=0.0,
                avg_logprob=logprob,
                compression_ratio=ratio,
                no_speech_prob=reading.no_speech_prob,
                words=placed,
                token_logprobs=values if options.token_logprobs else None,
            )
        )
    return segments


def _placed(timing: WordTiming, offset: float) -> Word:
    start, end = round(offset + timing.start, 2), round(offset + timing.end, 2)
    return Word(timing.word, start, end, timing.probability)


def _misfit(words: Sequence[TextWord], at: int, segments: Sequence[Segment]) -> str:
    """What to say where the text goes on and the recording does not."""
    shown = "".join(word.word for word in words[at : at + _SHOWN]).strip()
    left = int(_spoken(words[at:]).sum())
    if not segments:
        return (
            f"nothing of the text is heard in the recording, not even {shown!r}: "
            "check that they belong together, and the language"
        )
    return (
        f"the text does not fit the recording: its last {left} words, from {shown!r} on, are not heard "
        f"after {segments[-1].end:.2f} s"
    )
