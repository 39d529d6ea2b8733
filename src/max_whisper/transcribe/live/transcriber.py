"""A stream of samples to agreed words: LocalAgreement-2 over a buffer that is heard again and again.

The method is Machacek, Dabre and Bojar's (2023, "Turning Whisper into Real-Time Transcription
System"): what two hearings in a row have in common at their start stands. What differs here: agreed
words are given to the model as the beginning of its answer, so they cannot be heard twice or
otherwise; a hearing samples no token that the last one had already (:mod:`.hypothesis`); where
nothing new was said nothing is computed; and a pause settles all that stands before it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from max_whisper.audio import (
    FRAMES_PER_SECOND,
    N_FRAMES,
    N_SAMPLES,
    SAMPLE_RATE,
    as_samples,
    log_mel_spectrogram,
)
from max_whisper.decoding.requests import Encode, Release, Steps
from max_whisper.decoding.rules import rules_for
from max_whisper.errors import OptionError
from max_whisper.transcribe.awaiting import in_thread
from max_whisper.transcribe.language import spoken_in
from max_whisper.transcribe.live.agreement import HeardWord, after_tokens, agreeing, placed
from max_whisper.transcribe.live.buffer import AudioBuffer
from max_whisper.transcribe.live.events import Agreed, LiveEvent, Tail
from max_whisper.transcribe.live.gate import EverythingGate, SpeechGate, Stretch
from max_whisper.transcribe.live.hypothesis import Hypothesis, Known, hear
from max_whisper.transcribe.live.options import LONGEST_BUFFER, LONGEST_STEP, live_options
from max_whisper.transcribe.live.sentences import Sentences
from max_whisper.transcribe.live.trimming import cut_before, moment_before
from max_whisper.transcribe.segments import Language
from max_whisper.transcribe.words import find_alignment

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions
    from max_whisper.tokenizer import Tokenizer

#: After so many seconds without a word, the last word has been the end of a text.
PATIENCE = 2.0
#: The tokens of a hearing: some to begin with, and so many a second of audio that is not agreed.
_TOKENS, _TOKENS_PER_SECOND = 20, 15


class LiveModel(Protocol):
    """What live transcription needs of a model."""

    @property
    def dims(self) -> ModelDimensions:
        """The model's dimensions."""

    @property
    def is_multilingual(self) -> bool:
        """Whether it knows other languages than English."""

    @property
    def alignment_heads(self) -> Sequence[tuple[int, int]]:
        """(layer, head) pairs whose attention follows the audio."""

    def tokenizer(self, language: str | None = None, task: str | None = None) -> Tokenizer:
        """A tokenizer."""

    def run(self, work: Steps[Any]) -> Any:
        """Runs a generator of requests to its end."""


class StreamingTranscriber:
    """Transcribes one stream while it comes in.

    It keeps at most 30 seconds of audio and the text of the last prompt, however long the stream.
    One is for one stream and one thread at a time; several may share a model.
    """

    def __init__(self, model: LiveModel, **options: Any) -> None:
        """Begins a stream.

        Args:
            model: A loaded model.
            options: See :func:`max_whisper.transcribe.live.options.live_options`.

        Raises:
            OptionError: For options that make no sense, or not live.
        """
        self.options = live_options(**options)
        languages = self.options.detection.languages
        if languages and "en" not in languages and not model.is_multilingual:
            raise OptionError("this model knows English only, so languages makes no sense: leave it out")
        self._model = model
        self._gate = EverythingGate() if self.options.vad is None else SpeechGate(self.options.vad)
        self._buffer = AudioBuffer()
        self._sentences = Sentences()
        self._agreed: list[HeardWord] = []  # those whose audio is in the buffer
        self._tail: list[HeardWord] = []
        self._scores = (0.0, 0.0)
        self._said: list[int] = []  # tokens of agreed words whose audio is gone
        self._last_end = 0.0
        self._finished = False
        self._most_prompt = model.dims.n_text_ctx // 4
        self._language: str | None = None
        self._detected: Language | None = None  # for as long as nothing is agreed
        language = self.options.decoding.language if model.is_multilingual else "en"
        if language is not None:
            self._speak(language)

    @property
    def language(self) -> str | None:
        """The language's code; None as long as it is not known."""
        return self._language if self._detected is None else None

    def feed(self, samples: ArrayLike) -> list[LiveEvent]:
        """Takes the next samples, and tells what came of them.

        Hearing takes its time, in which the caller should gather what comes in: the more it brings
        the next time, the fewer hearings are needed.

        Args:
            samples: (n,) at 16 kHz, mono: floats in [-1, 1], or int16; any number of them.

        Raises:
            AudioError: They are no samples.
        """
        if self._finished:
            raise ValueError("the stream is finished; begin another one with a new StreamingTranscriber")
        array, step = as_samples(samples), round(LONGEST_STEP * SAMPLE_RATE)
        events: list[LiveEvent] = []
        for start in range(0, len(array), step):
            self._pass(self._gate.feed(array[start : start + step]), events)
        return events

    def finish(self) -> list[LiveEvent]:
        """Ends the stream: all that was heard is agreed."""
        events: list[LiveEvent] = []
        if not self._finished:
            self._pass(self._gate.finish(), events)
            self._finished = True
        return events

    def events(self, pieces: Iterable[ArrayLike]) -> Iterator[LiveEvent]:
        """Tells what comes of all pieces of a stream, and of its end."""
        for piece in pieces:
            yield from self.feed(piece)
        yield from self.finish()

    async def aevents(self, pieces: AsyncIterable[ArrayLike]) -> AsyncGenerator[LiveEvent, None]:
        """:meth:`events` for an event loop, which goes on while the model hears.

        Where its task is cancelled, the hearing that is on its way is waited for.
        """
        async for piece in pieces:
            for event in await in_thread(partial(self.feed, piece)):
                yield event
        for event in await in_thread(self.finish):
            yield event

    def _pass(self, stretches: Iterator[Stretch], events: list[LiveEvent]) -> None:
        """Hears stretches: what comes at once in one go, as far as there is room."""
        buffer, pauses, step = self._buffer, False, round(LONGEST_STEP * SAMPLE_RATE)
        for stretch in stretches:
            if not buffer.seconds:
                buffer.restart(stretch.start)
            for start in range(0, len(stretch.samples), step):
                if buffer.seconds > LONGEST_BUFFER:
                    self._go_on(events)
                buffer.append(stretch.samples[start : start + step])
            pauses = pauses or stretch.pauses
            if stretch.ends:
                self._end_utterance(events)
                pauses = False
        if buffer.unheard and (pauses or buffer.unheard >= self.options.min_chunk_size * SAMPLE_RATE):
            self._go_on(events)

    def _go_on(self, events: list[LiveEvent]) -> None:
        """Hears the buffer, and tells what is agreed and what is not."""
        before = self._tail
        self._hear()
        self._agree(agreeing(before, self._tail), events)
        self._trim(events)
        events.append(Tail(tuple(word.told() for word in self._tail)))

    def _end_utterance(self, events: list[LiveEvent]) -> None:
        """All that was heard stands, and its audio is done with."""
        if self._buffer.unheard:
            self._hear()
        if self._tail:
            self._agree(len(self._tail), events)
            events.append(Tail(()))
        events.extend(self._sentences.end())
        self._forget(len(self._agreed))
        self._buffer.restart(self._buffer.start)

    def _hear(self) -> None:
        """Hears the buffer: sets the tail to what is in it after the agreed words."""
        found, words = self._model.run(self._listen())
        self._buffer.mark_heard()
        self._scores = (found.avg_logprob, found.no_speech_prob)
        options = self.options
        unlikely = options.logprob_threshold is None or found.avg_logprob < options.logprob_threshold
        limit = options.no_speech_threshold
        if limit is not None and found.no_speech_prob > limit and unlikely:
            self._tail = []
        elif (
            options.compression_ratio_threshold is None
            or found.compression_ratio <= options.compression_ratio_threshold
        ):
            self._tail = words

    def _agree(self, count: int, events: list[LiveEvent]) -> None:
        """Tells the first words of the tail as agreed."""
        words, self._tail = self._tail[:count], self._tail[count:]
        if not words:
            return
        if self._detected is not None:
            events.append(self._detected)
            self._detected = None
        self._agreed.extend(words)
        self._last_end = words[-1].end
        events.append(Agreed(tuple(word.told() for word in words)))
        events.extend(self._sentences.add(words, *self._scores))

    def _trim(self, events: list[LiveEvent]) -> None:
        """Cuts off audio that is no longer needed, so that there is room for more."""
        buffer, agreed = self._buffer, self._agreed
        if agreed and not self._tail and buffer.ends - self._last_end >= PATIENCE:
            # A text that has come to its end is not gone on with: what follows needs a new one.
            self._forget(len(agreed))
            buffer.cut(self._last_end)
            buffer.unheard = max(buffer.unheard, round(self.options.min_chunk_size * SAMPLE_RATE))
            return
        crowded = sum(len(word.tokens) for word in agreed) > self._most_prompt
        if buffer.seconds <= self.options.buffer_trimming_sec and not crowded:
            return
        count = cut_before(agreed)
        if not count and buffer.seconds > LONGEST_BUFFER:
            # What lies well before the end was heard with all that follows: it won't become better.
            settled = buffer.ends - LONGEST_STEP
            self._agree(sum(word.end < settled for word in self._tail), events)
            count = len(agreed) - 1
        if count > 0:
            second = moment_before(agreed, count)
            self._forget(count)
            buffer.cut(second)
        if buffer.seconds > LONGEST_BUFFER:
            # A word in silence, or silence alone.
            self._forget(len(agreed))
            buffer.cut(buffer.ends - LONGEST_STEP)

    def _forget(self, count: int) -> None:
        """Lets the first agreed words become what was said before."""
        tokens = [token for word in self._agreed[:count] for token in word.tokens]
        del self._agreed[:count]
        if self.options.condition_on_previous_text:
            self._said = [*self._said, *tokens][-self._most_prompt :]

    def _listen(self) -> Steps[tuple[Hypothesis, list[HeardWord]]]:
        """Encodes the buffer and decodes it; returns what is in it after the agreed words."""
        buffer, dims, options = self._buffer, self._model.dims, self.options
        frames = min(round(buffer.seconds * FRAMES_PER_SECOND), N_FRAMES)
        mel = log_mel_spectrogram(buffer.samples, dims.n_mels, padding=N_SAMPLES)
        window: int = yield Encode(np.ascontiguousarray(mel[:, :N_FRAMES]))
        if self._language is None or self._detected is not None:
            yield from self._detect(window)
        tokenizer = self._tokenizer
        agreed = [token for word in self._agreed for token in word.tokens]
        draft = [token for word in self._tail for token in word.tokens]
        unsettled = buffer.ends - max(self._last_end, buffer.begins)
        room = dims.n_text_ctx // 2 - len(agreed)
        most = max(1, min(_TOKENS + round(_TOKENS_PER_SECOND * unsettled), room))
        hotwords = self._hotwords[: self._most_prompt]
        past = [*self._initial, *self._said]
        prompt = hotwords + past[max(0, len(past) + len(hotwords) - self._most_prompt) :]
        found = yield from hear(window, Known(prompt, agreed, draft), self._rules, tokenizer, most)
        text = [*agreed, *found.tokens]
        timings = yield from find_alignment(window, frames, text, tokenizer, self._model.alignment_heads)
        yield Release(window=window)
        bounds = max(self._last_end, buffer.begins), buffer.ends
        marks = options.prepend_punctuations, options.append_punctuations
        return found, placed(after_tokens(timings, len(agreed)), buffer.begins, bounds, *marks)

    def _detect(self, window: int) -> Steps[None]:
        """Guesses the language, once more until words are agreed."""
        tokenizer = self._model.tokenizer(None, self.options.decoding.task)
        found = yield from spoken_in(window, tokenizer, self.options.detection)
        if found.code != self._language:
            self._tail = []
            self._speak(found.code)
        self._detected = found

    def _speak(self, language: str) -> None:
        """Sets up what depends on the language."""
        options, dims = self.options, self._model.dims
        self._language = language
        self._tokenizer = self._model.tokenizer(language, options.decoding.task)
        self._rules = rules_for(options.decoding, self._tokenizer, dims)
        self._initial, self._hotwords = (
            [] if text is None else self._tokenizer.encode(" " + text.strip())
            for text in (options.initial_prompt, options.hotwords)
        )
