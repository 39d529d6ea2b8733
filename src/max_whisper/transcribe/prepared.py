"""A recording made ready: read, its silence left out if that is asked for, and as log-mel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from max_whisper.audio import N_SAMPLES, AudioSource, as_samples, read_log_mel
from max_whisper.errors import OptionError
from max_whisper.spectrogram import LogMel, Mel
from max_whisper.transcribe.language import WINDOW_FRAMES
from max_whisper.transcribe.options import TranscribeOptions
from max_whisper.transcribe.speech import SpeechMap
from max_whisper.transcribe.vad import Detector, silero, speech_timestamps


@dataclass(frozen=True, eq=False)
class Prepared:
    """A recording that is ready to be transcribed.

    Attributes:
        mel: (n_mels, frames + 3000) float32, the log-mel of what is heard and 30 s of silence; None
            where nobody speaks.
        speech: Where that comes from, if only the recording's speech is heard.
        probabilities: Of speech, one for each 32 ms of the recording, if it is to be cut by them.
    """

    mel: Mel | None
    speech: SpeechMap | None = None
    probabilities: Sequence[float] | None = None

    @property
    def heard(self) -> int:
        """How many frames (10 ms) are heard."""
        return 0 if self.mel is None else self.mel.shape[1] - WINDOW_FRAMES

    @property
    def frames(self) -> int:
        """How many frames the recording has."""
        return self.heard if self.speech is None else self.speech.frames


def prepare(
    audio: AudioSource | ArrayLike, n_mels: int, options: TranscribeOptions, detect: Detector | None = None
) -> Prepared:
    """Reads a recording, finds its speech if options say so, and makes its log-mel.

    Args:
        audio: As in :func:`max_whisper.audio.as_samples`.
        n_mels: How many mel bands the model has.
        options: Those that it will be transcribed with.
        detect: Gives the probabilities of speech; None: Silero VAD in numpy.

    Raises:
        AudioError: It can't be read.
        OptionError: Its channels are to be transcribed one by one, or there is no voice activity filter.
    """
    if options.multichannel:
        raise OptionError("multichannel transcribes several recordings: its channels are prepared one by one")
    if options.vad is None:
        return Prepared(read_log_mel(audio, n_mels, padding=N_SAMPLES))
    samples, probabilities = as_samples(audio), None
    if options.batch_size is None:
        spans = speech_timestamps(samples, options.vad, detect)
    else:
        probabilities = found = (detect or silero)(samples)
        spans = speech_timestamps(samples, options.vad, lambda _: found)
    speech = SpeechMap(spans, len(samples), options.vad.padding)
    if not spans:
        return Prepared(None, speech)
    return Prepared(LogMel(speech.collect(samples), n_mels, N_SAMPLES), speech, probabilities)
