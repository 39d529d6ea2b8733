"""faster-whisper's two classes; each call is one of :mod:`max_whisper.faster_whisper.call`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from max_whisper.audio import AudioSource
from max_whisper.errors import OptionError
from max_whisper.faster_whisper import call
from max_whisper.faster_whisper.audio import FeatureExtractor
from max_whisper.faster_whisper.tokenizer import get_suppressed_tokens
from max_whisper.faster_whisper.values import Segment, TranscriptionInfo, TranscriptionOptions, Word
from max_whisper.model import Whisper, load_model
from max_whisper.tokenizer import LANGUAGES, Vocabulary
from max_whisper.transcribe.language import WINDOW_FRAMES
from max_whisper.transcribe.options import (
    APPEND_PUNCTUATIONS,
    PREPEND_PUNCTUATIONS,
    TEMPERATURES,
    transcribe_options,
)
from max_whisper.transcribe.prepared import Prepared
from max_whisper.transcribe.vad import VadOptions

__all__ = [
    "BatchedInferencePipeline",
    "Segment",
    "TranscriptionInfo",
    "TranscriptionOptions",
    "WhisperModel",
    "Word",
    "get_suppressed_tokens",
]

Audio = AudioSource | ArrayLike

#: CTranslate2's compute types that there is a precision for.
_PRECISIONS = {
    "default": "auto",
    "auto": "auto",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "int8": "int8",
    "int8_float32": "int8",
}


class WhisperModel:
    """A loaded model with faster-whisper's methods.

    Attributes:
        model: The model as this package has it.
        feature_extractor: Makes log-mel spectrograms.
        hf_tokenizer: The model's vocabulary.
    """

    input_stride = 2
    num_samples_per_token = 320
    frames_per_second = 100
    tokens_per_second = 50
    time_precision = 0.02

    def __init__(
        self,
        model_size_or_path: str | os.PathLike[str],
        device: str = "auto",
        device_index: int | list[int] = 0,
        compute_type: str = "default",
        cpu_threads: int = 0,
        num_workers: int = 1,
        download_root: str | None = None,
        local_files_only: bool = False,
        files: Mapping[str, Any] | None = None,
        revision: str | None = None,
        use_auth_token: str | bool | None = None,
        **model_kwargs: Any,
    ) -> None:
        """Loads a model: see :func:`max_whisper.load_model` for names and paths.

        Raises:
            OptionError: For an argument that is not here.
            CheckpointError: The checkpoint can't be found or read.
            DeviceError: The device can't run it.
        """
        if compute_type not in _PRECISIONS:
            raise OptionError(f"compute_type is {compute_type!r}; there are {', '.join(_PRECISIONS)}")
        for name, given, only in (
            ("device_index", device_index, 0),
            ("num_workers", num_workers, 1),  # threads share the passes of one model
            ("local_files_only", local_files_only, False),
            ("files", files, None),
            ("revision", revision, None),
            ("use_auth_token", use_auth_token, None),
            *((name, value, None) for name, value in model_kwargs.items()),
        ):
            if given != only:
                raise OptionError(f"{name} is not supported here: leave it out")
        loaded = load_model(
            model_size_or_path,
            None if device == "auto" else device,
            download_root,
            precision=_PRECISIONS[compute_type],
            threads=cpu_threads,
        )
        self._adopt(loaded)

    @classmethod
    def of(cls, model: Whisper) -> WhisperModel:
        """The methods of faster-whisper for a model that is loaded already."""
        made = cls.__new__(cls)
        made._adopt(model)
        return made

    def _adopt(self, model: Whisper) -> None:
        self.model = model
        self.feature_extractor = FeatureExtractor(model.dims.n_mels)
        self.max_length = model.dims.n_text_ctx

    @property
    def hf_tokenizer(self) -> Vocabulary:
        """The model's tokens."""
        return self.model.vocabulary

    @property
    def supported_languages(self) -> list[str]:
        """The codes of the languages that the model knows."""
        return list(LANGUAGES)[: self.model.num_languages] if self.model.is_multilingual else ["en"]

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        task: str = "transcribe",
        log_progress: bool = False,
        beam_size: int = 5,
        best_of: int = 5,
        patience: float = 1,
        length_penalty: float = 1,
        repetition_penalty: float = 1,
        no_repeat_ngram_size: int = 0,
        temperature: float | Sequence[float] = TEMPERATURES,
        compression_ratio_threshold: float | None = 2.4,
        log_prob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        prompt_reset_on_temperature: float = 0.5,
        initial_prompt: str | Iterable[int] | None = None,
        prefix: str | None = None,
        suppress_blank: bool = True,
        suppress_tokens: Sequence[int] | None = (-1,),
        without_timestamps: bool = False,
        max_initial_timestamp: float = 1.0,
        word_timestamps: bool | Literal["fast"] = False,
        prepend_punctuations: str = PREPEND_PUNCTUATIONS,
        append_punctuations: str = APPEND_PUNCTUATIONS,
        multilingual: bool = False,
        vad_filter: bool = False,
        vad_parameters: Mapping[str, Any] | VadOptions | None = None,
        max_new_tokens: int | None = None,
        chunk_length: int | None = None,
        clip_timestamps: str | Sequence[float] = "0",
        hallucination_silence_threshold: float | None = None,
        hotwords: str | None = None,
        language_detection_threshold: float | None = 0.5,
        language_detection_segments: int = 1,
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """Transcribes a recording window by window, with faster-whisper's arguments.

        Returns:
            A generator of segments, and what is known before the first of them.

        Raises:
            AudioError: The recording can't be read.
            OptionError: For arguments that make no sense, or that are not here.
        """
        arguments = dict(locals())
        del arguments["self"], arguments["audio"]
        return call.transcribe(self.model, audio, arguments)

    def detect_language(
        self,
        audio: Audio | None = None,
        features: ArrayLike | None = None,
        vad_filter: bool = False,
        vad_parameters: Mapping[str, Any] | VadOptions | None = None,
        language_detection_segments: int = 1,
        language_detection_threshold: float | None = 0.5,
    ) -> tuple[str, float, list[tuple[str, float]]]:
        """Tells what language is spoken in samples, or in log-mel features (n_mels, frames).

        Returns:
            The code, its probability, and codes and probabilities of all languages, most probable
            first.

        Raises:
            OptionError: Neither or both are given, or the model knows English alone.
        """
        if (audio is None) == (features is None):
            raise OptionError("detect_language needs either audio or features")
        options = transcribe_options(
            vad_filter=vad_filter,
            vad_parameters=vad_parameters,
            language_detection_segments=language_detection_segments,
            language_detection_threshold=language_detection_threshold,
        )
        if audio is not None:
            prepared = self.model.prepare(audio, options)
        else:
            mel = np.asarray(features, np.float32)
            prepared = Prepared(np.pad(mel, [(0, 0), (0, WINDOW_FRAMES)]))
        found = self.model.spoken_language(prepared, options)
        return found.code, found.probability, call.ranked(found)


class BatchedInferencePipeline:
    """A model that transcribes a recording in pieces, several of them side by side."""

    def __init__(self, model: WhisperModel) -> None:
        """Takes a model."""
        self.model = model

    def transcribe(
        self,
        audio: Audio,
        language: str | None = None,
        task: str = "transcribe",
        log_progress: bool = False,
        beam_size: int = 5,
        best_of: int = 5,
        patience: float = 1,
        length_penalty: float = 1,
        repetition_penalty: float = 1,
        no_repeat_ngram_size: int = 0,
        temperature: float | Sequence[float] = TEMPERATURES,
        compression_ratio_threshold: float | None = 2.4,
        log_prob_threshold: float | None = -1.0,
        no_speech_threshold: float | None = 0.6,
        condition_on_previous_text: bool = True,
        prompt_reset_on_temperature: float = 0.5,
        initial_prompt: str | Iterable[int] | None = None,
        prefix: str | None = None,
        suppress_blank: bool = True,
        suppress_tokens: Sequence[int] | None = (-1,),
        without_timestamps: bool = True,
        max_initial_timestamp: float = 1.0,
        word_timestamps: bool | Literal["fast"] = False,
        prepend_punctuations: str = PREPEND_PUNCTUATIONS,
        append_punctuations: str = APPEND_PUNCTUATIONS,
        multilingual: bool = False,
        vad_filter: bool = True,
        vad_parameters: Mapping[str, Any] | VadOptions | None = None,
        max_new_tokens: int | None = None,
        chunk_length: int | None = None,
        clip_timestamps: Sequence[Mapping[str, float]] | None = None,
        hallucination_silence_threshold: float | None = None,
        batch_size: int = 8,
        hotwords: str | None = None,
        language_detection_threshold: float | None = 0.5,
        language_detection_segments: int = 1,
    ) -> tuple[Iterator[Segment], TranscriptionInfo]:
        """Transcribes a recording in pieces, with faster-whisper's arguments; all of them count.

        Returns:
            A generator of segments, and what is known before the first of them.

        Raises:
            AudioError: The recording can't be read.
            OptionError: For arguments that make no sense, or that are not here.
        """
        arguments = dict(locals())
        del arguments["self"], arguments["audio"], arguments["batch_size"]
        return call.transcribe(self.model.model, audio, arguments, batch_size)
