"""A window's tokens cut into segments, at its timestamps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from max_whisper.decoding.options import DecodingResult
from max_whisper.transcribe.language import WINDOW_FRAMES
from max_whisper.transcribe.options import FRAMES_PER_SECOND
from max_whisper.transcribe.segments import Segment

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer


@dataclass(frozen=True)
class Window:
    """A window's place: its first frame, and how many frames of speech it has."""

    seek: int
    size: int

    @property
    def start(self) -> float:
        """In seconds."""
        return self.seek / FRAMES_PER_SECOND

    @property
    def seconds(self) -> float:
        """How long its speech lasts."""
        return self.size / FRAMES_PER_SECOND


@dataclass(frozen=True)
class Cut:
    """A window's segments, and where the next window starts.

    ``closed`` says that the last token is a lone timestamp: nothing was said after it.
    """

    segments: list[Segment]
    seek: int
    closed: bool


def cut_segments(
    result: DecodingResult,
    window: Window,
    tokenizer: Tokenizer,
    dims: ModelDimensions,
    first_id: int,
    *,
    token_logprobs: bool = False,
) -> Cut:
    """Cuts a window's tokens into segments where one timestamp follows another.

    What comes after the last such pair is unfinished: the next window starts there, to hear it
    whole. Without a pair, all is one segment.
    """
    tokens, begin = result.tokens, tokenizer.timestamp_begin
    logprobs = result.trace.logprobs if token_logprobs and result.trace is not None else None
    stride = WINDOW_FRAMES // dims.n_audio_ctx
    step = stride / FRAMES_PER_SECOND

    def segment(number: int, start: float, end: float, place: slice) -> Segment:
        part = tokens[place]
        return Segment(
            id=first_id + number,
            seek=window.seek,
            start=start,
            end=end,
            text=tokenizer.decode([token for token in part if token < tokenizer.eot]),
            tokens=tuple(part),
            temperature=result.temperature,
            avg_logprob=result.avg_logprob,
            compression_ratio=result.compression_ratio,
            no_speech_prob=result.no_speech_prob,
            token_logprobs=None if logprobs is None else logprobs[place],
        )

    stamped = [token >= begin for token in tokens]
    closed = stamped[-2:] == [False, True]
    cuts = [i for i in range(1, len(tokens)) if stamped[i - 1] and stamped[i]]
    if not cuts:
        stamps = [token for token in tokens if token >= begin]
        seconds = (stamps[-1] - begin) * step if stamps and stamps[-1] != begin else window.seconds
        whole = segment(0, window.start, window.start + seconds, slice(len(tokens)))
        return Cut([whole], window.seek + window.size, closed)

    if closed:
        cuts.append(len(tokens))
    segments = []
    for number, (first, last) in enumerate(zip([0, *cuts], cuts)):
        start = window.start + (tokens[first] - begin) * step
        end = window.start + (tokens[last - 1] - begin) * step
        segments.append(segment(number, start, end, slice(first, last)))
    seek = window.seek + (window.size if closed else (tokens[cuts[-1] - 1] - begin) * stride)
    return Cut(segments, seek, closed)


def within(segment: Segment, window: Window) -> Segment:
    """The segment as far as the window's speech goes; behind that, none of it is left."""
    end = window.start + window.seconds
    return replace(segment, start=min(segment.start, end), end=min(segment.end, end))


def without_emptiness(segment: Segment) -> Segment:
    """The segment, emptied if it has no text or no duration."""
    if segment.start != segment.end and segment.text.strip():
        return segment
    words, logprobs = (None if each is None else () for each in (segment.words, segment.token_logprobs))
    return replace(segment, text="", tokens=(), words=words, token_logprobs=logprobs)
