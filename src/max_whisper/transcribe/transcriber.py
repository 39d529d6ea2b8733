"""Recordings over an engine: one, many, or the pieces of long ones, all as jobs of one scheduler."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from max_whisper.errors import OptionError
from max_whisper.transcribe.engine import Engine, Work
from max_whisper.transcribe.language import Detection, spoken_language
from max_whisper.transcribe.options import FRAMES_PER_SECOND, TranscribeOptions
from max_whisper.transcribe.pauses import cut_at_pauses, loudness, speechiness
from max_whisper.transcribe.pieces import InOrder, Prepared
from max_whisper.transcribe.recording import (
    TokenizerFor,
    heard_clips,
    transcribe_recording,
    verify_languages,
    without_speech,
)
from max_whisper.transcribe.segments import Event, Language, Transcript

if TYPE_CHECKING:
    from max_whisper.checkpoints.checkpoint import ModelDimensions

#: Makes the generator of a recording, or of a piece of one.
Start = Callable[[], Work[Transcript]]
#: Reads a recording.
Source = Callable[[], Prepared]


@dataclass(frozen=True)
class Transcriber:
    """Transcribes recordings with a model.

    Attributes:
        engine: Runs the model.
        dims: The model's dimensions.
        tokenizer_for: Makes its tokenizers.
        heads: (layer, head) pairs whose attention follows the audio.
    """

    engine: Engine
    dims: ModelDimensions
    tokenizer_for: TokenizerFor
    heads: Sequence[tuple[int, int]]

    def events(self, prepared: Prepared, options: TranscribeOptions) -> Generator[Event, None, Transcript]:
        """Yields the events of one recording, and returns its transcript."""
        if options.batch_size is not None:
            return self._of_one(prepared, options)
        return self.engine.events(self.work(prepared, options), options.rows)

    def events_of_many(
        self, sources: Iterable[Source], options: TranscribeOptions, at_once: int
    ) -> Iterator[tuple[int, Event | Transcript | Exception]]:
        """Yields (number, event) of many recordings; the last of each is its transcript or error.

        Args:
            sources: Each reads one recording, when its turn comes.
            options: How, for all of them.
            at_once: How many recordings are on their way at once, if they are not cut.
        """
        if options.batch_size is not None:
            return self._in_pieces(sources, options, options.batch_size)
        starts = (partial(self._read, source, options) for source in sources)
        return self.engine.events_of_many(starts, options.rows, at_once)

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
        return transcribe_recording(mel, self.dims, self.tokenizer_for, options, self.heads, speech, piece)

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

    def _read(self, source: Source, options: TranscribeOptions) -> Work[Transcript]:
        return self.work(source(), options)

    def _of_one(self, prepared: Prepared, options: TranscribeOptions) -> Generator[Event, None, Transcript]:
        """The events of one recording that is transcribed in pieces."""
        for _, event in self._in_pieces([lambda: prepared], options, options.batch_size or 1):
            if isinstance(event, Exception):
                raise event
            if isinstance(event, Transcript):
                return event
            yield event
        raise RuntimeError("a recording ended without a transcript")

    def _in_pieces(
        self, sources: Iterable[Source], options: TranscribeOptions, at_once: int
    ) -> Iterator[tuple[int, Event | Transcript | Exception]]:
        """Cuts recordings at pauses, and transcribes pieces of one or several side by side."""
        places: list[tuple[int, int]] = []  # recording and piece of each generator
        orders: dict[int, InOrder] = {}

        def starts() -> Iterator[Start]:
            for number, source in enumerate(sources):
                try:
                    prepared = source()
                    works, lengths = self.pieces(prepared, options)
                    orders[number] = InOrder(lengths, prepared.frames)
                except Exception as error:
                    works, orders[number] = [partial(_fail, error)], InOrder([0], 0)
                for piece, work in enumerate(works):
                    if orders[number].failed:
                        break
                    places.append((number, piece))
                    yield work

        for generator, event in self.engine.events_of_many(starts(), options.rows, at_once):
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
