"""One recording: the seek loop, and all that a transcript owes to more than one window.

:func:`transcribe_recording` is a generator. It yields requests for the scheduler, and events for
whoever listens; in the end it returns the transcript. What it does window by window is
openai-whisper's ``transcribe``, in small pieces that can be called without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from max_whisper.decoding.options import DecodingResult
from max_whisper.decoding.requests import Encode, Release, Request, Steps
from max_whisper.decoding.search import derived_seed
from max_whisper.decoding.window import Fallback, decode_with_fallback, detect_language
from max_whisper.transcribe.options import FRAMES_PER_SECOND, TranscribeOptions
from max_whisper.transcribe.segments import Event, Language, Progress, Segment, Transcript
from max_whisper.transcribe.silence import Heard, Place, last_word_end, skip_silence
from max_whisper.transcribe.speech import SpeechMap
from max_whisper.transcribe.words import find_alignment, place_words

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: Mel frames in a window of 30 seconds.
WINDOW_FRAMES = 3000

#: Makes the tokenizer for a language (None: English alone) and a task.
TokenizerFor = Callable[[str | None, str], "Tokenizer"]


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


class History:
    """What has been said, for the prompts of later windows.

    Args:
        initial: The tokens of the initial prompt.
        carry: Whether they come before every prompt.
        room: How many tokens a prompt may have.
    """

    def __init__(self, initial: Sequence[int], carry: bool, room: int) -> None:
        self.initial = list(initial)
        self.carry = carry
        self.room = room
        self.tokens = list(initial)
        self._forgotten = 0

    @property
    def said(self) -> list[int]:
        """All tokens but the initial prompt's."""
        return self.tokens[len(self.initial) :]

    def prompt(self) -> list[int]:
        """The prompt of the next window; decoding takes the end of it."""
        if not self.carry:
            return self.tokens[self._forgotten :]
        recent = self.tokens[max(len(self.initial), self._forgotten) :]
        return self.initial + recent[-(self.room - len(self.initial)) :]

    def forget(self) -> None:
        """Keeps what was said up to now out of later prompts."""
        self._forgotten = len(self.tokens)


@dataclass(frozen=True)
class Cut:
    """A window's segments, and where the next window starts.

    ``closed`` says that the last token is a lone timestamp: nothing was said after it.
    """

    segments: list[Segment]
    seek: int
    closed: bool


def transcribe_recording(
    mel: NDArray[np.float32],
    dims: ModelDimensions,
    tokenizer_for: TokenizerFor,
    options: TranscribeOptions,
    heads: Sequence[tuple[int, int]] = (),
    speech: SpeechMap | None = None,
) -> Generator[Request | Event, Any, Transcript]:
    """Transcribes a recording.

    Args:
        mel: (n_mels, frames + 3000) float32, the log-mel of the recording and 30 s of silence.
        dims: The model's dimensions.
        tokenizer_for: Makes tokenizers.
        options: How.
        heads: (layer, head) pairs whose attention follows the audio, for word times.
        speech: Where it comes from, if ``mel`` has only a recording's speech. Clips and all times
            in the result are the recording's.
    """
    frames = mel.shape[1] - WINDOW_FRAMES
    clips = clip_frames(options.clips if speech is None else speech.clips(options.clips), frames)
    language, kept = options.decoding.language, None
    if language is None and dims.is_multilingual:
        language, kept = yield from _detect(mel, tokenizer_for(None, options.decoding.task), clips)
    language = language or "en"
    tokenizer = tokenizer_for(language, options.decoding.task)
    options = replace(options, decoding=replace(options.decoding, language=language))
    listener = _Listener(frames, dims, tokenizer, options, heads, only_speech=speech is not None)

    segments: list[Segment] = []
    for seek, end in clips:
        while seek < end:
            window = Window(seek, min(WINDOW_FRAMES, end - seek))
            if kept is None:
                kept = yield Encode(window_of(mel, window))
            cut = yield from listener.hear(kept, window, len(segments))
            yield Release(window=kept)
            kept = None
            # A model that returns to where the window began would be heard forever.
            seek = cut.seek if cut.seek > seek else seek + window.size
            found = cut.segments if speech is None else list(map(speech.segment, cut.segments))
            segments.extend(found)
            yield from found
            done = min(frames, seek)
            yield Progress(done, frames) if speech is None else speech.progress(done)
    return Transcript(tokenizer.decode(listener.history.said), tuple(segments), language)


def without_speech(
    options: TranscribeOptions, language: str | None, frames: int
) -> Generator[Request | Event, Any, Transcript]:
    """What a recording gives in which nobody speaks.

    Args:
        options: How it would have been transcribed.
        language: The model's only one; otherwise it stays unknown where none is chosen.
        frames: How long the recording is.
    """
    yield Progress(frames, frames)
    return Transcript("", (), options.decoding.language or language)


class _Listener:
    """Hears a recording's windows in turn, and remembers what matters to the next one."""

    def __init__(
        self,
        frames: int,
        dims: ModelDimensions,
        tokenizer: Tokenizer,
        options: TranscribeOptions,
        heads: Sequence[tuple[int, int]],
        only_speech: bool,
    ) -> None:
        self._only_speech = only_speech
        self._frames = frames
        self._dims = dims
        self._tokenizer = tokenizer
        self._options = options
        self._heads = heads
        self._last_speech = 0.0
        prompt = options.initial_prompt
        initial = [] if prompt is None else tokenizer.encode(" " + prompt.strip())
        self.history = History(initial, options.carry_initial_prompt, dims.n_text_ctx // 2 - 1)

    def hear(self, encoded: int, window: Window, first_id: int) -> Steps[Cut]:
        """Decodes a window, which is encoded, and cuts it into segments; silence has none."""
        options, history = self._options, self.history
        seed = derived_seed(options.decoding.seed, "seek", window.seek)
        decoding = replace(options.decoding, prompt=history.prompt(), seed=seed)
        result = yield from decode_with_fallback(
            encoded, decoding, options.fallback, self._tokenizer, self._dims
        )
        if is_silent(result, options.fallback):
            return Cut([], window.seek + window.size, closed=True)
        cut = cut_segments(result, window, self._tokenizer, self._dims, first_id)
        if self._only_speech:
            cut = replace(cut, segments=[_within(segment, window) for segment in cut.segments])
        if options.word_timestamps:
            found = yield from self._with_words(cut, encoded, window)
            if found.segments is None:
                return Cut([], found.seek, cut.closed)
            cut = Cut(found.segments, found.seek, cut.closed)
        cut = replace(cut, segments=[without_emptiness(segment) for segment in cut.segments])
        history.tokens.extend(token for segment in cut.segments for token in segment.tokens)
        if not options.condition_on_previous_text or result.temperature > 0.5:
            history.forget()
        return cut

    def _with_words(self, cut: Cut, encoded: int, window: Window) -> Steps[Heard]:
        """Gives the segments their words, and lets these say where to go on."""
        options, eot = self._options, self._tokenizer.eot
        text = [token for segment in cut.segments for token in segment.tokens if token < eot]
        alignment = yield from find_alignment(encoded, window.size, text, self._tokenizer, self._heads)
        marks = options.prepend_punctuations, options.append_punctuations
        segments = place_words(cut.segments, alignment, eot, *marks, self._last_speech)
        seek = cut.seek
        if not cut.closed and last_word_end(segments) > window.start:
            seek = round(last_word_end(segments) * FRAMES_PER_SECOND)
        heard = Heard(segments, seek)
        if options.hallucination_silence_threshold is not None:
            place = Place(window.seek, window.size, self._frames, self._last_speech, cut.closed)
            heard = skip_silence(heard, place, options.hallucination_silence_threshold)
        if heard.segments:
            self._last_speech = last_word_end(heard.segments)
        return heard


def _detect(
    mel: NDArray[np.float32], tokenizer: Tokenizer, clips: Sequence[tuple[int, int]]
) -> Generator[Request | Event, Any, tuple[str, int | None]]:
    """The language of the first 30 seconds, and their encoding if it is the first window's too.

    A short recording's is not: here silence follows as log-mel has it, in its window as zeros.
    """
    window: int = yield Encode(np.ascontiguousarray(mel[:, :WINDOW_FRAMES]))
    _, probs = yield from detect_language(window, tokenizer)
    code = max(probs, key=probs.__getitem__)
    yield Language(code, probs[code])
    if clips and clips[0][0] == 0 and clips[0][1] >= WINDOW_FRAMES:
        return code, window
    yield Release(window=window)
    return code, None


def clip_frames(clips: Sequence[float], frames: int) -> list[tuple[int, int]]:
    """The clips to transcribe, as pairs of frames; the whole recording if none are given.

    Args:
        clips: Seconds, starts and ends in turn.
        frames: Where the recording ends.
    """
    points = [round(second * FRAMES_PER_SECOND) for second in clips] or [0]
    if len(points) % 2:
        points.append(frames)
    return [(start, min(end, frames)) for start, end in zip(points[::2], points[1::2])]


def window_of(mel: NDArray[np.float32], window: Window) -> NDArray[np.float32]:
    """A window's mel (n_mels, 3000), filled up with zeros."""
    out = np.zeros((mel.shape[0], WINDOW_FRAMES), np.float32)
    out[:, : window.size] = mel[:, window.seek : window.seek + window.size]
    return out


def is_silent(result: DecodingResult, thresholds: Fallback) -> bool:
    """Whether nobody speaks in a window: unlikely speech, unless its text is likely."""
    if thresholds.no_speech_threshold is None:
        return False
    likely = thresholds.logprob_threshold is not None and result.avg_logprob > thresholds.logprob_threshold
    return result.no_speech_prob > thresholds.no_speech_threshold and not likely


def cut_segments(
    result: DecodingResult, window: Window, tokenizer: Tokenizer, dims: ModelDimensions, first_id: int
) -> Cut:
    """Cuts a window's tokens into segments where one timestamp follows another.

    What comes after the last such pair is unfinished: the next window starts there, to hear it
    whole. Without a pair, all is one segment.
    """
    tokens, begin = result.tokens, tokenizer.timestamp_begin
    stride = WINDOW_FRAMES // dims.n_audio_ctx
    step = stride / FRAMES_PER_SECOND

    def segment(number: int, start: float, end: float, part: Sequence[int]) -> Segment:
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
        )

    stamped = [token >= begin for token in tokens]
    closed = stamped[-2:] == [False, True]
    cuts = [i for i in range(1, len(tokens)) if stamped[i - 1] and stamped[i]]
    if not cuts:
        stamps = [token for token in tokens if token >= begin]
        seconds = (stamps[-1] - begin) * step if stamps and stamps[-1] != begin else window.seconds
        whole = segment(0, window.start, window.start + seconds, tokens)
        return Cut([whole], window.seek + window.size, closed)

    if closed:
        cuts.append(len(tokens))
    segments = []
    for number, (first, last) in enumerate(zip([0, *cuts], cuts)):
        part = tokens[first:last]
        start = window.start + (part[0] - begin) * step
        end = window.start + (part[-1] - begin) * step
        segments.append(segment(number, start, end, part))
    seek = window.seek + (window.size if closed else (tokens[cuts[-1] - 1] - begin) * stride)
    return Cut(segments, seek, closed)


def _within(segment: Segment, window: Window) -> Segment:
    """The segment as far as the window's speech goes; behind that, none of it is left."""
    end = window.start + window.seconds
    return replace(segment, start=min(segment.start, end), end=min(segment.end, end))


def without_emptiness(segment: Segment) -> Segment:
    """The segment, emptied if it has no text or no duration."""
    if segment.start != segment.end and segment.text.strip():
        return segment
    return replace(segment, text="", tokens=(), words=None if segment.words is None else ())
