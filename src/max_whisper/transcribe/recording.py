"""One recording: the seek loop, and all that a transcript owes to more than one window.

:func:`transcribe_recording` is a generator. It yields requests for the scheduler, and events for
whoever listens; in the end it returns the transcript. What it does window by window is
openai-whisper's ``transcribe``, in small pieces that can be called without a model.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from max_whisper.decoding.options import DecodingResult, compression_ratio
from max_whisper.decoding.requests import Release, Request, Steps
from max_whisper.decoding.search import derived_seed
from max_whisper.errors import OptionError
from max_whisper.spectrogram import Mel
from max_whisper.transcribe.cutting import Cut, Window, cut_segments, within, without_emptiness
from max_whisper.transcribe.encoding import Encoded, decode, encode, is_silent
from max_whisper.transcribe.language import WINDOW_FRAMES, spoken_in, spoken_language
from max_whisper.transcribe.options import FAST, FRAMES_PER_SECOND, TranscribeOptions
from max_whisper.transcribe.segments import Event, Progress, Segment, Transcript
from max_whisper.transcribe.silence import Heard, Place, last_word_end, skip_silence
from max_whisper.transcribe.speech import SpeechMap
from max_whisper.transcribe.words import find_alignment, place_words, traced_alignment

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: Makes the tokenizer for a language (None: English alone) and a task.
TokenizerFor = Callable[[str | None, str], "Tokenizer"]


class History:
    """What has been said, for the prompts of later windows.

    Args:
        initial: The tokens of the initial prompt.
        carry: Whether they come before every prompt.
        room: How many tokens a prompt may have.
        hotwords: Tokens that come before all of it.
    """

    def __init__(self, initial: Sequence[int], carry: bool, room: int, hotwords: Sequence[int] = ()) -> None:
        self._hotwords = list(hotwords[:room])
        self.initial = list(initial)
        self.carry = carry
        self.room = room
        self.tokens = list(initial)
        self._forgotten = 0

    @property
    def said(self) -> list[int]:
        """All tokens but the initial prompt's."""
        return self.tokens[len(self.initial) :]

    def prompt(self, *, hotwords: bool = True) -> list[int]:
        """The prompt of the next window; decoding takes the end of it."""
        if not hotwords or not self._hotwords:
            return self._past()
        past, room = self._past(), self.room - len(self._hotwords)
        return self._hotwords + past[max(0, len(past) - room) :]

    def _past(self) -> list[int]:
        if not self.carry:
            return self.tokens[self._forgotten :]
        recent = self.tokens[max(len(self.initial), self._forgotten) :]
        return self.initial + recent[-(self.room - len(self.initial)) :]

    def forget(self) -> None:
        """Keeps what was said up to now out of later prompts."""
        self._forgotten = len(self.tokens)


def transcribe_recording(
    mel: Mel,
    dims: ModelDimensions,
    tokenizer_for: TokenizerFor,
    options: TranscribeOptions,
    heads: Sequence[tuple[int, int]] = (),
    speech: SpeechMap | None = None,
    piece: tuple[int, int] | None = None,
    silence: int | None = None,
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
        piece: The first frame of ``mel``, and the frame after the last, that are transcribed in
            place of the clips, as if nothing was before them and nothing after.
        silence: How many frames of silence the model hears after a recording's end; None: as many
            as make a window of thirty seconds.
    """
    frames = mel.shape[1] - WINDOW_FRAMES
    clips = [piece] if piece is not None else heard_clips(options, speech, frames)
    verify_languages(options, dims)
    language, first = options.decoding.language, None
    if language is None and dims.is_multilingual and not options.multilingual:
        blank = tokenizer_for(None, options.decoding.task)
        told, first = yield from spoken_language(mel, blank, clips, options.detection)
        yield told
        language = told.code
    place = (clips[0][0], frames) if piece is None else piece
    last_speech = 0.0 if piece is None else piece[0] / FRAMES_PER_SECOND
    listener = _Listener(
        place, dims, tokenizer_for, language or "en", options, heads, speech is not None, last_speech
    )

    segments: list[Segment] = []
    for seek, end in clips:
        while seek < end:
            window = Window(seek, min(WINDOW_FRAMES, end - seek))
            if first is None:
                # A language is told from whole windows.
                encoded = yield from encode(mel, window, None if options.multilingual else silence)
            else:
                encoded, first = Encoded(first, window), None
            if options.multilingual:
                told = yield from spoken_in(encoded.number, listener.tokenizer, options.detection)
                if told.code != listener.language or language is None:
                    yield told
                    listener.change_to(told.code)
                language = language or told.code
            cut, encoded = yield from listener.hear(encoded, len(segments))
            yield Release(window=encoded.number)
            # A model that returns to where the window began would be heard forever.
            seek = cut.seek if cut.seek > seek else seek + window.size
            found = cut.segments if speech is None else list(map(speech.segment, cut.segments))
            segments.extend(found)
            yield from found
            done = min(frames, seek)
            yield Progress(done, frames) if speech is None else speech.progress(done)
    if language is None and not options.multilingual:
        language = "en"
    return Transcript(listener.tokenizer.decode(listener.history.said), tuple(segments), language)


def heard_clips(options: TranscribeOptions, speech: SpeechMap | None, frames: int) -> list[tuple[int, int]]:
    """The clips to transcribe, as pairs of frames of what is heard."""
    return clip_frames(options.clips if speech is None else speech.clips(options.clips), frames)


def verify_languages(options: TranscribeOptions, dims: ModelDimensions) -> None:
    """Raises :class:`OptionError` for what an English-only model can't do."""
    if dims.is_multilingual:
        return
    detection = options.detection
    for name, given in (
        ("multilingual", options.multilingual),
        ("languages", detection.languages and "en" not in detection.languages),
        ("language_detection_segments", detection.segments > 1),
    ):
        if given:
            raise OptionError(f"this model knows English only, so {name} makes no sense: leave it out")


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
        place: tuple[int, int],
        dims: ModelDimensions,
        tokenizer_for: TokenizerFor,
        language: str,
        options: TranscribeOptions,
        heads: Sequence[tuple[int, int]],
        only_speech: bool,
        last_speech: float,
    ) -> None:
        self._only_speech = only_speech
        self._first, self._end = place
        self._dims = dims
        self._tokenizer_for = tokenizer_for
        self._options = options
        self._heads = heads
        self._last_speech = last_speech
        self.change_to(language)
        initial = _tokens(options.initial_prompt, self.tokenizer)
        hotwords = _tokens(options.hotwords, self.tokenizer)
        self.history = History(initial, options.carry_initial_prompt, dims.n_text_ctx // 2 - 1, hotwords)

    def change_to(self, language: str) -> None:
        """From now on it is this language that is spoken."""
        self.language = language
        self.tokenizer = self._tokenizer_for(language, self._options.decoding.task)

    def hear(self, encoded: Encoded, first_id: int) -> Steps[tuple[Cut, Encoded]]:
        """Decodes a window and cuts it into segments; silence has none. It may be encoded again."""
        options, history, window = self._options, self.history, encoded.place
        prefix = self._prefix(window)
        decoding = replace(
            options.decoding,
            language=self.language,
            prompt=history.prompt(hotwords=not prefix),
            prefix=prefix or None,
            seed=derived_seed(options.decoding.seed, "seek", window.seek),
        )
        result, encoded = yield from decode(
            encoded,
            decoding,
            options.fallback,
            self.tokenizer,
            self._dims,
            keep_queries=options.word_timestamps == FAST,
        )
        if is_silent(result, options.fallback):
            return Cut([], window.seek + window.size, closed=True), encoded
        if prefix:
            result = with_prefix(result, prefix, self.tokenizer)
        cut = cut_segments(
            result, window, self.tokenizer, self._dims, first_id, token_logprobs=options.token_logprobs
        )
        if options.multilingual:
            cut = replace(cut, segments=[replace(one, language=self.language) for one in cut.segments])
        if self._only_speech:
            cut = replace(cut, segments=[within(segment, window) for segment in cut.segments])
        if options.word_timestamps:
            found = yield from self._with_words(cut, result, encoded.number, window)
            if found.segments is None:
                return Cut([], found.seek, cut.closed), encoded
            cut = Cut(found.segments, found.seek, cut.closed)
        cut = replace(cut, segments=[without_emptiness(segment) for segment in cut.segments])
        history.tokens.extend(token for segment in cut.segments for token in segment.tokens)
        if not options.condition_on_previous_text or result.temperature > options.prompt_reset_on_temperature:
            history.forget()
        return cut, encoded

    def _prefix(self, window: Window) -> list[int]:
        """The tokens that the first window's transcript begins with; no other window's does.

        Raises:
            OptionError: They leave no room for more.
        """
        prefix, decoding = self._options.prefix, self._options.decoding
        if prefix is None or window.seek != self._first:
            return []
        tokens = _tokens(prefix, self.tokenizer)
        if not decoding.without_timestamps:
            tokens = [self.tokenizer.timestamp_begin, *tokens]
        half = self._dims.n_text_ctx // 2
        room = half - decoding.sample_len if decoding.sample_len and decoding.sample_len < half else half - 1
        if len(tokens) > room:
            raise OptionError(f"prefix takes {len(tokens)} tokens; there is room for {room}")
        return tokens

    def _with_words(self, cut: Cut, result: DecodingResult, encoded: int, window: Window) -> Steps[Heard]:
        """Gives the segments their words, and lets these say where to go on."""
        options, eot = self._options, self.tokenizer.eot
        text = [token for segment in cut.segments for token in segment.tokens if token < eot]
        if options.word_timestamps == FAST:
            count = sum(len(segment.tokens) for segment in cut.segments)
            alignment = yield from traced_alignment(
                encoded, window.size, result, count, self.tokenizer, self._heads
            )
        else:
            alignment = yield from find_alignment(encoded, window.size, text, self.tokenizer, self._heads)
        marks = options.prepend_punctuations, options.append_punctuations
        segments = place_words(cut.segments, alignment, eot, *marks, self._last_speech)
        seek = cut.seek
        if not cut.closed and last_word_end(segments) > window.start:
            seek = round(last_word_end(segments) * FRAMES_PER_SECOND)
        heard = Heard(segments, seek)
        if options.hallucination_silence_threshold is not None:
            place = Place(window.seek, window.size, self._end, self._last_speech, cut.closed)
            heard = skip_silence(heard, place, options.hallucination_silence_threshold)
        if heard.segments:
            self._last_speech = last_word_end(heard.segments)
        return heard


def _tokens(text: str | Sequence[int] | None, tokenizer: Tokenizer) -> list[int]:
    """The tokens of a text that goes before a transcript."""
    if text is None:
        return []
    return tokenizer.encode(" " + text.strip()) if isinstance(text, str) else list(text)


def with_prefix(result: DecodingResult, prefix: Sequence[int], tokenizer: Tokenizer) -> DecodingResult:
    """A window's result as if it had said the prefix itself; its scores stay as they are."""
    tokens = [*prefix, *result.tokens]
    text = tokenizer.decode([token for token in tokens if token < tokenizer.eot]).strip()
    trace = result.trace
    if trace is not None:
        trace = replace(trace, logprobs=trace.prefix + trace.logprobs, prefix=())
    return replace(result, tokens=tokens, text=text, compression_ratio=compression_ratio(text), trace=trace)


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
