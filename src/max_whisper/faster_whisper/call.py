"""One call of faster-whisper's ``transcribe``, as this package's engine understands it."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from max_whisper.audio import SAMPLE_RATE, AudioSource, as_samples
from max_whisper.errors import MaxWhisperWarning, OptionError
from max_whisper.faster_whisper.values import Segment, TranscriptionInfo, TranscriptionOptions
from max_whisper.model import Whisper
from max_whisper.tokenizer import language_code
from max_whisper.transcribe.options import TranscribeOptions, transcribe_options
from max_whisper.transcribe.prepared import Prepared
from max_whisper.transcribe.segments import Event, Language, Transcript
from max_whisper.transcribe.segments import Segment as Heard
from max_whisper.transcribe.verbose import reporter

Arguments = dict[str, Any]

#: Those that mean the same under the same name.
_SAME = (
    "task", "language", "temperature", "compression_ratio_threshold", "no_speech_threshold", "hotwords",
    "prefix", "condition_on_previous_text", "prompt_reset_on_temperature", "initial_prompt",
    "word_timestamps", "prepend_punctuations", "append_punctuations", "hallucination_silence_threshold",
    "language_detection_segments", "language_detection_threshold", "multilingual", "suppress_tokens",
    "suppress_blank", "without_timestamps", "repetition_penalty", "no_repeat_ngram_size",
)  # fmt: skip


def transcribe(
    model: Whisper, audio: AudioSource | ArrayLike, arguments: Arguments, batch_size: int | None = None
) -> tuple[Iterator[Segment], TranscriptionInfo]:
    """Begins a transcription: all up to the language is done at once, the rest segment by segment.

    Args:
        model: The model.
        audio: A file, or 16 kHz mono samples.
        arguments: All other arguments of faster-whisper's method, by their names.
        batch_size: How many pieces are decoded side by side; None cuts nothing.

    Raises:
        OptionError: For arguments that make no sense, or that are not here.
    """
    _use_english(model, arguments)
    options = options_of(arguments, batch_size)
    samples = as_samples(audio)
    prepared = model.prepare(samples, options)
    events = model.events(prepared, options)
    language = options.decoding.language if model.is_multilingual else "en"
    probability, told = 1.0, None
    early: list[Event] = []
    if language is None:
        told, early = _up_to_language(events)
        language, probability = (None, 0.0) if told is None else (told.code, told.probability)
    duration = len(samples) / SAMPLE_RATE
    info = TranscriptionInfo(
        language=language,
        language_probability=probability,
        duration=duration,
        duration_after_vad=_heard(prepared, duration),
        all_language_probs=None if told is None else ranked(told),
        transcription_options=_as_given(arguments),
        vad_options=options.vad,
    )
    return _segments(events, early, bool(arguments["log_progress"])), info


def options_of(arguments: Arguments, batch_size: int | None = None) -> TranscribeOptions:
    """The engine's options for faster-whisper's arguments.

    Raises:
        OptionError: For arguments that make no sense, or that are not here.
    """
    a = dict(arguments)
    clips, chunk_length = _clips(a["clip_timestamps"]), a["chunk_length"]
    if batch_size is None and chunk_length not in (None, 30):
        raise OptionError("chunk_length other than 30 is for BatchedInferencePipeline")
    if a["hallucination_silence_threshold"] is not None and not a["word_timestamps"]:
        raise OptionError("hallucination_silence_threshold needs word_timestamps=True")
    if a["max_new_tokens"] is not None and a["max_new_tokens"] < 1:
        raise OptionError(f"max_new_tokens is {a['max_new_tokens']}; it must be at least 1")
    # As in faster-whisper, whose clips take the place of the filter.
    vad_filter = a["vad_filter"] and not clips
    parameters = a["vad_parameters"] if vad_filter else None
    if batch_size is not None and vad_filter and not hasattr(parameters, "threshold"):
        # Each pause is a place to cut; pieces are filled up again from what is between them.
        parameters = {"min_silence_duration_ms": 160, **(parameters or {})}
    options = transcribe_options(
        **{name: a[name] for name in _SAME},
        logprob_threshold=a["log_prob_threshold"],
        clip_timestamps=clips or "0",
        vad_filter=vad_filter,
        vad_parameters=parameters,
        beam_size=None if a["beam_size"] == 1 else a["beam_size"],
        best_of=a["best_of"],
        patience=_patience(a),
        length_penalty=_length_penalty(a["length_penalty"]),
        sample_len=a["max_new_tokens"],
        # Zero is the earliest timestamp there; to openai-whisper, and here, it is no limit at all.
        max_initial_timestamp=a["max_initial_timestamp"] or 1e-9,
        batch_size=batch_size,
        chunk_length=chunk_length if batch_size is not None else None,
    )
    return replace(options, detection=replace(options.detection, in_clips=True))


def ranked(language: Language) -> list[tuple[str, float]]:
    """The probabilities of all languages, most probable first."""
    return sorted((language.probabilities or {}).items(), key=lambda pair: -pair[1])


def _clips(given: str | Sequence[float] | Sequence[Mapping[str, float]] | None) -> list[float]:
    """Seconds at which clips start and end, in turn; nothing for the whole recording."""
    if given is None or given == "0" or given == "":
        return []
    if isinstance(given, str):
        return list(transcribe_options(clip_timestamps=given).clips)
    if all(isinstance(clip, Mapping) for clip in given):
        return [float(clip[name]) for clip in given for name in ("start", "end")]  # type: ignore[index]
    return [float(second) for second in given]  # type: ignore[arg-type]


def _patience(arguments: Arguments) -> float | None:
    if arguments["beam_size"] != 1:
        return float(arguments["patience"])
    if arguments["patience"] != 1:
        raise OptionError("patience needs a beam_size above 1")
    return None


def _length_penalty(exponent: float) -> float | None:
    """The penalty of the same ranking: the sum of log-probabilities over the length, or the sum."""
    if exponent == 1:
        return None
    if exponent == 0:
        return 0.0
    raise OptionError(f"length_penalty is {exponent}; only 1 and 0 are here")


def _use_english(model: Whisper, arguments: Arguments) -> None:
    """What faster-whisper does for a model that knows English alone."""
    if arguments["language"] is not None:
        arguments["language"] = language_code(arguments["language"])
    if model.is_multilingual:
        return
    if arguments["multilingual"]:
        warnings.warn("the model knows English only: multilingual is off", MaxWhisperWarning, stacklevel=4)
        arguments["multilingual"] = False
    if arguments["language"] not in (None, "en"):
        message = f"the model knows English only, not {arguments['language']!r}: using English"
        warnings.warn(message, MaxWhisperWarning, stacklevel=4)
        arguments["language"] = "en"


def _up_to_language(events: Generator[Event, None, Transcript]) -> tuple[Language | None, list[Event]]:
    """The language, and what was told before it; all there is where no language is told."""
    early: list[Event] = []
    for event in events:
        if isinstance(event, Language):
            return event, early
        early.append(event)
    return None, early


def _heard(prepared: Prepared, duration: float) -> float:
    """How many seconds of the recording are heard."""
    if prepared.speech is None:
        return duration
    return sum(end - start for start, end in prepared.speech.chunks) / SAMPLE_RATE


def _as_given(arguments: Arguments) -> TranscriptionOptions:
    known = {field.name for field in fields(TranscriptionOptions)}
    temperature = arguments["temperature"]
    single = np.ndim(temperature) == 0
    chosen = {name: value for name, value in arguments.items() if name in known}
    return TranscriptionOptions(**chosen, temperatures=[temperature] if single else temperature)


def _segments(events: Iterator[Event], early: Sequence[Event], log_progress: bool) -> Iterator[Segment]:
    number = 0
    with reporter(False if log_progress else None) as tell:
        for event in chain(early, events):
            tell(event)
            if isinstance(event, Heard) and event.text:
                number += 1
                yield Segment.of(number, event)
