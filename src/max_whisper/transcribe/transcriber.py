"""Recordings over an engine: one, many, or the pieces of long ones, all as jobs of one scheduler."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from max_whisper.audio import N_SAMPLES, AudioSource, read_log_mel
from max_whisper.errors import OptionError
from max_whisper.transcribe.channels import Told, merged, merged_many, opened
from max_whisper.transcribe.engine import Engine, Stop, Work
from max_whisper.transcribe.forced import AlignOptions, align_recording
from max_whisper.transcribe.language import Detection, spoken_language
from max_whisper.transcribe.options import FRAMES_PER_SECOND, TranscribeOptions
from max_whisper.transcribe.pauses import cut_at_pauses, loudness, speechiness
from max_whisper.transcribe.pieces import InOrder
from max_whisper.transcribe.prepared import Prepared, prepare
from max_whisper.transcribe.recording import (
    TokenizerFor,
    heard_clips,
    transcribe_recording,
    verify_languages,
    without_speech,
)
from max_whisper.transcribe.segments import Event, Language, Transcript
from max_whisper.transcribe.vad import Detector

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions

#: Makes the generator of a recording, or of a piece of one.
Start = Callable[[], Work[Transcript]]
Audio = AudioSource | ArrayLike


@dataclass(frozen=True)
class Transcriber:
    """Transcribes recordings with a model.

    Attributes:
        engine: Runs the model.
        dims: The model's dimensions.
        tokenizer_for: Makes its tokenizers.
        heads: (layer, head) pairs whose attention follows the audio.
        silence: As for :func:`transcribe_recording`.
        detect: Finds speech for the voice activity filter; None: Silero VAD in numpy.
    """

    engine: Engine
    dims: ModelDimensions
    tokenizer_for: TokenizerFor
    heads: Sequence[tuple[int, int]]
    silence: int | None = None
    detect: Detector | None = None

    def prepare(self, audio: Audio | Prepared, options: TranscribeOptions) -> Prepared:
        """Makes a recording ready, if it is not."""
        if isinstance(audio, Prepared):
            return audio
        return prepare(audio, self.dims.n_mels, options, self.detect)

    def events(
        self, audio: Audio | Prepared, options: TranscribeOptions, stop: Stop | None = None
    ) -> Generator[Event, None, Transcript]:
        """Yields the events of one recording, and returns its transcript.

        Raises:
            StoppedError: ``stop`` was set before the end.
        """
        if options.multichannel:
            if isinstance(audio, Prepared):
                raise OptionError("multichannel needs the recording itself, with its channels")
            names, channels = opened(audio, options.speaker_names)
            return merged(self._of_channels(channels, options, len(names), stop), names)
        prepared = self.prepare(audio, options)
        if options.batch_size is not None:
            return self._of_one(prepared, options, options.batch_size, stop)
        return self.engine.events(self.work(prepared, options), options.rows, stop)

    def events_of_many(
        self,
        recordings: Iterable[Audio],
        options: TranscribeOptions,
        at_once: int,
        stop: Stop | None = None,
    ) -> Told:
        """Yields (number, event) of many recordings; the last of each is its transcript or error.

        Args:
            recordings: Files or samples; each is read when its turn comes.
            options: How, for all of them.
            at_once: How many recordings, or channels, are on their way at once, if they are not cut.
            stop: Ends all of them, where a thread sets it.
        """
        if options.multichannel:
            opens = (partial(opened, audio, options.speaker_names) for audio in recordings)
            return merged_many(opens, lambda channels: self._of_channels(channels, options, at_once, stop))
        if options.batch_size is not None:
            return self._in_pieces(recordings, options, options.batch_size, stop)
        starts = (partial(self._read, audio, options) for audio in recordings)
        return self.engine.events_of_many(starts, options.rows, at_once, stop)

    def align_events(
        self, audio: Audio, text: str, options: AlignOptions, stop: Stop | None = None
    ) -> Generator[Event, None, Transcript]:
        """Yields the events of aligning a known text, and returns it with its times.

        Raises:
            OptionError: An English-only model is asked for another language.
        """
        if not self.dims.is_multilingual and options.language not in (None, "en"):
            raise OptionError(
                f"this model knows English only, not {options.language!r}: align with a multilingual model"
            )
        mel = read_log_mel(audio, self.dims.n_mels, padding=N_SAMPLES)
        work = align_recording(mel, text, self.dims, self.tokenizer_for, options, self.heads)
        return self.engine.events(work, stop=stop)

    def spoken_language(self, prepared: Prepared, options: TranscribeOptions) -> Language:
        """What language a recording is in.

        Raises:
            OptionError: For an English-only model, or where nobody speaks.
        """
        if prepared.mel is None:
            raise OptionError("nobody speaks in the recording, so it has no language")
        clips = heard_clips(options, prepared.speech, prepared.heard)
        tokenizer = self.tokenizer_for(None, "transcribe")
        language, _ = self.engine.run(spoken_language(prepared.mel, tokenizer, clips, options.detection))
        return language

    def work(
        self, prepared: Prepared, options: TranscribeOptions, piece: tuple[int, int] | None = None
    ) -> Work[Transcript]:
        """The generator of a recording, or of a piece of one."""
        mel, speech = prepared.mel, prepared.speech
        if mel is None:
            return without_speech(options, None if self.dims.is_multilingual else "en", prepared.frames)
        return transcribe_recording(
            mel, self.dims, self.tokenizer_for, options, self.heads, speech, piece, self.silence
        )

    def pieces(self, prepared: Prepared, options: TranscribeOptions) -> tuple[list[Start], list[int]]:
        """What makes the generator of each piece of a recording, and how many frames each has."""
        if prepared.mel is None:
            return [partial(self.work, prepared, options)], [0]
        verify_languages(options, self.dims)
        clips = heard_clips(options, prepared.speech, prepared.heard)
        activity = loudness(prepared.mel, prepared.heard)
        if prepared.probabilities is not None and prepared.speech is not None:
            known = speechiness(prepared.probabilities, prepared.speech)[: len(activity)]
            activity = (activity + known) / np.float32(2)
        longest = round(options.chunk_length * FRAMES_PER_SECOND)
        pieces = cut_at_pauses(activity, clips, longest) or [(0, 0)]
        told = None
        if options.decoding.language is None and self.dims.is_multilingual and not options.multilingual:
            told = self.spoken_language(prepared, options)
            decoding = replace(options.decoding, language=told.code)
            options = replace(options, decoding=decoding, detection=Detection())
        later = replace(options, prefix=None)
        first = partial(_telling, told, partial(self.work, prepared, options, pieces[0]))
        works: list[Start] = [first, *(partial(self.work, prepared, later, piece) for piece in pieces[1:])]
        return works, [end - start for start, end in pieces]

    def _read(self, audio: Audio, options: TranscribeOptions) -> Work[Transcript]:
        return self.work(self.prepare(audio, options), options)

    def _of_channels(
        self, channels: Iterable[Audio], options: TranscribeOptions, at_once: int, stop: Stop | None
    ) -> Told:
        """Transcribes channels as the recordings that they are."""
        alone = replace(options, multichannel=False, speaker_names=())
        return self.events_of_many(channels, alone, at_once, stop)

    def _of_one(
        self, prepared: Prepared, options: TranscribeOptions, at_once: int, stop: Stop | None
    ) -> Generator[Event, None, Transcript]:
        """The events of one recording that is transcribed in pieces."""
        with closing(self._in_pieces([prepared], options, at_once, stop)) as told:
            for _, event in told:
                if isinstance(event, Exception):
                    raise event
                if isinstance(event, Transcript):
                    return event
                yield event
        raise RuntimeError("a recording ended without a transcript")

    def _in_pieces(
        self,
        recordings: Iterable[Audio | Prepared],
        options: TranscribeOptions,
        at_once: int,
        stop: Stop | None,
    ) -> Told:
        """Cuts recordings at pauses, and transcribes pieces of one or several side by side."""
        places: list[tuple[int, int]] = []  # recording and piece of each generator
        orders: dict[int, InOrder] = {}

        def starts() -> Iterator[Start]:
            for number, audio in enumerate(recordings):
                try:
                    prepared = self.prepare(audio, options)
                    works, lengths = self.pieces(prepared, options)
                    orders[number] = InOrder(lengths, prepared.frames)
                except Exception as error:
                    works, orders[number] = [partial(_fail, error)], InOrder([0], 0)
                for piece, work in enumerate(works):
                    if orders[number].failed:
                        break
                    places.append((number, piece))
                    yield work

        with closing(self.engine.events_of_many(starts(), options.rows, at_once, stop)) as heard:
            for generator, event in heard:
                number, piece = places[generator]
                for told in orders[number].take(piece, event):
                    yield number, told


def _fail(error: Exception) -> Work[Transcript]:
    raise error


def _telling(told: Language | None, start: Start) -> Generator[Any, Any, Transcript]:
    """A generator that begins with an event."""
    if told is not None:
        yield told
    return (yield from start())
