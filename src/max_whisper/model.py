"""The model as a caller sees it: openai-whisper's ``Whisper``, over a runtime."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast

from numpy.typing import ArrayLike

from max_whisper.audio import AudioSource
from max_whisper.checkpoints.checkpoint import ModelDimensions
from max_whisper.preload import preloaded_max
from max_whisper.tokenizer import Vocabulary, language_code
from max_whisper.transcribe.awaiting import iterated
from max_whisper.transcribe.channels import Told
from max_whisper.transcribe.engine import Stop
from max_whisper.transcribe.forced import AlignOptions
from max_whisper.transcribe.options import TranscribeOptions, transcribe_options
from max_whisper.transcribe.prepared import Prepared
from max_whisper.transcribe.segments import Event, Language, Segment, Transcript
from max_whisper.transcribe.silero import silero_weights
from max_whisper.transcribe.transcriber import Transcriber
from max_whisper.transcribe.vad import Detector
from max_whisper.transcribe.verbose import reporter
from max_whisper.windows import WindowModel

if TYPE_CHECKING:
    from max_whisper.checkpoints import Progress

__all__ = ["ModelDimensions", "Whisper", "load_model"]

Audio = AudioSource | ArrayLike


class Whisper(WindowModel):
    """A loaded model.

    Threads may use one model at the same time: their work then shares the decoder's passes.

    Attributes:
        dims: Its dimensions.
        device: Where it runs, such as "cpu".
        vocabulary: Its tokens.
        alignment_heads: (layer, head) pairs whose cross-attention follows the audio.
        silence: How many frames (10 ms) of silence it hears after a recording's end; None: up to
            thirty seconds, as it was trained. With fewer, a window that then repeats itself, is
            uncertain or seems silent is encoded as a whole.
    """

    #: Finds speech for the voice activity filter; None: Silero VAD in numpy.
    detect: Detector | None = None

    @property
    def _transcriber(self) -> Transcriber:
        heads = self.alignment_heads
        return Transcriber(self._engine, self.dims, self.tokenizer, heads, self.silence, self.detect)

    def transcribe(
        self, audio: Audio, *, verbose: bool | None = None, stop: Stop | None = None, **options: Any
    ) -> dict[str, Any]:
        """Transcribes a recording, with openai-whisper's arguments and result.

        Args:
            audio: A file, or 16 kHz mono samples; see :func:`max_whisper.load_audio`.
            verbose: True writes each segment to standard output, False a progress bar, None nothing.
            stop: Another thread may set it to end the transcription.
            options: See :func:`max_whisper.transcribe.options.transcribe_options`.

        Returns:
            ``{"text": str, "segments": list of dict, "language": str}``.

        Raises:
            AudioError: The recording can't be read.
            OptionError: For options that make no sense.
            StoppedError: ``stop`` was set before the end.
        """
        return _told(self.events(audio, transcribe_options(**options), stop=stop), verbose)

    def stream(self, audio: Audio, *, stop: Stop | None = None, **options: Any) -> Iterator[Segment]:
        """Yields the segments of a recording as they are decoded; arguments as :meth:`transcribe`'s."""
        for event in self.events(audio, transcribe_options(**options), stop=stop):
            if isinstance(event, Segment):
                yield event

    def events(
        self,
        audio: Audio | Prepared,
        options: TranscribeOptions | None = None,
        *,
        stop: Stop | None = None,
    ) -> Generator[Event, None, Transcript]:
        """Yields all that a transcription tells on its way, and returns the transcript.

        That is the language where it is detected, segments, and progress after each window. Closing
        the generator, or setting ``stop`` in another thread, ends the transcription.

        With :attr:`TranscribeOptions.multichannel`, the recording's channels are transcribed side by
        side; what they tell comes in order of time.

        Args:
            audio: A file or samples, or what :meth:`prepare` made of them.
            options: How.
            stop: Ends it, where another thread sets it.

        Raises:
            StoppedError: ``stop`` was set before the end.
        """
        return self._transcriber.events(audio, options or TranscribeOptions(), stop)

    async def astream(self, audio: Audio, **options: Any) -> AsyncGenerator[Segment, None]:
        """:meth:`stream` for an event loop, which goes on meanwhile; see :meth:`aevents`."""
        async with aclosing(self.aevents(audio, transcribe_options(**options))) as events:
            async for event in events:
                if isinstance(event, Segment):
                    yield event

    async def aevents(
        self, audio: Audio, options: TranscribeOptions | None = None
    ) -> AsyncGenerator[Event | Transcript, None]:
        """:meth:`events` for an event loop, which goes on meanwhile; the last event is the transcript.

        Cancelling the task that waits for an event, or closing the generator, ends the transcription
        after the pass of the model that it is in.
        """
        stop = Stop()

        def told() -> Iterator[Event | Transcript]:
            yield (yield from self.events(audio, options, stop=stop))

        async with aclosing(iterated(told, stop)) as events:
            async for event in events:
                yield event

    def events_of_many(
        self,
        recordings: Iterable[Audio],
        options: TranscribeOptions | None = None,
        *,
        at_once: int = 8,
        stop: Stop | None = None,
    ) -> Told:
        """Transcribes many recordings side by side: each pass of the decoder serves several.

        Each gets what it would get alone.

        Args:
            recordings: Files or samples; each is read when its turn comes.
            options: How, for all of them.
            at_once: How many are on their way at the same time; with
                :attr:`TranscribeOptions.multichannel`, how many channels. With
                :attr:`TranscribeOptions.batch_size`, that is how many pieces of all of them are.
            stop: As for :meth:`events`.

        Yields:
            (number of the recording, event); the last of each number is its transcript, or the
            exception that ended it. Other recordings go on.
        """
        return self._transcriber.events_of_many(recordings, options or TranscribeOptions(), at_once, stop)

    def prepare(self, audio: Audio, options: TranscribeOptions | None = None) -> Prepared:
        """Reads a recording, finds its speech if options say so, and makes its log-mel.

        Args:
            audio: A file or samples.
            options: Those that it will be transcribed with.

        Raises:
            OptionError: Its channels are speakers: they are prepared one by one.
        """
        return self._transcriber.prepare(audio, options or TranscribeOptions())

    def spoken_language(self, audio: Audio | Prepared, options: TranscribeOptions | None = None) -> Language:
        """Tells what language a recording is in; options have how many windows are asked.

        Raises:
            OptionError: For an English-only model, or a recording in which nobody speaks.
        """
        chosen = options or TranscribeOptions()
        return self._transcriber.spoken_language(self._transcriber.prepare(audio, chosen), chosen)

    def align(
        self,
        audio: Audio,
        text: str,
        *,
        language: str | None = None,
        original_split: bool = False,
        token_logprobs: bool = False,
        verbose: bool | None = None,
        stop: Stop | None = None,
    ) -> dict[str, Any]:
        """Finds when the words of a known text are said in a recording, however long it is.

        Args:
            audio: A file, or 16 kHz mono samples; see :func:`max_whisper.load_audio`.
            text: All that is said, and nothing else; white space of any kind separates words.
            language: Code or name of the language; detected where it is not given.
            original_split: Whether segments are the lines of the text; otherwise they are sentences.
            token_logprobs: Whether each segment tells the log-probabilities of its tokens.
            verbose: As for :meth:`transcribe`.
            stop: As for :meth:`transcribe`.

        Returns:
            What :meth:`transcribe` returns, with ``words`` in each segment.

        Raises:
            AlignmentError: The recording does not say all of the text.
            AudioError: The recording can't be read.
            OptionError: The text is empty, or the model doesn't know the language.
        """
        code = None if language is None else language_code(language)
        options = AlignOptions(code, original_split, token_logprobs)
        return _told(self.align_events(audio, text, options, stop=stop), verbose)

    def align_events(
        self,
        audio: Audio,
        text: str,
        options: AlignOptions | None = None,
        *,
        stop: Stop | None = None,
    ) -> Generator[Event, None, Transcript]:
        """Yields all that an alignment tells on its way, and returns the aligned text."""
        return self._transcriber.align_events(audio, text, options or AlignOptions(), stop)


def load_model(
    name: str | os.PathLike[str],
    device: object = None,
    download_root: str | os.PathLike[str] | None = None,
    in_memory: bool = False,
    *,
    precision: str = "auto",
    threads: int = 0,
    progress: Progress | None = None,
) -> Whisper:
    """Loads a model.

    Args:
        name: One of :func:`max_whisper.available_models`, a hub name, or a path; see
            :func:`max_whisper.checkpoints.load_checkpoint`.
        device: Such as "cpu"; None chooses.
        download_root: A folder for downloads in place of the cache folder.
        in_memory: Taken for openai-whisper's sake; weights are mapped, and packed once.
        precision: How linear layers multiply: "float32", "bfloat16" or "int8"; "auto" is float32, the tier
            that is exact.
        threads: How many threads to compute with; 0 leaves it to the runtime.
        progress: Told how far a download or a first compilation is.

    Raises:
        CheckpointError: The checkpoint can't be found or read.
        DeviceError: The device can't run it.
    """
    from max_whisper.checkpoints import find_vocabulary, load_checkpoint

    with preloaded_max():
        checkpoint = load_checkpoint(name, download_root=download_root, progress=progress)
        ranks = checkpoint.vocabulary
        if ranks is None:
            ranks = find_vocabulary(checkpoint.dims.is_multilingual, download_root, progress)
        vocabulary = Vocabulary(ranks, checkpoint.dims.num_languages)

    from max_whisper.graph.runtime import load_runtime

    runtime = load_runtime(
        checkpoint,
        device=None if device is None else str(device),
        precision=precision,
        threads=threads,
        progress=progress,
    )
    model = Whisper(
        runtime,
        vocabulary,
        device=runtime.device_name,
        alignment_heads=checkpoint.alignment_heads,
        silence=runtime.silence,
    )
    model.detect = runtime.voice(silero_weights)
    return model


def _told(events: Generator[Event, None, Transcript], verbose: bool | None) -> dict[str, Any]:
    """Shows what events tell, and returns the transcript that they end with."""
    with reporter(verbose) as tell:
        while True:
            try:
                tell(next(events))
            except StopIteration as end:
                return cast(Transcript, end.value).as_dict()
